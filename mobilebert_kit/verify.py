"""Check a bundle, and what a device answered with it: checksums, F1, agreement with the host's answers.

    python -m mobilebert_kit.verify --manifest DIR/bundle.json
    python -m mobilebert_kit.verify --manifest DIR/bundle.json --predictions pulled.json
    python -m mobilebert_kit.verify --manifest DIR/bundle.json --predictions LOGITS_DIR --num_questions 20

Without --predictions the files alone. Predictions are {question id: answer}, or a folder with logits.bin and
windows.json (docs/android.md). Needs what `evaluate` needs; no TensorFlow. It writes nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from absl import flags

from mobilebert_kit.android.reading import read_bundle
from mobilebert_kit.android.verification import Comparison, check_files, compare, load_evaluation
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.main import run

_MANIFEST = flags.DEFINE_string("manifest", None, "The bundle's bundle.json, or its folder.", required=True)
_PREDICTIONS = flags.DEFINE_string(
    "predictions", None, "What the device gave: a JSON file {question id: answer}, or a folder of logits."
)
_DATASET = flags.DEFINE_string(
    "dataset", None, "SQuAD v1.1 file with the bundle's questions; default: the bundle's own records."
)
_DELEGATE = flags.DEFINE_string(
    "delegate",
    None,
    "Whose model the device ran (nnapi, gpu, cpu). Default: as the logits say, else the first.",
)
_NUM_QUESTIONS = flags.DEFINE_integer(
    "num_questions", None, "The device answered the first N questions only.", lower_bound=1
)
_MAX_F1_DROP = flags.DEFINE_float("max_f1_drop", 1.0, "Fail if the device loses more F1 against the host.")
_MIN_AGREEMENT = flags.DEFINE_float(
    "min_agreement", 0.98, "Fail if a smaller share of the answers is the host's, to the letter."
)
_JSON = flags.DEFINE_bool("json", False, "Print the result as one JSON object.")

_SHOWN = 20  # differences; --json has all


def main() -> None:
    if not 0 <= _MAX_F1_DROP.value <= 100:  # NaN too: no drop is more than NaN
        raise InputError(f"Expected --max_f1_drop from 0 to 100, got {_MAX_F1_DROP.value}.")
    if not 0 <= _MIN_AGREEMENT.value <= 1:
        raise InputError(f"Expected --min_agreement from 0 to 1, got {_MIN_AGREEMENT.value}.")
    if _PREDICTIONS.value is None and (_DELEGATE.value or _DATASET.value or _NUM_QUESTIONS.value):
        raise InputError("Expected --delegate, --dataset and --num_questions with --predictions only.")
    bundle = read_bundle(_MANIFEST.value)
    files = check_files(bundle)
    questions, windows = load_evaluation(bundle, _DATASET.value, _NUM_QUESTIONS.value)
    found = None
    if _PREDICTIONS.value is not None:
        found = compare(bundle, _PREDICTIONS.value, questions, windows, _DELEGATE.value)
    if _JSON.value:
        print(json.dumps({"files": files, "questions": len(questions), **_as_json(found)}))
    else:
        _report(files, len(questions), found)
    if found is not None:
        _check_limits(found)


def _report(files: int, questions: int, found: Comparison | None) -> None:
    print(f"files        {files}, as they were bundled")
    print(f"questions    {questions}")
    if found is None:
        return
    print(f"model        {found.model.delegate}: {found.model.file}")
    for name, metrics in (("host", found.host), ("device", found.device)):
        print(f"{name:12} exact match {metrics.exact_match:7.4f}   F1 {metrics.f1:7.4f}")
    print(f"F1 drop      {found.f1_drop:.4f}")
    same = found.questions - len(found.differences)
    print(f"agreement    {found.agreement:.4f}: {same} of {found.questions} answers")
    for difference in found.differences[:_SHOWN]:
        print(
            f"  {difference.question_id}: {difference.host!r} on the host, {difference.device!r} on the "
            f"device; alike by {difference.likeness:.2f}, F1 {difference.host_f1:.2f} -> "
            f"{difference.device_f1:.2f}"
        )
    if len(found.differences) > _SHOWN:
        print(f"  and {len(found.differences) - _SHOWN} more; --json has all")


def _as_json(found: Comparison | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "delegate": found.model.delegate,
        "model": found.model.file,
        "host": {"exact_match": found.host.exact_match, "f1": found.host.f1},
        "device": {"exact_match": found.device.exact_match, "f1": found.device.f1},
        "f1_drop": found.f1_drop,
        "agreement": found.agreement,
        "differences": [asdict(difference) for difference in found.differences],
    }


def _check_limits(found: Comparison) -> None:
    faults = []
    if found.f1_drop > _MAX_F1_DROP.value:
        faults.append(f"an F1 drop of {found.f1_drop:.2f} (at most {_MAX_F1_DROP.value:g})")
    if found.agreement < _MIN_AGREEMENT.value:
        faults.append(f"an agreement of {found.agreement:.4f} (at least {_MIN_AGREEMENT.value:g})")
    if faults:
        raise CheckFailed(
            f"Expected the device to answer as the host does by {found.model.file}, got "
            f"{' and '.join(faults)}. Was it this model, and windows and decoding as the kit's? If so, take "
            "its fallback on this device."
        )


if __name__ == "__main__":
    run(main)
