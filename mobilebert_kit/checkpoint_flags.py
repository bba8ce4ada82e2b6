"""The flags of every command that reads a checkpoint: which one, and what it does not say of itself."""

from __future__ import annotations

from pathlib import Path

from absl import flags

from mobilebert_kit.errors import InputError

DEMO_CHECKPOINT = Path(__file__).resolve().parent / "demo_checkpoint"

CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    str(DEMO_CHECKPOINT),
    "TF1 checkpoint prefix, SavedModel directory or Hugging Face directory. Default: the demo.",
)
CONFIG = flags.DEFINE_string("config", None, "The model's configuration (JSON), where none is beside it.")
VOCAB = flags.DEFINE_string("vocab", None, "The vocabulary. Default: vocab.txt beside the checkpoint.")
ACTIVATION = flags.DEFINE_enum(
    "activation", None, ["relu", "relu6"], "Overrides the activation that a MobileBERT's configuration names."
)
MASK = flags.DEFINE_enum(
    "mask",
    None,
    ["additive", "multiplicative"],
    "Overrides how a MobileBERT masks padding: scores - 10000, or scores * mask - 6 where masked.",
)


def checkpoint_path() -> Path:
    """Of --checkpoint. InputError where not even its folder is there: told before TensorFlow is imported."""
    checkpoint = Path(CHECKPOINT.value)
    if not checkpoint.parent.exists():
        raise InputError(f"Expected a checkpoint at {checkpoint}, got no such folder as {checkpoint.parent}.")
    return checkpoint
