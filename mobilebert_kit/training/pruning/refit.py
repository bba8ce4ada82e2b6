"""What stays of a pruned kernel, fitted anew: the layer's outputs stay as near as they can to what they were.

    kernel W [out, in], inputs X [tokens, in]          V = argmin |X V' - X W'|^2,  V zero where the mask is
    second moments H = X' X                            V[o, kept] = W[o] H[:, kept] H[kept, kept]^-1
    G = H^-1, the same by what goes                    V[o] = W[o] - W[o, gone] G[gone, gone]^-1 G[gone]

Least squares, for each output by itself, exact: Optimal Brain Surgeon's update for all weights that go at
once (Hassibi and Stork 1993; Frantar and Alistarh 2022, arXiv:2208.11580). H is all that it needs of X. Which
of the two is taken: that with the smaller matrix to solve, for its cube is what this costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import tensorflow as tf

from mobilebert_kit.training.model import INPUTS, TrainableModel

DAMPING = (
    0.01  # of H's mean diagonal, as published (SparseGPT, arXiv:2301.00774): H of few tokens is singular
)


def refitted(kernel: np.ndarray, mask: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """The kernel, float32 [out, in], that is zero where `mask` is False and gives the nearest outputs.

    Args:
        kernel: float32 [out, in], whose outputs are wanted.
        mask: bool [out, in], what stays.
        moments: float64 [in, in], X' X of the layer's inputs, to any scale.
    """
    damped = moments + np.eye(len(moments)) * (DAMPING * moments.trace() / len(moments) or 1.0)
    inverse = np.linalg.inv(damped)
    fitted = np.zeros(kernel.shape)
    patterns, members = np.unique(mask, axis=0, return_inverse=True)  # blocks of outputs share theirs
    for number, pattern in enumerate(patterns):
        outputs = np.flatnonzero(members.ravel() == number)[:, None]
        kept, gone = np.flatnonzero(pattern), np.flatnonzero(~pattern)
        rows = kernel[outputs[:, 0]].astype(np.float64)
        if len(gone) < len(kept):
            change = np.linalg.solve(inverse[np.ix_(gone, gone)], rows[:, gone].T).T @ inverse[gone]
            fitted[outputs, kept] = (rows - change)[:, kept]
        else:
            wanted = rows @ damped[:, kept]
            fitted[outputs, kept] = np.linalg.solve(damped[np.ix_(kept, kept)], wanted.T).T
    return fitted.astype(np.float32)


def input_moments(
    model: TrainableModel, kernels: Iterable[str], batches: Iterable[Mapping[str, tf.Tensor]]
) -> dict[str, np.ndarray]:
    """X' X, float64 [in, in], of the inputs X of each kernel's layer over the tokens of `batches`, without
    padding and dropout, by the kernel's canonical name."""
    layers = {name: f"{name.rsplit('/', 1)[0]}/input" for name in kernels}
    measure = _measure(model, set(layers.values()))
    found: dict[str, np.ndarray] = {}
    for batch in batches:
        for point, moments in measure({name: batch[name] for name in INPUTS}).items():
            found[point] = found.get(point, 0) + moments.numpy().astype(np.float64)
    return {name: found[point] for name, point in layers.items()}


def _measure(
    model: TrainableModel, points: set[str]
) -> Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]]:
    @tf.function(autograph=False, reduce_retracing=True)
    def measure(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        tokens = tf.reshape(batch["input_mask"], [-1, 1])
        found = {}

        def record(tensor: tf.Tensor, point: str) -> tf.Tensor:
            if point in points:
                rows = tf.reshape(tf.cast(tensor, tf.float32), [-1, tensor.shape[-1]])
                rows *= tf.cast(tokens, tf.float32)
                found[point] = tf.matmul(rows, rows, transpose_a=True)
            return tensor

        model(batch, training=False, observe=record)
        return found

    return measure
