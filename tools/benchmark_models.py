"""The models that the benchmarks measure: full size, random weights, exported by the kit's own command."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from random_weights import write_random_checkpoint

import mobilebert_kit
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.json_files import read_json_object
from mobilebert_kit.models.config import SIZES, MobileBertConfig

PACKAGE = Path(mobilebert_kit.__file__).parent
ROOT = PACKAGE.parent
DEMO_VOCAB = PACKAGE / "demo_checkpoint" / "vocab.txt"
DEMO_CALIBRATION = ROOT / "calibration" / "demo_calibration.json"
DEMO_EVAL = ROOT / "calibration" / "demo_eval.json"


@dataclass(frozen=True)
class Models:
    """An export folder: target name -> .tflite, the vocabulary, the windows' length."""

    files: dict[str, Path]
    vocab: Path
    sequence_length: int


@contextlib.contextmanager
def checkpoint_or_random(given: str | None) -> Iterator[Path]:
    """`given`, or a temporary checkpoint of the full-size architecture with random weights (seed 0)."""
    if given:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "random"
        config = MobileBertConfig(**{key: default for key, (_, default) in SIZES.items()})
        write_random_checkpoint(directory, config, DEMO_VOCAB)
        yield directory


@contextlib.contextmanager
def exported(
    checkpoint: Path,
    targets: Sequence[str],
    *,
    folder: str | None = None,
    calibration: str = str(DEMO_CALIBRATION),
    calibration_questions: int = 5,
) -> Iterator[Models]:
    """`targets` of `checkpoint`: those in `folder`, an earlier export of it, or a temporary new export.

    Few calibration questions are enough where only time is measured: it does not depend on the ranges.

    Raises:
        InputError: `folder` lacks a target.
        CheckFailed: the export fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            folder = f"{scratch}/models"
            command = [
                *(sys.executable, "-m", "mobilebert_kit.export", "--target", ",".join(targets)),
                *("--checkpoint", str(checkpoint.resolve()), "--output_dir", folder),
                *("--calibration", calibration, "--calibration_questions", str(calibration_questions)),
                *("--eval", str(DEMO_EVAL), "--eval_questions", "1", "--max_f1_drop", "100"),
            ]
            code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
            if code:
                raise CheckFailed(f"Expected to export {', '.join(targets)}, got exit code {code}.")
        manifest = read_json_object(Path(folder) / "manifest.json", "the manifest of an export")
        absent = [name for name in targets if name not in manifest["targets"]]
        if absent:
            raise InputError(f"Expected an export of {', '.join(targets)} in {folder}, got no {absent[0]}.")
        yield Models(
            {name: Path(folder) / manifest["targets"][name]["file"] for name in targets},
            Path(folder) / "vocab.txt",
            manifest["contract"]["inputs"][0]["shape"][1],
        )
