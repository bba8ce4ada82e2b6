"""Models of a few nodes that the GPU accelerator merges, rightly or not: a part of gpu_one_op_models.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from gpu_operands import CONV, MAP, fixed, given
from one_op_model import Graph, Op, Operand, constant, options

HALF = (1, 4, 6, 4)
AXIS = Operand("int32", (), 3)
SPLIT = Op("SPLIT", [1, 0], [2, 3], options=options("SplitOptions", numSplits=2))
DENSE = options("Conv2DOptions", **CONV)


def merged() -> Iterator[tuple[str, Graph]]:
    start = [given(*MAP), AXIS, given(*HALF), given(*HALF)]
    add = Graph([*start, given(*HALF)], [SPLIT, Op("ADD", [2, 3], [4])], [0], [4])
    yield "SPLIT and ADD of its parts", add
    relu = [SPLIT, Op("RELU", [2], [4]), Op("ADD", [3, 4], [5])]
    yield (
        "SPLIT and ADD of a part and RELU of the other",
        Graph([*start, given(*HALF), given(*HALF)], relu, [0], [5]),
    )
    joined = Op("CONCATENATION", [3, 2], [4], options=options("ConcatenationOptions", axis=2))
    yield (
        "SPLIT and CONCATENATION of its parts",
        Graph([*start, given(1, 4, 12, 4)], [SPLIT, joined], [0], [4]),
    )
    product = Op("BATCH_MATMUL", [2, 3], [4], options=options("BatchMatMulOptions", adjY=True))
    yield (
        "SPLIT and BATCH_MATMUL of its parts",
        Graph([*start, given(1, 4, 6, 6)], [SPLIT, product], [0], [4]),
    )
    each = [SPLIT, Op("RELU", [2], [4]), Op("TANH", [3], [5])]
    yield "SPLIT and an op on each part", Graph([*start, given(*HALF), given(*HALF)], each, [0], [4, 5])
    scaled = [given(*MAP), Operand("float32", (), 2.0), given(*MAP), fixed(8, 1, 1, 8), fixed(8), given(*MAP)]
    nodes = [Op("MUL", [0, 1], [2]), Op("CONV_2D", [2, 3, 4], [5], options=DENSE)]
    yield "MUL and CONV_2D", Graph(scaled, nodes, [0], [5])
    yield "MUL that is an output, and CONV_2D", Graph(scaled, nodes, [0], [2, 5])
    begin, size = constant([0, 0, 0, 0]), constant(list(MAP))
    nodes = [Op("SLICE", [0, 1, 2], [3]), Op("SUB", [0, 3], [4])]
    yield (
        "SLICE of everything, and SUB",
        Graph([given(*MAP), begin, size, given(*MAP), given(*MAP)], nodes, [0], [4]),
    )
    pads, wide = Operand("int32", (4, 2), np.array([[0, 0], [0, 0], [0, 0], [0, 8]])), (1, 4, 6, 16)
    nodes = [Op("PAD", [0, 1], [2]), Op("PAD", [0, 1], [3]), Op("ADD", [2, 3], [4])]
    yield "PAD twice, and ADD", Graph([given(*MAP), pads, *[given(*wide)] * 3], nodes, [0], [4])
    fill = Operand("float32", (), 3.0)
    nodes = [Op("PADV2", [0, 1, 2], [3]), Op("ADD", [3, 4], [5])]
    yield "PADV2 with 3, and ADD", Graph([given(*MAP), pads, fill, *[given(*wide)] * 3], nodes, [0, 4], [5])
    nodes = [Op("PAD", [0, 1], [2]), Op("ADD", [2, 3], [4])]
    yield "PAD and ADD", Graph([given(*MAP), pads, *[given(*wide)] * 3], nodes, [0, 3], [4])
