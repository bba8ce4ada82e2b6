"""The signal-to-quantization-noise ratio of every tensor, on real windows.

    SQNR = 10 log10(sum x^2 / sum (x - y)^2) dB: 6 dB are one bit, 20 dB an error of a tenth

x is the float model's tensor. Of y there are three readings:
    own       x, rounded by its own quantizer: what that alone does
    before    the quantized model's tensor, about to be rounded: what came before does
    after     the same, rounded: what all does that a later layer will see

Padding counts nowhere: neither its rows, nor, where scores and probabilities have one column a token, its
columns. What it holds reaches no answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import tensorflow as tf

from mobilebert_kit.quantize.calibration import Inputs
from mobilebert_kit.quantize.simulation import Simulation

# Where the last axis counts tokens too, and where it alone does; else it counts channels, and the one before
# it tokens.
ATTENTION_MAPS = ("*scores", "*/scores/head_*", "*/probabilities")
MASKS = ("mask/*",)


@dataclass(frozen=True)
class Noise:
    """Sums of squares over all windows: of the float model's tensor, and of three differences to it."""

    signal: float
    own: float
    before: float
    after: float

    @property
    def added(self) -> float:
        """What this rounding adds to the noise that comes in, as a share of the signal; 0 without signal."""
        return (self.after - self.before) / self.signal if self.signal else 0.0


def decibels(signal: float, noise: float) -> float | None:
    """The ratio of two sums of squares in dB; None where there is no noise, or no signal."""
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None


def measure_noise(simulation: Simulation, windows: Iterable[Inputs]) -> dict[str, Noise]:
    """Of every observation point, in their order; heads that share a point are summed. Everything is int8.

    One pass: the float model and the quantized one, side by side, give sums.
    """
    points: list[str] = []

    @tf.function(input_signature=simulation.input_signature, autograph=False)
    def sums(*inputs: tf.Tensor) -> tf.Tensor:
        exact: list[tf.Tensor] = []
        rows: list[tf.Tensor] = []
        points.clear()
        named = {spec.name: value for spec, value in zip(simulation.input_signature, inputs, strict=True)}
        tokens = tf.cast(named["input_mask"][0], tf.float32)

        def compare(before: tf.Tensor, after: tf.Tensor, point: str) -> None:
            x, weight = exact[len(points)], _counted(tokens, point)
            points.append(point)
            own = simulation.rounded(x, point) if simulation.rounds(point) else x
            rows.append(
                tf.stack([tf.reduce_sum(tf.square(y) * weight) for y in (x, x - own, x - before, x - after)])
            )

        float_model, int8_model = simulation.switches(()), simulation.switches(simulation.tensors)
        simulation.observed(float_model, lambda tensor, after, point: exact.append(tensor), *inputs)
        simulation.observed(int8_model, compare, *inputs)
        return tf.stack(rows)

    totals: np.ndarray | float = 0.0
    for window in windows:
        totals = totals + sums(*simulation.arguments(window)).numpy().astype(np.float64)
    summed: dict[str, np.ndarray] = {}
    for point, row in zip(points, totals, strict=True):
        summed[point] = summed.get(point, 0) + row
    return {point: Noise(*row.tolist()) for point, row in summed.items()}


def kernel_noise(exact: Mapping[str, np.ndarray], rounded: Mapping[str, np.ndarray]) -> dict[str, Noise]:
    """Of every weight that is rounded: all three readings are one."""
    result = {}
    for name, value in exact.items():
        if rounded[name] is not value:
            wide = value.astype(np.float64)
            noise = float(np.sum((wide - rounded[name]) ** 2))
            result[name] = Noise(float(np.sum(wide**2)), noise, 0.0, noise)
    return result


def _counted(tokens: tf.Tensor, point: str) -> tf.Tensor:
    """1 where a value of the tensor at `point` counts, else 0; `tokens` [S] is 1 at tokens, 0 at padding."""
    if any(fnmatchcase(point, pattern) for pattern in MASKS):
        return tokens
    if any(fnmatchcase(point, pattern) for pattern in ATTENTION_MAPS):
        return tokens[:, None] * tokens
    return tokens[:, None]
