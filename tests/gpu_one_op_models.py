"""The models of one op, some of a few, on which the GPU checker is held against the accelerator: `MODELS`.

Every op of a naive BERT or MobileBERT graph and of the forms that replace it, taken and refused. The name of
a model is its op and what is particular to it; docs/gpu_disagreements.md lists some of them by that name.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from gpu_merged_models import merged
from gpu_one_op_layouts import layouts, tables
from gpu_operands import CONV, MAP, conv, dense, ended, fixed, given, int8, matmul, twice
from one_op_model import Graph, Op, Operand, constant, one_op, options


def pairs() -> Iterator[tuple[str, Graph]]:
    """ADD, MUL and their like: how operands broadcast, which constants, one tensor twice."""
    opts = {"ADD": "AddOptions", "MUL": "MulOptions", "SUB": "SubOptions", "DIV": "DivOptions"}
    forms = {
        "of one shape": (given(*MAP), given(*MAP)),
        "mask [1,1,1,S] beside [1,4,S,S]": (given(1, 4, 6, 6), given(1, 1, 1, 6)),
        "outer product": (given(1, 6, 1), given(1, 1, 6)),
        "by a scalar": (given(*MAP), fixed()),
        "by a vector": (given(*MAP), fixed(8)),
        "by a constant [1,1,1,C]": (given(*MAP), fixed(1, 1, 1, 8)),
        "of rank 2 by a constant matrix": (given(6, 8), fixed(6, 8)),
        "of two batches by a constant": (given(2, 6, 8), fixed(2, 6, 8)),
        "by a larger constant": (given(1, 1, 1, 8), fixed(*MAP)),
        "by a computed vector": (given(*MAP), given(8)),
        "by a computed scalar": (given(*MAP), given()),
        "of rank 5": (given(1, 1, 2, 3, 4), given(1, 1, 2, 3, 4)),
    }
    for op in ("ADD", "MUL"):
        for form, (a, b) in forms.items():
            out = given(*np.broadcast_shapes(a.shape, b.shape))
            yield f"{op} {form}", one_op(op, [a, b], [out], options=options(opts[op]))
        yield f"{op} of one tensor twice", twice(op, given(*MAP), given(*MAP), options(opts[op]))
    for op in ("SUB", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"):
        made = options(opts.get(op, "MaximumMinimumOptions" if "IMUM" in op else "SquaredDifferenceOptions"))
        yield f"{op} of one shape", one_op(op, [given(*MAP), given(*MAP)], [given(*MAP)], options=made)
        yield f"{op} by a scalar", one_op(op, [given(*MAP), fixed()], [given(*MAP)], options=made)
        yield f"{op} of one tensor twice", twice(op, given(*MAP), given(*MAP), made)
    yield "SUB of a scalar and a tensor", one_op("SUB", [fixed(), given(*MAP)], [given(*MAP)])
    for name, number in (("RELU", 1), ("RELU6", 3), ("TANH", 4)):
        fused = options("AddOptions", fusedActivationFunction=number)
        yield f"ADD with {name}", one_op("ADD", [given(*MAP), given(*MAP)], [given(*MAP)], options=fused)
    whole = given(*MAP, dtype="int32")
    yield "ADD of int32", one_op("ADD", [whole, whole], [whole], options=options("AddOptions"))
    whole = given(*MAP, dtype="int64")
    yield "ADD of int64", one_op("ADD", [whole, whole], [whole], options=options("AddOptions"), version=4)
    yield (
        "ADD of int8",
        one_op("ADD", [int8(*MAP), int8(*MAP)], [int8(*MAP)], options=options("AddOptions"), version=2),
    )
    yield (
        "MUL of version 4",
        one_op("MUL", [given(*MAP)] * 2, [given(*MAP)], options=options("MulOptions"), version=4),
    )
    for exponent in (2.0, 3.0, 0.5, 5.0):
        made = [given(*MAP), Operand("float32", (), exponent)]
        yield f"POW {exponent:g}", one_op("POW", made, [given(*MAP)], options=options("PowOptions"))
    made = Graph(
        [given(*MAP), fixed(), given(*MAP, dtype="bool"), given(*MAP)],
        [Op("GREATER", [0, 1], [2]), Op("CAST", [2], [3], options=options("CastOptions"))],
    )
    yield "GREATER and CAST of its bool", made


def single() -> Iterator[tuple[str, Graph]]:
    """Ops of one tensor, reductions, SOFTMAX."""
    for op in ("ABS", "EXP", "LOGISTIC", "NEG", "RELU", "RELU6", "SQUARE", "TANH", "HARD_SWISH"):
        yield op, one_op(op, [given(*MAP)], [given(*MAP)])
    # RSQRT and SQRT of what cannot be negative: both have no number there.
    for op in ("RSQRT", "SQRT"):
        nodes = [Op("SQUARE", [0], [1]), Op(op, [1], [2])]
        yield f"{op} of a square", Graph([given(*MAP), given(*MAP), given(*MAP)], nodes)
    yield "TANH of a constant", one_op("TANH", [fixed(*MAP)], [given(*MAP)])
    yield "TANH of rank 5", one_op("TANH", [given(1, 1, 2, 3, 4)], [given(1, 1, 2, 3, 4)])
    yield (
        "TANH of int8",
        one_op("TANH", [int8(*MAP)], [Operand("int8", MAP, None, (1 / 128,), (0,))], version=2),
    )
    yield "TANH of a scalar", one_op("TANH", [given()], [given()])
    yield "TANH of version 3", one_op("TANH", [given(*MAP)], [given(*MAP)], version=3)
    for exact in (True, False):
        made = options("GeluOptions", approximate=not exact)
        yield (
            f"GELU {'exact' if exact else 'by tanh'}",
            one_op("GELU", [given(*MAP)], [given(*MAP)], options=made),
        )
    for op in ("MEAN", "SUM", "REDUCE_MAX"):
        for keep in (True, False):
            out = given(1, 4, 6, 1) if keep else given(1, 4, 6)
            made = options("ReducerOptions", keepDims=keep)
            name = f"{op} over the last axis{', kept' if keep else ''}"
            yield name, one_op(op, [given(*MAP), constant([3])], [out], options=made)
    made = options("ReducerOptions", keepDims=True)
    yield "MEAN of rank 3", one_op("MEAN", [given(1, 6, 8), constant([-1])], [given(1, 6, 1)], options=made)
    yield (
        "MEAN of rank 5",
        one_op("MEAN", [given(1, 1, 2, 3, 4), constant([4])], [given(1, 1, 2, 3, 1)], options=made),
    )
    for shape in ((1, 4, 6, 6), (1, 6, 8), (6, 8), (8,)):
        made = options("SoftmaxOptions", beta=1.0)
        yield (
            f"SOFTMAX of rank {len(shape)}",
            one_op("SOFTMAX", [given(*shape)], [given(*shape)], options=made),
        )
    made = options("SoftmaxOptions", beta=0.5)
    yield "SOFTMAX with beta 0.5", one_op("SOFTMAX", [given(6, 8)], [given(6, 8)], options=made)
    yield (
        "LOG_SOFTMAX",
        one_op("LOG_SOFTMAX", [given(6, 8)], [given(6, 8)], options=options("LogSoftmaxOptions")),
    )


def products() -> Iterator[tuple[str, Graph]]:
    """CONV_2D, FULLY_CONNECTED, BATCH_MATMUL."""
    row, kernel, bias = (1, 1, 6, 8), fixed(16, 1, 1, 8), fixed(16)
    yield "CONV_2D 1x1", conv(kernel, bias, row)
    yield "CONV_2D 1x3 SAME", conv(fixed(16, 1, 3, 8), bias, row, padding=0)
    yield "CONV_2D 1x1 with RELU", conv(kernel, bias, row, fusedActivationFunction=1)
    yield "CONV_2D 1x1 with TANH", conv(kernel, bias, row, fusedActivationFunction=4)
    yield "CONV_2D of computed weights", conv(given(16, 1, 1, 8), bias, row)
    yield "CONV_2D with a computed bias", conv(kernel, given(16), row)
    yield "CONV_2D in three groups", conv(fixed(6, 1, 1, 3), fixed(6), (1, 1, 6, 9))
    quantized = Operand("int8", (16, 1, 1, 8), 3, (0.01,) * 16, (0,) * 16)
    yield (
        "CONV_2D of int8 weights",
        one_op(
            "CONV_2D",
            [given(*row), quantized, bias],
            [given(1, 1, 6, 16)],
            version=5,
            options=options("Conv2DOptions", **CONV),
        ),
    )
    weights = fixed(16, 8)
    yield "FULLY_CONNECTED 2-D", dense([given(6, 8), weights, bias], 6, 16)
    yield "FULLY_CONNECTED 2-D without bias", dense([given(6, 8), weights, None], 6, 16)
    yield "FULLY_CONNECTED 3-D", dense([given(1, 6, 8), weights, bias], 6, 16)
    yield "FULLY_CONNECTED 3-D, kept", dense([given(1, 6, 8), weights, bias], 1, 6, 16, keepNumDims=True)
    yield "FULLY_CONNECTED of rank 5", dense([given(1, 1, 1, 6, 8), weights, bias], 6, 16)
    yield "FULLY_CONNECTED that folds rows", dense([given(2, 4), weights, bias], 1, 16)
    yield "FULLY_CONNECTED of computed weights", dense([given(6, 8), given(16, 8), None], 6, 16)
    yield "FULLY_CONNECTED of computed weights with bias", dense([given(6, 8), given(16, 8), bias], 6, 16)
    yield "FULLY_CONNECTED with a computed bias", dense([given(6, 8), weights, given(16)], 6, 16)
    yield "FULLY_CONNECTED of version 10", dense([given(6, 8), weights, bias], 6, 16, version=10)
    yield (
        "FULLY_CONNECTED of int8 weights",
        dense([given(6, 8), Operand("int8", (16, 8), 3, (0.02,), (0,)), bias], 6, 16, version=3),
    )
    made = options("FullyConnectedOptions")
    yield "FULLY_CONNECTED of one tensor twice", twice("FULLY_CONNECTED", given(6, 6), given(6, 6), made)
    query, key = given(1, 4, 6, 8), given(1, 4, 8, 5)
    yield "BATCH_MATMUL [1,4,M,K] by [1,4,K,N]", matmul(query, key, 1, 4, 6, 5)
    yield "BATCH_MATMUL [1,4,M,K] by [1,4,N,K]", matmul(query, given(1, 4, 5, 8), 1, 4, 6, 5, adjY=True)
    yield "BATCH_MATMUL [4,M,K] by [4,K,N]", matmul(given(4, 6, 8), given(4, 8, 5), 4, 6, 5)
    yield "BATCH_MATMUL by a constant matrix", matmul(query, fixed(8, 5), 1, 4, 6, 5)
    yield "BATCH_MATMUL by a transposed constant", matmul(query, fixed(5, 8), 1, 4, 6, 5, adjY=True)
    yield "BATCH_MATMUL by a constant of rank 4", matmul(query, fixed(1, 4, 8, 5), 1, 4, 6, 5)
    yield "BATCH_MATMUL of a constant", matmul(fixed(1, 4, 6, 8), key, 1, 4, 6, 5)
    yield "BATCH_MATMUL with one batch for four", matmul(query, given(1, 1, 8, 5), 1, 4, 6, 5)
    yield "BATCH_MATMUL of ranks 4 and 3", matmul(query, given(4, 8, 5), 1, 4, 6, 5)
    yield "BATCH_MATMUL of rank 5", matmul(given(1, 1, 4, 6, 8), given(1, 1, 4, 8, 5), 1, 1, 4, 6, 5)
    made = options("BatchMatMulOptions")
    yield (
        "BATCH_MATMUL of one tensor twice",
        twice("BATCH_MATMUL", given(1, 4, 6, 6), given(1, 4, 6, 6), made),
    )


FAMILIES = (pairs, single, products, tables, layouts, merged)
MODELS: dict[str, Graph] = {name: ended(graph) for family in FAMILIES for name, graph in family()}
