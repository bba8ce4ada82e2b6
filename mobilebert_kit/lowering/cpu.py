"""The primitives as LiteRT's CPU delegate (XNNPACK) likes them; the other lowerings start from here.

Activations are [1, 1, S, C], a dense layer is a 1x1 CONV_2D: on XNNPACK as fast as FULLY_CONNECTED, and
the only form of a dense layer whose per-channel int8 weights every delegate takes.

Every tensor that may be quantized passes through `observe(tensor, point)`, where `point` names it: identity
in the float model, a recorder while calibrating, a fake-quant in a quantized one. A kernel whose grid
quantized training chose brings its `kernel_steps`: what is folded into the kernel is folded into its steps
too, so that the same integers are stored. Claims of exactness are against the published formula in float32:
EXACT (same bits), ULP (float rounding only).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from mobilebert_kit.lowering.layer_norm import SMALLEST_HALF, layer_norm

if TYPE_CHECKING:
    from mobilebert_kit.models.config import ModelConfig

Observe = Callable[[tf.Tensor, str], tf.Tensor]
FUSED = {None: tf.identity, "relu": tf.nn.relu, "relu6": tf.nn.relu6}  # a convolution computes them itself
ACTIVATIONS = FUSED | {
    "gelu": partial(tf.nn.gelu, approximate=False),
    "gelu_tanh": partial(tf.nn.gelu, approximate=True),
}


def unobserved(tensor: tf.Tensor, point: str) -> tf.Tensor:
    """The observer of a float model."""
    return tensor


class CpuLowering:
    """Primitives over `weights` (canonical name -> array or tf.Variable) for one sequence length.

    `mask_value` is what a masked score gets: the published -10000 or -6, or the clamped one of a recipe.
    `kernel_steps`: kernel's name -> float32 [outputs], the distance of neighbours on its 8-bit grid. A kernel
    without is left to the converter, whose grid ends at the largest value of each output.
    """

    activations = ACTIVATIONS
    smallest_variance, shrink = SMALLEST_HALF, 1.0  # of layer_norm.py

    def __init__(
        self,
        config: ModelConfig,
        weights: Mapping[str, tf.Tensor],
        *,
        observe: Observe = unobserved,
        mask_value: float | tf.Tensor | None = None,
        kernel_steps: Mapping[str, np.ndarray] | None = None,
    ):
        self.config = config
        self.weights = weights
        self.observe = observe
        self.mask_value = config.mask_value if mask_value is None else mask_value
        self.kernel_steps = kernel_steps or {}
        self._row_sizes: dict[str, tf.Tensor] = {}  # by attention: [1, heads, S, 1], of softmax to context

    # Embeddings

    def embedding(self, ids: tf.Tensor, name: str) -> tf.Tensor:
        """int32 [1, S] -> [1, 1, S, C]. EXACT."""
        rows = self.observe(tf.gather(self.weights[name], ids), name)
        return tf.reshape(rows, [1, 1, *rows.shape[1:]])

    def add_positions(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """x [1, 1, S, C] plus the first S rows of a position table. EXACT."""
        positions = self.weights[name][: x.shape[2]]
        return self.observe(x + tf.reshape(positions, x.shape), name)

    def trigram_no_norm(self, x: tf.Tensor, dense: str, norm: str, *, residual: tf.Tensor) -> tf.Tensor:
        """The trigram input and its dense layer as one convolution. ULP.

        before: PAD, 2 STRIDED_SLICE, CONCAT(next, current, previous), CONV_2D 1x1
        after:  CONV_2D 1x3, zero padded: tap 0 sees the previous token, tap 2 the next one
        """
        kernel = self.weights[f"{dense}/kernel"]
        taps = tf.reshape(kernel, [3, kernel.shape[0] // 3, kernel.shape[1]])[::-1]
        return self._no_norm(x, taps, dense, norm, residual)

    # Dense layers

    def dense(
        self, x: tf.Tensor, name: str, *, activation: str | None = None, scale: float = 1.0
    ) -> tf.Tensor:
        """activation((x @ kernel + bias) * scale), x [1, 1, S, in] -> [1, 1, S, out]. ULP (folded scale)."""
        if activation in FUSED:
            return self._convolved(x, name, activation, scale)
        y = self.activations[activation](self._convolved(x, name, None, scale))
        return self.observe(y, f"{name}/{activation}")

    def _convolved(
        self, x: tf.Tensor, name: str, activation: str | None = None, scale: float = 1.0
    ) -> tf.Tensor:
        """A dense layer with the activation of its convolution. Sizes among the weights (equalization.py) are
        divided out of its channels where they are observed, before the kernel and behind it.
        """
        inputs, outputs = (self.weights.get(f"{name}/{side}_size") for side in ("input", "output"))
        kernel, bias = self.weights[f"{name}/kernel"][None], self.weights[f"{name}/bias"]
        if inputs is not None:
            x, kernel = self.scaled(x, 1 / inputs), kernel * inputs[:, None]
        factor = scale if outputs is None else scale / outputs
        x = self.observe(x, f"{name}/input")
        y = self.affine(x, kernel * factor, bias * factor, self._steps(name, factor))
        y = self.observe(FUSED[activation](y), name)
        return y if outputs is None else self.scaled(y, outputs)

    def dense_no_norm(self, x: tf.Tensor, dense: str, norm: str, *, residual: tf.Tensor | None) -> tf.Tensor:
        """NoNorm(dense(x) + residual), NoNorm(y) = y * gamma + beta folded into the convolution. ULP.

        before: CONV_2D, ADD residual, MUL gamma, ADD beta
        after:  CONV_2D (kernel * gamma, bias * gamma + beta), ADD (MUL residual, gamma)
        """
        x = self.observe(x, f"{dense}/input")
        return self._no_norm(x, self.weights[f"{dense}/kernel"][None], dense, norm, residual)

    def _no_norm(
        self, x: tf.Tensor, taps: tf.Tensor, dense: str, norm: str, residual: tf.Tensor | None
    ) -> tf.Tensor:
        gamma, beta = self.weights[f"{norm}/gamma"], self.weights[f"{norm}/beta"]
        bias, steps = self.weights[f"{dense}/bias"], self._steps(dense, gamma)
        y = self.affine(x, taps * gamma, bias * gamma + beta, steps)
        if residual is None:
            return self.observe(y, norm)
        return self.observe(
            self.observe(y, f"{norm}/dense") + self.observe(self.scaled(residual, gamma), f"{norm}/residual"),
            norm,
        )

    def affine(
        self, x: tf.Tensor, taps: tf.Tensor, bias: tf.Tensor, steps: np.ndarray | None = None
    ) -> tf.Tensor:
        """x by the taps of a kernel, plus bias: `convolve`, or the form that another lowering has of it."""
        return convolve(x, taps, bias, steps)

    def _steps(self, dense: str, factor: float | np.ndarray) -> np.ndarray | None:
        """The steps of the kernel times `factor` (a number, or one an output); None where it has no grid.

        An output times zero is zero on every grid; that of the kernel keeps the bias, whose step is the
        kernel's times the input's, as fine as elsewhere.
        """
        steps = self.kernel_steps.get(f"{dense}/kernel")
        if steps is None:
            return None
        magnitude = np.abs(np.asarray(factor))
        return (steps * np.where(magnitude == 0, 1, magnitude)).astype(np.float32)

    # LayerNorm, which is BERT's, in float32 in every file

    def embedding_layer_norm(self, x: tf.Tensor, norm: str, *, residual: tf.Tensor | None) -> tf.Tensor:
        """LayerNorm(x + residual), all [1, 1, S, C]. ULP."""
        return self._layer_norm(x if residual is None else x + residual, norm)

    def dense_layer_norm(self, x: tf.Tensor, dense: str, norm: str, *, residual: tf.Tensor) -> tf.Tensor:
        """LayerNorm(dense(x) + residual). ULP."""
        return self._layer_norm(self._convolved(x, dense) + residual, norm, shrink=self.shrink)

    def _layer_norm(self, x: tf.Tensor, norm: str, *, shrink: float = 1.0) -> tf.Tensor:
        y = layer_norm(
            self.observe(x, f"{norm}/sum"),
            self.weights[f"{norm}/gamma"],
            self.weights[f"{norm}/beta"],
            epsilon=self.config.layer_norm_eps,
            smallest=self.smallest_variance,
            shrink=shrink,
            observe=lambda tensor, point: self.observe(tensor, f"{norm}/{point}"),
        )
        return self.observe(y, norm)

    def scaled(self, x: tf.Tensor, gamma: tf.Tensor) -> tf.Tensor:
        """x [1, 1, S, C] times gamma [C]. EXACT."""
        return x * gamma

    # Attention: `heads` gives whatever form of [heads, S, size] the other primitives of the lowering take.

    def heads(self, x: tf.Tensor, name: str, count: int, *, scale: float = 1.0) -> tf.Tensor:
        """A dense layer, its output split: [1, 1, S, in] -> [1, heads, S, size]. EXACT but for the scale."""
        y = self.dense(x, name, scale=scale)
        return tf.transpose(tf.reshape(y, [1, y.shape[2], count, y.shape[3] // count]), [0, 2, 1, 3])

    def scores(self, query: tf.Tensor, key: tf.Tensor, scope: str) -> tf.Tensor:
        """query @ key^T -> [1, heads, S, S]. EXACT."""
        return self.observe(tf.matmul(query, key, transpose_b=True), f"{scope}/scores")

    def mask(self, input_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """int32 [1, S], 1 = token, 0 = padding -> what `masked` needs, computed once for all layers."""
        keep = tf.reshape(tf.cast(input_mask, tf.float32), [1, 1, 1, input_mask.shape[1]])
        return {
            "keep": self.observe(keep, "mask/keep"),
            "fill": self.observe((1.0 - keep) * self.mask_value, "mask/fill"),
        }

    def masked(self, scores: tf.Tensor, mask: dict[str, tf.Tensor], scope: str) -> tf.Tensor:
        """additive: scores + (1 - mask) * value; multiplicative: scores * mask + the same. EXACT."""
        if self.config.mask_semantics == "multiplicative":
            scores = self.observe(scores * mask["keep"], f"{scope}/kept_scores")
        return self.observe(scores + mask["fill"], f"{scope}/masked_scores")

    def clip(self, scores: tf.Tensor, bounds: tuple[float, float] | None, scope: str) -> tf.Tensor:
        """MAXIMUM and MINIMUM with constants, where the checkpoint was trained with them. EXACT."""
        if bounds is None:
            return scores
        low, high = bounds
        return self.observe(tf.minimum(tf.maximum(scores, low), high), f"{scope}/clipped_scores")

    def softmax(self, scores: tf.Tensor, scope: str) -> tf.Tensor:
        """Over the last axis. EXACT.

        With a floor among the weights (row_floors.py) rows are divided here by what `context` multiplies by.
        """
        probabilities = tf.nn.softmax(scores)
        floor = self.weights.get(f"{scope}/row_floor")
        if floor is not None:
            # No MAXIMUM with the floor: the converter would make it int8, which XNNPACK refuses.
            gain = tf.minimum(1 / tf.reduce_max(probabilities, axis=-1, keepdims=True), 1 / floor)
            self._row_sizes[scope] = 1 / gain
            probabilities *= gain
        return self.observe(probabilities, f"{scope}/probabilities")

    def context(self, probabilities: tf.Tensor, value: tf.Tensor, scope: str) -> tf.Tensor:
        """probabilities @ value -> [1, heads, S, size]. EXACT."""
        y = tf.matmul(probabilities, value)
        if scope in self._row_sizes:
            y = self.observe(y, f"{scope}/row_context") * self._row_sizes[scope]
        return self.observe(y, f"{scope}/context")

    def merge_heads(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        """[1, heads, S, size] -> [1, 1, S, heads * size]. EXACT."""
        _, count, length, size = x.shape
        return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [1, 1, length, count * size])

    # Head

    def logits(self, x: tf.Tensor, scope: str) -> tuple[tf.Tensor, tf.Tensor]:
        """The question-answering head -> (end, start), [1, S] each. ULP."""
        kernel = tf.transpose(self.weights[f"{scope}/output_weights"])[None]
        x = self.observe(x, f"{scope}/input")
        y = self.observe(convolve(x, kernel, self.weights[f"{scope}/output_bias"]), scope)
        start, end = self.split_logits(y)
        return tuple(tf.reshape(logits, [1, x.shape[2]]) for logits in (end, start))

    def split_logits(self, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """[1, 1, S, 2] -> two [1, 1, S, 1]. EXACT."""
        return tf.split(y, 2, axis=3)


def convolve(x: tf.Tensor, taps: tf.Tensor, bias: tf.Tensor, steps: np.ndarray | None = None) -> tf.Tensor:
    """x [1, 1, S, in], taps [width, in, out], bias [out] -> [1, 1, S, out]; zeros beyond both ends.

    With `steps` [out] the taps are rounded to multiples of them, from -127 to 127, and stored as such.
    """
    kernel = taps[None]
    if steps is not None:
        # On the kernel as the convolution takes it: the converter moves no grid through a change of shape.
        kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -127 * steps, 127 * steps, num_bits=8, narrow_range=True
        )
    return tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides=1, padding="SAME"), bias)
