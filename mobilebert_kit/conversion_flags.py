"""The flags of every command that makes .tflite files: how long a window is, and what tells the ranges."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mobilebert_kit.checkpoint_flags import ACTIVATION, CONFIG, MASK, VOCAB, checkpoint_path
from mobilebert_kit.errors import InputError
from mobilebert_kit.native_log import import_tensorflow
from mobilebert_kit.squad import windows

if TYPE_CHECKING:
    from mobilebert_kit.inputs import Request

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


def conversion_request(module: str, *, max_f1_drop: float, **changes: object) -> Request:
    """What these flags and those of the checkpoint ask for. Imports TensorFlow, once they are known good.

    Args:
        module: of the command.
        max_f1_drop, changes: fields of Request that the command has its own say in.
    Raises:
        InputError: no such checkpoint, or a drop that is no percentage.
    """
    checkpoint = checkpoint_path()
    if not 0 <= max_f1_drop <= 100:  # NaN too: no drop is more than NaN
        raise InputError(f"Expected --max_f1_drop from 0 to 100, got {max_f1_drop}.")
    import_tensorflow()  # takes seconds
    from mobilebert_kit.inputs import Request

    fields: dict[str, object] = {
        "checkpoint": checkpoint,
        "calibration": CALIBRATION.value,
        "calibration_questions": CALIBRATION_QUESTIONS.value,
        "config": CONFIG.value,
        "vocab": VOCAB.value,
        "activation": ACTIVATION.value,
        "mask": MASK.value,
        "sequence_length": SEQUENCE_LENGTH.value,
        "doc_stride": DOC_STRIDE.value,
        "max_f1_drop": max_f1_drop,
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
    }
    return Request(**(fields | changes))
