"""The small models that fuzzing starts from: the ops that delegates have rules for, in float32 and int8; a
file with all else that the format has (subgraphs, signatures, sparse tensors); and nodes that make no sense.

    write_corpus(folder)    # NAME.tflite, one a model
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import flatbuffers
from absurd_models import EXTREME_SCALES, absurd_node, scaled, spoiled
from ai_edge_litert import schema_py_generated as schema
from one_op_model import Graph, Op, Operand, constant, one_op, options, to_bytes

UNARY = """
    ABS CEIL COS ELU EXP FLOOR GELU HARD_SWISH LOG LOGISTIC L2_NORMALIZATION LEAKY_RELU LOG_SOFTMAX NEG RELU
    RELU6 RELU_N1_TO_1 ROUND RSQRT SIN SOFTMAX SQRT SQUARE TANH QUANTIZE DEQUANTIZE CAST
""".split()  # noqa: SIM905 - as OP_NAMES in tflite_schema.py
BINARY = """
    ADD DIV EQUAL FLOOR_DIV GREATER LESS MAXIMUM MINIMUM MUL NOT_EQUAL POW PRELU SQUARED_DIFFERENCE SUB
""".split()  # noqa: SIM905
REDUCERS = "MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_ANY ARG_MAX ARG_MIN".split()  # noqa: SIM905
ABSURD = 1_500
OPTIONS_OF = {
    "ARG_MAX": options("ArgMaxOptions", outputType=2),
    "CONV_2D": options("Conv2DOptions", strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1),
    "DEPTHWISE_CONV_2D": options(
        "DepthwiseConv2DOptions",
        strideW=1,
        strideH=1,
        depthMultiplier=1,
        dilationWFactor=1,
        dilationHFactor=1,
    ),
    "LEAKY_RELU": options("LeakyReluOptions", alpha=0.5),
    "SOFTMAX": options("SoftmaxOptions", beta=1.0),
    "TRANSPOSE_CONV": options("TransposeConvOptions", padding=1, strideW=1, strideH=1),
    "CONCATENATION": options("ConcatenationOptions", axis=-1),
    "PACK": options("PackOptions", valuesCount=2, axis=1),
    "UNPACK": options("UnpackOptions", num=2, axis=1),
    "RESHAPE": options("ReshapeOptions", newShape=[8, 4]),
    "SQUEEZE": options("SqueezeOptions", squeezeDims=[0]),
    "SPLIT": options("SplitOptions", numSplits=2),
    "SPLIT_V": options("SplitVOptions", numSplits=2),
    "STRIDED_SLICE": options("StridedSliceOptions", beginMask=1, endMask=3),
    "ONE_HOT": options("OneHotOptions", axis=-1),
    "GATHER": options("GatherOptions", axis=0),
    "DEPTH_TO_SPACE": options("DepthToSpaceOptions", blockSize=2),
    "SPACE_TO_DEPTH": options("SpaceToDepthOptions", blockSize=2),
    "BATCH_MATMUL": options("BatchMatMulOptions", adjY=True),
    "FULLY_CONNECTED": options("FullyConnectedOptions", keepNumDims=True),
    **dict.fromkeys(
        ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"),
        options("Pool2DOptions", strideW=2, strideH=2, filterWidth=2, filterHeight=2),
    ),
}


def _activation(dtype: str, *shape: int) -> Operand:
    if dtype == "int8":
        return Operand("int8", shape, None, (0.5,), (3,))
    return Operand("float32", shape)


def _constant(dtype: str, *shape: int, along: int | None = None) -> Operand:
    if dtype == "int8" and along is not None:
        count = shape[along]
        return Operand("int8", shape, 1, tuple(0.1 * (n + 1) for n in range(count)), (0,) * count, along)
    if dtype == "int8":
        return Operand("int8", shape, 1, (0.5,), (3,))
    return Operand("float32", shape, 1.0)


def _bias(dtype: str, count: int) -> Operand:
    if dtype == "int8":
        return Operand("int32", (count,), 1, tuple(0.05 * (n + 1) for n in range(count)), (0,) * count)
    return Operand("float32", (count,), 1.0)


def _arithmetic(dtype: str) -> Iterator[tuple[str, list, list]]:
    image = _activation(dtype, 1, 4, 4, 2)
    for op in UNARY:
        yield op, [image], [image]
    for op in BINARY:
        yield op, [image, _constant(dtype, 1, 1, 1, 2)], [image]
    for op in REDUCERS:
        yield op, [image, constant([1, 2])], [_activation(dtype, 1, 2)]
    same = _activation(dtype, 1, 4, 4, 3)
    yield "CONV_2D", [image, _constant(dtype, 3, 2, 2, 2, along=0), _bias(dtype, 3)], [same]
    yield "DEPTHWISE_CONV_2D", [image, _constant(dtype, 1, 2, 2, 2, along=3), _bias(dtype, 2)], [image]
    taps = _constant(dtype, 3, 1, 1, 2, along=0)
    yield "TRANSPOSE_CONV", [constant([1, 4, 4, 3]), taps, image, _bias(dtype, 3)], [same]
    rows = _activation(dtype, 8, 4)
    weights = _constant(dtype, 3, 4, along=0)
    yield "FULLY_CONNECTED", [rows, weights, _bias(dtype, 3)], [_activation(dtype, 8, 3)]
    yield "FULLY_CONNECTED", [rows, _activation(dtype, 3, 4), None], [_activation(dtype, 8, 3)]
    heads = _activation(dtype, 1, 2, 8, 4)
    yield "BATCH_MATMUL", [heads, heads], [_activation(dtype, 1, 2, 8, 8)]
    for op in ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"):
        yield op, [image], [_activation(dtype, 1, 2, 2, 2)]


def _layout(dtype: str) -> Iterator[tuple[str, list, list]]:
    image, rows = _activation(dtype, 1, 4, 4, 2), _activation(dtype, 8, 4)
    half, wide = _activation(dtype, 4, 4), _activation(dtype, 1, 8, 4)
    ids, scalar = Operand("int32", (3,)), Operand("int32", (), 0)
    yield "RESHAPE", [wide, constant([8, -1])], [rows]
    yield "SQUEEZE", [wide], [rows]
    yield "EXPAND_DIMS", [rows, scalar], [wide]
    yield "TRANSPOSE", [image, constant([0, 2, 1, 3])], [image]
    yield "CONCATENATION", [rows, _constant(dtype, 8, 4)], [_activation(dtype, 8, 8)]
    yield "PACK", [rows, rows], [_activation(dtype, 8, 2, 4)]
    yield "UNPACK", [_activation(dtype, 8, 2, 4)], [rows, rows]
    yield "SPLIT", [scalar, rows], [half, half]
    yield "SPLIT_V", [rows, constant([4, -1]), scalar], [half, half]
    yield "SLICE", [rows, constant([2, 0]), constant([4, -1])], [half]
    edges = [constant([2, 0]), constant([-2, 4]), constant([1, 1])]
    yield "STRIDED_SLICE", [rows, *edges], [half]
    pads = Operand("int32", (2, 2), [[1, 1], [0, 0]])
    for op in ("PAD", "MIRROR_PAD"):
        yield op, [rows, pads], [_activation(dtype, 10, 4)]
    yield "PADV2", [rows, pads, _constant(dtype)], [_activation(dtype, 10, 4)]
    yield "GATHER", [_constant(dtype, 8, 4), ids], [_activation(dtype, 3, 4)]
    yield "EMBEDDING_LOOKUP", [ids, _constant(dtype, 8, 4)], [_activation(dtype, 3, 4)]
    yield "GATHER_ND", [rows, Operand("int32", (3, 1))], [_activation(dtype, 3, 4)]
    yield "ONE_HOT", [ids, Operand("int32", (), 8), *2 * [_constant(dtype)]], [_activation(dtype, 3, 8)]
    yield "TILE", [half, constant([2, 1])], [rows]
    yield "FILL", [constant([8, 4]), _constant(dtype)], [rows]
    yield "TOPK_V2", [rows, Operand("int32", (), 2)], [_activation(dtype, 8, 2), Operand("int32", (8, 2))]
    for op in ("SELECT", "SELECT_V2"):
        yield op, [Operand("bool", (8, 4)), rows, _constant(dtype, 8, 4)], [rows]
    yield "DEPTH_TO_SPACE", [_activation(dtype, 1, 2, 2, 8)], [image]
    yield "SPACE_TO_DEPTH", [image], [_activation(dtype, 1, 2, 2, 8)]
    small, none = _activation(dtype, 4, 2, 2, 2), Operand("int32", (2, 2), 0)
    yield "SPACE_TO_BATCH_ND", [image, constant([2, 2]), none], [small]
    yield "BATCH_TO_SPACE_ND", [small, constant([2, 2]), none], [image]
    for op in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        yield op, [image, constant([8, 8])], [_activation(dtype, 1, 8, 8, 2)]


def _half_weights() -> Graph:
    """float16 constants behind DEQUANTIZE, as the converter writes them."""
    kernel, bias = Operand("float16", (3, 4), 1.0), Operand("float16", (3,), 1.0)
    plain = [Operand("float32", (3, 4)), Operand("float32", (3,))]
    return Graph(
        [Operand("float32", (8, 4)), kernel, bias, *plain, Operand("float32", (8, 3))],
        [
            Op("DEQUANTIZE", [1], [3]),
            Op("DEQUANTIZE", [2], [4]),
            Op("FULLY_CONNECTED", [0, 3, 4], [5], options=OPTIONS_OF["FULLY_CONNECTED"]),
        ],
        [0],
        [5],
    )


def _everything() -> bytes:
    """Three subgraphs, two signatures, a sparse tensor, a variable, a dynamic shape, a custom op."""
    graphs = [
        _half_weights(),
        one_op("CONV_2D", *_named("CONV_2D", _arithmetic("int8")), options=OPTIONS_OF["CONV_2D"]),
        one_op("CUSTOM", [_activation("float32", 8, 4)], [_activation("float32", 8, 4)], custom_code="Mine"),
    ]
    models = [schema.ModelT.InitFromPackedBuf(to_bytes(graph), 0) for graph in graphs]
    first = models[0]
    for model in models[1:]:
        for graph in model.subgraphs:
            for operator in graph.operators:
                operator.opcodeIndex += len(first.operatorCodes)
            for tensor in graph.tensors:
                tensor.buffer += len(first.buffers) if tensor.buffer else 0
        first.operatorCodes += model.operatorCodes
        first.buffers += model.buffers
        first.subgraphs += model.subgraphs
    tensors = first.subgraphs[2].tensors
    tensors[0].shapeSignature = [-1, 4]
    tensors[1].isVariable = True
    tensors[1].quantization = schema.QuantizationParametersT()
    tensors[1].quantization.min, tensors[1].quantization.max = [0.0], [1.0]
    tensors[1].quantization.detailsType = schema.QuantizationDetails.CustomQuantization
    tensors[1].quantization.details = schema.CustomQuantizationT()
    tensors[1].quantization.details.custom = [1, 2]
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder, sparsity.blockMap = [0, 1], [0]
    sparsity.dimMetadata = [schema.DimensionMetadataT(), schema.DimensionMetadataT()]
    sparsity.dimMetadata[1].format = schema.DimensionType.SPARSE_CSR
    sparsity.dimMetadata[1].arraySegmentsType = schema.SparseIndexVector.Uint8Vector
    sparsity.dimMetadata[1].arraySegments = schema.Uint8VectorT()
    sparsity.dimMetadata[1].arraySegments.values = [0, 1]
    first.subgraphs[1].tensors[1].sparsity = sparsity
    first.signatureDefs = [_signature(first, number) for number in (0, 2)]
    first.metadata = [schema.MetadataT()]
    first.metadata[0].name, first.metadata[0].buffer = b"min_runtime_version", 1
    builder = flatbuffers.Builder(1024)
    builder.Finish(first.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _named(op: str, models: Iterator[tuple[str, list, list]]) -> tuple[list, list]:
    return next((inputs, outputs) for name, inputs, outputs in models if name == op)


def _signature(model: schema.ModelT, subgraph: int) -> schema.SignatureDefT:
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = f"serve{subgraph}".encode(), subgraph
    for side, indices in (
        ("inputs", model.subgraphs[subgraph].inputs),
        ("outputs", model.subgraphs[subgraph].outputs),
    ):
        entries = []
        for index in indices:
            entries.append(schema.TensorMapT())
            entries[-1].name, entries[-1].tensorIndex = side.encode(), int(index)
        setattr(made, side, entries)
    return made


def corpus() -> dict[str, bytes]:
    """name -> file. The absurd ones are the same each time."""
    rng, sound = random.Random(0), []
    made = {"everything": _everything(), "half_weights": to_bytes(_half_weights())}
    for dtype in ("float32", "int8"):
        for models in (_arithmetic, _layout):
            for number, (op, inputs, outputs) in enumerate(models(dtype)):
                sound.append((op, inputs, outputs))
                graph = one_op(op, inputs, outputs, version=2, options=OPTIONS_OF.get(op))
                made[f"{op.lower()}_{dtype}_{number}"] = to_bytes(graph)
    for number, (op, inputs, outputs) in enumerate(sound):
        if any(operand and operand.scales for operand in inputs):
            for scale in EXTREME_SCALES:
                graph = scaled(op, inputs, outputs, scale, OPTIONS_OF.get(op))
                made[f"scaled_{number}_{scale}"] = to_bytes(graph)
    for number in range(ABSURD):
        made[f"absurd_{number}"] = to_bytes(
            absurd_node(rng) if number % 4 == 0 else spoiled(rng, *rng.choice(sound))
        )
    return made


def write_corpus(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in corpus().items():
        (folder / f"{name}.tflite").write_bytes(data)
    return folder
