"""What a training is asked for. No TensorFlow here: wrong flags are told before it is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobilebert_kit.errors import InputError
from mobilebert_kit.training.pruning.request import PruningRequest

DISTRIBUTIONS = ("none", "mirrored", "multi_worker")
PRECISIONS = ("auto", "none", "bfloat16", "float16")
WEIGHT_RANGES = ("per_tensor", "per_channel")


@dataclass(frozen=True)
class TrainingRequest:
    """What the flags of `train` and `prune` ask for. Raises InputError for numbers that make no training.

    num_warmup_steps: where given, instead of `warmup`. keep_zeros: of a training that does not prune.
    """

    checkpoint: Path
    dataset: str
    output_dir: Path
    evaluation: str | None = None
    epochs: int = 5
    batch_size: int = 32
    accumulation: int = 1
    learning_rate: float = 4e-5
    warmup: float = 0.1
    num_warmup_steps: int | None = None
    weight_decay: float = 0.01
    adam_beta2: float = 0.999
    dropout: float | None = None
    max_seq_length: int = 384
    buckets: str | None = None
    mixed_precision: str = "auto"
    seed: int = 12345
    max_steps: int | None = None
    checkpoint_steps: int = 500
    qat: bool = False
    qat_weights: str = "per_tensor"
    qat_calibration_steps: int = 8
    distribute: str = "none"
    teacher: str | None = None
    distill_loss_weight: float = 1.0
    temperature: float = 2.0
    hidden_weight: float = 0.0
    attention_weight: float = 0.0
    teacher_cache: Path | None = None
    train_questions: int | None = None
    eval_questions: int | None = None
    vocab: str | None = None
    config: str | None = None
    activation: str | None = None
    mask: str | None = None
    pruning: PruningRequest | None = None
    keep_zeros: bool = True
    command: str = ""

    def __post_init__(self) -> None:
        whole = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "accumulation": self.accumulation,
            "checkpoint_steps": self.checkpoint_steps,
            "max_steps": 1 if self.max_steps is None else self.max_steps,
        }
        for name, value in whole.items():
            if value < 1:
                raise InputError(f"Expected --{name} of 1 at least, got {value}.")
        if not 0 < self.learning_rate < 1:  # false for NaN too
            raise InputError(f"Expected --learning_rate between 0 and 1, got {self.learning_rate}.")
        if not 0 <= self.warmup < 1:
            raise InputError(
                "Expected --warmup as a share of all steps, from 0 to less than 1, got "
                f"{self.warmup}. For the published tenth: 0.1."
            )
        if self.num_warmup_steps is not None and self.num_warmup_steps < 0:
            raise InputError(f"Expected --num_warmup_steps of 0 at least, got {self.num_warmup_steps}.")
        for name, value in (
            ("weight_decay", self.weight_decay),
            ("adam_beta2", self.adam_beta2),
            ("dropout", self.dropout or 0.0),
        ):
            if not 0 <= value < 1:
                raise InputError(f"Expected --{name} from 0 to less than 1, got {value}.")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"Expected --seed from 0 to {2**31 - 1}, got {self.seed}.")
        for name, value, choices in (
            ("distribute", self.distribute, DISTRIBUTIONS),
            ("mixed_precision", self.mixed_precision, PRECISIONS),
            ("qat_weights", self.qat_weights, WEIGHT_RANGES),
        ):
            if value not in choices:
                raise InputError(f"Expected --{name} to be one of {', '.join(choices)}, got {value!r}.")
        if self.teacher is None and (self.hidden_weight or self.attention_weight or self.teacher_cache):
            raise InputError(
                "Expected --teacher with --hidden_weight, --attention_weight or --teacher_cache, got none. "
                "Name a checkpoint or a Hugging Face directory."
            )
        if not 0 <= self.qat_calibration_steps <= 1000:
            raise InputError(
                f"Expected --qat_calibration_steps from 0 to 1000, got {self.qat_calibration_steps}."
            )
        if not 0 <= self.distill_loss_weight <= 1000:
            raise InputError(
                "Expected --distill_loss_weight from 0 (labels alone) to 1 (the teacher's logits alone), or "
                f"above, to 1000 (so many times the same), got {self.distill_loss_weight}."
            )
        if not 0 < self.temperature <= 100:
            raise InputError(f"Expected --temperature above 0, to 100, got {self.temperature}.")
        for name in ("hidden_weight", "attention_weight"):
            if not 0 <= getattr(self, name) <= 1e6:
                raise InputError(f"Expected --{name} from 0 to 1e6, got {getattr(self, name)}.")
        if self.qat and self.mixed_precision not in ("auto", "none"):
            raise InputError(
                f"Expected --mixed_precision none with --qat, got {self.mixed_precision}: ranges are learned "
                "from float32 activations."
            )
        if self.qat_weights != "per_tensor" and not self.qat:
            raise InputError(f"Expected --qat with --qat_weights {self.qat_weights}, got no --qat. Add it.")
