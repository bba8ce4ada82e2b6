"""What the GPU accelerator gets wrong where nodes meet, though it takes each of them alone.

ai-edge-litert 2.3.0 merges nodes, and in two cases not as it should: it compiles the model, runs it, and gives
other numbers than the CPU. Both were found with random models of up to ten nodes; the kit's own have neither.
"""

from __future__ import annotations

from mobilebert_kit.delegates.tflite_file import ABSENT, Subgraph

READ_ON = (
    "It is an output of the model that another node reads: merged with that node, it is never written. Give "
    "the model a copy as its output."
)
PARTS_MEET = (
    "It reads two parts that one SPLIT, SPLIT_V or UNPACK makes: merged with that node, it reads one of them "
    "twice."
)
_CUTS = ("SPLIT", "SPLIT_V", "UNPACK")


def refused_together(graph: Subgraph) -> dict[int, str]:
    """Why, by node index, of the nodes that must be refused for what is around them."""
    read = {index for node in graph.nodes for index in node.inputs if index != ABSENT}
    read_on = read & set(graph.outputs)
    cut_by = {index: node.index for node in graph.nodes if node.op in _CUTS for index in node.outputs}
    refused = {}
    for node in graph.nodes:
        cuts = [cut_by[index] for index in set(node.inputs) if index in cut_by]
        if len(set(cuts)) < len(cuts):
            refused[node.index] = PARTS_MEET
        elif read_on & set(node.outputs):
            refused[node.index] = READ_ON
    return refused
