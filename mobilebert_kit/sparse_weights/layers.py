"""Which encoder layer a node of a .tflite belongs to. Its names do not tell: the converter makes them up.

The graph does. What a layer computes runs beside a residual, and between two layers a single tensor carries
everything on:

    ids ─ embeddings ─●─┬─ attention ─ + ─●─┬─ feed-forward ─ + ─●─ ... ─●─ head
                      └────────────────┘  └──────────────────┘

So the graph is cut wherever one tensor alone is alive (●). A stretch of several nodes between two cuts with a
SOFTMAX in it begins a layer; stretches without belong to the layer before; what comes ahead of the first is
the embeddings. A stretch of one node has no residual beside it: the head, or a change of width. The mask,
which goes to every layer, is left out.
"""

from __future__ import annotations

from mobilebert_kit.delegates.tflite_file import ABSENT, Node, Subgraph

LOOK_UPS = frozenset({"GATHER", "EMBEDDING_LOOKUP"})
ATTENTION = "SOFTMAX"


def encoder_layers(graph: Subgraph) -> dict[int, int]:
    """Index of node -> number of its layer, from 0, for the nodes inside encoder layers."""
    layers: dict[int, int] = {}
    number = -1
    for stretch in _stretches(graph):
        number += any(node.op == ATTENTION for node in stretch)
        if number >= 0 and len(stretch) > 1:
            layers |= {node.index: number for node in stretch}
    return layers


def _stretches(graph: Subgraph) -> list[list[Node]]:
    """The nodes behind the tables, cut after each whose output alone is still to be read."""
    nodes = _behind_tables(graph)
    last_read = {i: node.index for node in nodes for i in node.inputs}
    last_read |= dict.fromkeys(graph.outputs, len(graph.nodes))
    stretches: list[list[Node]] = [[]]
    alive: set[int] = set()
    for node in nodes:
        stretches[-1].append(node)
        alive.update(i for i in node.outputs if i in last_read)
        alive.difference_update(i for i in node.inputs if last_read.get(i) == node.index)
        if len(alive) == 1:
            stretches.append([])
    return stretches


def _behind_tables(graph: Subgraph) -> list[Node]:
    """The nodes that depend on a look-up in a table, in the order of the file, in which they run."""
    tensors: set[int] = set()
    nodes = []
    for node in graph.nodes:
        if node.op in LOOK_UPS or not tensors.isdisjoint(node.inputs):
            tensors.update(node.outputs)
            tensors.discard(ABSENT)
            nodes.append(node)
    return nodes
