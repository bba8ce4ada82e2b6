"""The pattern that the zeros of a dense kernel form.

    none            so few zeros that rounding to int8 leaves as many
    unstructured    no order
    N:M             of each M neighbouring inputs of an output at most N are not zero (2:4 is what GPUs like)
    RxC blocks      zeros come in whole blocks of R neighbouring outputs by C neighbouring inputs
    all zero

Blocks and groups are aligned: they start at multiples of their size. An int8 file has some zeros more, from
rounding, so no pattern is asked to explain every one of them, only far more than chance would.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

ROUNDING = 0.05  # a share of zeros that rounding to int8 may leave by itself
LARGEST_GROUP = 16  # M of N:M
GROWTH = (2, 3)
# Of the zero blocks that chance would break up, the share that must hold together for a block to grow.
LEAST_COHESION = 0.75
# As many groups with more than N non-zeros are expected of unordered zeros, where none is there: chance makes
# such a kernel once in e^12 = 160,000.
LEAST_EVIDENCE = 12.0
FIRST_ROWS = 64  # are enough to refute most N:M, and N only grows with more of them


@dataclass(frozen=True)
class Pattern:
    """Its name, and the size of its blocks: (outputs, inputs), (1, 1) for every other pattern."""

    name: str
    block: tuple[int, int] = (1, 1)


def recognize(zeros: np.ndarray) -> Pattern:
    """The pattern of `zeros`, bool [outputs, inputs], True where the kernel is zero."""
    share = zeros.mean() if zeros.size else 0.0
    if share <= ROUNDING:
        return Pattern("none")
    if share == 1.0:
        return Pattern("all zero")
    block = _block(zeros)
    if block != (1, 1):
        return Pattern(f"{block[0]}x{block[1]} blocks", block)
    return Pattern(_n_of_m(zeros) or "unstructured")


def _block(grid: np.ndarray) -> tuple[int, int]:
    """The largest (outputs, inputs) in which zeros come; grown from (1, 1), one axis and factor at a time."""
    block = (1, 1)
    while True:
        merged = [
            (axis, factor, grid.reshape(_split(grid.shape, axis, factor)).all(axis + 1))
            for axis in (0, 1)
            for factor in (*GROWTH, grid.shape[axis])  # by 2, by 3, or to all outputs or inputs
            if factor > 1 and grid.shape[axis] % factor == 0
        ]
        cohesion = [_cohesion(grid, larger, factor) for _, factor, larger in merged]
        if not merged or max(cohesion) < LEAST_COHESION:
            return block
        axis, factor, grid = merged[int(np.argmax(cohesion))]
        block = (block[0] * factor, block[1]) if axis == 0 else (block[0], block[1] * factor)


def _split(shape: tuple[int, ...], axis: int, factor: int) -> tuple[int, ...]:
    return (*shape[:axis], shape[axis] // factor, factor, *shape[axis + 1 :])


def _cohesion(grid: np.ndarray, merged: np.ndarray, factor: int) -> float:
    """How far zero blocks stay zero when merged: 0 as by chance, 1 all of them."""
    share = grid.mean()
    by_chance = share ** (factor - 1)
    surviving = merged.mean() / share if share else 0.0
    return (surviving - by_chance) / (1.0 - by_chance) if by_chance < 1.0 else 0.0


def _n_of_m(zeros: np.ndarray) -> str | None:
    """The strictest N:M that holds and that chance does not explain, of equals the smallest M."""
    inputs = zeros.shape[1]
    density = 1.0 - float(zeros.mean())
    found = []
    for m in range(2, LARGEST_GROUP + 1):
        if inputs % m:
            continue
        for rows in (zeros[:FIRST_ROWS], zeros):
            n = m - int(rows.reshape(-1, inputs // m, m).sum(axis=2).min())
            if zeros.size // m * _more_than(n, m, density) < LEAST_EVIDENCE:
                break
        else:
            found.append((n / m, m, f"{n}:{m}"))
    return min(found)[2] if found else None


def _more_than(n: int, m: int, density: float) -> float:
    """The probability that of m numbers more than n are not zero, each by chance: a binomial's tail."""
    return sum(comb(m, k) * density**k * (1.0 - density) ** (m - k) for k in range(n + 1, m + 1))
