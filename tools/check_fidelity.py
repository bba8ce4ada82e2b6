"""How close the full-size models come: float to transformers' PyTorch model, int8 and nnapi to float.

    python tools/check_fidelity.py --dataset dev-v1.1.json --output fidelity.json

Random weights (random_weights.py), real windows. Float is compared at every position; the correlations are
over the logits of tokens, as padding's answer nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import flags
from benchmark_models import DEMO_CALIBRATION, checkpoint_or_random, exported
from benchmark_report import Requirement, publish
from transformers_reference import reference_logits

from mobilebert_kit.contract import MLPERF
from mobilebert_kit.main import run
from mobilebert_kit.runtime.scoring import run_windows
from mobilebert_kit.squad.dataset import load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import Window, make_windows

MOST_DIFFERENCE = 1e-5
LEAST_CORRELATION = {"int8": 0.99, "nnapi": 0.97}
COMPARED = (
    "dynamic",
    *LEAST_CORRELATION,
)  # dynamic: how sensitive these weights are to quantized weights alone

_DATASET = flags.DEFINE_string("dataset", None, "SQuAD v1.1 file that the windows are from.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Default: full size, random weights.")
_MODELS = flags.DEFINE_string(
    "models",
    None,
    "A folder made by export of --checkpoint, with float, dynamic, int8 and nnapi; default: made anew.",
)
_CALIBRATION = flags.DEFINE_string("calibration", str(DEMO_CALIBRATION), "As of export.")
_CALIBRATION_QUESTIONS = flags.DEFINE_integer("calibration_questions", 100, "As of export.", lower_bound=1)
_REFERENCE_WINDOWS = flags.DEFINE_integer("reference_windows", 20, "To transformers.", lower_bound=1)
_WINDOWS = flags.DEFINE_integer("windows", 50, "To the quantized targets.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")

Logits = tuple[np.ndarray, np.ndarray]  # start, end, [N, S] each


def main() -> None:
    with (
        checkpoint_or_random(_CHECKPOINT.value) as checkpoint,
        exported(
            checkpoint,
            ["float", *COMPARED],
            folder=_MODELS.value,
            calibration=_CALIBRATION.value,
            calibration_questions=_CALIBRATION_QUESTIONS.value,
        ) as models,
    ):
        windows = spread_windows(load_tokenizer(models.vocab), models.sequence_length)
        logits = {name: run_windows(file, windows) for name, file in models.files.items()}
        first = {
            name: np.stack([getattr(window, name) for window in windows[: _REFERENCE_WINDOWS.value]])
            for name in MLPERF.input_names
        }
        reference = reference_logits(checkpoint, first)
    theirs = reference["start_logits"], reference["end_logits"]
    ours = tuple(values[: len(theirs[0])] for values in logits["float"])
    tokens = np.stack([window.input_mask for window in windows]) == 1
    difference = largest_difference(ours, theirs)
    deviation = reference["hidden_deviation"]
    rows = [
        ("float", "transformers", len(theirs[0]), f"{difference:.2g}", f"{correlation(ours, theirs):.6f}")
    ]
    requirements = [Requirement("float, difference to transformers", difference, MOST_DIFFERENCE)]
    for name in COMPARED:
        ours, theirs = (select(logits[of], tokens) for of in (name, "float"))
        value = correlation(ours, theirs)
        rows.append((name, "float", len(windows), f"{largest_difference(ours, theirs):.2g}", f"{value:.4f}"))
        if name in LEAST_CORRELATION:
            least = LEAST_CORRELATION[name]
            requirements.append(Requirement(f"{name}, correlation with float", value, least, at_least=True))
    publish(
        f"Logits of the full-size model, {_CALIBRATION_QUESTIONS.value} calibration questions; hidden states "
        f"of deviation {deviation[0]:.2f} after the embeddings, {deviation.min():.2f} to "
        f"{deviation.max():.2f} in all layers",
        ("model", "against", "windows", "largest difference", "correlation"),
        rows,
        requirements,
        {
            "rows": rows,
            "hidden_deviation": reference["hidden_deviation"].round(3).tolist(),
            "attention_perplexity": reference["attention_perplexity"].round(1).tolist(),
            "logit_deviation": float(np.std(np.stack(theirs))),
        },
        _OUTPUT.value,
    )


def spread_windows(tokenizer, length: int) -> list[Window]:
    """--windows windows of questions from all over the dataset: neighbours ask about the same passage."""
    questions = load_questions(_DATASET.value)
    step = max(1, len(questions) // _WINDOWS.value)
    return make_windows(questions[::step], tokenizer, max_seq_length=length)[: _WINDOWS.value]


def select(logits: Logits, tokens: np.ndarray) -> Logits:
    """The logits where `tokens`, bool [N, S], is true."""
    start, end = logits
    return start[tokens], end[tokens]


def largest_difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """Over start and end logits and all positions given."""
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


def correlation(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """Pearson's, of the start logits and of the end logits: the smaller one."""
    return min(float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    run(main)
