"""AdamW with decoupled weight decay, clipping by the global norm, and the rate's warm-up and decay.

Loshchilov and Hutter, 2019, arXiv:1711.05101; the same numbers as torch.optim.AdamW. Bias, gamma and beta do
not decay, as in BERT's optimization.py (google-research/bert: exclude_from_weight_decay).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from mobilebert_kit.training.pruning.pruner import Pruner

UNDECAYED = ("bias", "gamma", "beta")  # ends of canonical names
LARGEST_NORM = 1.0  # of all gradients together; optimization.py
BETAS = (0.9, 0.999)
EPSILON = 1e-6

# Loss scaling, for float16 only: what overflows is skipped and the scale halved (as tf_keras does it).
INITIAL_SCALE = 2.0**15
GROWTH_STEPS = 2000


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each step: in a line up to `peak` over `warmup` steps, then down to 0."""

    peak: float
    warmup: int
    total: int

    def rate(self, step: int) -> float:
        """Of step 0 <= step < total. The first is not 0: a step that learns nothing would be wasted."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        return self.peak * (self.total - step) / (self.total - self.warmup)


def clipping(norm: tf.Tensor) -> tf.Tensor:
    """What to multiply gradients with so that the `norm` of all together is at most LARGEST_NORM."""
    return LARGEST_NORM / tf.maximum(norm, LARGEST_NORM)


def decays(name: str) -> bool:
    """Whether weight decay applies to the variable of that canonical name."""
    return not name.endswith(UNDECAYED)


class AdamW(tf.Module):
    """Create it in the scope of the strategy whose variables it updates.

    Args:
        variables: canonical name -> float32 variable.
        beta2: how much of the squared gradients' mean stays from step to step.
        loss_scaling: scale the loss by `scale`, and skip steps whose gradients are not finite.
        pruner: what it masks stays zero; its state is part of the optimizer's.
    """

    def __init__(
        self,
        variables: Mapping[str, tf.Variable],
        *,
        weight_decay: float,
        beta2: float = BETAS[1],
        loss_scaling: bool = False,
        pruner: Pruner | None = None,
    ) -> None:
        super().__init__()
        self._weight_decay = weight_decay
        self._betas = (BETAS[0], beta2)
        self._pruner = pruner
        self._strategy = tf.distribute.get_strategy()
        self._targets = dict(variables)
        self._first = {name: _zeros(variable) for name, variable in variables.items()}
        self._second = {name: _zeros(variable) for name, variable in variables.items()}
        self._updates = tf.Variable(0, dtype=tf.int64, trainable=False)  # skipped steps are not counted
        self.loss_scaling = loss_scaling
        self.scale = tf.Variable(INITIAL_SCALE if loss_scaling else 1.0, trainable=False)
        self._good_steps = tf.Variable(0, dtype=tf.int64, trainable=False)

    def state(self) -> dict[str, tf.Variable]:
        """Everything that a checkpoint must hold of it, by name."""
        slots = {f"first/{name}": slot for name, slot in self._first.items()}
        slots |= {f"second/{name}": slot for name, slot in self._second.items()}
        if self._pruner is not None:
            slots |= self._pruner.state()
        return slots | {"updates": self._updates, "scale": self.scale, "good_steps": self._good_steps}

    def apply(self, gradients: Sequence[tf.Tensor], norm: tf.Tensor, rate: tf.Tensor) -> None:
        """One update, in cross-replica context.

        Args:
            gradients: in the order of `variables`, of the unscaled loss, the same on every replica.
            norm: of all of them together; they are clipped by it.
            rate: the learning rate, float32 scalar.
        """
        if not self.loss_scaling:
            self._update(gradients, norm, rate)
            return
        finite = tf.math.is_finite(norm)
        tf.cond(finite, lambda: self._update(gradients, norm, rate), lambda: tf.no_op())
        good = tf.where(finite, self._good_steps + 1, 0)
        grow = good >= GROWTH_STEPS
        self.scale.assign(
            tf.where(finite, self.scale * tf.where(grow, 2.0, 1.0), tf.maximum(self.scale / 2.0, 1.0))
        )
        self._good_steps.assign(tf.where(grow, tf.zeros_like(good), good))

    def _update(self, gradients: Sequence[tf.Tensor], norm: tf.Tensor, rate: tf.Tensor) -> tf.Operation:
        self._updates.assign_add(1)
        powers = [tf.pow(beta, tf.cast(self._updates, tf.float32)) for beta in self._betas]
        common = (clipping(norm), rate, *powers)
        masks, scores = (self._pruner.masks, self._pruner.scores) if self._pruner else ({}, {})
        done = [
            self._strategy.extended.update(
                variable,
                self._update_one,
                args=(
                    *(self._first[name], self._second[name], masks.get(name), scores.get(name)),
                    *(gradient, *common, decays(name)),
                ),
                group=False,
            )
            for (name, variable), gradient in zip(self._targets.items(), gradients, strict=True)
        ]
        return tf.group(*tf.nest.flatten(done))

    def _update_one(
        self,
        variable: tf.Variable,
        first: tf.Variable,
        second: tf.Variable,
        mask: tf.Variable | None,
        score: tf.Variable | None,
        gradient: tf.Tensor,
        factor: tf.Tensor,
        rate: tf.Tensor,
        first_power: tf.Tensor,
        second_power: tf.Tensor,
        decay: bool,
    ) -> tf.Operation:
        if score is not None:
            score.assign(self._pruner.momentum * score + tf.abs(variable * gradient))
        if decay and self._weight_decay:
            variable.assign_sub(variable * (rate * self._weight_decay))
        # One kernel, which adds its epsilon to sqrt(v); AdamW adds it to the root of the corrected v.
        updated = tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first.handle,
            v=second.handle,
            beta1_power=first_power,
            beta2_power=second_power,
            lr=rate,
            beta1=self._betas[0],
            beta2=self._betas[1],
            epsilon=EPSILON * tf.sqrt(1.0 - second_power),
            grad=gradient * factor,
        )
        if mask is None:
            return updated
        with tf.control_dependencies([updated] if updated is not None else []):  # None: eager, it is done
            return variable.assign(tf.where(mask, variable, 0.0), read_value=False)


def _zeros(variable: tf.Variable) -> tf.Variable:
    return tf.Variable(tf.zeros(variable.shape, variable.dtype), trainable=False)
