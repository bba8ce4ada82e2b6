"""Writes .tflite files of one op, or a few, with the schema code that ai-edge-litert ships.

An independent writer for the reader's and the checker's tests: it makes nodes that no converter makes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

OP_CODES = {name: value for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
TYPE_CODES = {name.lower(): v for name, v in vars(schema.TensorType).items() if isinstance(v, int)}


@dataclass
class Operand:
    """A tensor to be; `data` makes it a constant. `scales` and `zero_points` as in the file."""

    dtype: str = "float32"
    shape: tuple[int, ...] = (1, 4)
    data: object = None
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] | None = None
    quantized_dimension: int = 0
    name: str = ""


@dataclass
class Op:
    """A node to be: operands by their place in the model's list of tensors, -1 for a missing one."""

    op: str
    inputs: list[int]
    outputs: list[int]
    version: int = 1
    options: object = None  # an OptionsT of the schema
    code: int | None = None  # instead of the code of `op`
    custom_code: str | None = None


@dataclass
class Graph:
    operands: list[Operand]
    ops: list[Op]
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)


def one_op(
    op: str,
    inputs: list[Operand | None],
    outputs: list[Operand],
    *,
    version: int = 1,
    options: object = None,
    **more: object,
) -> Graph:
    """A model of one op; None among the inputs for a missing operand."""
    operands = [operand for operand in inputs if operand is not None] + outputs
    places, taken = [], 0
    for operand in inputs:
        places.append(-1 if operand is None else taken)
        taken += operand is not None
    node = Op(op, places, list(range(taken, len(operands))), version, options, **more)
    return Graph(operands, [node])


def to_bytes(graph: Graph) -> bytes:
    model = schema.ModelT()
    model.version, model.description = 3, "a test"
    model.buffers, model.operatorCodes = [schema.BufferT()], []
    model.buffers[0].data = None
    subgraph = schema.SubGraphT()
    subgraph.name = b"main"
    subgraph.tensors = [_tensor(operand, i, model.buffers) for i, operand in enumerate(graph.operands)]
    subgraph.operators = [_operator(op, model.operatorCodes) for op in graph.ops]
    made = {i for op in graph.ops for i in op.outputs}
    free = [i for i, operand in enumerate(graph.operands) if operand.data is None and i not in made]
    subgraph.inputs, subgraph.outputs = graph.inputs or free, graph.outputs or sorted(made)
    model.subgraphs = [subgraph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def write(path: Path, graph: Graph) -> Path:
    path.write_bytes(to_bytes(graph))
    return path


def _tensor(operand: Operand, index: int, buffers: list) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name = (operand.name or f"t{index}").encode()
    tensor.type, tensor.shape, tensor.buffer = TYPE_CODES[operand.dtype], list(operand.shape), 0
    if operand.data is not None:
        buffer = schema.BufferT()
        values = np.broadcast_to(np.asarray(operand.data, operand.dtype), operand.shape)
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        tensor.buffer = len(buffers)
        buffers.append(buffer)
    if operand.scales:
        quantization = schema.QuantizationParametersT()
        quantization.scale = list(operand.scales)
        zero_points = operand.zero_points if operand.zero_points is not None else (0,) * len(operand.scales)
        quantization.zeroPoint = list(zero_points)
        quantization.quantizedDimension = operand.quantized_dimension
        tensor.quantization = quantization
    return tensor


def _operator(op: Op, codes: list) -> schema.OperatorT:
    code = schema.OperatorCodeT()
    code.builtinCode = OP_CODES[op.op] if op.code is None else op.code
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version, code.customCode = op.version, op.custom_code
    operator = schema.OperatorT()
    operator.opcodeIndex = len(codes)
    codes.append(code)
    operator.inputs, operator.outputs = list(op.inputs), list(op.outputs)
    if op.options is not None:
        name = type(op.options).__name__.removesuffix("T")
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        operator.builtinOptions = op.options
    return operator


def options(name: str, **values: object) -> object:
    """An OptionsT of the schema with some fields set: options("GatherOptions", batchDims=1)."""
    made = getattr(schema, name + "T")()
    for key, value in values.items():
        if not hasattr(made, key):
            raise AttributeError(f"{name} has no field {key}")
        setattr(made, key, value)
    return made


def with_(operand: Operand, **changes: object) -> Operand:
    return dataclasses.replace(operand, **changes)


def constant(values: list[int], dtype: str = "int32") -> Operand:
    return Operand(dtype, (len(values),), values)


# Operands that the tests of the rules are written with.
F32 = Operand("float32", (1, 4))
I32 = Operand("int32", (1, 4))
I64 = Operand("int64", (1, 4))
I8 = Operand("int8", (1, 4), None, (0.5,), (3,))
U8 = Operand("uint8", (1, 4), None, (0.5,), (3,))
PROBABILITY = Operand("int8", (1, 4), None, (1 / 256,), (-128,))
IDS = Operand("int32", (1, 8))
AXIS = Operand("int32", (), 1)


RANK_5 = with_(F32, shape=(1, 1, 1, 1, 4))
TABLE = Operand("int8", (10, 4), 1, (0.5,), (3,))
IMAGE = Operand("int8", (1, 1, 8, 4), None, (0.5,), (3,))
KERNEL = Operand("int8", (2, 1, 1, 4), 1, (0.1, 0.2), (0, 0), 0)
BIAS = Operand("int32", (2,), 0, (0.05, 0.1), (0, 0), 0)
MAP = Operand("int8", (1, 1, 8, 2), None, (0.5,), (3,))
CONV = options("Conv2DOptions", dilationWFactor=1, dilationHFactor=1)
DILATED = options("Conv2DOptions", dilationWFactor=2, dilationHFactor=1)
ROWS = Operand("int8", (8, 4), None, (0.5,), (3,))
RUNTIME_WEIGHTS = Operand("int8", (2, 4), None, (0.25,), (-7,))
ZERO_BIAS = Operand("int32", (2,), 0, (0.125,), (0,))
PRODUCT = Operand("int8", (8, 2), None, (0.5,), (3,))
FLOAT_RELU = options("AddOptions", fusedActivationFunction=1)
