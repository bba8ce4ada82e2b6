"""How TFLite cuts a graph between a delegate and the CPU.

Source: PartitionGraphIntoIndependentNodeSubsets in google-ai-edge/LiteRT, tflite/graph_info.cc.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from mobilebert_kit.delegates.tflite_file import ABSENT, Subgraph


def partitions_of(
    graph: Subgraph, accepted: Collection[int], float16: Mapping[int, int] = MappingProxyType({})
) -> list[list[int]]:
    """The groups of `accepted` nodes of `graph` that become one delegate kernel each.

    float16: dequantized constant -> its float16 source, which delegated nodes read directly, others not.
    """
    reads = []
    for node in graph.nodes:
        remap = float16 if node.index in accepted else {}
        reads.append({remap.get(i, i) for i in node.inputs if i != ABSENT})
    writes = [[i for i in node.outputs if i != ABSENT] for node in graph.nodes]
    return delegated_partitions(reads, writes, accepted)


def delegated_partitions(
    reads: Sequence[Collection[int]], writes: Sequence[Collection[int]], delegated: Collection[int]
) -> list[list[int]]:
    """The groups of nodes that become one delegate kernel each.

    reads, writes: tensor indices per node, in execution order (ABSENT left out). delegated: the node indices
    that the delegate takes. TFLite takes turns: all that is ready of one kind, and all that this makes ready
    of the same kind, is one group; then the same with the other kind. The first node decides who begins.
    """
    maker = {tensor: node for node, tensors in enumerate(writes) for tensor in tensors}
    readers: dict[int, list[int]] = {}
    waits = []
    for node, tensors in enumerate(reads):
        makers = {maker[tensor] for tensor in tensors if tensor in maker}
        waits.append(len(makers))
        for other in makers:
            readers.setdefault(other, []).append(node)
    chosen = set(delegated)
    ready: dict[bool, list[int]] = {True: [], False: []}
    for node, count in enumerate(waits):
        if count == 0:
            ready[node in chosen].append(node)
    groups: list[list[int]] = []
    turn = bool(ready[True]) and (not ready[False] or ready[True][0] < ready[False][0])
    while ready[True] or ready[False]:
        group = []
        while ready[turn]:
            node = ready[turn].pop()
            group.append(node)
            for reader in readers.get(node, ()):
                waits[reader] -= 1
                if waits[reader] == 0:
                    ready[reader in chosen].append(reader)
        if turn:
            groups.append(sorted(group))
        turn = not turn
    return groups
