"""The primitives as an NNAPI driver at API 30 (Android 11) takes all of them: int8, no BATCH_MATMUL.

NNAPI has BATCH_MATMUL from feature level 6 on; below it each head is one FULLY_CONNECTED whose weight is an
activation (per-tensor int8, which FULLY_CONNECTED must be: per-channel weights pass the delegate but not the
Android runtime; dense layers are convolutions for that reason). The heads come out of one small convolution
each, so every head has ranges of its own and nothing has to be split.

    cpu:    CONV_2D 128->128, RESHAPE, TRANSPOSE, BATCH_MATMUL, ADD mask, SOFTMAX, BATCH_MATMUL, ...
    nnapi:  4 x (CONV_2D 128->32, RESHAPE, FULLY_CONNECTED, ADD mask, SOFTMAX, FULLY_CONNECTED), CONCATENATION

Of a BERT, LayerNorm and gelu are float32 between the int8 products: a driver takes their ops as well, but it
has no GELU (gelu.py). All of it is EXACT but for gelu and the order in which a matrix product is summed.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import tensorflow as tf

from mobilebert_kit.lowering import gelu
from mobilebert_kit.lowering.cpu import ACTIVATIONS, CpuLowering, convolve
from mobilebert_kit.lowering.gelu import sigmoid_gelu

Heads = list[tf.Tensor]


class NnapiLowering(CpuLowering):
    """`heads` is a list with one [S, size] tensor a head; scores are one [S, S] tensor a head."""

    activations = ACTIVATIONS | {
        "gelu": partial(sigmoid_gelu, coefficients=gelu.EXACT),
        "gelu_tanh": partial(sigmoid_gelu, coefficients=gelu.TANH),
    }

    def heads(self, x: tf.Tensor, name: str, count: int, *, scale: float = 1.0) -> Heads:
        x = self.observe(x, f"{name}/input")
        kernels = tf.split(self.weights[f"{name}/kernel"] * scale, count, axis=1)
        biases = tf.split(self.weights[f"{name}/bias"] * scale, count)
        steps = self._steps(name, scale)
        steps = [None] * count if steps is None else np.split(steps, count)
        heads = zip(kernels, biases, steps, strict=True)
        return [
            tf.reshape(
                self.observe(convolve(x, kernel[None], bias, step), f"{name}/head_{i}"), [x.shape[2], -1]
            )
            for i, (kernel, bias, step) in enumerate(heads)
        ]

    def scores(self, query: Heads, key: Heads, scope: str) -> Heads:
        return [
            self.observe(fully_connected(q, k), f"{scope}/scores/head_{i}")
            for i, (q, k) in enumerate(zip(query, key, strict=True))
        ]

    def mask(self, input_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """As on the CPU, [1, S]: it meets two-dimensional scores."""
        return {name: tf.reshape(value, input_mask.shape) for name, value in super().mask(input_mask).items()}

    def masked(self, scores: Heads, mask: dict[str, tf.Tensor], scope: str) -> Heads:
        return [super(NnapiLowering, self).masked(s, mask, f"{scope}/head_{i}") for i, s in enumerate(scores)]

    def clip(self, scores: Heads, bounds: tuple[float, float] | None, scope: str) -> Heads:
        return [super(NnapiLowering, self).clip(s, bounds, f"{scope}/head_{i}") for i, s in enumerate(scores)]

    def softmax(self, scores: Heads, scope: str) -> Heads:
        return [super(NnapiLowering, self).softmax(s, f"{scope}/head_{i}") for i, s in enumerate(scores)]

    def context(self, probabilities: Heads, value: Heads, scope: str) -> Heads:
        """One range for all heads: CONCATENATION takes one scale."""
        return [
            self.observe(fully_connected(p, tf.transpose(v)), f"{scope}/context")
            for p, v in zip(probabilities, value, strict=True)
        ]

    def merge_heads(self, x: Heads, scope: str) -> tf.Tensor:
        merged = self.observe(tf.concat(x, axis=1), f"{scope}/context")
        return tf.reshape(merged, [1, 1, *merged.shape])


def fully_connected(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """x [M, K] @ weight [N, K]^T -> [M, N]."""
    return tf.matmul(x, weight, transpose_b=True)
