"""What the GPU accelerator gets wrong where nodes meet, though it takes each of them alone.

ai-edge-litert 2.3.0 merges nodes, and in these cases not as it should: it compiles the model, runs it, and
gives other numbers than the CPU, or it fails. They were found with some thousand random models of up to ten
nodes; the kit's own models have none of them.

    SPLIT x -> a, b                   reads b twice, or fails;        MUL -> m (an output), CONV m -> y
    TANH a -> c;  ADD c, b -> y       CONCATENATION a, b the same     never writes m
    PAD x -> a;  PAD x -> b;  ADD a, b -> y                           aborts
"""

from __future__ import annotations

from mobilebert_kit.delegates.tflite_file import ABSENT, Subgraph

READ_ON = (
    "It is an output of the model that another node reads: merged with that node, it is never written. Give "
    "the model a copy as its output."
)
PARTS_MEET = (
    "Two parts of one SPLIT, SPLIT_V or UNPACK meet here: merged with that node, one of them is read twice."
)
MANY_PARTS = (
    "More parts of SPLIT, SPLIT_V and UNPACK meet here than this checker follows: it may be merged wrongly."
)
MAX_PARTS = 8  # else a chain of SPLITs would be remembered whole for each of its nodes
PADDED_TWICE = "It adds a tensor padded in two ways: the accelerator aborts."
_PADS = ("PAD", "PADV2")
_CUTS = ("SPLIT", "SPLIT_V", "UNPACK")
# Never merged with what is before: parts may go in, and what comes out is no part. Others pass parts on.
_SEPARATE = frozenset(
    {
        "BATCH_MATMUL",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "GATHER",
        "MEAN",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "REDUCE_PROD",
        "SOFTMAX",
        "SUM",
    }
)


def refused_together(graph: Subgraph) -> dict[int, str]:
    """Why, by node index, of the nodes that must be refused for what is around them."""
    read = {index for node in graph.nodes for index in node.inputs if index != ABSENT}
    read_on = read & set(graph.outputs)
    refused = {node.index: READ_ON for node in graph.nodes if read_on & set(node.outputs)}
    padded = {node.outputs[0]: node.inputs[:1] for node in graph.nodes if node.op in _PADS and node.outputs}
    # Of each tensor, the parts it is made of: the node that cut, and which of its outputs.
    parts: dict[int, frozenset[tuple[int, int]]] = {}
    for node in graph.nodes:
        if node.op in _SEPARATE:
            continue
        sources = {parts[index] for index in node.inputs if parts.get(index)}
        given = sources.pop() if len(sources) == 1 else frozenset().union(*sources)
        if len({cut for cut, _ in given}) < len(given):
            refused[node.index] = PARTS_MEET
        elif len(given) > MAX_PARTS:
            refused[node.index] = MANY_PARTS
        if len(given) > MAX_PARTS:
            given = frozenset()  # refused: nothing is merged across it
        pads = [padded[index] for index in set(node.inputs) if index in padded]
        if len(set(pads)) < len(pads):
            refused[node.index] = PADDED_TWICE
        for place, index in enumerate(node.outputs):
            if index != ABSENT:
                parts[index] = given | {(node.index, place)} if node.op in _CUTS else given
    return refused
