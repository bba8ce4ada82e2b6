"""The flags of every command that trains: on what, how long, how, and from which teacher."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mobilebert_kit.checkpoint_flags import ACTIVATION, CONFIG, MASK, VOCAB, checkpoint_path
from mobilebert_kit.errors import InputError
from mobilebert_kit.native_log import import_tensorflow
from mobilebert_kit.training.request import DISTRIBUTIONS, PRECISIONS, WEIGHT_RANGES, TrainingRequest

if TYPE_CHECKING:
    from mobilebert_kit.training.trainer import Summary

DATASET = flags.DEFINE_string(
    "dataset", None, "SQuAD v1.1 file (or name of a dataset, its train split) to learn from."
)
EVAL = flags.DEFINE_string(
    "eval", None, "SQuAD v1.1 file (or name of a dataset) to score on after each epoch. Default: no scores."
)
OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "A new folder, or that of the same command's earlier run, which goes on.",
    required=True,
)
EPOCHS = flags.DEFINE_integer("epochs", 5, "How often each window is learned from.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Windows of a batch, on all devices together.")
ACCUMULATION = flags.DEFINE_integer("accumulation", 1, "Batches whose gradients make one update.")
LEARNING_RATE = flags.DEFINE_float("learning_rate", 4e-5, "The highest, after the warm-up.")
WARMUP = flags.DEFINE_float("warmup", 0.1, "Share of all steps in which the rate rises; then it falls to 0.")
WEIGHT_DECAY = flags.DEFINE_float("weight_decay", 0.01, "Of all but biases, gamma and beta.")
DROPOUT = flags.DEFINE_float(
    "dropout",
    None,
    "Share of hidden states and of attention that a step leaves out. Default: the checkpoint's, often 0.1.",
)
SEQUENCE_LENGTH = flags.DEFINE_integer("max_seq_length", 384, "Tokens of a window at most.")
BUCKETS = flags.DEFINE_string(
    "buckets",
    None,
    "Lengths, as 128,192,256,384: a batch is padded to the least of them that holds its windows. Default: "
    "64,128,192,256,320,384; where the mask gives padding a share of the attention (multiplicative, hence "
    "with --qat), one length only, as padding then changes the result.",
)
MIXED_PRECISION = flags.DEFINE_enum(
    "mixed_precision",
    "auto",
    list(PRECISIONS),
    "The activations' number format; auto: half precision where every GPU here has it, none on a CPU and "
    "with --qat.",
)
SEED = flags.DEFINE_integer("seed", 12345, "The order of the windows and the dropout follow from it.")
MAX_STEPS = flags.DEFINE_integer("max_steps", None, "Stop after so many updates; the rate falls to 0 then.")
CHECKPOINT_STEPS = flags.DEFINE_integer(
    "checkpoint_steps", 500, "Updates between checkpoints; there is one at each epoch's end too."
)
QAT = flags.DEFINE_bool("qat", False, "Partial quantization-aware training.")
QAT_WEIGHTS = flags.DEFINE_enum(
    "qat_weights",
    "per_tensor",
    list(WEIGHT_RANGES),
    "With --qat: one range a kernel, as published, or one for each of its outputs.",
)
QAT_CALIBRATION_STEPS = flags.DEFINE_integer(
    "qat_calibration_steps",
    8,
    "With --qat from a float checkpoint: activations' ranges start at what it shows in the windows of this "
    "many steps; 0: at -6 and 6, as published.",
)
TEACHER = flags.DEFINE_string(
    "teacher",
    None,
    "Learn from this model's logits: a checkpoint that the kit reads, or a Hugging Face directory of another "
    "family, which is run through transformers; with the same vocab.txt.",
)
DISTILL_LOSS_WEIGHT = flags.DEFINE_float(
    "distill_loss_weight",
    None,
    "Of the teacher's logits; the labels have the rest: 1 replaces them, more is so many times the same. "
    "Default: 1 with --teacher.",
)
TEMPERATURE = flags.DEFINE_float("temperature", 2.0, "Divides both logits before they are compared.")
HIDDEN_WEIGHT = flags.DEFINE_float(
    "hidden_weight",
    0.0,
    "Of the difference to the teacher's hidden states. The teacher then runs in each step.",
)
ATTENTION_WEIGHT = flags.DEFINE_float("attention_weight", 0.0, "Of that to its attention; as before.")
TEACHER_CACHE = flags.DEFINE_string(
    "teacher_cache",
    None,
    "Folder where the teacher's logits are kept for other runs too. Default: in --output_dir.",
)
DISTRIBUTE = flags.DEFINE_enum(
    "distribute",
    "none",
    list(DISTRIBUTIONS),
    "Share each batch among the GPUs of this machine (mirrored), or among the machines in TF_CONFIG, each "
    "running the same command on the same --output_dir.",
)
TRAIN_QUESTIONS = flags.DEFINE_integer("train_questions", None, "The first N of --dataset; default: all.")
EVAL_QUESTIONS = flags.DEFINE_integer("eval_questions", None, "The first N of --eval; default: all.")

KEEP_ZEROS = flags.DEFINE_bool(
    "keep_zeros",
    True,
    "A pruned checkpoint stays so: where 5 % or more of its kernels' weights are zero, these hold.",
)


def training_request(module: str, **changes: object) -> TrainingRequest:
    """What the flags ask for.

    Args:
        module: of the command.
        changes: fields of TrainingRequest that the command has its own say in.
    """
    dataset = changes.get("dataset", DATASET.value)
    if dataset is None:
        raise InputError("Expected --dataset, a SQuAD v1.1 file or the name of a dataset, got none.")
    weight = DISTILL_LOSS_WEIGHT.value
    fields: dict[str, object] = {
        "checkpoint": checkpoint_path(),
        "dataset": dataset,
        "output_dir": Path(OUTPUT_DIR.value),
        "evaluation": EVAL.value,
        "epochs": EPOCHS.value,
        "batch_size": BATCH_SIZE.value,
        "accumulation": ACCUMULATION.value,
        "learning_rate": LEARNING_RATE.value,
        "warmup": WARMUP.value,
        "weight_decay": WEIGHT_DECAY.value,
        "dropout": DROPOUT.value,
        "max_seq_length": SEQUENCE_LENGTH.value,
        "buckets": BUCKETS.value,
        "mixed_precision": MIXED_PRECISION.value,
        "seed": SEED.value,
        "max_steps": MAX_STEPS.value,
        "checkpoint_steps": CHECKPOINT_STEPS.value,
        "qat": QAT.value,
        "qat_weights": QAT_WEIGHTS.value,
        "qat_calibration_steps": QAT_CALIBRATION_STEPS.value,
        "distribute": DISTRIBUTE.value,
        "teacher": TEACHER.value,
        "distill_loss_weight": 1.0 if weight is None else weight,
        "temperature": TEMPERATURE.value,
        "hidden_weight": HIDDEN_WEIGHT.value,
        "attention_weight": ATTENTION_WEIGHT.value,
        "teacher_cache": Path(TEACHER_CACHE.value) if TEACHER_CACHE.value else None,
        "train_questions": TRAIN_QUESTIONS.value,
        "eval_questions": EVAL_QUESTIONS.value,
        "vocab": VOCAB.value,
        "config": CONFIG.value,
        "activation": ACTIVATION.value,
        "mask": MASK.value,
        "keep_zeros": KEEP_ZEROS.value,
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
    }
    return TrainingRequest(**(fields | changes))


def start_tensorflow() -> None:
    """Seconds: only after the flags are known good."""
    import_tensorflow("tensorflow_model_optimization", "tf_keras", extra="training", on_gpu=True)
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()  # else a resumed run would end at other weights


def told_model(summary: Summary) -> str:
    """A line: where the result is, how large, after how many steps, in what time."""
    here = Path.cwd()
    model = summary.model.relative_to(here) if summary.model.is_relative_to(here) else summary.model
    megabytes = sum(path.stat().st_size for path in summary.model.iterdir()) / 1e6
    resumed = f" (from step {summary.resumed_at} on)" if summary.resumed_at else ""
    return f"{model}: {megabytes:.1f} MB, {summary.steps} steps{resumed}, {summary.seconds:.0f} s"
