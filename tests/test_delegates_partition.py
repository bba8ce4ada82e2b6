"""How a graph is cut between a delegate and the CPU."""

from __future__ import annotations

import random
from pathlib import Path

import one_op_model as make
import pytest
from one_op_model import F32, Graph, Op

from mobilebert_kit.delegates import check_nnapi, read_tflite
from mobilebert_kit.delegates.partition import delegated_partitions

# name: (what each node reads, which nodes are delegated, the groups); node n writes tensor n.
PARTITIONS = {
    "a chain taken whole": ([[], [0], [1]], [0, 1, 2], [[0, 1, 2]]),
    "cut in the middle": ([[], [0], [1]], [0, 2], [[0], [2]]),
    "branches join one group": ([[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [[0, 1, 2, 3, 4]]),
    # The CPU's node 1 is ready from the start, but the first node decides who begins: 0, then 1, then 2.
    "two independent chains": ([[], [], [1]], [0, 2], [[0], [2]]),
    # Here the CPU begins, so that the delegate's nodes are ready together.
    "the CPU first": ([[], [], [0]], [1, 2], [[1, 2]]),
    "none": ([[], [0]], [], []),
    "a residual around the CPU": ([[], [0], [0, 1], [2]], [0, 2, 3], [[0], [2, 3]]),
}


@pytest.mark.parametrize("name", sorted(PARTITIONS))
def test_partitions(name: str) -> None:
    reads, delegated, groups = PARTITIONS[name]
    assert delegated_partitions(reads, [[node] for node in range(len(reads))], delegated) == groups


def _as_tflite_loops(reads: list[list[int]], delegated: set[int]) -> list[list[int]]:
    """PartitionGraphIntoIndependentNodeSubsets as its source writes it: epochs of repeated passes."""
    epoch: dict[int, int] = {}
    groups = []
    while len(epoch) < len(reads):
        kind, group, changed = None, [], True
        while changed:
            changed = False
            for node, tensors in enumerate(reads):
                if node in epoch or any(tensor not in epoch for tensor in tensors):
                    continue
                kind = (node in delegated) if kind is None else kind
                if kind == (node in delegated):
                    epoch[node] = len(groups)
                    group.append(node)
                    changed = True
        if kind:
            groups.append(sorted(group))
    return groups


def test_partitions_of_random_graphs() -> None:
    rng = random.Random(0)
    for _ in range(300):
        count = rng.randint(1, 25)
        reads = [rng.sample(range(node), rng.randint(0, min(node, 3))) for node in range(count)]
        delegated = {node for node in range(count) if rng.random() < 0.7}
        writes = [[node] for node in range(count)]
        assert delegated_partitions(reads, writes, delegated) == _as_tflite_loops(reads, delegated)


def test_only_the_largest_partitions_are_delegated(tmp_path: Path) -> None:
    """Five runs of 1, 2, 3, 2 and 1 RELU with a refused GELU between: the delegate keeps three by default."""
    ops, tensor = [], 0
    for run in (1, 2, 3, 2, 1):
        for op in ["RELU"] * run + ["GELU"]:
            ops.append(Op(op, [tensor], [tensor + 1]))
            tensor += 1
    graph = Graph([F32] * (tensor + 1), ops, [0], [tensor])
    model = read_tflite(make.write(tmp_path / "m.tflite", graph))
    report = check_nnapi(model)
    assert report.partitions == 5 and not report.whole
    assert report.delegated == (2, 3, 5, 6, 7, 9, 10)
    assert len(check_nnapi(model, max_partitions=0).delegated) == 9
