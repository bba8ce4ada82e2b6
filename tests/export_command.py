"""The export command of a small model, as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import small_export
from conftest import REPOSITORY

ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"},
    "PYTHONPATH": str(REPOSITORY),
}


def command(folder: Path, *more: str, target: str = "float") -> list[str]:
    """A command line that works; flags in `more` are stronger."""
    questions = str(folder / "questions.json")
    return [
        f"--target={target}",
        f"--checkpoint={folder / 'checkpoint'}",
        f"--calibration={questions}",
        f"--eval={questions}",
        "--calibration_questions=9",
        f"--max_seq_length={small_export.LENGTH}",
        "--max_f1_drop=100",
        *more,
    ]


def start(arguments: list[str], cwd: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "mobilebert_kit.export", *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def everything_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
