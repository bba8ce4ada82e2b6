"""Multiply-accumulates of each node, from the shapes in the file: what falls back to the CPU with it."""

from __future__ import annotations

from math import prod

from mobilebert_kit.delegates.tflite_file import ABSENT, Node, Subgraph


def macs(graph: Subgraph) -> tuple[int, ...]:
    """MACs of each node in order; 0 for an op that multiplies no matrices, and where a shape is missing.

    A dynamic dimension counts as the file states it, usually 1.
    """
    return tuple(_macs(node, graph) for node in graph.nodes)


def _macs(node: Node, graph: Subgraph) -> int:
    count = _COUNTS.get(node.op)
    shapes = [() if i == ABSENT else graph.tensors[i].shape for i in node.inputs]
    if count is None or not node.outputs or node.outputs[0] == ABSENT:
        return 0
    try:
        return count(shapes, graph.tensors[node.outputs[0]].shape, node)
    except IndexError:
        return 0


_COUNTS = {
    # output elements x what each sums over; weights are [out, height, width, in], [1, height, width, out]
    "CONV_2D": lambda shapes, out, _: prod(out) * prod(shapes[1][1:]),
    "DEPTHWISE_CONV_2D": lambda shapes, out, _: prod(out) * shapes[1][1] * shapes[1][2],
    "FULLY_CONNECTED": lambda shapes, out, _: prod(out) * shapes[1][-1],
    "BATCH_MATMUL": lambda shapes, out, node: prod(out) * shapes[0][-2 if node.options.get("adj_x") else -1],
    # each input element meets every tap: weights are [out, height, width, in], in2 is the image
    "TRANSPOSE_CONV": lambda shapes, out, _: prod(shapes[2]) * prod(shapes[1][:3]),
}
