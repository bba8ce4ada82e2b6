"""Patterns recognized in kernels that were made with them, and TFLite's sparse encoding written again."""

from __future__ import annotations

import numpy as np
import pytest

from mobilebert_kit.sparse_weights.encoding import decode, encode, encoded_bytes
from mobilebert_kit.sparse_weights.patterns import recognize

SHAPES = ((64, 48), (128, 128), (96, 384), (512, 128), (26, 240))  # outputs, inputs
ROUNDED = 0.02  # of the weights that are kept, more than int8 rounds to zero of a normal distribution


def unstructured(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
    return random.random(shape) < random.choice([0.1, 0.3, 0.5, 0.7, 0.854, 0.95, 0.99]), "unstructured"


def n_of_m(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
    """Exactly N are kept of each M inputs of each output."""
    m = int(random.choice([m for m in (2, 3, 4, 8, 16) if shape[1] % m == 0]))
    n = int(random.integers(1, m))
    rank = random.random((shape[0], shape[1] // m, m)).argsort(axis=2).argsort(axis=2)
    return (rank >= n).reshape(shape), f"{n}:{m}"


def blocks(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
    sizes = [(4, 1), (1, 4), (16, 1), (1, 16), (4, 4), (32, 32), (2, 1), (1, 3), (1, shape[1]), (shape[0], 1)]
    high, wide = sizes[
        random.choice([i for i, (h, w) in enumerate(sizes) if not shape[0] % h | shape[1] % w])
    ]
    grid = random.random((shape[0] // high, shape[1] // wide)) < random.choice([0.3, 0.5, 0.854])
    return np.repeat(np.repeat(grid, high, axis=0), wide, axis=1), f"{high}x{wide} blocks"


def none(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
    return random.random(shape) < random.choice([0.0, 0.02]), "none"


@pytest.mark.parametrize("make_zeros", [unstructured, n_of_m, blocks, none])
def test_patterns_of_made_kernels(make_zeros) -> None:
    """50 of each kind, half of them with zeros of rounding on top."""
    for seed in range(50):
        random = np.random.default_rng(seed)
        shape = SHAPES[random.integers(len(SHAPES))]
        zeros, expected = make_zeros(random, shape)
        if seed % 2:
            zeros = zeros | (random.random(shape) < ROUNDED)
        if 0 < zeros.mean() < 1:  # few large blocks may all be zero, or none
            assert recognize(zeros).name == expected, (seed, shape, zeros.mean())


def test_patterns_know_the_axes() -> None:
    random = np.random.default_rng(0)
    two_of_four = (random.random((96, 16, 4)).argsort(axis=2) >= 2).reshape(96, 64)
    assert recognize(two_of_four).name == "2:4"
    assert recognize(two_of_four.T).name == "unstructured"  # along the outputs it is of no use to a product
    four_outputs = np.repeat(random.random((24, 64)) < 0.5, 4, axis=0)
    assert recognize(four_outputs).block == (4, 1)
    assert recognize(np.ascontiguousarray(four_outputs.T)).block == (1, 4)
    assert recognize(np.ones((8, 8), bool)).name == "all zero"
    assert recognize(np.zeros((0, 8), bool)).name == "none"


def test_patterns_survive_int8() -> None:
    """Rounding to 127 steps of a channel's largest weight adds zeros to a pattern, and hides none."""
    random = np.random.default_rng(0)
    for make_zeros in (n_of_m, blocks):
        zeros, expected = make_zeros(random, (128, 128))
        kernel = np.where(zeros, 0, random.standard_normal(zeros.shape))
        rounded = np.rint(kernel / np.abs(kernel).max(axis=1, initial=1e-9, keepdims=True) * 127) == 0
        assert rounded.sum() > zeros.sum() and recognize(rounded).name == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("block", [(1, 1), (4, 1), (1, 4), (2, 8)])
def test_encoding_holds_every_weight_and_states_its_size(dtype: type, block: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    for shape, share in (
        ((64, 48), 0.8),
        ((8, 520), 0.5),
        ((512, 264), 0.3),
        ((16, 16), 1.0),
        ((16, 16), 0.0),
    ):
        matrix = random.integers(-99, 99, shape).astype(dtype)
        matrix[random.random(shape) < share] = 0
        sparse = encode(matrix, block)
        np.testing.assert_array_equal(decode(sparse, shape), matrix)
        assert encoded_bytes(matrix == 0, matrix.itemsize, block) == sparse.nbytes
        # What the schema says, written again: each block row's columns, in the narrowest type.
        kept = [
            [c for c in range(0, shape[1], block[1]) if matrix[r : r + block[0], c : c + block[1]].any()]
            for r in range(0, shape[0], block[0])
        ]
        assert sparse.indices.tolist() == [c // block[1] for row in kept for c in row]
        assert sparse.segments.tolist() == [sum(map(len, kept[:i])) for i in range(len(kept) + 1)]
        for numbers in (sparse.segments, sparse.indices):
            largest = max(numbers.tolist(), default=0)
            assert numbers.itemsize == (1 if largest < 2**8 else 2 if largest < 2**16 else 4)
