"""Values centred on zero: their mean goes around the attention, as a bias.

Int8 probabilities are multiples of 1/256. Where attention is spread over hundreds of tokens, most of them are
below half of that and become 0: a row no longer sums to 1, and its context lacks the missing part of the mean
value. Of values whose mean is zero nothing is missing:

    before:  value = x @ V + b        context = P @ value         output = context @ O + o
    after:   value = x @ V + (b - c)  context = P @ value - c     output = context @ O + (o + c @ O)

Claim: ULP for any c, because the rows of P sum to 1. Not an operator more, nor a byte. It is the absorption
of high biases of Nagel et al. 2019 (arXiv:1906.04721, section 4.1.3), here through SOFTMAX instead of relu.

Not for a network whose ranges were trained: they are ranges of the values as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from mobilebert_kit.lowering.cpu import Observe
from mobilebert_kit.quantize.calibration import Inputs, measured

# Any c is right, and the mean need not be exact: thousands of tokens are enough.
WINDOWS = 20


def center_values(
    build: Callable[[Observe], tf.Module], windows: Sequence[Inputs], weights: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The biases that centre the values of every layer: canonical name -> float32 array.

    Args:
        build: makes the float model of `weights` in `CpuLowering`, with an observer; the biases hold for
            every lowering.
        windows: calibration's inputs, int32 [1, S] by name, of which the first WINDOWS are used.
        weights: canonical name -> array.
    """
    return centered_biases(mean_values(build, windows[:WINDOWS]), weights)


def centered_biases(
    means: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The biases after `means` (a value's name -> c, [bottleneck]) went around the attention."""
    centered = {}
    for value, mean in means.items():
        output = value.removesuffix("self/value") + "output/dense"
        centered[f"{value}/bias"] = weights[f"{value}/bias"] - mean
        centered[f"{output}/bias"] = weights[f"{output}/bias"] + mean @ weights[f"{output}/kernel"]
    return centered


def mean_values(build: Callable[[Observe], tf.Module], windows: Sequence[Inputs]) -> dict[str, np.ndarray]:
    """The mean value of each layer over the tokens of `windows`, padding excluded.

    Observation point -> float32 [bottleneck]. Args: as `center_values`.
    """

    def sums(tensor: tf.Tensor, point: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if not point.endswith("/self/value"):
            return {}
        token = tf.cast(inputs["input_mask"], tf.float32)  # [1, S] by [S, bottleneck]
        return {point: (token @ tensor[0, 0])[0]}

    totals: dict[str, np.ndarray] = {}
    for found in measured(build, windows, sums):
        for point, total in found.items():
            totals[point] = totals.get(point, 0.0) + total.astype(np.float64)
    tokens = sum(int(window["input_mask"].sum()) for window in windows)
    return {point: (total / tokens).astype(np.float32) for point, total in totals.items()}
