"""The primitives as ONNX Runtime's int8 kernels want them: two dimensions, a dense layer is one Gemm.

    cpu:   [1, 1, S, C]   CONV_2D 1x1 with its bias, ADD, ...
    onnx:  [S, C]         Gemm with its bias, Add, ...

Of DequantizeLinear, Gemm, Relu and QuantizeLinear it makes one integer kernel. A MatMul of four dimensions
with an Add behind it stays in float32, and is slower than in the float model (docs/onnx.md). Observation
points, and so ranges, are those of the CPU lowering. What is claimed of exactness is defined there.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from mobilebert_kit.lowering.cpu import FUSED, CpuLowering


def gelu(x: tf.Tensor) -> tf.Tensor:
    """x (1 + erf(x / sqrt 2)) / 2. TensorFlow's own is of Erfc, which ONNX has not. ULP."""
    return 0.5 * x * (1.0 + tf.math.erf(x / math.sqrt(2)))


def gelu_tanh(x: tf.Tensor) -> tf.Tensor:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. ULP."""
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


class OnnxLowering(CpuLowering):
    """Activations are [S, C]; heads, and scores with them, [heads, S, ...]."""

    activations = FUSED | {"gelu": gelu, "gelu_tanh": gelu_tanh}

    def embedding(self, ids: tf.Tensor, name: str) -> tf.Tensor:
        """int32 [1, S] -> [S, C]. EXACT."""
        return self.observe(tf.gather(self.weights[name], tf.reshape(ids, [-1])), name)

    def add_positions(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """x [S, C] plus the first S rows of a position table. EXACT."""
        return self.observe(x + self.weights[name][: x.shape[0]], name)

    def trigram_no_norm(self, x: tf.Tensor, dense: str, norm: str, *, residual: tf.Tensor) -> tf.Tensor:
        """As published: next, current and previous token side by side, then the dense layer. ULP."""
        padded = tf.pad(x, [[1, 1], [0, 0]])
        trigrams = tf.concat([padded[2:], x, padded[:-2]], axis=1)
        return self._no_norm(trigrams, self.weights[f"{dense}/kernel"][None], dense, norm, residual)

    def affine(
        self, x: tf.Tensor, taps: tf.Tensor, bias: tf.Tensor, steps: np.ndarray | None = None
    ) -> tf.Tensor:
        """x [S, in], taps [1, in, out], bias [out] -> [S, out]."""
        return gemm(x, taps[0], bias, steps)

    def _layer_norm(self, x: tf.Tensor, norm: str, *, shrink: float = 1.0) -> tf.Tensor:
        """As published, which ONNX Runtime and OpenVINO know again and compute in one kernel. ULP."""
        x = self.observe(x, f"{norm}/sum")
        centered = x - tf.reduce_mean(x, axis=1, keepdims=True)
        variance = tf.reduce_mean(tf.pow(centered, 2.0), axis=1, keepdims=True)
        normal = centered / tf.sqrt(variance + self.config.layer_norm_eps)
        return self.observe(normal * self.weights[f"{norm}/gamma"] + self.weights[f"{norm}/beta"], norm)

    def heads(self, x: tf.Tensor, name: str, count: int, *, scale: float = 1.0) -> tf.Tensor:
        """A dense layer, its output split: [S, in] -> [heads, S, size]. EXACT but for the scale."""
        y = self.dense(x, name, scale=scale)
        return tf.transpose(tf.reshape(y, [y.shape[0], count, y.shape[1] // count]), [1, 0, 2])

    def mask(self, input_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """As on the CPU, [1, S]."""
        return {name: tf.reshape(value, input_mask.shape) for name, value in super().mask(input_mask).items()}

    def merge_heads(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        """[heads, S, size] -> [S, heads * size]. EXACT."""
        count, length, size = x.shape
        return tf.reshape(tf.transpose(x, [1, 0, 2]), [length, count * size])

    def logits(self, x: tf.Tensor, scope: str) -> tuple[tf.Tensor, tf.Tensor]:
        kernel = np.transpose(self.weights[f"{scope}/output_weights"])
        x = self.observe(x, f"{scope}/input")
        y = self.observe(gemm(x, kernel, self.weights[f"{scope}/output_bias"]), scope)
        start, end = tf.split(y, 2, axis=1)
        return tuple(tf.reshape(logits, [1, x.shape[0]]) for logits in (end, start))


def gemm(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, steps: np.ndarray | None = None) -> tf.Tensor:
    """x [S, in] @ kernel [in, out] + bias [out]; `steps` [out]: as those of `convolve`."""
    if steps is not None:
        # The op that tf2onnx does not fold into the constant: the steps would be lost.
        integers = tf.quantization.quantize_and_dequantize_v2(
            kernel / steps, -127.0, 127.0, num_bits=8, range_given=True, narrow_range=True
        )
        kernel = integers * steps
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)
