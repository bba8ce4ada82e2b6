"""Other forms of the float target's graph, for bench_lowerings.py: CpuLowering with one thing changed."""

from __future__ import annotations

import tensorflow as tf

from mobilebert_kit.lowering.cpu import CpuLowering, convolve


class NormBehind(CpuLowering):
    """NoNorm as published: MUL and ADD behind the sum with the residual."""

    def _no_norm(
        self, x: tf.Tensor, taps: tf.Tensor, dense: str, norm: str, residual: tf.Tensor | None
    ) -> tf.Tensor:
        y = convolve(x, taps, self.weights[f"{dense}/bias"])
        y = y if residual is None else y + residual
        return y * self.weights[f"{norm}/gamma"] + self.weights[f"{norm}/beta"]


class ScaledScores(CpuLowering):
    """The scores times 1/sqrt(head size), instead of the query's kernel."""

    def heads(self, x: tf.Tensor, name: str, count: int, *, scale: float = 1.0) -> tf.Tensor:
        self.scale = getattr(self, "scale", 1.0) if scale == 1.0 else scale
        return super().heads(x, name, count)

    def scores(self, query: tf.Tensor, key: tf.Tensor, scope: str) -> tf.Tensor:
        return super().scores(query, key, scope) * self.scale


class MaskInEachLayer(CpuLowering):
    """What is added to the scores, computed anew in each layer."""

    def mask(self, input_mask: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.cast(input_mask, tf.float32), [1, 1, 1, input_mask.shape[1]])

    def masked(self, scores: tf.Tensor, mask: tf.Tensor, scope: str) -> tf.Tensor:
        # On all the scores' rows, as a model does that broadcasts its mask first.
        fill = (1.0 - tf.broadcast_to(mask, [1, 1, scores.shape[2], scores.shape[3]])) * self.mask_value
        return scores + fill


class FullyConnected(CpuLowering):
    """Dense layers as FULLY_CONNECTED."""

    def affine(self, x: tf.Tensor, taps: tf.Tensor, bias: tf.Tensor, steps: object = None) -> tf.Tensor:
        if taps.shape[0] != 1:
            return super().affine(x, taps, bias, steps)
        y = tf.nn.bias_add(tf.matmul(tf.reshape(x, [-1, x.shape[3]]), taps[0]), bias)
        return tf.reshape(y, [1, 1, *y.shape])


class QueryWithKey(CpuLowering):
    """Query and key by one convolution and one TRANSPOSE; the halves are split behind it."""

    def heads(self, x: tf.Tensor, name: str, count: int, *, scale: float = 1.0) -> tf.Tensor:
        scope, _, kind = name.rpartition("/")
        if kind == "value":
            return super().heads(x, name, count, scale=scale)
        if kind == "query":
            kernels, biases = (
                [
                    self.weights[f"{scope}/{each}/{part}"] * factor
                    for each, factor in (("query", scale), ("key", 1.0))
                ]
                for part in ("kernel", "bias")
            )
            y = convolve(x, tf.concat(kernels, axis=1)[None], tf.concat(biases, axis=0))
            size = y.shape[3] // (2 * count)
            y = tf.transpose(tf.reshape(y, [1, y.shape[2], 2 * count, size]), [0, 2, 1, 3])
            query, self.key = tf.split(y, 2, axis=1)
            return query
        return self.key


class GammaGone(CpuLowering):
    """Residuals without their MUL: not the same model, but what folding gamma through them could save."""

    def scaled(self, x: tf.Tensor, gamma: tf.Tensor) -> tf.Tensor:
        return x


VARIANTS = {
    "as shipped": CpuLowering,
    "NoNorm behind the sum": NormBehind,
    "the scores scaled, not the query": ScaledScores,
    "the mask computed in each layer": MaskInEachLayer,
    "FULLY_CONNECTED for CONV_2D": FullyConnected,
    "query and key in one convolution": QueryWithKey,
    "no gamma on residuals (a bound)": GammaGone,
}
