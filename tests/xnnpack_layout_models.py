"""More of the models of xnnpack_one_op_models.py: ops that move or reduce data, and unpacked constants."""

from __future__ import annotations

from one_op_model import Graph, Op, Operand, constant, options
from xnnpack_one_op_models import (
    MODELS,
    NOT_A_SCALE,
    RANK_7,
    SCALES,
    add,
    axis,
    f16,
    f32,
    i8,
    i32,
    per_channel,
    u8,
    weights,
)

__all__ = ["MODELS"]
TYPES = {"f32": f32, "f16": f16, "int8": i8, "uint8": u8, "int32": i32}


def joined() -> None:
    def concatenate(name: str, inputs: list, out: Operand, version: int = 1, along: int = 1) -> None:
        add(f"CONCATENATION {name}", inputs, [out], version, "ConcatenationOptions", axis=along)

    for count in range(1, 7):
        concatenate(f"of {count}", [f32(1, 4)] * count, f32(1, 4 * count))
    for name, made in TYPES.items():
        concatenate(name, [made(1, 4)] * 2, made(1, 8), 2)
    concatenate("along -1", [f32(1, 4)] * 2, f32(1, 8), along=-1)
    concatenate("with a constant", [f32(1, 4), f32(1, 4, data=1)], f32(1, 8))
    concatenate("with nothing", [f32(1, 4), f32(1, 0)], f32(1, 4))
    concatenate("uint8 of two scales", [u8(1, 4), u8(1, 4, scale=0.25)], u8(1, 8))
    concatenate("rank 6", [f32(*RANK_7[1:])] * 2, f32(*RANK_7[1:-1], 8), along=5)
    concatenate("rank 7", [f32(*RANK_7)] * 2, f32(*RANK_7[:-1], 8), along=6)

    def split(name: str, inputs: list, outputs: list, version: int = 1) -> None:
        add(f"SPLIT {name}", inputs, outputs, version, "SplitOptions", numSplits=len(outputs))

    for count in range(1, 6):
        split(f"into {count}", [axis(1), f32(1, 60)], [f32(1, 60 // count)] * count)
    for name in ("f32", "int8", "uint8", "int32"):
        made = TYPES[name]
        split(name, [axis(1), made(1, 4)], [made(1, 2)] * 2, 3)
    split("along -1", [axis(-1), f32(1, 4)], [f32(1, 2)] * 2)
    split("axis in a vector", [constant([1]), f32(1, 4)], [f32(1, 2)] * 2)
    split("computed axis", [i32(), f32(1, 4)], [f32(1, 2)] * 2)
    split("int8 per channel", [axis(1), per_channel((1, 4), 1, None)], [i8(1, 2)] * 2, 2)
    split("int8 rescaled", [axis(1), i8(1, 4)], [i8(1, 2), i8(1, 2, scale=0.25)], 2)
    split("f32 to f16", [axis(1), f32(1, 4)], [f16(1, 2)] * 2)
    split("rank 7", [axis(6), f32(*RANK_7)], [f32(*RANK_7[:-1], 2)] * 2)
    parts = [f32(1, 1), f32(1, 3)]
    add("SPLIT_V", [f32(1, 4), constant([1, 3]), axis(1)], parts, 1, "SplitVOptions", numSplits=2)
    add("PACK", [f32(1, 4)] * 2, [f32(2, 1, 4)], 1, "PackOptions", valuesCount=2, axis=0)
    add("UNPACK", [f32(2, 4)], [f32(4)] * 2, 1, "UnpackOptions", num=2, axis=0)


def shaped() -> None:
    def reshape(name: str, inputs: list, out: Operand, **fields: object) -> None:
        add(f"RESHAPE {name}", inputs, [out], 1, "ReshapeOptions" if fields else "", **fields)

    for name, made in TYPES.items():
        reshape(name, [made(2, 4), constant([8])], made(8))
    reshape("by an option", [f32(2, 4)], f32(8), newShape=[8])
    reshape("by an option with -1", [f32(2, 4)], f32(4, 2), newShape=[4, -1])
    reshape("with -1", [f32(2, 4), constant([4, -1])], f32(4, 2))
    reshape("to -1 alone", [f32(2, 4), constant([-1])], f32(8))
    reshape("to a scalar", [f32(1, 1), Operand("int32", (0,), [])], f32())
    reshape("to a legacy scalar", [f32(1, 1)], f32(), newShape=[0])
    reshape("to no shape", [f32(1, 1)], f32())
    reshape("computed", [f32(2, 4), i32(1)], f32(8))
    reshape("int8 rescaled", [i8(2, 4), constant([8])], i8(8, scale=0.25))
    reshape("int8 to f32", [i8(2, 4), constant([8])], f32(8))
    reshape("int8 with no scale", [Operand("int8", (2, 4)), constant([8])], Operand("int8", (8,)))
    reshape("int8 per channel", [per_channel((2, 4), 0, None), constant([8])], i8(8))
    reshape("int8 along 1", [Operand("int8", (2, 4), None, (0.5,), (3,), 1), constant([8])], i8(8))
    reshape("int8 zero point 300", [i8(2, 4, zero=300), constant([8])], i8(8, zero=300))
    reshape("rank 7", [f32(*RANK_7), constant([8])], f32(8))
    reshape("to rank 7", [f32(8), constant(list(RANK_7))], f32(*RANK_7))
    reshape("of nothing", [f32(0, 4), constant([4, 0])], f32(4, 0))
    for name, scale in NOT_A_SCALE.items():
        reshape(f"int8 {name}", [i8(2, 4, scale=scale), constant([8])], i8(8, scale=scale))
    add("SQUEEZE", [f32(1, 4)], [f32(4)], 1, "SqueezeOptions", squeezeDims=[0])
    add("EXPAND_DIMS", [f32(1, 4), axis(0)], [f32(1, 1, 4)])
    for name, made in TYPES.items():
        add(f"TRANSPOSE {name}", [made(2, 4), constant([1, 0])], [made(4, 2)], 2)
    add("TRANSPOSE by -1", [f32(2, 4), constant([-1, 0])], [f32(4, 2)])
    add("TRANSPOSE rank 1", [f32(4), constant([0])], [f32(4)])
    add("TRANSPOSE rank 6", [f32(*RANK_7[1:]), constant([0, 1, 2, 3, 5, 4])], [f32(1, 1, 1, 1, 4, 2)], 6)
    add("TRANSPOSE a scalar", [f32(), Operand("int32", (0,), [])], [f32()])
    add("TRANSPOSE nothing", [f32(0, 4), constant([1, 0])], [f32(4, 0)])
    add("TRANSPOSE a constant", [f32(2, 4, data=1), constant([1, 0])], [f32(4, 2)])
    add("TRANSPOSE computed", [f32(2, 4), i32(2)], [f32(4, 2)])
    add("TRANSPOSE int8 per channel", [per_channel((2, 4), 0, None), constant([1, 0])], [i8(4, 2)], 2)
    add("TRANSPOSE int8 rescaled", [i8(2, 4), constant([1, 0])], [i8(4, 2, scale=0.25)], 2)
    around = Operand("int32", (2, 2), [[0, 0], [1, 1]])
    for name, made in TYPES.items():
        add(f"PAD {name}", [made(1, 4), around], [made(1, 6)], 2)
    paddings = Operand("int32", (4, 2), [[0, 0], [1, 1], [1, 1], [0, 0]])
    add("PAD rank 4", [f32(1, 2, 2, 4), paddings], [f32(1, 4, 4, 4)])
    add("PAD computed", [f32(1, 4), i32(2, 2)], [f32(1, 6)])
    add("PAD int64", [f32(1, 4), Operand("int64", (2, 2), [[0, 0], [1, 1]])], [f32(1, 6)])
    add("PAD int8 per channel", [per_channel((1, 4), 1, None), around], [i8(1, 6)], 2)
    add("PAD nothing", [f32(0, 4), around], [f32(0, 6)])
    add("PAD int8 rescaled", [i8(1, 4), around], [i8(1, 6, scale=0.25)], 2)
    add("PADV2", [f32(1, 4), around, f32(data=0.0)], [f32(1, 6)])
    add("MIRROR_PAD", [f32(1, 4), around], [f32(1, 6)], 1, "MirrorPadOptions", mode=0)
    for op in ("SPACE_TO_DEPTH", "DEPTH_TO_SPACE"):
        sizes = [(1, 4, 4, 4), (1, 2, 2, 16)]
        before, after = sizes if op == "SPACE_TO_DEPTH" else sizes[::-1]
        table = f"{op.title().replace('_', '')}Options"
        for name in ("f32", "int8", "uint8", "int32"):
            add(f"{op} {name}", [TYPES[name](*before)], [TYPES[name](*after)], 2, table, blockSize=2)
        add(f"{op} by 1", [f32(*before)], [f32(*before)], 1, table, blockSize=1)
        add(f"{op} int8 rescaled", [i8(*before)], [i8(*after, scale=0.25)], 2, table, blockSize=2)


def sliced() -> None:
    first, size, c = constant([0, 1]), constant([2, 2]), constant
    for name, made in TYPES.items():
        add(f"SLICE {name}", [made(2, 4), first, size], [made(2, 2)], 2)
    add("SLICE by int64", [f32(2, 4), c([0, 1], "int64"), c([2, 2], "int64")], [f32(2, 2)])
    add("SLICE to the end", [f32(2, 4), first, c([-1, 2])], [f32(2, 2)])
    add("SLICE computed", [f32(2, 4), i32(2), size], [f32(2, 2)])
    add("SLICE of computed size", [f32(2, 4), first, i32(2)], [f32(2, 2)])
    add("SLICE int8 per channel", [per_channel((2, 4), 0, None), first, size], [i8(2, 2)], 2)
    add("SLICE int8 to per channel", [i8(2, 4), first, size], [per_channel((2, 2), 0, None)], 2)
    add("SLICE int8 rescaled", [i8(2, 4), first, size], [i8(2, 2, scale=0.25)], 2)
    add("SLICE rank 6", [f32(*RANK_7[1:]), c([0] * 6), c([1, 1, 1, 1, 2, 2])], [f32(1, 1, 1, 1, 2, 2)], 5)
    add("SLICE rank 7", [f32(*RANK_7), c([0] * 7), c([*RANK_7[:-1], 2])], [f32(*RANK_7[:-1], 2)], 5)

    def strided(
        name: str, x: Operand, begin: list, end: list, y: Operand, strides: tuple = (1, 1), **masks: int
    ) -> None:
        inputs = [x, c(begin), c(end), c(list(strides))]
        add(f"STRIDED_SLICE {name}", inputs, [y], 8, "StridedSliceOptions", **masks)

    for name, made in TYPES.items():
        strided(name, made(2, 4), [0, 1], [2, 3], made(2, 2))
    strided("by 2", f32(2, 4), [0, 0], [2, 4], f32(2, 2), (1, 2))
    strided("from the start", f32(2, 4), [0, 1], [2, 3], f32(2, 3), beginMask=2)
    strided("to the end", f32(2, 4), [0, 1], [2, 3], f32(2, 3), endMask=2)
    strided("from behind", f32(2, 4), [0, -3], [2, -1], f32(2, 2))
    strided("beyond the end", f32(2, 4), [0, 1], [2, 9], f32(2, 3))
    strided("before the start", f32(2, 4), [0, -9], [2, 3], f32(2, 3))
    strided("of nothing", f32(2, 4), [0, 2], [2, 2], f32(2, 0))
    strided("backwards", f32(2, 4), [0, 3], [2, 1], f32(2, 0))
    strided("shrinking", f32(2, 4), [0, 1], [1, 3], f32(2), shrinkAxisMask=1)
    strided("with a new axis", f32(2, 4), [0, 0, 1], [0, 2, 3], f32(1, 2, 2), (1, 1, 1), newAxisMask=1)
    strided("with an ellipsis", f32(2, 4), [0, 1], [0, 3], f32(2, 2), ellipsisMask=1)
    strided("of fewer dimensions", f32(2, 4), [0], [1], f32(1, 4), (1,))
    strided("by offsets", f32(2, 4), [0, 1], [2, 2], f32(2, 2), offset=True)
    strided("int8 rescaled", i8(2, 4), [0, 1], [2, 3], i8(2, 2, scale=0.25))
    strided("int8 per channel", per_channel((2, 4), 0, None), [0, 1], [2, 3], i8(2, 2))
    strided("int8 to per channel", i8(2, 4), [0, 1], [2, 3], per_channel((2, 2), 0, None))
    for place, what in enumerate(("begin", "end", "strides"), 1):
        inputs = [f32(2, 4), c([0, 1]), c([2, 3]), c([1, 1])]
        inputs[place] = i32(2)
        add(f"STRIDED_SLICE computed {what}", inputs, [f32(2, 2)], 1, "StridedSliceOptions")


def reduced() -> None:
    def reduce(name: str, x: Operand, axes: Operand, y: Operand, keep: bool = True) -> None:
        add(name, [x, axes], [y], 2, "ReducerOptions", keepDims=keep)

    last = constant([1])
    for op in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
        reduce(f"{op} f32", f32(2, 4), last, f32(2, 1))
        reduce(f"{op} f32 dropped", f32(2, 4), last, f32(2), False)
        reduce(f"{op} int8", i8(2, 4), last, i8(2, 1))
        reduce(f"{op} int8 rescaled", i8(2, 4), last, i8(2, 1, scale=0.25))
        reduce(f"{op} int32", i32(2, 4), last, i32(2, 1))
    for op in ("MEAN", "SUM", "REDUCE_MAX"):
        reduce(f"{op} uint8", u8(2, 4), last, u8(2, 1))
        reduce(f"{op} int8 to f32", i8(2, 4), last, f32(2, 1))
        reduce(f"{op} f32 to f16", f32(2, 4), last, f16(2, 1))
        for name, scale in SCALES.items():
            reduce(f"{op} int8 {name}", i8(2, 4, scale=scale), last, i8(2, 1, scale=1.0))
    reduce("SUM int8 per channel", per_channel((2, 4), 0, None), last, i8(2, 1))
    reduce("SUM int8 to per channel", i8(2, 4), last, per_channel((2, 1), 0, None))
    reduce("MEAN along -1", f32(2, 4), constant([-1]), f32(2, 1))
    reduce("MEAN of all", f32(2, 4), constant([0, 1]), f32(1, 1))
    reduce("MEAN to a scalar", f32(2, 4), constant([0, 1]), f32(), False)
    reduce("MEAN along a scalar axis", f32(2, 4), axis(1), f32(2, 1))
    reduce("MEAN along none", f32(2, 4), Operand("int32", (0,), []), f32(2, 4))
    reduce("MEAN along a matrix", f32(2, 4), Operand("int32", (1, 1), [[1]]), f32(2, 1))
    reduce("MEAN computed", f32(2, 4), i32(1), f32(2, 1))
    reduce("MEAN of a scalar", f32(), constant([0]), f32(), False)
    reduce("MEAN of nothing", f32(0, 4), last, f32(0, 1))
    reduce("MEAN twice along one axis", f32(2, 4), constant([1, -1]), f32(2, 1))
    reduce("MEAN rank 7", f32(*RANK_7), constant([6]), f32(*RANK_7[:-1], 1))

    def softmax(name: str, x: Operand, y: Operand, beta: float = 1.0) -> None:
        add(f"SOFTMAX {name}", [x], [y], 2, "SoftmaxOptions", beta=beta)

    for shape in ((4,), (2, 4), (1, 2, 2, 4), (0, 4), RANK_7):
        softmax(f"f32 {shape}", f32(*shape), f32(*shape))
    softmax("f16", f16(2, 4), f16(2, 4))
    softmax("f32 of half beta", f32(2, 4), f32(2, 4), 0.5)
    softmax("int8", i8(2, 4), i8(2, 4, scale=1 / 256, zero=-128))
    softmax("uint8", u8(2, 4), u8(2, 4, scale=1 / 256, zero=0))
    add("SOFTMAX with no options", [f32(2, 4)], [f32(2, 4)])
    for op in ("LOG_SOFTMAX", "L2_NORMALIZATION"):
        add(op, [f32(2, 4)], [f32(2, 4)], 1, "L2NormOptions" if op[1] == "2" else "")
    add("ARG_MAX", [f32(2, 4), axis(1)], [i32(2)], 1, "ArgMaxOptions", outputType=2)
    add("CUMSUM", [f32(2, 4), axis(1)], [f32(2, 4)], 1, "CumsumOptions")
    add("REVERSE_V2", [f32(2, 4), last], [f32(2, 4)])
    add("TILE", [f32(1, 4), constant([1, 2])], [f32(1, 8)])
    add("BROADCAST_TO", [f32(1, 4), constant([2, 4])], [f32(2, 4)], 2)
    add("GATHER f32", [f32(10, 4, data=1), i32(1, 8)], [f32(1, 8, 4)], 1, "GatherOptions")
    add("GATHER int8", [i8(10, 4, data=1), i32(1, 8)], [i8(1, 8, 4)], 2, "GatherOptions")
    add("EMBEDDING_LOOKUP", [i32(8), f32(10, 4, data=1)], [f32(8, 4)])
    add("SELECT_V2", [Operand("bool", (2, 4)), f32(2, 4), f32(2, 4)], [f32(2, 4)])


def unpacked() -> None:
    """Constants that the file holds as float16 or int8, behind a DEQUANTIZE."""
    x, y, w, b = f32(8, 4), f32(8, 2), f32(2, 4), f32(2)
    half_w, half_b, plain_b = f16(2, 4, data=1), f16(2, data=0), f32(2, data=0)

    def several(name: str, operands: list[Operand], ops: list[Op], given: list[int], made: list[int]) -> None:
        MODELS[name] = Graph(operands, ops, given, made)

    def unpack(packed: int, plain: int, version: int = 3) -> Op:
        return Op("DEQUANTIZE", [packed], [plain], version)

    def dense(inputs: list[int], out: int) -> Op:
        return Op("FULLY_CONNECTED", inputs, [out], 1, options("FullyConnectedOptions"))

    both = [unpack(1, 2), unpack(3, 4), dense([0, 2, 4], 5)]
    several("f16 weights and bias", [x, half_w, w, half_b, b, y], both, [0], [5])
    one = [unpack(1, 2), dense([0, 2, 3], 4)]
    several("f16 weights, f32 bias", [x, half_w, w, plain_b, y], one, [0], [4])
    several("f16 weights, no bias", [x, half_w, w, y], [unpack(1, 2), dense([0, 2], 3)], [0], [3])
    only_bias = [unpack(2, 3), dense([0, 1, 3], 4)]
    several("f32 weights, f16 bias", [x, f32(2, 4, data=1), half_b, b, y], only_bias, [0], [4])
    several("unpacked int8 weights", [x, weights(2, 4), w, plain_b, y], one, [0], [4])
    several("unpacked int8 weights per channel", [x, per_channel((2, 4), 0), w, plain_b, y], one, [0], [4])
    several("unpacked uint8 weights", [x, u8(2, 4, data=1), w, plain_b, y], one, [0], [4])
    several("unpacked int8 weights, f16 bias", [x, weights(2, 4), w, half_b, b, y], both, [0], [5])
    several(
        "f16 input of a dense layer",
        [f16(8, 4, data=1), x, f32(2, 4, data=1), plain_b, y],
        [unpack(0, 1), dense([1, 2, 3], 4)],
        [],
        [4],
    )
    sum_too = [*one, Op("ADD", [2, 5], [6])]
    several("f16 weights that ADD reads too", [x, half_w, w, plain_b, y, w, w], sum_too, [0, 5], [4, 6])
    twice = [unpack(1, 2), unpack(3, 4), dense([0, 2, 4], 5), dense([0, 2], 6)]
    several("f16 weights of two layers", [x, half_w, w, half_b, b, y, y], twice, [0], [5, 6])
    several(
        "f16 weights that are an output", [x, half_w, w, y], [unpack(1, 2), dense([0, 2], 3)], [0], [3, 2]
    )
    for op in ("ADD", "POW"):
        for kind, packed in (("f16", f16(4, data=1)), ("int8", i8(4, data=1))):
            ops = [unpack(1, 2), Op(op, [0, 2], [3])]
            several(f"{op} of an unpacked {kind}", [f32(2, 4), packed, f32(4), f32(2, 4)], ops, [0], [3])
    ops = [unpack(1, 2), Op("POW", [0, 2], [3]), Op("ADD", [0, 2], [4])]
    several(
        "POW and ADD of an unpacked f16",
        [f32(2, 4), f16(4, data=1), f32(4), f32(2, 4), f32(2, 4)],
        ops,
        [0],
        [3, 4],
    )
    ops = [unpack(1, 2), Op("ABS", [0], [3])]
    several("unpacked for nothing", [f32(2, 4), f16(4, data=1), f32(4), f32(2, 4)], ops, [0], [3, 2])
    several(
        "PRELU of an f16 slope",
        [f32(2, 4), f16(4, data=1), f32(4), f32(2, 4)],
        [unpack(1, 2), Op("PRELU", [0, 2], [3])],
        [0],
        [3],
    )
    ops = [unpack(0, 1), Op("RESHAPE", [1, 2], [3])]
    several("RESHAPE of an unpacked f16", [f16(2, 4, data=1), f32(2, 4), constant([8]), f32(8)], ops, [], [3])
    ops = [unpack(1, 2), Op("BATCH_MATMUL", [0, 2], [3], 1, options("BatchMatMulOptions"))]
    several(
        "BATCH_MATMUL of an unpacked f16",
        [f32(3, 2, 4), f16(3, 4, 5, data=1), f32(3, 4, 5), f32(3, 2, 5)],
        ops,
        [0],
        [3],
    )
    image, half_k, k, out = f32(1, 4, 4, 3), f16(2, 3, 3, 3, data=1), f32(2, 3, 3, 3), f32(1, 4, 4, 2)
    table = options("Conv2DOptions", strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1)
    ops = [unpack(1, 2), unpack(3, 4), Op("CONV_2D", [0, 2, 4], [5], 1, table)]
    several("CONV_2D of f16 weights and bias", [image, half_k, k, half_b, b, out], ops, [0], [5])
    ops = [unpack(1, 2), Op("CONV_2D", [0, 2, 3], [4], 1, table)]
    several("CONV_2D of f16 weights, f32 bias", [image, half_k, k, plain_b, out], ops, [0], [4])
    ops = [unpack(2, 3), Op("CONV_2D", [0, 1, 3], [4], 1, table)]
    several(
        "CONV_2D of f32 weights, f16 bias", [image, f32(2, 3, 3, 3, data=1), half_b, b, out], ops, [0], [4]
    )
    depth = {"depthMultiplier": 1, "dilationWFactor": 1, "dilationHFactor": 1}
    table = options("DepthwiseConv2DOptions", strideW=1, strideH=1, **depth)
    taps, half_b3, b3, flat = f32(1, 3, 3, 3, data=1), f16(3, data=0), f32(3), f32(1, 4, 4, 3)
    ops = [unpack(2, 3), Op("DEPTHWISE_CONV_2D", [0, 1, 3], [4], 1, table)]
    several("DEPTHWISE_CONV_2D of f16 bias", [image, taps, half_b3, b3, flat], ops, [0], [4])
    table = options("TransposeConvOptions", strideW=2, strideH=2)
    ops = [unpack(1, 2), Op("TRANSPOSE_CONV", [0, 2, 3], [4], 1, table)]
    several(
        "TRANSPOSE_CONV of f16 weights",
        [constant([1, 8, 8, 2]), half_k, k, image, f32(1, 8, 8, 2)],
        ops,
        [3],
        [4],
    )
    # Taken, not taken, taken: two partitions, or one where the middle can wait.
    line = [f32(2, 4)] * 4
    ops = [Op("ABS", [0], [1]), Op("POW", [1, 1], [2]), Op("ABS", [2], [3])]
    several("two partitions in a row", line, ops, [0], [3])
    ops = [Op("ABS", [0], [1]), Op("POW", [0, 0], [2]), Op("ABS", [1], [3])]
    several("one partition beside another op", line, ops, [0], [2, 3])


joined()
shaped()
sliced()
reduced()
unpacked()
