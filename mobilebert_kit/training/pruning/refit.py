"""What stays of pruned kernels, fitted anew: each layer's outputs stay as near as they can to what they were.

    before  kernel W [out, in] on the layer's inputs B [tokens, in], of the model before this pruning
    now     V on its inputs N: the same tokens in the model whose earlier layers are pruned and fitted already

    V = argmin |B W' - N V'|^2 + damping |W - V|^2,  V zero where the mask is
    H = N' N + damping, G = H^-1                         U = W (B' N + damping) G, that without a mask
    the same by what stays, or by what goes:             V[o, kept] = U[o] H[:, kept] H[kept, kept]^-1
                                                         V[o] = U[o] - U[o, gone] G[gone, gone]^-1 G[gone]

Least squares, for each output by itself, exact: Optimal Brain Surgeon's update for all weights that go at
once (Hassibi and Stork 1993; Frantar and Alistarh 2022, arXiv:2208.11580), of a layer that makes good what
those in front of it do, too. Which of the two is taken: that with the smaller matrix to solve, for its cube
is what this costs. Biases stay as they are.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from mobilebert_kit.models.forward import question_answering
from mobilebert_kit.training.lowering import TrainingLowering
from mobilebert_kit.training.model import TrainableModel, own_inputs
from mobilebert_kit.training.pruning.plan import as_outputs_inputs

DAMPING = (
    0.01  # of H's mean diagonal, as published (SparseGPT, arXiv:2301.00774): H of few tokens is singular
)


def refitted(kernel: np.ndarray, mask: np.ndarray, products: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """The kernel, float32 [out, in], that is zero where `mask` is False and gives the nearest outputs.

    Args:
        kernel: float32 [out, in], whose outputs are wanted.
        mask: bool [out, in], what stays.
        products: float64 [in, in], N' N of the inputs that the layer has now, to any scale.
        cross: float64 [in, in], B' N to the same scale, B those that it had before.
    """
    damping = np.eye(len(products)) * (DAMPING * products.trace() / len(products) or 1.0)
    damped = products + damping
    inverse = np.linalg.inv(damped)
    targets = kernel.astype(np.float64) @ (cross + damping)
    unmasked = targets @ inverse
    fitted = np.zeros(kernel.shape)
    patterns, members = np.unique(mask, axis=0, return_inverse=True)  # blocks of outputs share theirs
    for number, pattern in enumerate(patterns):
        outputs = np.flatnonzero(members.ravel() == number)
        kept, gone = np.flatnonzero(pattern), np.flatnonzero(~pattern)
        if len(gone) < len(kept):
            rows = unmasked[outputs]
            change = np.linalg.solve(inverse[np.ix_(gone, gone)], rows[:, gone].T).T @ inverse[gone]
            fitted[np.ix_(outputs, kept)] = (rows - change)[:, kept]
        else:
            wanted = targets[np.ix_(outputs, kept)]
            fitted[np.ix_(outputs, kept)] = np.linalg.solve(damped[np.ix_(kept, kept)], wanted.T).T
    return fitted.astype(np.float32)


def refit(
    model: TrainableModel, masks: Mapping[str, np.ndarray], batches: Iterable[Mapping[str, tf.Tensor]]
) -> dict[str, np.ndarray]:
    """The masked kernels, fitted one after the other, in the order in which the model reads them.

    Args:
        masks: canonical name of a kernel -> bool [out, in], what stays of it.
        batches: int32 [B, S] by the names of model.INPUTS, all in memory at once, as deep as one layer. The
            model runs on them without dropout and without fake quantization; padding does not count.
    Returns:
        Canonical name -> float32 array, as the model stores it.
    """
    batches = list(batches)
    both = _SideBySide(model, masks, [batch["input_mask"] for batch in batches])
    own = [own_inputs(model.config, batch) for batch in batches]
    inputs = {name: [each[name] for each in own] for name in own[0]}
    question_answering(model.config, both, **{name: _Both(each, each) for name, each in inputs.items()})
    return both.fitted


@dataclass(frozen=True)
class _Both:
    """What a primitive takes or gives, batch by batch: in the model before this pruning, and in that now."""

    before: list[Any]
    now: list[Any]


class _SideBySide:
    """TrainingLowering's primitives, each for all batches before the next one: a kernel is fitted when all
    have come to it, and before any passes it."""

    def __init__(
        self, model: TrainableModel, masks: Mapping[str, np.ndarray], input_masks: list[tf.Tensor]
    ) -> None:
        self._masks = masks
        self._kernels = {f"{name.rpartition('/')[0]}/input": name for name in masks}
        self._tokens = [tf.cast(tf.reshape(mask, [-1]), tf.bool) for mask in input_masks]
        self._weights = model.tensors()
        self.fitted: dict[str, np.ndarray] = {}
        self._read: dict[str, list[tf.Tensor]] = {}  # kernels that the last primitive used -> its inputs
        weights = {"before": self._weights, "now": ChainMap(self.fitted, self._weights)}
        self._lowerings = {
            side: TrainingLowering(model.config, each, observe=self._record) for side, each in weights.items()
        }

    def __getattr__(self, primitive: str) -> Callable[..., _Both]:
        return partial(self._apply, primitive)

    def logits(self, x: _Both, scope: str) -> tuple[_Both, _Both]:
        """Two tensors of each batch, unlike the other primitives."""
        pairs = self._apply("logits", x, scope)
        before, now = zip(*pairs.before, strict=True), zip(*pairs.now, strict=True)
        end, start = (_Both(list(b), list(n)) for b, n in zip(before, now, strict=True))
        return end, start

    def _apply(self, primitive: str, *args: Any, **kwargs: Any) -> _Both:
        before, inputs_before = self._run("before", primitive, args, kwargs)
        now, inputs_now = self._run("now", primitive, args, kwargs)
        for name, inputs in inputs_now.items():
            self._fit(name, inputs_before[name], inputs)
        if inputs_now:
            now, _ = self._run("now", primitive, args, kwargs)
        return _Both(before, now)

    def _run(
        self, side: str, primitive: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[Any], dict[str, list[tf.Tensor]]]:
        """The primitive for each batch, and what a kernel that is to be fitted read in it."""

        def own(value: Any, number: int) -> Any:
            return getattr(value, side)[number] if isinstance(value, _Both) else value

        self._read = {}
        run, outputs = getattr(self._lowerings[side], primitive), []
        for number in range(len(self._tokens)):
            named = {name: own(arg, number) for name, arg in kwargs.items()}
            outputs.append(run(*(own(arg, number) for arg in args), **named))
        return outputs, self._read

    def _record(self, tensor: tf.Tensor, point: str) -> tf.Tensor:
        if point in self._kernels:
            self._read.setdefault(self._kernels[point], []).append(tensor)
        return tensor

    def _fit(self, name: str, before: list[tf.Tensor], now: list[tf.Tensor]) -> None:
        """Adds the kernel to `fitted`; its layer's inputs are [B, S, in], batch by batch."""
        products = cross = 0.0
        for token, *inputs in zip(self._tokens, before, now, strict=True):
            b, n = (tf.boolean_mask(tf.reshape(each, [-1, each.shape[-1]]), token) for each in inputs)
            products += tf.matmul(n, n, transpose_a=True).numpy().astype(np.float64)
            cross += tf.matmul(b, n, transpose_a=True).numpy().astype(np.float64)
        kernel = as_outputs_inputs(name, self._weights[name])
        self.fitted[name] = as_outputs_inputs(name, refitted(kernel, self._masks[name], products, cross))
