"""How close the full-size models come: float to transformers' PyTorch model, all others to float on the CPU.

    python tools/check_fidelity.py --dataset dev-v1.1.json --output fidelity.json

Random weights (random_weights.py), real windows. Float is compared at every position, and so is gpu, on the
CPU and on LiteRT's GPU accelerator; the correlations are over the logits of tokens: padding answers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from benchmark_models import DEMO_CALIBRATION, checkpoint_or_random, exported
from benchmark_report import Requirement, publish
from spread_windows import spread_windows
from transformers_reference import reference_logits

from mobilebert_kit.contract import MLPERF
from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.main import run
from mobilebert_kit.runtime.accelerator import run_on_accelerator
from mobilebert_kit.runtime.scoring import run_windows
from mobilebert_kit.squad.windows import Window

MOST_DIFFERENCE = {"float": 1e-5, "gpu": 1e-5, "gpu on the accelerator": 1e-4}
LEAST_CORRELATION = {"int8": 0.99, "nnapi": 0.97}
# dynamic: how sensitive these weights are to quantized weights alone
COMPARED = ("dynamic", *LEAST_CORRELATION)

_DATASET = flags.DEFINE_string("dataset", None, "SQuAD v1.1 file that the windows are from.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Default: full size, random weights.")
_MODELS = flags.DEFINE_string(
    "models",
    None,
    "A folder made by export of --checkpoint, with float, dynamic, int8, nnapi, gpu; default: made anew.",
)
_CALIBRATION = flags.DEFINE_string("calibration", str(DEMO_CALIBRATION), "As of export.")
_CALIBRATION_QUESTIONS = flags.DEFINE_integer("calibration_questions", 100, "As of export.", lower_bound=1)
_REFERENCE_WINDOWS = flags.DEFINE_integer("reference_windows", 20, "To transformers.", lower_bound=1)
_ACCELERATOR_WINDOWS = flags.DEFINE_integer(
    "accelerator_windows", 20, "On the GPU accelerator, some 5 s each by software.", lower_bound=1
)
_WINDOWS = flags.DEFINE_integer("windows", 50, "To the quantized targets.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")

Logits = tuple[np.ndarray, np.ndarray]  # start, end, [N, S] each


def main() -> None:
    with (
        checkpoint_or_random(_CHECKPOINT.value) as checkpoint,
        exported(
            checkpoint,
            ["float", "gpu", *COMPARED],
            folder=_MODELS.value,
            calibration=_CALIBRATION.value,
            calibration_questions=_CALIBRATION_QUESTIONS.value,
        ) as models,
    ):
        windows = spread_windows(_DATASET.value, models.vocab, models.sequence_length, _WINDOWS.value)
        logits = {name: run_windows(file, windows) for name, file in models.files.items()}
        first = {
            name: np.stack([getattr(window, name) for window in windows[: _REFERENCE_WINDOWS.value]])
            for name in MLPERF.input_names
        }
        reference = reference_logits(checkpoint, first)
        accelerated = accelerator_logits(models.files["gpu"], windows[: _ACCELERATOR_WINDOWS.value])
    published = reference["start_logits"], reference["end_logits"]
    tokens = np.stack([window.input_mask for window in windows]) == 1
    deviation = reference["hidden_deviation"]
    rows, requirements = [], []
    for name, against, ours, theirs in (
        ("float", "transformers", logits["float"], published),
        ("gpu", "float", logits["gpu"], logits["float"]),
        ("gpu on the accelerator", "float", accelerated, logits["float"]),
    ):
        count = min(len(ours[0]), len(theirs[0]))
        ours, theirs = (tuple(values[:count] for values in side) for side in (ours, theirs))
        difference = largest_difference(ours, theirs)
        rows.append((name, against, count, f"{difference:.2g}", f"{correlation(ours, theirs):.6f}"))
        requirements.append(
            Requirement(f"{name}, difference to {against}", difference, MOST_DIFFERENCE[name])
        )
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


def accelerator_logits(model: Path, windows: Sequence[Window]) -> Logits:
    """Of the whole model on LiteRT's GPU accelerator. CheckFailed where it does not take all of it."""
    inputs = [{name: getattr(window, name)[None] for name in MLPERF.input_names} for window in windows]
    done = run_on_accelerator(model, inputs, timeout=3600)
    if not done.fully_accelerated:
        raise CheckFailed(f"Expected {model} to be fully accelerated, got {done.refusals} {done.failure}.")
    return tuple(
        np.concatenate([output[name] for output in done.outputs]) for name in ("start_logits", "end_logits")
    )


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
