"""LayerNorm over the channels of each token, of ops that XNNPACK, GPU and NNAPI delegates all take.

    before:  (x - mean) / sqrt(variance + epsilon) * gamma + beta
    after:   MEAN, SUB ─┬─ MUL by itself, MEAN, ADD epsilon, MAXIMUM smallest, RSQRT ─┐
                        └──────────────────────────────────────────────────────────── MUL, MUL gamma, ADD beta

float32 wherever it stands: the squares of a token's channels differ by more than the 255 steps of int8.

A float16 file, and a GPU that computes in float16, hold no epsilon of 1e-12: it becomes 0, and a token whose
channels are all alike would be 0 * infinity. `smallest` is what the variance is never below.

Float16 ends at 65504, the square of 256: a BERT's feed-forward has outliers of 200. For a GPU the centred
values are multiplied with `shrink` first, which the normalization takes out again. Not those of the
embeddings: they are small, and their squares would vanish.

Claim: ULP where the variance is above smallest / shrink^2 (on the CPU 6e-8, on a GPU 0.004).
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

# The smallest float16 above zero, 6e-8, and the smallest one that is not subnormal: GPUs take those for zero.
SMALLEST_HALF = 2.0**-24
SMALLEST_NORMAL_HALF = 2.0**-14
SHRINK = 1 / 8


def layer_norm(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    *,
    epsilon: float,
    smallest: float,
    shrink: float = 1.0,
    observe: Callable[[tf.Tensor, str], tf.Tensor],
) -> tf.Tensor:
    """x [1, 1, S, C], gamma and beta [C] -> [1, 1, S, C]; `observe` sees the squares as "squares"."""
    centered = x - tf.reduce_mean(x, axis=3, keepdims=True)
    if shrink != 1:
        centered = centered * shrink
    squares = observe(centered * centered, "squares")
    variance = tf.maximum(tf.reduce_mean(squares, axis=3, keepdims=True) + epsilon * shrink**2, smallest)
    normal = centered * tf.math.rsqrt(variance)
    return normal * tf.reshape(gamma, [1, 1, 1, -1]) + tf.reshape(beta, [1, 1, 1, -1])
