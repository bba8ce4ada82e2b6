"""The primitives as quantized training computes them: the published graph, nothing folded, all quantizers.

It is what the SavedModel of a quantized checkpoint holds, in float32, with the ranges as variables: 66
quantizers a layer, placed as in google-research/mobilebert, modeling.py with use_quantized_training.

    dense:      Q(x) @ Q(kernel) + bias
    NoNorm:     y = Q(dense (+ residual));  Q(y * Q(gamma)) + Q(beta)
    attention:  Q(query @ key^T) / sqrt(size);  Q(scores * mask);  Q(that + (1 - mask) * -6);  clip;  SOFTMAX;
                Q(probabilities @ value)

Embeddings, biases, probabilities and the head have no quantizer there. EXACT.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from mobilebert_kit.checkpoints.names import ACTIVATION_QUANTIZER, WEIGHT_QUANTIZER
from mobilebert_kit.lowering.cpu import ACTIVATIONS, CpuLowering, convolve
from mobilebert_kit.models.config import MobileBertConfig

Pairs = Mapping[str, tuple[tf.Tensor | np.ndarray, tf.Tensor | np.ndarray]]


class FakeQuantizedLowering(CpuLowering):
    """`ranges`: a quantizer's published name -> (min, max), arrays or tf.Variable. Nothing is observed."""

    def __init__(self, config: MobileBertConfig, weights: Mapping[str, tf.Tensor], ranges: Pairs):
        super().__init__(config, weights)
        self._ranges = ranges

    def _activation(self, x: tf.Tensor, scope: str, number: int = 0) -> tf.Tensor:
        suffix = f"_{number}" if number else ""
        return fake_quantize(x, *self._ranges[f"{scope}/{ACTIVATION_QUANTIZER}{suffix}"])

    def _linear(self, x: tf.Tensor, name: str) -> tf.Tensor:
        x = self._activation(x, name)
        kernel = fake_quantize(
            self.weights[f"{name}/kernel"], *self._ranges[f"{name}/{WEIGHT_QUANTIZER}"], narrow_range=True
        )
        return convolve(x, kernel[None], self.weights[f"{name}/bias"])

    def dense(
        self, x: tf.Tensor, name: str, *, activation: str | None = None, scale: float = 1.0
    ) -> tf.Tensor:
        """`scale`, which only the query has, is left out: `scores` applies it behind its quantizer."""
        return ACTIVATIONS[activation](self._linear(x, name))

    def dense_no_norm(self, x: tf.Tensor, dense: str, norm: str, *, residual: tf.Tensor | None) -> tf.Tensor:
        """NoNorm(dense(x) + residual)."""
        y = self._linear(x, dense)
        if residual is not None:
            y = y + residual
        y = self._activation(y, norm.rpartition("/")[0])
        beta = self._activation(self.weights[f"{norm}/beta"], norm)
        gamma = self._activation(self.weights[f"{norm}/gamma"], norm, 1)
        return self._activation(y * gamma, norm, 2) + beta

    def scores(self, query: tf.Tensor, key: tf.Tensor, scope: str) -> tf.Tensor:
        """query @ key^T / sqrt(size) -> [1, heads, S, S]."""
        raw = tf.matmul(query, key, transpose_b=True)
        return self._activation(raw, scope) * self.config.attention_head_size**-0.5

    def masked(self, scores: tf.Tensor, mask: dict[str, tf.Tensor], scope: str) -> tf.Tensor:
        """With the mask that training had; the additive one, asked for against it, meets no quantizer."""
        if self.config.mask_semantics != "multiplicative":
            return super().masked(scores, mask, scope)
        kept = self._activation(scores * mask["keep"], scope, 1)
        return self._activation(kept + mask["fill"], scope, 2)

    def context(self, probabilities: tf.Tensor, value: tf.Tensor, scope: str) -> tf.Tensor:
        """probabilities @ value -> [1, heads, S, size]."""
        return self._activation(super().context(probabilities, value, scope), scope, 3)


def fake_quantize(
    x: tf.Tensor | np.ndarray,
    low: tf.Tensor | np.ndarray,
    high: tf.Tensor | np.ndarray,
    *,
    narrow_range: bool = False,
) -> tf.Tensor:
    """`x` rounded to the 8 bits of a range, as float32; the ends are scalars, or one of each output."""
    quantize = tf.quantization.fake_quant_with_min_max_vars
    if len(low.shape) == 1:
        quantize = tf.quantization.fake_quant_with_min_max_vars_per_channel
    return quantize(x, low, high, num_bits=8, narrow_range=narrow_range)
