"""Fine-tune a MobileBERT on questions in the form of SQuAD v1.1, in float or with partial quantization.

python -m mobilebert_kit.train --dataset train-v1.1.json --eval dev-v1.1.json --output_dir D
python -m mobilebert_kit.train --checkpoint DIR --dataset train-v1.1.json --output_dir D --qat

D/model is the result, which `export --checkpoint D/model` takes. Killed at any moment, the same command goes
on and ends at the same weights.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mobilebert_kit.checkpoint_flags import ACTIVATION, CONFIG, MASK, VOCAB, checkpoint_path
from mobilebert_kit.main import run
from mobilebert_kit.native_log import import_tensorflow
from mobilebert_kit.training.request import DISTRIBUTIONS, PRECISIONS, WEIGHT_RANGES, TrainingRequest

if TYPE_CHECKING:
    from mobilebert_kit.training.trainer import Summary

_DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "SQuAD v1.1 file (or name of a dataset, its train split) to learn from.",
    required=True,
)
_EVAL = flags.DEFINE_string(
    "eval", None, "SQuAD v1.1 file (or name of a dataset) to score on after each epoch. Default: no scores."
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "A new folder, or that of the same command's earlier run, which goes on.",
    required=True,
)
_EPOCHS = flags.DEFINE_integer("epochs", 5, "How often each window is learned from.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Windows of a batch, on all devices together.")
_ACCUMULATION = flags.DEFINE_integer("accumulation", 1, "Batches whose gradients make one update.")
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 4e-5, "The highest, after the warm-up.")
_WARMUP = flags.DEFINE_float("warmup", 0.1, "Share of all steps in which the rate rises; then it falls to 0.")
_WEIGHT_DECAY = flags.DEFINE_float("weight_decay", 0.01, "Of all but biases, gamma and beta.")
_SEQUENCE_LENGTH = flags.DEFINE_integer("max_seq_length", 384, "Tokens of a window at most.")
_BUCKETS = flags.DEFINE_string(
    "buckets",
    None,
    "Lengths, as 128,192,256,384: a batch is padded to the least of them that holds its windows. Default: "
    "64,128,192,256,320,384; where the mask gives padding a share of the attention (multiplicative, hence "
    "with --qat), one length only, as padding then changes the result.",
)
_MIXED_PRECISION = flags.DEFINE_enum(
    "mixed_precision",
    "auto",
    list(PRECISIONS),
    "The activations' number format; auto: half precision where every GPU here has it, none on a CPU and "
    "with --qat.",
)
_SEED = flags.DEFINE_integer("seed", 12345, "The order of the windows and the dropout follow from it.")
_MAX_STEPS = flags.DEFINE_integer("max_steps", None, "Stop after so many updates; the rate falls to 0 then.")
_CHECKPOINT_STEPS = flags.DEFINE_integer(
    "checkpoint_steps", 500, "Updates between checkpoints; there is one at each epoch's end too."
)
_QAT = flags.DEFINE_bool("qat", False, "Partial quantization-aware training.")
_QAT_WEIGHTS = flags.DEFINE_enum(
    "qat_weights",
    "per_tensor",
    list(WEIGHT_RANGES),
    "With --qat: one range a kernel, as published, or one for each of its outputs.",
)
_QAT_CALIBRATION_STEPS = flags.DEFINE_integer(
    "qat_calibration_steps",
    8,
    "With --qat from a float checkpoint: activations' ranges start at what it shows in the windows of this "
    "many steps; 0: at -6 and 6, as published.",
)
_TEACHER = flags.DEFINE_string(
    "teacher",
    None,
    "Learn from this model's logits: a checkpoint of the kit, or a Hugging Face directory, which is run "
    "through transformers; with the same vocab.txt.",
)
_DISTILL_LOSS_WEIGHT = flags.DEFINE_float(
    "distill_loss_weight", 1.0, "Of the teacher's logits; the labels have the rest: 1 replaces them."
)
_TEMPERATURE = flags.DEFINE_float("temperature", 2.0, "Divides both logits before they are compared.")
_HIDDEN_WEIGHT = flags.DEFINE_float(
    "hidden_weight",
    0.0,
    "Of the difference to the teacher's hidden states. The teacher then runs in each step.",
)
_ATTENTION_WEIGHT = flags.DEFINE_float("attention_weight", 0.0, "Of that to its attention; as before.")
_TEACHER_CACHE = flags.DEFINE_string(
    "teacher_cache",
    None,
    "Folder where the teacher's logits are kept for other runs too. Default: in --output_dir.",
)
_DISTRIBUTE = flags.DEFINE_enum(
    "distribute",
    "none",
    list(DISTRIBUTIONS),
    "Share each batch among the GPUs of this machine (mirrored), or among the machines in TF_CONFIG, each "
    "running the same command on the same --output_dir.",
)
_TRAIN_QUESTIONS = flags.DEFINE_integer("train_questions", None, "The first N of --dataset; default: all.")
_EVAL_QUESTIONS = flags.DEFINE_integer("eval_questions", None, "The first N of --eval; default: all.")


def main() -> None:
    checkpoint = checkpoint_path()
    request = TrainingRequest(
        checkpoint=checkpoint,
        dataset=_DATASET.value,
        output_dir=Path(_OUTPUT_DIR.value),
        evaluation=_EVAL.value,
        epochs=_EPOCHS.value,
        batch_size=_BATCH_SIZE.value,
        accumulation=_ACCUMULATION.value,
        learning_rate=_LEARNING_RATE.value,
        warmup=_WARMUP.value,
        weight_decay=_WEIGHT_DECAY.value,
        max_seq_length=_SEQUENCE_LENGTH.value,
        buckets=_BUCKETS.value,
        mixed_precision=_MIXED_PRECISION.value,
        seed=_SEED.value,
        max_steps=_MAX_STEPS.value,
        checkpoint_steps=_CHECKPOINT_STEPS.value,
        qat=_QAT.value,
        qat_weights=_QAT_WEIGHTS.value,
        qat_calibration_steps=_QAT_CALIBRATION_STEPS.value,
        distribute=_DISTRIBUTE.value,
        teacher=_TEACHER.value,
        distill_loss_weight=_DISTILL_LOSS_WEIGHT.value,
        temperature=_TEMPERATURE.value,
        hidden_weight=_HIDDEN_WEIGHT.value,
        attention_weight=_ATTENTION_WEIGHT.value,
        teacher_cache=Path(_TEACHER_CACHE.value) if _TEACHER_CACHE.value else None,
        train_questions=_TRAIN_QUESTIONS.value,
        eval_questions=_EVAL_QUESTIONS.value,
        vocab=VOCAB.value,
        config=CONFIG.value,
        activation=ACTIVATION.value,
        mask=MASK.value,
        command=shlex.join(["python", "-m", "mobilebert_kit.train", *sys.argv[1:]]),
    )
    # Seconds: only after the flags are known good.
    import_tensorflow("tensorflow_model_optimization", "tf_keras", extra="training", on_gpu=True)
    import tensorflow as tf

    from mobilebert_kit.training.trainer import train

    tf.config.experimental.enable_op_determinism()  # else a resumed run would end at other weights

    _report(train(request))


def _report(summary: Summary) -> None:
    here = Path.cwd()
    model = summary.model.relative_to(here) if summary.model.is_relative_to(here) else summary.model
    megabytes = sum(path.stat().st_size for path in summary.model.iterdir()) / 1e6
    resumed = f" (from step {summary.resumed_at} on)" if summary.resumed_at else ""
    print(f"{model}: {megabytes:.1f} MB, {summary.steps} steps{resumed}, {summary.seconds:.0f} s")
    print(f"  loss {summary.first_loss:.3f} -> {summary.last_loss:.3f}")
    for row in summary.scores:
        print(
            f"  epoch {row['epoch']:g}: EM {row['exact_match']:.2f}, F1 {row['f1']:.2f} on "
            f"{row['questions']} questions"
        )


if __name__ == "__main__":
    run(main)
