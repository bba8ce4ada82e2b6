"""The NNAPI delegate's rules, op by op: what each level accepts, and in which words it refuses."""

from __future__ import annotations

from pathlib import Path

import one_op_model as make
import pytest
from one_op_model import (
    AXIS,
    BIAS,
    CONV,
    DILATED,
    F32,
    FLOAT_RELU,
    I8,
    I32,
    IDS,
    IMAGE,
    KERNEL,
    MAP,
    PROBABILITY,
    PRODUCT,
    RANK_5,
    ROWS,
    RUNTIME_WEIGHTS,
    TABLE,
    U8,
    ZERO_BIAS,
    Graph,
    Operand,
    constant,
    one_op,
    options,
    with_,
)

from mobilebert_kit.delegates import Report, check_nnapi, read_tflite

FL6, FL7 = 1_000_006, 1_000_007


def check(tmp_path: Path, graph: Graph, level: int = 30, **more: object) -> Report:
    model = read_tflite(make.write(tmp_path / "m.tflite", graph))
    return check_nnapi(model, **({"feature_level": level} if level > 1000 else {"api_level": level}), **more)


# name: (model, {level: words of the reason, or "" for accepted})
RULES = {
    # MobileBERT's integer graph.
    "int32 ids cannot be reshaped before feature level 6": (
        one_op("RESHAPE", [IDS, constant([8])], [Operand("int32", (8,))]),
        {30: "Float or Quant8", 31: "Float or Quant8", FL6: ""},
    ),
    "int8 embeddings": (
        one_op("GATHER", [TABLE, IDS], [with_(I8, shape=(1, 8, 4))], version=2),
        {28: "less than 29", 29: "", 30: ""},
    ),
    "int64 ids": (
        one_op("GATHER", [TABLE, with_(IDS, dtype="int64")], [with_(I8, shape=(1, 8, 4))], version=2),
        {30: "Positions type", FL6: "Positions type"},
    ),
    "a scalar id": (
        one_op("GATHER", [TABLE, with_(IDS, shape=())], [I8], version=2),
        {30: "0-dimension args"},
    ),
    "mask to float": (one_op("CAST", [I32], [F32]), {28: "less than 29", 29: "", 30: ""}),
    "cast of int8 is version 3": (one_op("CAST", [I8], [F32], version=3), {30: "Version different from 1"}),
    "cast of int8 before 30": (one_op("CAST", [U8], [I8]), {29: "Output type", 30: ""}),
    "int8 split": (
        one_op("SPLIT", [AXIS, I8], [with_(I8, shape=(1, 2))] * 2, version=2),
        {28: "less than 29", 29: "not in expected list", 30: ""},
    ),
    "split along an axis that is not constant": (
        one_op("SPLIT", [with_(AXIS, data=None), I8], [with_(I8, shape=(1, 2))] * 2, version=2),
        {30: "constant int32 axis"},
    ),
    "int8 pad": (
        one_op("PAD", [I8, Operand("int32", (2, 2), 0)], [I8], version=2),
        {27: "less than 28", 28: "Only Float32", 29: "", 30: ""},
    ),
    "pad with a value": (
        one_op("PADV2", [F32, Operand("int32", (2, 2), 0), Operand("float32", (), 0)], [F32]),
        {28: "padding value", 29: ""},
    ),
    "clip against a constant scalar": (
        one_op("MAXIMUM", [I8, Operand("int8", (), 0, (0.5,), (3,))], [I8], version=2),
        {28: "less than 29", 29: "", 30: ""},
    ),
    "clip against a scalar that is no constant": (
        one_op("MINIMUM", [I8, Operand("int8", (), None, (0.5,), (3,))], [I8], version=2),
        {30: "Scalar operand should be constant"},
    ),
    "requantize": (
        one_op("QUANTIZE", [I8], [with_(I8, scales=(0.25,))]),
        {29: "Output should be kTfLiteUInt8", 30: ""},
    ),
    "quantize to no scale": (
        one_op("QUANTIZE", [F32], [with_(I8, scales=(), zero_points=None)]),
        {30: "Quantization scale should be > 0"},
    ),
    "quantize per channel is version 3": (
        one_op("QUANTIZE", [F32], [I8], version=3),
        {30: "Version higher than 2"},
    ),
    "heads with runtime weights": (
        one_op("FULLY_CONNECTED", [ROWS, RUNTIME_WEIGHTS, ZERO_BIAS], [PRODUCT], version=4),
        {28: "Float or UINT8", 29: "", 30: ""},
    ),
    "heads with an operand left out as bias": (
        one_op("FULLY_CONNECTED", [ROWS, RUNTIME_WEIGHTS, None], [PRODUCT], version=4),
        {29: "", 30: ""},
    ),
    "two operands are version 6": (
        one_op("FULLY_CONNECTED", [ROWS, RUNTIME_WEIGHTS], [PRODUCT], version=6),
        {30: "Version higher than 5"},
    ),
    "hybrid per channel is version 12": (
        one_op(
            "FULLY_CONNECTED",
            [with_(ROWS, dtype="float32", scales=()), RUNTIME_WEIGHTS],
            [F32],
            version=12,
        ),
        {28: "Hybrid", 30: "Version higher than 5"},
    ),
    "all dimensions kept": (
        one_op(
            "FULLY_CONNECTED",
            [ROWS, RUNTIME_WEIGHTS, ZERO_BIAS],
            [PRODUCT],
            version=5,
            options=options("FullyConnectedOptions", keepNumDims=True),
        ),
        {29: "less than 30", 30: ""},
    ),
    "1x1 convolution per channel": (
        one_op("CONV_2D", [IMAGE, KERNEL, BIAS], [MAP], version=3, options=CONV),
        {28: "Per-channel", 29: "", 30: ""},
    ),
    "convolution of two operands": (
        one_op("CONV_2D", [IMAGE, KERNEL], [MAP], version=3, options=CONV),
        {30: "omitted bias"},
    ),
    "dilated convolution": (
        one_op("CONV_2D", [IMAGE, KERNEL, BIAS], [MAP], version=3, options=DILATED),
        {28: "dilated Conv2D", 29: ""},
    ),
    "grouped convolution": (
        one_op("CONV_2D", [with_(IMAGE, shape=(1, 1, 8, 8)), KERNEL, BIAS], [MAP], version=5, options=CONV),
        {28: "Grouped", 29: ""},
    ),
    "int32 sum": (one_op("ADD", [I32, I32], [I32]), {29: "Float or Quant8", 30: ""}),
    "int32 sum with an activation": (
        one_op("ADD", [I32, I32], [I32], options=FLOAT_RELU),
        {30: "No activation function"},
    ),
    "int32 difference": (one_op("SUB", [I32, I32], [I32]), {29: "only support float sub", 30: ""}),
    "float difference": (one_op("SUB", [F32, F32], [F32]), {27: "only support float sub", 28: ""}),
    "a sum of rank 5": (one_op("ADD", [RANK_5, F32], [RANK_5]), {30: "rank must be <= 4", FL7: "rank must"}),
    "int8 quotient": (one_op("DIV", [I8, I8], [I8]), {30: "only support float div"}),
    "two axes swapped": (
        one_op("TRANSPOSE", [I8, constant([1, 0])], [with_(I8, shape=(4, 1))], version=2),
        {27: "less than 28", 28: "", 30: ""},
    ),
    "axes that are not constant": (
        one_op("TRANSPOSE", [F32, Operand("int32", (2,))], [F32]),
        {30: "Dynamically-sized"},
    ),
    "joined int32": (one_op("CONCATENATION", [I32, I32], [I32]), {30: "not in expected list", FL7: "not in"}),
    "joined with an activation": (
        one_op(
            "CONCATENATION",
            [F32, F32],
            [F32],
            options=options("ConcatenationOptions", fusedActivationFunction=1),
        ),
        {30: "No activation function"},
    ),
    "uint8 joined at two scales": (
        one_op("CONCATENATION", [U8, with_(U8, scales=(0.25,))], [U8]),
        {28: "same scale and offset", 29: ""},
    ),
    "a slice with int64 begin": (
        one_op("SLICE", [I8, constant([0, 0], "int64"), constant([1, 2], "int64")], [I8], version=2),
        {30: "Begin type should be Int32"},
    ),
    "int32 strided slice": (
        one_op("STRIDED_SLICE", [I32, *[constant([0, 0])] * 3], [I32]),
        {30: "Float or Quant8", FL6: "Float or Quant8"},
    ),
    "stacked along the last axis": (
        one_op("PACK", [F32, F32], [F32], options=options("PackOptions", valuesCount=2, axis=2)),
        {29: "less than 30", 30: "last dimension", FL6: ""},
    ),
    "logits unstacked along the first axis": (
        one_op("UNPACK", [F32], [with_(F32, shape=(4,))], options=options("UnpackOptions", num=1, axis=0)),
        {29: "less than 30", 30: ""},
    ),
    "logits unstacked along the last axis": (
        one_op("UNPACK", [F32], [F32], options=options("UnpackOptions", num=4, axis=1)),
        {30: "last dimension"},
    ),
    "split sizes with a rest": (
        one_op(
            "SPLIT_V", [F32, constant([1, -1]), AXIS], [with_(F32, shape=(1, 1)), with_(F32, shape=(1, 3))]
        ),
        {29: "less than 30", 30: ""},
    ),
    "split sizes with an empty rest": (
        one_op("SPLIT_V", [F32, constant([4, -1]), AXIS], [F32, with_(F32, shape=(1, 0))]),
        {30: "non-zero split sizes"},
    ),
    "a mean to a scalar": (
        one_op("MEAN", [F32, constant([0, 1])], [with_(F32, shape=())]),
        {30: "generating a scalar"},
    ),
    "probabilities": (
        one_op("SOFTMAX", [with_(I8, shape=(1, 2, 4))], [with_(PROBABILITY, shape=(1, 2, 4))], version=2),
        {28: "2D and 4D", 29: "", 30: ""},
    ),
    "int8 root": (
        one_op("RSQRT", [I8], [I8], version=2),
        {30: "should be Float", FL6: "should be Float", FL7: ""},
    ),
    "int32 product of matrices": (
        one_op("BATCH_MATMUL", [I32, I32], [I32]),
        {31: "less than 1000006", FL6: ""},
    ),
    "hybrid product of matrices": (
        one_op("BATCH_MATMUL", [F32, I8], [F32]),
        {FL6: "hybrid batch matmul"},
    ),
    "one matrix for a batch": (
        one_op("BATCH_MATMUL", [with_(F32, shape=(3, 2, 4)), with_(F32, shape=(1, 4, 5))], [F32]),
        {FL6: "broadcast batch matmul"},
    ),
    "symmetric int8 to float": (
        one_op("DEQUANTIZE", [with_(I8, zero_points=(0,))], [F32], version=2),
        {28: "not in expected list", 29: "", 30: ""},
    ),
    # Ops that nothing maps.
    "broadcast_to": (one_op("BROADCAST_TO", [F32, constant([2, 4])], [F32]), {FL7: "Unsupported operation"}),
    "one_hot": (one_op("ONE_HOT", [IDS], [F32]), {FL7: "Unsupported operation type"}),
    "custom": (one_op("CUSTOM", [F32], [F32], custom_code="FlexErf"), {FL7: "Unsupported operation type"}),
}


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule(name: str, tmp_path: Path) -> None:
    graph, levels = RULES[name]
    for level, says in levels.items():
        (node,) = check(tmp_path, graph, level).nodes
        assert node.accepted is (not says), (level, node.reasons)
        assert any(says in reason for reason in node.reasons) or not says, (level, node.reasons)
        assert bool(node.reasons) == bool(says)


def test_version_3_of_mul_needs_an_accelerator(tmp_path: Path) -> None:
    """Which the delegate targets by itself from API 29 on: disallow_nnapi_cpu is its default."""
    graph = one_op("MUL", [I8, I8], [with_(I8, scales=(0.1,))], version=3)
    for level, accelerator, accepted in (
        (28, None, False),
        (29, None, True),
        (30, None, True),
        (30, False, False),
    ):
        (node,) = check(tmp_path, graph, level, accelerator=accelerator).nodes
        assert node.accepted is accepted, (level, accelerator)
        assert node.reasons == (() if accepted else ("UnsupportedOperatorVersion: OP Version higher than 2",))
