"""Patterns: the blocks of a kernel whose weights become zero together.

    4x1   blocks of 4 outputs x 1 input, whole        any NxM
    2:4   of each 4 inputs in a row of an output, 2   any N:M, N zeros of M
    1x1   single weights

         inputs                inputs
       x . . .  |            x . . x | . x x .
    o  x . . .  | 4x1     o  . x x . | x . . x   2:4
    u  x . . .  |         u
    t  x . . .  |         t

As in neural-compressor (compression/pruner/patterns/nxm.py and ninm.py), on PyTorch's layout of a dense
layer, [out, in]. The kit's kernels are TensorFlow's, [in, out]: pruner.py turns them.

Both kinds are one here: a block of which the `zeros` lowest scores go, all of them or N of M. The block's own
score is the mean over those.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mobilebert_kit.errors import InputError


@dataclass(frozen=True)
class Pattern:
    """Blocks of `outputs` x `inputs` weights, of which `zeros` become zero where a block is pruned."""

    name: str
    outputs: int
    inputs: int
    zeros: int

    @property
    def size(self) -> int:
        """Weights of a block."""
        return self.outputs * self.inputs

    def divides(self, shape: tuple[int, int]) -> bool:
        """Whether a kernel [out, in] is a whole number of blocks."""
        return shape[0] % self.outputs == 0 and shape[1] % self.inputs == 0

    def block_scores(self, scores: np.ndarray) -> np.ndarray:
        """Scores [out, in] of the weights -> float64 [out / outputs, in / inputs] of the blocks: the mean of
        the scores that a block would lose."""
        blocks = self._blocks(scores)
        if self.zeros < self.size:
            blocks = np.partition(blocks, self.zeros - 1)[..., : self.zeros]
        return blocks.mean(axis=-1, dtype=np.float64)

    def mask(self, scores: np.ndarray, pruned: np.ndarray) -> np.ndarray:
        """What stays of a kernel, bool [out, in]: everything but the `zeros` lowest of each pruned block.

        Args:
            scores: of the weights, [out, in]. Of equal ones in a block the first goes.
            pruned: of the blocks, bool [out / outputs, in / inputs].
        """
        blocks = self._blocks(scores)
        kept = np.zeros(blocks.shape, bool)
        if self.zeros < self.size:
            kept[:] = True
            lowest = np.argsort(blocks, axis=-1, kind="stable")[..., : self.zeros]
            np.put_along_axis(kept, lowest, False, axis=-1)
        kept |= ~pruned[..., None]
        rows, columns = pruned.shape
        parts = kept.reshape(rows, columns, self.outputs, self.inputs)
        return parts.transpose(0, 2, 1, 3).reshape(scores.shape)

    def pruned_blocks(self, weights: np.ndarray) -> np.ndarray:
        """Which blocks of a kernel [out, in] have their zeros already, bool [out / outputs, in / inputs]."""
        return np.count_nonzero(self._blocks(weights) == 0, axis=-1) >= self.zeros

    def _blocks(self, values: np.ndarray) -> np.ndarray:
        """[out, in] -> [out / outputs, in / inputs, size]."""
        rows, columns = values.shape[0] // self.outputs, values.shape[1] // self.inputs
        parts = values.reshape(rows, self.outputs, columns, self.inputs).transpose(0, 2, 1, 3)
        return parts.reshape(rows, columns, self.size)


def parse_pattern(text: str) -> Pattern:
    """The pattern of that name. InputError where it is none."""
    found = re.fullmatch(r"([1-9]\d{0,4})([x:])([1-9]\d{0,4})", text)
    if found:
        first, second = int(found[1]), int(found[3])
        if found[2] == "x":
            return Pattern(text, first, second, first * second)
        if first < second:
            return Pattern(text, 1, second, first)
    raise InputError(
        "Expected --pruning_pattern as NxM (blocks of N outputs x M inputs, for example 4x1; 1x1 for single "
        f"weights) or N:M (N zeros of each M inputs, for example 2:4), got {text!r:.80}."
    )
