"""What pruning is asked for. No TensorFlow here: wrong flags are told before it is imported."""

from __future__ import annotations

from dataclasses import dataclass

from mobilebert_kit.errors import InputError
from mobilebert_kit.training.pruning.masks import SCOPES
from mobilebert_kit.training.pruning.patterns import parse_pattern
from mobilebert_kit.training.pruning.schedule import SCHEDULES

# Criterion -> how much of a weight's score stays from step to step; None: no gradient is asked for.
#
#     snip_momentum   s = 0.9 * s + |W * gradient|     neural-compressor, compression/pruner/criteria.py
#     snip            s = |W * gradient|               Lee et al. 2019, arXiv:1810.02340, of the last batch
#     magnitude       s = |W|                          when the model is pruned
#
# The gradient is that of the step's mean loss before it is clipped, the weight that before the update.
CRITERIA: dict[str, float | None] = {"snip_momentum": 0.9, "snip": 0.0, "magnitude": None}
EXCLUDED = ("embeddings", "pooler", "cls/squad")  # run_qa_no_trainer.py, and the head
MAX_SPARSITY_PER_LAYER = 0.98  # run_qa_no_trainer.py: max_sparsity_ratio_per_op


@dataclass(frozen=True)
class PruningRequest:
    """What the pruning flags of `prune` ask for. Raises InputError for what makes no pruning.

    start_step, end_step, pruning_frequency: None for the defaults: after the learning rate's warm-up,
    `cooldown_epochs` before the end of the run, and so that there are 40 prunings.
    exclude: parts of canonical names; a kernel whose name has one of them stays dense.
    refit_steps: the first steps of the data, on whose windows what stays is fitted anew at each pruning; 0:
    it stays as it is.
    """

    target_sparsity: float = 0.8
    pruning_pattern: str = "4x1"
    criterion: str = "snip_momentum"
    schedule: str = "exp"
    scope: str = "global"
    start_step: int | None = None
    end_step: int | None = None
    pruning_frequency: int | None = None
    cooldown_epochs: int = 0
    exclude: tuple[str, ...] = EXCLUDED
    max_sparsity_per_layer: float = MAX_SPARSITY_PER_LAYER
    refit_steps: int = 0

    def __post_init__(self) -> None:
        parse_pattern(self.pruning_pattern)
        for name, choices in (("criterion", CRITERIA), ("schedule", SCHEDULES), ("scope", SCOPES)):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"Expected --{name} to be one of {', '.join(choices)}, got {getattr(self, name)!r}."
                )
        if not 0 < self.target_sparsity < 1:  # false for NaN too
            raise InputError(
                "Expected --target_sparsity as a share of the weights, between 0 and 1, got "
                f"{self.target_sparsity}. To train without pruning: --nodo_prune."
            )
        if not 0 < self.max_sparsity_per_layer <= 1:
            raise InputError(
                "Expected --max_sparsity_per_layer as a share of a layer's weights, above 0, to 1, got "
                f"{self.max_sparsity_per_layer}."
            )
        for name, least in (
            ("start_step", 0),
            ("end_step", 0),
            ("pruning_frequency", 1),
            ("cooldown_epochs", 0),
            ("refit_steps", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"Expected --{name} of {least} at least, got {value}.")
        if self.start_step is not None and self.end_step is not None and self.start_step > self.end_step:
            raise InputError(
                f"Expected --start_step at or before --end_step, got {self.start_step} and {self.end_step}."
            )
        if "" in self.exclude:
            raise InputError(
                "Expected parts of names in --exclude, got an empty one, which is in every name."
            )
