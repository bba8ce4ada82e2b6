"""What centred values change: int8 and nnapi with and without, against float, on real windows.

    python tools/check_centering.py --dataset dev-v1.1.json --questions 300 --output centering.json

Squared error and correlation are over the logits of tokens: padding answers nothing. The questions are spread
over the whole dataset.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from absl import flags
from benchmark_models import DEMO_CALIBRATION
from benchmark_report import Requirement, publish

from mobilebert_kit.checkpoint_flags import checkpoint_path
from mobilebert_kit.main import run
from mobilebert_kit.native_log import import_tensorflow
from mobilebert_kit.progress import Steps
from mobilebert_kit.targets import TARGETS

_DATASET = flags.DEFINE_string("dataset", None, "SQuAD v1.1 file.", required=True)
_QUESTIONS = flags.DEFINE_integer("questions", 300, "How many of it.", lower_bound=1)
_CALIBRATION = flags.DEFINE_string("calibration", str(DEMO_CALIBRATION), "As of export: 100 questions.")
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


def main() -> None:
    import_tensorflow()
    from mobilebert_kit.build import Builder
    from mobilebert_kit.inputs import Data, Inputs, Request
    from mobilebert_kit.squad.tokenizer import load_tokenizer
    from mobilebert_kit.squad.windows import make_windows

    compared = [TARGETS[name] for name in ("int8", "nnapi")]
    inputs = Inputs(Request(compared, checkpoint_path(), Path("unused"), _CALIBRATION.value, _DATASET.value))
    asked = inputs.evaluation.questions
    asked = asked[:: max(1, len(asked) // _QUESTIONS.value)][: _QUESTIONS.value]
    windows = make_windows(asked, load_tokenizer(inputs.vocab))
    inputs.evaluation = Data(_DATASET.value, asked, windows)
    tokens = np.stack([window.input_mask for window in windows]) == 1
    rows, errors = [], {}
    with tempfile.TemporaryDirectory() as scratch, Steps(1 + 3 * 4) as steps:
        builder = Builder(inputs, steps)
        reference = builder.run(builder.write(TARGETS["float"], Path(scratch)).file)
        rows.append(("float", "", f"{builder.score(reference).f1:.2f}", "", ""))
        for target in compared:
            for centred in (False, True):
                recipe = replace(target.recipe, center_values=centred)
                logits = builder.run(builder.write(replace(target, recipe=recipe), Path(scratch)).file)
                pairs = [(a[tokens], b[tokens]) for a, b in zip(logits, reference, strict=True)]
                error = float(np.mean([(a - b) ** 2 for a, b in pairs]))
                correlation = min(float(np.corrcoef(a, b)[0, 1]) for a, b in pairs)
                f1 = f"{builder.score(logits).f1:.2f}"
                errors[target.name, centred] = error
                rows.append(
                    (target.name, "yes" if centred else "no", f1, f"{error:.4f}", f"{correlation:.4f}")
                )
    requirements = [
        Requirement(f"{name}: error with centred values over error without", errors[name, True] / error, 1.0)
        for (name, centred), error in errors.items()
        if not centred
    ]
    publish(
        f"{len(asked)} questions, {len(windows)} windows",
        ("model", "centred", "F1", "squared error", "correlation"),
        rows,
        requirements,
        {"rows": rows},
        _OUTPUT.value,
    )


if __name__ == "__main__":
    run(main)
