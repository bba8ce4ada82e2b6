"""How long an export takes, and how much memory: each target of a full-size MobileBERT, a process each.

    python tools/bench_export.py --output export.json

The process is `python -m mobilebert_kit.export` with everything: reading, calibrating, converting, the
delegate's check, the F1 of the float model and of the target. The weights are random, so F1 says nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import flags
from benchmark_models import DEMO_CALIBRATION, DEMO_EVAL, checkpoint_or_random
from benchmark_report import Requirement, publish
from measured_process import run_measured

from mobilebert_kit.main import run
from mobilebert_kit.targets import parse_targets

MOST_SECONDS = {"float": 60, "int8": 180, "nnapi": 180}
MOST_BYTES = 2.5e9

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Default: full size, random weights.")
_TARGET = flags.DEFINE_string("target", "all", "Targets, comma-separated, or all.")
_CALIBRATION = flags.DEFINE_string("calibration", str(DEMO_CALIBRATION), "As of export.")
_CALIBRATION_QUESTIONS = flags.DEFINE_integer("calibration_questions", 100, "As of export.", lower_bound=1)
_EVAL = flags.DEFINE_string("eval", str(DEMO_EVAL), "As of export.")
_EVAL_QUESTIONS = flags.DEFINE_integer("eval_questions", 20, "As of export.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


def main() -> None:
    targets = parse_targets(_TARGET.value)
    with checkpoint_or_random(_CHECKPOINT.value) as checkpoint, tempfile.TemporaryDirectory() as scratch:
        results = [measure(target.name, checkpoint, Path(scratch) / target.name) for target in targets]
    requirements = []
    for result in results:
        name = result["target"]
        if name in MOST_SECONDS:
            requirements.append(Requirement(f"{name}, seconds", result["seconds"], MOST_SECONDS[name]))
        requirements.append(Requirement(f"{name}, peak GB", result["peak_bytes"] / 1e9, MOST_BYTES / 1e9))
    publish(
        f"Export, {results[0]['parameters'] / 1e6:.1f} million parameters, {_CALIBRATION_QUESTIONS.value} "
        f"calibration questions, F1 on {_EVAL_QUESTIONS.value} questions",
        ("target", "seconds", "peak memory, GB", "file, MB", "nodes"),
        [
            (
                result["target"],
                f"{result['seconds']:.0f}",
                f"{result['peak_bytes'] / 1e9:.2f}",
                f"{result['file_bytes'] / 1e6:.1f}",
                result["nodes"],
            )
            for result in results
        ],
        requirements,
        {"results": results},
        _OUTPUT.value,
    )


def measure(target: str, checkpoint: Path, output_dir: Path) -> dict[str, Any]:
    """Exports `target` in a process of its own; seconds include starting Python and TensorFlow."""
    command = [
        *(sys.executable, "-m", "mobilebert_kit.export", "--target", target, "--max_f1_drop", "100"),
        *("--checkpoint", str(checkpoint.resolve()), "--output_dir", str(output_dir)),
        *("--calibration", str(Path(_CALIBRATION.value).resolve())),
        *("--calibration_questions", str(_CALIBRATION_QUESTIONS.value)),
        *("--eval", str(Path(_EVAL.value).resolve()), "--eval_questions", str(_EVAL_QUESTIONS.value)),
    ]
    cost = run_measured(command, f"the export of {target}")
    manifest = json.loads((output_dir / "manifest.json").read_text(encoding="utf-8"))
    built = manifest["targets"][target]
    return {
        "target": target,
        **asdict(cost),
        "file_bytes": manifest["files"][built["file"]]["bytes"],
        "nodes": built["nodes"],
        "mask_value": built["mask_value"],
        "parameters": manifest["checkpoint"]["parameters"],
        "calibration_windows": (manifest["calibration"] or {}).get("windows"),
        "evaluation_windows": manifest["evaluation"]["windows"],
    }


if __name__ == "__main__":
    run(main)
