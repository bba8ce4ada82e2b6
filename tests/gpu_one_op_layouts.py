"""Models of the ops that look up, convert, move, cut or join: a part of gpu_one_op_models.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from gpu_operands import CONV, MAP, cast, fixed, gather, given, half, int8, reshape, twice
from one_op_model import Graph, Op, Operand, constant, one_op, options


def tables() -> Iterator[tuple[str, Graph]]:
    """GATHER, its relatives, and types."""
    table, ids = fixed(10, 8), given(6, dtype="int32")
    wide = [given(1, 6, dtype="int32"), given(1, 6, 8)]
    yield "GATHER of a constant table", gather(table, ids, given(6, 8))
    yield "GATHER along axis 2 of [1,1,V,C]", gather(fixed(1, 1, 10, 8), ids, given(1, 1, 6, 8), axis=2)
    yield "GATHER of a computed table", gather(given(10, 8), constant([1, 2, 3]), given(3, 8))
    yield "GATHER with ids [1,S]", gather(table, *wide)
    yield "GATHER with ids of int64", gather(table, given(6, dtype="int64"), given(6, 8))
    yield "GATHER of int32", gather(constant([5, 6, 7]), ids, given(6, dtype="int32"))
    yield "GATHER of int8", gather(int8(10, 8, data=7), ids, int8(6, 8), version=2)
    yield "GATHER of version 2", gather(table, ids, given(6, 8), version=2)
    rows, made = given(6, 8, dtype="float16"), options("GatherOptions")
    nodes = [Op("GATHER", [0, 1], [2], options=made), Op("CAST", [2], [3], options=options("CastOptions"))]
    yield "GATHER of float16 and CAST", Graph([fixed(10, 8, dtype="float16"), ids, rows, given(6, 8)], nodes)
    yield "GATHER of a dequantized float16", half("GATHER", (10, 8), [ids], given(6, 8), [1, 2], options=made)
    yield "EMBEDDING_LOOKUP", one_op("EMBEDDING_LOOKUP", [ids, table], [given(6, 8)])
    values = [Operand("int32", (), 4), Operand("float32", (), 1.0), Operand("float32", (), 0.0)]
    for shape in ((1, 6), (6, 2)):
        one_hot = [given(*shape, dtype="int32"), *values]
        yield (
            f"ONE_HOT of {list(shape)}",
            one_op("ONE_HOT", one_hot, [given(*shape, 4)], options=options("OneHotOptions", axis=-1)),
        )
    for pair in (
        "int32 float32",
        "float32 int32",
        "bool float32",
        "int64 float32",
        "int32 int64",
        "int32 bool",
    ):
        yield f"CAST {pair.replace(' ', ' to ')}", cast(*pair.split(), 1, 8)
    yield "CAST of rank 5", cast("int32", "float32", 1, 1, 1, 1, 8)
    flag = given(*MAP, dtype="bool")
    yield "SELECT_V2", one_op("SELECT_V2", [flag, given(*MAP), given(*MAP)], [given(*MAP)])
    yield "SELECT_V2 with a scalar", one_op("SELECT_V2", [flag, given(*MAP), fixed()], [given(*MAP)])
    narrow = given(1, 1, 1, 8, dtype="bool")
    yield "SELECT_V2 of a broadcast mask", one_op("SELECT_V2", [narrow, given(*MAP), fixed()], [given(*MAP)])
    yield (
        "SELECT_V2 of a broadcast value",
        one_op("SELECT_V2", [flag, given(*MAP), given(1, 1, 1, 8)], [given(*MAP)]),
    )
    yield "DEQUANTIZE of int8", one_op("DEQUANTIZE", [int8(*MAP)], [given(*MAP)], version=2)
    yield "QUANTIZE to int8", one_op("QUANTIZE", [given(*MAP)], [int8(*MAP)])
    yield (
        "DEQUANTIZE of computed float16",
        one_op("DEQUANTIZE", [given(*MAP, dtype="float16")], [given(*MAP)], version=3),
    )
    yield (
        "DEQUANTIZE of a float16 that is an output",
        one_op("DEQUANTIZE", [fixed(*MAP, dtype="float16")], [given(*MAP)], version=3),
    )
    made = options("Conv2DOptions", **CONV)
    inputs, out = [given(1, 1, 6, 8), fixed(16)], given(1, 1, 6, 16)
    yield "CONV_2D of float16 weights", half("CONV_2D", (16, 1, 1, 8), inputs, out, [2, 1, 3], options=made)
    yield (
        "CONV_2D with a float16 bias",
        half("CONV_2D", (16,), [inputs[0], fixed(16, 1, 1, 8)], out, [2, 3, 1], options=made),
    )
    yield (
        "ADD of a float16 vector",
        half("ADD", (8,), [given(*MAP)], given(*MAP), [2, 1], options=options("AddOptions")),
    )
    made = options("FullyConnectedOptions")
    yield (
        "FULLY_CONNECTED of float16 weights",
        half("FULLY_CONNECTED", (16, 8), [given(6, 8)], given(6, 16), [2, 1, -1], options=made),
    )


def layouts() -> Iterator[tuple[str, Graph]]:
    """RESHAPE, TRANSPOSE, and the ops that cut, join and pad."""
    yield "RESHAPE of ids [1,S] to [S]", reshape((1, 384), (384,), "int32")
    yield "RESHAPE of rank 4 to 2", reshape((1, 1, 6, 8), (6, 8))
    yield "RESHAPE of rank 3 to 4", reshape((1, 6, 8), (1, 6, 4, 2))
    yield "RESHAPE to rank 5", reshape((1, 6, 8), (1, 1, 1, 6, 8))
    yield "RESHAPE of int64", reshape((1, 6), (6,), "int64")
    yield "RESHAPE of bool", reshape((1, 6), (6,), "bool")
    yield (
        "SQUEEZE",
        one_op(
            "SQUEEZE", [given(1, 6, 8)], [given(6, 8)], options=options("SqueezeOptions", squeezeDims=[0])
        ),
    )
    yield "EXPAND_DIMS", one_op("EXPAND_DIMS", [given(6, 8), constant([0])], [given(1, 6, 8)])
    for axes in ((0, 2, 1, 3), (0, 1, 3, 2), (0, 2, 1), (1, 0), (0, 2, 1, -1)):
        shape = (1, 3, 4, 5)[-len(axes) :]
        out = given(*(shape[axis] for axis in axes))
        yield f"TRANSPOSE {list(axes)}", one_op("TRANSPOSE", [given(*shape), constant(list(axes))], [out])
    swap = [given(*MAP, dtype="int32"), constant([0, 2, 1, 3])]
    yield "TRANSPOSE of int32", one_op("TRANSPOSE", swap, [given(1, 6, 4, 8, dtype="int32")])
    for begin, size in (((0, 0, 0, 1), (1, 1, 6, 1)), ((0, 2, 3), (1, 2, -1)), ((1, 2), (2, 3))):
        shape = {4: (1, 1, 6, 2), 3: (1, 6, 8), 2: (6, 8)}[len(begin)]
        out = [n - b if s == -1 else s for n, b, s in zip(shape, begin, size, strict=True)]
        operands = [given(*shape), constant(list(begin)), constant(list(size))]
        yield f"SLICE of rank {len(begin)}", one_op("SLICE", operands, [given(*out)])
    yield from _strided_slices()
    yield from _splits()
    for rank, pads in (
        (4, (0, 0, 0, 0, 1, 0, 0, 0)),
        (3, (0, 0, 1, 0, 0, 0)),
        (2, (1, 0, 0, 0)),
        (4, (1, 0) + (0,) * 6),
    ):
        shape = (1, 1, 6, 8)[-rank:]
        table = Operand("int32", (rank, 2), np.array(pads).reshape(rank, 2))
        out = given(*(n + sum(pads[2 * i : 2 * i + 2]) for i, n in enumerate(shape)))
        yield (
            f"PAD of rank {rank}{' along the batch' if pads[0] and rank == 4 else ''}",
            one_op("PAD", [given(*shape), table], [out]),
        )
    row, out = given(1, 1, 6, 8), given(1, 1, 6, 16)
    for name, fused in (("along channels", 0), ("with a fused RELU", 1)):
        made = options("ConcatenationOptions", axis=3, fusedActivationFunction=fused)
        yield f"CONCATENATION {name}", one_op("CONCATENATION", [row, row], [out], options=made)
    made = options("ConcatenationOptions", axis=3)
    yield "CONCATENATION of one tensor twice", twice("CONCATENATION", row, out, made)
    yield "CONCATENATION of one input", one_op("CONCATENATION", [row], [row], options=made)
    yield (
        "CONCATENATION with a constant",
        one_op("CONCATENATION", [row, fixed(1, 1, 6, 8)], [out], options=made),
    )
    made = options("ConcatenationOptions", axis=1)
    yield (
        "CONCATENATION with a constant of rank 3",
        one_op("CONCATENATION", [given(1, 6, 8), fixed(1, 1, 8)], [given(1, 7, 8)], options=made),
    )
    five = given(1, 1, 1, 6, 8)
    made = options("ConcatenationOptions", axis=4)
    yield (
        "CONCATENATION of rank 5",
        one_op("CONCATENATION", [five, five], [given(1, 1, 1, 6, 16)], options=made),
    )


def _strided_slices() -> Iterator[tuple[str, Graph]]:
    cls = [constant(values) for values in ([0, 0, 0], [1, 1, 8], [1, 1, 1])]
    yield (
        "STRIDED_SLICE of rank 3",
        one_op(
            "STRIDED_SLICE", [given(1, 6, 8), *cls], [given(1, 1, 8)], options=options("StridedSliceOptions")
        ),
    )
    made = options("StridedSliceOptions", shrinkAxisMask=2)
    yield (
        "STRIDED_SLICE that shrinks an axis",
        one_op("STRIDED_SLICE", [given(1, 6, 8), *cls], [given(1, 8)], options=made),
    )
    made = options("StridedSliceOptions", newAxisMask=2)
    new = [constant(values) for values in ([0, 0, 0], [1, 1, 8], [1, 1, 1])]
    yield (
        "STRIDED_SLICE with a new axis",
        one_op("STRIDED_SLICE", [given(1, 8), *new], [given(1, 1, 8)], options=made),
    )
    flat = [constant(values) for values in ([1, 2], [3, 7], [1, 1])]
    yield (
        "STRIDED_SLICE of rank 2",
        one_op("STRIDED_SLICE", [given(6, 8), *flat], [given(2, 5)], options=options("StridedSliceOptions")),
    )
    beyond = [constant(values) for values in ([0, 0, 0], [1, 99, 8], [1, 1, 1])]
    yield (
        "STRIDED_SLICE beyond the end",
        one_op(
            "STRIDED_SLICE",
            [given(1, 6, 8), *beyond],
            [given(1, 6, 8)],
            options=options("StridedSliceOptions"),
        ),
    )


def _splits() -> Iterator[tuple[str, Graph]]:
    for name, shape, axis in (
        ("channels", (1, 1, 6, 2), 3),
        ("rank 2", (6, 8), 1),
        ("rank 5", (1, 1, 1, 6, 8), 4),
    ):
        out = list(shape)
        out[axis] //= 2
        at = Operand("int32", (), axis)
        made = options("SplitOptions", numSplits=2)
        yield (
            f"SPLIT of {name}",
            one_op("SPLIT", [at, given(*shape)], [given(*out), given(*out)], options=made),
        )
    at = Operand("int32", (), 3)
    yield (
        "SPLIT into one",
        one_op("SPLIT", [at, given(*MAP)], [given(*MAP)], options=options("SplitOptions", numSplits=1)),
    )
    for sizes in ([3, 5], [8, 0]):
        parts = [given(1, 4, 6, size) for size in sizes]
        made = options("SplitVOptions", numSplits=2)
        yield (
            f"SPLIT_V into {sizes}",
            one_op("SPLIT_V", [given(*MAP), constant(sizes), at], parts, options=made),
        )
    made = options("PackOptions", valuesCount=2, axis=2)
    yield "PACK of rank 2", one_op("PACK", [given(1, 6), given(1, 6)], [given(1, 6, 2)], options=made)
    yield "PACK of a constant", one_op("PACK", [given(1, 6), fixed(1, 6)], [given(1, 6, 2)], options=made)
    made = options("PackOptions", valuesCount=2, axis=1)
    yield "PACK of one tensor twice", twice("PACK", given(1, 6), given(1, 2, 6), made)
    yield "PACK to rank 5", one_op("PACK", [given(*MAP), given(*MAP)], [given(1, 2, 4, 6, 8)], options=made)
    made = options("UnpackOptions", num=2, axis=2)
    yield "UNPACK of rank 3", one_op("UNPACK", [given(1, 6, 2)], [given(1, 6), given(1, 6)], options=made)
    whole = given(1, 6, dtype="int32")
    yield "UNPACK of int32", one_op("UNPACK", [given(1, 6, 2, dtype="int32")], [whole, whole], options=made)
    made = options("UnpackOptions", num=2, axis=4)
    yield "UNPACK of rank 5", one_op("UNPACK", [given(1, 1, 1, 6, 2)], [given(1, 1, 1, 6)] * 2, options=made)
