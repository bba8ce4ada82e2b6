"""What pruning costs a really fine-tuned model: F1 by pattern, beside magnitude pruning without a teacher.

    python tools/measure_pruning.py --checkpoint DIR --dataset train-v1.1.json --eval dev-v1.1.json \\
        --output_dir D --budget "--max_steps 800 --batch_size 16 --learning_rate 1e-4 --end_step 500"

For each pattern two trainings of the same budget: snip_momentum with the dense model as teacher and what
stays fitted anew, and magnitude on the labels alone. F1 is that of the exported files on all of --eval, the
dense model's too.
Stopped, the same command goes on: trainings resume, and exports that are there are not made again.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags
from benchmark_report import Requirement, publish

from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.json_files import read_json_object
from mobilebert_kit.main import run
from mobilebert_kit.training.state import MODEL, PRUNING

MOST_QUANTIZED_DROP = 1.0  # F1, of int8 and nnapi below the same model's float file


@dataclass(frozen=True)
class Case:
    """A pattern, its sparsity, and how much of the dense F1 it may cost (share)."""

    pattern: str
    sparsity: float
    most_drop: float


CASES = (Case("2:4", 0.5, 0.01), Case("4x1", 0.8, 0.04), Case("1x1", 0.85, 0.05))
# How -> the flags, and what is exported of it.
WAYS = {
    "snip_momentum, refitted, distilled": (
        ("--criterion", "snip_momentum", "--refit_steps", "8", "--distill_loss_weight"),
        "float,int8,nnapi",
    ),
    "magnitude, labels": (("--criterion", "magnitude", "--distill_loss_weight", "0"), "float"),
}

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The dense model.", required=True)
_DATASET = flags.DEFINE_string("dataset", None, "SQuAD v1.1 file to train and calibrate on.", required=True)
_EVAL = flags.DEFINE_string("eval", None, "SQuAD v1.1 file to score on.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Of the trainings and exports.", required=True)
_BUDGET = flags.DEFINE_string("budget", "", "Flags of `prune` that all trainings get.")
_DISTILL_LOSS_WEIGHT = flags.DEFINE_float("distill_loss_weight", 4.5, "Of the teacher, where there is one.")
_PATTERNS = flags.DEFINE_list("patterns", [case.pattern for case in CASES], "Which of the cases.")
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


def main() -> None:
    folder = Path(_OUTPUT_DIR.value)
    cases = [case for case in CASES if case.pattern in _PATTERNS.value]
    if len(cases) < len(_PATTERNS.value):
        raise InputError(f"Expected --patterns of {[case.pattern for case in CASES]}, got {_PATTERNS.value}.")
    folder.mkdir(parents=True, exist_ok=True)
    dense = exported(Path(_CHECKPOINT.value), folder / "dense", "float,int8,nnapi")
    results = [{"pattern": "dense", "how": "", "sparsity": 0.0, "drop": 0.0, "f1": dense}]
    for case in cases:
        for how, (criterion, targets) in WAYS.items():
            name = f"{case.pattern.replace(':', '_of_')}_{how.split(',')[0]}"
            report = pruned(case, criterion, folder / name)
            scores = exported(folder / name / MODEL, folder / f"{name}_export", targets)
            drop = 1 - scores["float"] / dense["float"]
            results.append({"pattern": case.pattern, "how": how, "drop": drop, "f1": scores} | report)
    publish(
        f"Pruning {Path(_CHECKPOINT.value).name}, {_BUDGET.value}",
        ("pattern", "how", "sparsity", "float F1", "relative drop, %", "int8 F1", "nnapi F1"),
        [
            (
                result["pattern"],
                result["how"],
                f"{result['sparsity']:.4f}",
                f"{result['f1']['float']:.2f}",
                f"{result['drop'] * 100:.2f}",
                *(f"{result['f1'][name]:.2f}" if name in result["f1"] else "" for name in ("int8", "nnapi")),
            )
            for result in results
        ],
        requirements(cases, results),
        {"results": results},
        _OUTPUT.value,
    )


def requirements(cases: list[Case], results: list[dict[str, Any]]) -> list[Requirement]:
    """Of the distilled models: the drop of float, and of the quantized files below it."""
    wanted = []
    for case in cases:
        [result] = [row for row in results if row["pattern"] == case.pattern and len(row["f1"]) > 1]
        wanted.append(Requirement(f"{case.pattern}: relative drop", result["drop"], case.most_drop))
        for name in ("int8", "nnapi"):
            below = result["f1"]["float"] - result["f1"][name]
            wanted.append(Requirement(f"{case.pattern}: {name} below float, F1", below, MOST_QUANTIZED_DROP))
    return wanted


def pruned(case: Case, criterion: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Trains, or goes on; sparsity and bytes of the result."""
    if criterion[-1] == "--distill_loss_weight":
        criterion = (*criterion, str(_DISTILL_LOSS_WEIGHT.value))
    call(
        *("mobilebert_kit.prune", "--checkpoint", _CHECKPOINT.value, "--dataset", _DATASET.value),
        *("--output_dir", str(folder), *criterion, *shlex.split(_BUDGET.value)),
        *("--pruning_pattern", case.pattern, "--target_sparsity", str(case.sparsity)),
    )
    report = json.loads((folder / PRUNING).read_text(encoding="utf-8"))
    return {key: report[key] for key in ("sparsity", "matmul_sparsity", "bytes")}


def exported(checkpoint: Path, folder: Path, targets: str) -> dict[str, float]:
    """F1 of each target on all of --eval; exports where that is not done yet."""
    manifest = folder / "manifest.json"
    if not manifest.exists():
        call(
            *("mobilebert_kit.export", "--target", targets, "--checkpoint", str(checkpoint)),
            *("--calibration", _DATASET.value, "--eval", _EVAL.value, "--max_f1_drop", "100"),
            *("--output_dir", str(folder)),
        )
    found = read_json_object(manifest, "the manifest of an export")["targets"]
    return {name: found[name]["f1"] for name in targets.split(",")}


def call(module: str, *arguments: str) -> None:
    """Raises CheckFailed where the command does."""
    if code := subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode:
        raise CheckFailed(f"Expected {module} to end with 0, got {code}; its error is above.")


if __name__ == "__main__":
    run(main)
