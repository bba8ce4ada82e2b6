"""Which blocks go: the lowest scores of all kernels together, or of each kernel for itself.

    global   one threshold for all: the k-th lowest block score of the model
    local    the same share of each kernel

As in neural-compressor (patterns/nxm.py, get_masks_global and get_masks_local). There a kernel that would
pass its cap is set to it, and the threshold is taken anew over the others; here only a kernel's lowest
blocks, as many as its cap allows, take part at all, which ends at the same blocks. There blocks of equal
score fall together; here, in the order of the model, only as many as are wanted: the total is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mobilebert_kit.training.pruning.patterns import Pattern


def make_masks(
    scores: Mapping[str, np.ndarray], pattern: Pattern, sparsity: float, *, scope: str, cap: float
) -> dict[str, np.ndarray]:
    """What stays of each kernel: name -> bool [out, in].

    Args:
        scores: name -> scores of the weights, [out, in]; the pattern divides each. The order counts where
            scores are equal.
        sparsity: share of all these weights that become zero; met to half a block where the caps allow it.
        scope: one of SCOPES.
        cap: share of a kernel's weights that may become zero.
    """
    blocks = {name: pattern.block_scores(score) for name, score in scores.items()}
    most = [allowed_blocks(pattern, score.shape, cap) for score in scores.values()]
    counts = SCOPES[scope](list(blocks.values()), wanted_blocks(pattern, scores.values(), sparsity), most)
    return {
        name: pattern.mask(scores[name], lowest(blocks[name], count))
        for name, count in zip(scores, counts, strict=True)
    }


def allowed_blocks(pattern: Pattern, shape: tuple[int, int], cap: float) -> int:
    """Blocks of a kernel [out, in] of which at most a share of `cap` may become zero."""
    weights = shape[0] * shape[1]
    return min(weights // pattern.size, int(cap * weights / pattern.zeros + 1e-9))


def wanted_blocks(pattern: Pattern, kernels: Sequence[np.ndarray], sparsity: float) -> int:
    """Blocks whose zeros are nearest to that share of all the kernels' weights."""
    return round(sparsity * sum(kernel.size for kernel in kernels) / pattern.zeros)


def global_counts(blocks: Sequence[np.ndarray], wanted: int, most: Sequence[int]) -> list[int]:
    """How many of each kernel's lowest blocks go, so that `wanted` go in all and no kernel loses more than
    its `most`. Of equal scores those of the first kernels go."""
    candidates = [np.sort(scores, axis=None)[:limit] for scores, limit in zip(blocks, most, strict=True)]
    joined = np.concatenate(candidates)
    wanted = min(wanted, joined.size)
    if not wanted:
        return [0] * len(blocks)
    threshold = np.partition(joined, wanted - 1)[wanted - 1]
    counts = [int(np.searchsorted(scores, threshold, side="left")) for scores in candidates]
    left = wanted - sum(counts)
    for number, scores in enumerate(candidates):
        equal = int(np.searchsorted(scores, threshold, side="right")) - counts[number]
        taken = min(equal, left)
        counts[number] += taken
        left -= taken
    return counts


def local_counts(blocks: Sequence[np.ndarray], wanted: int, most: Sequence[int]) -> list[int]:
    """The same share of each kernel, within a block, so that `wanted` go in all where `most` allows it."""
    sizes = np.array([scores.size for scores in blocks])
    ends = np.floor(np.cumsum(sizes) * (wanted / sizes.sum()) + 0.5).astype(int)
    return np.minimum(np.diff(ends, prepend=0), most).tolist()


SCOPES: dict[str, Callable[[Sequence[np.ndarray], int, Sequence[int]], list[int]]] = {
    "global": global_counts,
    "local": local_counts,
}


def lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """Where the `count` lowest scores are, bool of the same shape; of equal ones the first."""
    flat = scores.ravel()
    if not count:
        return np.zeros(scores.shape, bool)
    threshold = np.partition(flat, count - 1)[count - 1]
    chosen = flat < threshold
    chosen[np.flatnonzero(flat == threshold)[: count - np.count_nonzero(chosen)]] = True
    return chosen.reshape(scores.shape)
