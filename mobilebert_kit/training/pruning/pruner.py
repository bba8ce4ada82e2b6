"""Masks and scores as variables of a training: the scores grow in each step, the masks hold in each step.

    a step          score = momentum * score + |W * gradient|;  AdamW;  W = 0 where the mask says so
    between steps   where the schedule says so: scores -> new masks (NumPy)

They are part of the optimizer's state, so that a run goes on with the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from mobilebert_kit.training.pruning.masks import make_masks
from mobilebert_kit.training.pruning.plan import Plan, as_outputs_inputs, is_kernel

PRUNED = 0.05  # share of zeros in its kernels from which a checkpoint counts as pruned; a dense one has none


class Pruner(tf.Module):
    """Prunes `variables` as planned; without a plan it keeps zero what is zero in a pruned checkpoint.

    Create it in the scope of the strategy whose variables it prunes.

    Args:
        variables: canonical name -> float32 variable, those of `plan.kernels` among them.
        plan: None: no weight becomes zero; those of kernels that are zero now stay so, if they are a share of
            PRUNED at least.
    """

    def __init__(self, variables: Mapping[str, tf.Variable], plan: Plan | None) -> None:
        super().__init__()
        self._plan = plan
        kept = self._planned(variables) if plan else _zeros(variables)
        self._kernels = {name: variables[name] for name in kept}
        self.masks = {name: tf.Variable(mask, trainable=False) for name, mask in kept.items()}
        self.scores: dict[str, tf.Variable] = {}
        self.momentum = plan.momentum if plan else None
        if self.momentum is not None:
            self.scores = {
                name: tf.Variable(tf.zeros(kernel.shape), trainable=False)
                for name, kernel in self._kernels.items()
            }

    def state(self) -> dict[str, tf.Variable]:
        """Everything that a checkpoint must hold of it, by name."""
        masks = {f"mask/{name}": mask for name, mask in self.masks.items()}
        return masks | {f"score/{name}": score for name, score in self.scores.items()}

    @property
    def sparsity(self) -> float:
        """Share of zeros in the masks."""
        return _share_of_zeros([mask.numpy() for mask in self.masks.values()])

    def prune(self, step: int, refit: Callable[[Mapping[str, np.ndarray]], None]) -> bool:
        """After `step` updates: new masks where the plan has it so, and their weights zero.

        Args:
            refit: fits what stays of the model's variables anew (refit.py), given the masks, bool [out, in]
                by the name of the kernel. Called where the plan has it so.
        Returns:
            Whether there are new masks.
        """
        sparsity = self._plan.schedule.sparsity(step) if self._plan else None
        if sparsity is None:
            return False
        masks = make_masks(
            {name: self._scores(name) for name in self._kernels},
            self._plan.pattern,
            sparsity,
            scope=self._plan.scope,
            cap=self._plan.cap,
        )
        if self._plan.refit_steps:
            refit(masks)
        for name, variable in self._kernels.items():
            mask = as_outputs_inputs(name, masks[name])
            self.masks[name].assign(mask)
            variable.assign(np.where(mask, variable.numpy(), np.float32(0)))
        return True

    def _scores(self, name: str) -> np.ndarray:
        """Of the kernel's weights, [out, in]."""
        scores = self.scores[name].numpy() if self.scores else np.abs(self._kernels[name].numpy())
        return as_outputs_inputs(name, scores)

    def _planned(self, variables: Mapping[str, tf.Variable]) -> dict[str, np.ndarray]:
        """The first masks: what the pattern has pruned already stays so. Of kernels in their own layout."""
        pattern, masks = self._plan.pattern, {}
        for name in self._plan.kernels:
            kernel = as_outputs_inputs(name, variables[name].numpy())
            mask = pattern.mask(np.abs(kernel), pattern.pruned_blocks(kernel))
            masks[name] = as_outputs_inputs(name, mask)
        return masks


def _zeros(variables: Mapping[str, tf.Variable]) -> dict[str, np.ndarray]:
    """The masks that keep what is zero, of a model that counts as pruned; else none."""
    masks = {name: variable.numpy() != 0 for name, variable in variables.items() if is_kernel(name)}
    if _share_of_zeros(list(masks.values())) < PRUNED:
        return {}
    return {name: mask for name, mask in masks.items() if not mask.all()}


def _share_of_zeros(masks: Sequence[np.ndarray]) -> float:
    return 1 - sum(map(np.count_nonzero, masks)) / sum(mask.size for mask in masks) if masks else 0.0
