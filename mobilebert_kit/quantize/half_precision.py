"""What float16 does to a model: GPUs compute in it, and nothing normalizes MobileBERT's activations.

Two measures. The headroom: how far the largest magnitude of each activation is below 65504, the largest
float16 (from there on a sum is infinite, and soon NaN). And a simulation: the model with every weight and
every observed activation rounded to float16, as float32 again:

    float:      CONV_2D ─ ADD ─ ...
    simulated:  CONV_2D ─ CAST float16 ─ CAST float32 ─ ADD ─ CAST float16 ─ CAST float32 ─ ...

What observation points do not cover:
- Sums on their way, in CONV_2D, BATCH_MATMUL and SOFTMAX: float32 here. A GPU that accumulates in float16
  rounds, and may overflow, in the middle of one whose result is small.
- A convolution before its relu or relu6: what overflows there overflows behind it too, or is 0 or 6 as it
  should be. The mask before its last addition: it is the mask value or zero.
- What only moves data (RESHAPE, TRANSPOSE, SLICE).
- Subnormal numbers, below 6e-5, are kept here; GPUs may take them for zero.
- Weights beyond 65504: the converter cuts them to it. Their products are observed.
The converter may fold an observed tensor of the float file into its neighbour (a residual times gamma into
the convolution before): the simulation then rounds once more than the GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from mobilebert_kit.lowering.cpu import Observe
from mobilebert_kit.quantize.calibration import Ranges

if TYPE_CHECKING:
    from mobilebert_kit.runtime.scoring import Score

LARGEST_HALF = float(np.finfo(np.float16).max)  # 65504
SAFE_HEADROOM = 2.0  # below it, a question unlike the calibration's may overflow
# An additive mask of -10000 would lead every table; it is a constant, and grows with no question.
MASK_POINTS = ("mask/fill", "/masked_scores")


@dataclass(frozen=True)
class Headroom:
    """`magnitudes`: the largest magnitude at each observation point, in the order of the forward pass."""

    magnitudes: Mapping[str, float]

    @cached_property
    def tensor(self) -> str:
        """The point with the largest magnitude, the mask's aside; the first of equals."""
        points = [point for point in self.magnitudes if not point.endswith(MASK_POINTS)]
        return max(points, key=self.magnitudes.__getitem__)

    @property
    def largest(self) -> float:
        return self.magnitudes[self.tensor]

    @property
    def factor(self) -> float:
        """How many times larger the activations may be; infinite where all of them are zero."""
        return LARGEST_HALF / self.largest if self.largest else float("inf")

    @property
    def overflow(self) -> str | None:
        """The first point of the forward pass beyond float16: what comes later may only follow from it."""
        return next((point for point, size in self.magnitudes.items() if size > LARGEST_HALF), None)


@dataclass(frozen=True)
class HalfPrecision:
    """Of a target's model in float16; `score` is the simulation's.

    Attributes:
        overflow: the first tensor beyond float16, on the calibration's windows, else on the evaluation's.
        logit_difference: the largest one to the float model's logits, where both are numbers; None: nowhere.
        windows_lost: of the evaluation, with a logit that is infinite or NaN. They answer nothing.
    """

    headroom: Headroom
    overflow: str | None
    score: Score
    logit_difference: float | None
    windows_lost: int


def headroom(ranges: Ranges) -> Headroom:
    """From the ranges of `calibrate`. A layer's `/input` is left out: it is another layer's output."""
    return Headroom(
        {
            point: max(abs(low), abs(high))
            for point, (low, high) in ranges.items()
            if not point.endswith("/input")
        }
    )


def round_to_half() -> Observe:
    """An observer that rounds each tensor to float16 and back, once; infinite from 65520 on."""
    rounded: set[object] = set()

    def observe(tensor: tf.Tensor, point: str) -> tf.Tensor:
        if tensor.ref() in rounded:
            return tensor
        tensor = tf.cast(tf.cast(tensor, tf.float16), tf.float32)
        rounded.add(tensor.ref())
        return tensor

    return observe


def without_numbers(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """bool [N]: the windows (rows of the logits [N, S]) in which a logit is infinite or NaN."""
    return ~(np.isfinite(start) & np.isfinite(end)).all(axis=1)
