"""The flags of every command that makes .tflite files: how long a window is, and what tells the ranges."""

from __future__ import annotations

from pathlib import Path

from absl import flags

from mobilebert_kit.squad import windows

CALIBRATION_DATA = Path(__file__).resolve().parents[1] / "calibration"

DOC_STRIDE = flags.DEFINE_integer(
    "doc_stride", windows.DOC_STRIDE, "Tokens from window to window.", lower_bound=1
)
SEQUENCE_LENGTH = flags.DEFINE_integer("max_seq_length", 384, "Tokens of a window.", lower_bound=8)
CALIBRATION = flags.DEFINE_string(
    "calibration",
    str(CALIBRATION_DATA / "demo_calibration.json"),
    "SQuAD v1.1 file (or name of a dataset, its train split) whose first questions tell activations' ranges.",
)
CALIBRATION_QUESTIONS = flags.DEFINE_integer(
    "calibration_questions", 100, "How many of them, with all their windows.", lower_bound=1
)
