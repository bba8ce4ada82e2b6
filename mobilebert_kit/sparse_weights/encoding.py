"""TFLite's sparse encoding of a kernel: only the blocks that are not zero, and where they stand.

A matrix [rows, columns] in blocks of R x C is, by the schema's SparsityParameters:

    dimension 0   DENSE       rows / R
    dimension 1   SPARSE_CSR  segments [rows / R + 1]: where each row's blocks begin;  indices: their columns
    blocks        DENSE       R, C
    values        the blocks, one after the other, row by row

Segments and indices are uint8, uint16 or int32, the narrowest that holds them. A DENSIFY node makes a dense
tensor of it again when the model is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

INDEX_TYPES = (np.uint8, np.uint16, np.int32)


@dataclass(frozen=True)
class SparseMatrix:
    """`values` [blocks, R * C]; the others as above."""

    block: tuple[int, int]
    segments: np.ndarray
    indices: np.ndarray
    values: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.segments.nbytes + self.indices.nbytes + self.values.nbytes


def encode(matrix: np.ndarray, block: tuple[int, int] = (1, 1)) -> SparseMatrix:
    """`matrix` [rows, columns] of any dtype; `block` divides it. ValueError where it does not."""
    (rows, columns), (high, wide) = matrix.shape, block
    if rows % high or columns % wide:
        raise ValueError(f"Expected blocks that divide {rows}x{columns}, got {high}x{wide}.")
    blocks = matrix.reshape(rows // high, high, columns // wide, wide).swapaxes(1, 2)
    kept = (blocks != 0).any(axis=(2, 3))
    segments = np.concatenate([[0], kept.sum(axis=1).cumsum()])
    return SparseMatrix(
        block, narrow(segments), narrow(np.nonzero(kept)[1]), blocks[kept].reshape(-1, high * wide)
    )


def decode(sparse: SparseMatrix, shape: tuple[int, int]) -> np.ndarray:
    """The matrix [rows, columns] again."""
    high, wide = sparse.block
    blocks = np.zeros((shape[0] // high, shape[1] // wide, high, wide), sparse.values.dtype)
    rows = np.repeat(np.arange(len(blocks)), np.diff(sparse.segments.astype(np.int64)))
    blocks[rows, sparse.indices] = sparse.values.reshape(-1, high, wide)
    return blocks.swapaxes(1, 2).reshape(shape)


def encoded_bytes(zeros: np.ndarray, itemsize: int, block: tuple[int, int] = (1, 1)) -> int:
    """Bytes of the arrays of a matrix [rows, columns] that is zero where `zeros` is True."""
    sparse = encode(~zeros, block)
    return sparse.nbytes + sparse.values.nbytes * (itemsize - 1)


def narrow(numbers: np.ndarray) -> np.ndarray:
    """`numbers`, none negative, in the narrowest of INDEX_TYPES."""
    largest = numbers.max(initial=0)
    return numbers.astype(next(kind for kind in INDEX_TYPES if largest <= np.iinfo(kind).max))
