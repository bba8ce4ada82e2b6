"""The operands and ops that the GPU checker's models are put together from."""

from __future__ import annotations

import numpy as np
from one_op_model import Graph, Op, Operand, constant, one_op, options

RANDOM = np.random.default_rng(20)
CONV = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
MAP = (1, 4, 6, 8)


def given(*shape: int, dtype: str = "float32") -> Operand:
    """A tensor that is computed, or that the model is given."""
    return Operand(dtype, shape)


def fixed(*shape: int, dtype: str = "float32") -> Operand:
    """A constant, none of it near 0."""
    return Operand(dtype, shape, np.sign(RANDOM.normal(size=shape)) * RANDOM.uniform(0.5, 1.5, shape))


def int8(*shape: int, data: object = None) -> Operand:
    return Operand("int8", shape, data, (0.05,), (3,))


def twice(op: str, operand: Operand, out: Operand, opts: object = None) -> Graph:
    """The op given one tensor as both its operands."""
    return Graph([operand, out], [Op(op, [0, 0], [1], options=opts)])


def half(
    op: str, weight: tuple[int, ...], inputs: list[Operand], out: Operand, order: list[int], **more: object
) -> Graph:
    """`op` on a float16 constant behind its DEQUANTIZE. order: its inputs, 1 for that, from 2 on `inputs`."""
    operands = [fixed(*weight, dtype="float16"), given(*weight), *inputs, out]
    nodes = [Op("DEQUANTIZE", [0], [1], 3), Op(op, order, [len(operands) - 1], **more)]
    return Graph(operands, nodes, outputs=[len(operands) - 1])


def conv(weights: Operand, bias: Operand | None, shape: tuple[int, ...], **more: object) -> Graph:
    out = given(*shape[:3], weights.shape[0])
    return one_op(
        "CONV_2D", [given(*shape), weights, bias], [out], options=options("Conv2DOptions", **CONV | more)
    )


def dense(inputs: list[Operand | None], *out: int, version: int = 1, **more: object) -> Graph:
    opts = options("FullyConnectedOptions", **more)
    return one_op("FULLY_CONNECTED", inputs, [given(*out)], version=version, options=opts)


def matmul(a: Operand, b: Operand, *out: int, **more: object) -> Graph:
    return one_op("BATCH_MATMUL", [a, b], [given(*out)], options=options("BatchMatMulOptions", **more))


def gather(table: Operand, ids: Operand, out: Operand, version: int = 1, **more: object) -> Graph:
    return one_op("GATHER", [table, ids], [out], version=version, options=options("GatherOptions", **more))


def reshape(shape: tuple[int, ...], new: tuple[int, ...], dtype: str = "float32") -> Graph:
    opts = options("ReshapeOptions", newShape=list(new))
    operands = [given(*shape, dtype=dtype), constant(list(new))]
    return one_op("RESHAPE", operands, [given(*new, dtype=dtype)], options=opts)


def cast(source: str, target: str, *shape: int) -> Graph:
    made = given(*shape, dtype=target)
    return one_op("CAST", [given(*shape, dtype=source)], [made], options=options("CastOptions"))


def ended(graph: Graph) -> Graph:
    """The graph with what no node reads as its outputs, where it has none yet."""
    read = {index for op in graph.ops for index in op.inputs}
    made = [index for op in graph.ops for index in op.outputs]
    graph.outputs = graph.outputs or [index for index in made if index not in read]
    return graph
