"""The primitives as a GPU delegate takes all of them: float, four dimensions, nothing that only moves shapes.

LiteRT's accelerator takes one-dimensional GATHER indices only, older delegates neither SPLIT nor a constant
SUB; and delegates differ in how they broadcast a constant of lower rank, but agree on one of full rank.

    cpu:  GATHER [V, C] by [1, S], RESHAPE   SUB 1 - keep, MUL value      x * gamma [C]           SPLIT
    gpu:  RESHAPE [S], GATHER [1, 1, V, C]   MUL keep, -value, ADD value  x * gamma [1, 1, 1, C]  2 x SLICE

As on the CPU, dense layers are CONV_2D on [1, 1, S, C] (a two-dimensional FULLY_CONNECTED would have S
batches), the trigram is one convolution (no PAD, which delegates read wrongly below rank 4), and attention
is BATCH_MATMUL of two [1, heads, S, size]. The mask is a broadcast ADD: one of [1, S, S], an outer product,
is refused.

All of it is EXACT. Ids stay int32, also on a GPU that computes in float16, which holds integers up to 2048
only.
"""

from __future__ import annotations

import tensorflow as tf

from mobilebert_kit.lowering.cpu import CpuLowering
from mobilebert_kit.lowering.layer_norm import SHRINK, SMALLEST_NORMAL_HALF


class GpuLowering(CpuLowering):
    """Differs from the CPU's in four primitives, and in what float16 makes of a LayerNorm."""

    smallest_variance, shrink = SMALLEST_NORMAL_HALF, SHRINK

    def embedding(self, ids: tf.Tensor, name: str) -> tf.Tensor:
        """Ids flattened to [S]; gathered along the width of a table [1, 1, V, C], so rows are [1, 1, S, C].

        Width is the first axis that GPU delegates learnt to gather along. Rows of a table [V, C] would need a
        RESHAPE, which the converter merges into the ADD of the positions: one of [S, C] and [1, 1, S, C].
        """
        table = self.weights[name]
        rows = tf.gather(tf.reshape(table, [1, 1, *table.shape]), tf.reshape(ids, [-1]), axis=2)
        return self.observe(rows, name)

    def scaled(self, x: tf.Tensor, gamma: tf.Tensor) -> tf.Tensor:
        """gamma with as many dimensions as x."""
        return x * tf.reshape(gamma, [1, 1, 1, -1])

    def mask(self, input_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """(1 - keep) * value as keep * -value + value: the same bits for a keep of 0 or 1.

        Four dimensions before CAST: the converter would drop a RESHAPE behind it, the CAST's it keeps.
        """
        keep = tf.cast(tf.reshape(input_mask, [1, 1, 1, input_mask.shape[1]]), tf.float32)
        return {
            "keep": self.observe(keep, "mask/keep"),
            "fill": self.observe(keep * -self.mask_value + self.mask_value, "mask/fill"),
        }

    def split_logits(self, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Two slices of one channel."""
        size = [1, 1, y.shape[2], 1]
        return tf.slice(y, [0, 0, 0, 0], size), tf.slice(y, [0, 0, 0, 1], size)
