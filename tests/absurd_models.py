"""Files without a fault whose one node makes no sense: what a checker must still have an answer to."""

from __future__ import annotations

import random
from math import prod

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from one_op_model import Graph, Op, Operand, one_op, options, with_

from mobilebert_kit.delegates.tflite_schema import DTYPES, OP_NAMES, OPTIONS

# Constants are written by numpy, which lacks these.
NOT_WRITTEN = frozenset(
    {"string", "resource", "variant", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int2", "int4", "uint4"}
)
TYPES = ("float32", "float32", "float16", "int8", "int8", "uint8", "int32", "int32", *DTYPES)
SCALES = (0.5, 1.0, 1 / 256, 0.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e-45, 1e-38, 1e30, 3e38)
EXTREME_SCALES = (3e38, 1e-45, float("nan"), float("inf"))
VALUES = (0, 0, 1, 1, -1, 2, -2, 3, 4, 8, -8, 100)


def _shape(rng: random.Random) -> tuple[int, ...]:
    if rng.random() < 0.1:
        return tuple(rng.choice((1, 2**15, 2**31 - 1)) for _ in range(rng.randint(0, 3)))
    return tuple(rng.choice((0, 1, 1, 2, 2, 3, 4)) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4, 5, 7))))


def _data(rng: random.Random, dtype: str, shape: tuple[int, ...]) -> np.ndarray | None:
    if dtype in NOT_WRITTEN or prod(shape) > 1000 or rng.random() < 0.4:
        return None
    return np.array([rng.choice(VALUES) for _ in range(prod(shape))]).astype(dtype).reshape(shape)


def _quantization(rng: random.Random) -> dict[str, object]:
    count = rng.choice((0, 1, 1, 1, 2, 4))
    return {
        "scales": tuple(rng.choice(SCALES) for _ in range(count)),
        "zero_points": tuple(
            rng.choice((0, 0, 3, -128, 2**40)) for _ in range(rng.choice((count, count, 1)))
        ),
        "quantized_dimension": rng.choice((0, 0, 1, 3, -1, 99)),
    }


def _operand(rng: random.Random) -> Operand:
    dtype, shape = rng.choice(TYPES), _shape(rng)
    return Operand(dtype, shape, _data(rng, dtype, shape), **_quantization(rng))


def absurd_node(rng: random.Random) -> Graph:
    """Any op of the schema with any operands and options."""
    op = rng.choice(sorted(OPTIONS) if rng.random() < 0.5 else OP_NAMES)
    operands = [_operand(rng) for _ in range(rng.randint(1, 7))]
    inputs = [rng.randrange(-1, len(operands)) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 3, 4, 5)))]
    computed = [i for i, operand in enumerate(operands) if operand.data is None and i not in inputs]
    outputs = rng.sample(computed, rng.randint(0, min(2, len(computed))))
    node = Op(op, inputs, outputs, _version(rng), _options(rng, op))
    return Graph([*operands, Operand()], [node], [len(operands)], [len(operands)])


def spoiled(rng: random.Random, op: str, inputs: list[Operand | None], outputs: list[Operand]) -> Graph:
    """A node that makes sense, but for one or two things."""
    inputs, outputs = list(inputs), list(outputs)
    for _ in range(rng.randint(1, 2)):
        side = rng.choice((inputs, inputs, outputs))
        if not side:
            continue
        at = rng.randrange(len(side))
        side[at] = rng.choice((_spoil(rng, side[at]), None if side is inputs else side[at]))
    if rng.random() < 0.1:
        inputs = inputs[: rng.randrange(len(inputs) + 1)] or inputs + inputs
    return one_op(op, inputs, outputs, version=rng.choice((1, 2)), options=_options(rng, op))


def scaled(
    op: str, inputs: list[Operand | None], outputs: list[Operand], scale: float, options: object
) -> Graph:
    """A node that makes sense, but that every scale is `scale`: for products and quotients of extremes."""

    def change(operand: Operand | None) -> Operand | None:
        return operand and with_(operand, scales=(scale,) * len(operand.scales))

    return one_op(op, [*map(change, inputs)], [*map(change, outputs)], version=2, options=options)


def _spoil(rng: random.Random, operand: Operand | None) -> Operand:
    if operand is None:
        return _operand(rng)
    what = rng.choice(("values", "values", "shape", "type", "quantization", "quantization", "constant"))
    if what == "quantization":
        return with_(operand, **_quantization(rng))
    if what == "shape":
        shape = _shape(rng)
        constant = operand.data is not None
        return with_(operand, shape=shape, data=_data(rng, operand.dtype, shape) if constant else None)
    if what == "type":
        dtype = rng.choice(TYPES)
        data = None if operand.data is None else _data(rng, dtype, operand.shape)
        return with_(operand, dtype=dtype, data=data)
    if what == "constant" and operand.data is not None:
        return with_(operand, data=None)
    return with_(operand, data=_data(rng, operand.dtype, operand.shape))


def _version(rng: random.Random) -> int:
    return rng.choice((1, 1, 2, 3, 4, 5, 8, 20, -1))


def _options(rng: random.Random, op: str) -> object:
    if op not in OPTIONS or rng.random() < 0.2:
        return None
    names = {value: name for name, value in vars(schema.BuiltinOptions).items() if isinstance(value, int)}
    made = options(names[OPTIONS[op].union])
    for name, value in vars(made).items():
        if isinstance(value, bool):
            setattr(made, name, rng.random() < 0.5)
        elif name in ("fusedActivationFunction", "outputType", "padding"):
            setattr(made, name, rng.randint(0, 3))
        elif isinstance(value, int):
            setattr(made, name, rng.choice((*VALUES, 31, -100)))
        elif isinstance(value, float):
            setattr(made, name, rng.choice(SCALES))
        elif name in ("newShape", "squeezeDims"):
            setattr(made, name, [rng.choice(VALUES) for _ in range(rng.randrange(5))])
    return made
