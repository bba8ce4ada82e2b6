"""What the Android runtime refuses though the delegate accepts it."""

from __future__ import annotations

from pathlib import Path

import one_op_model as make
import pytest
from one_op_model import (
    BIAS,
    CONV,
    F32,
    I8,
    I32,
    I64,
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
    ZERO_BIAS,
    Operand,
    constant,
    one_op,
    options,
    with_,
)

from mobilebert_kit.delegates import check_nnapi, read_tflite

WIDE = with_(F32, shape=(1, 2, 3, 4, 5))
REFUSED_BELOW = {
    "weights per channel": (
        one_op(
            "FULLY_CONNECTED",
            [ROWS, Operand("int8", (2, 4), 1, (0.1, 0.2), (0, 0)), BIAS],
            [PRODUCT],
            version=4,
        ),
        "in1 is quantized per channel",
    ),
    "filter along another dimension": (
        one_op(
            "CONV_2D",
            [IMAGE, with_(KERNEL, quantized_dimension=3, scales=(0.1,) * 4, zero_points=(0,) * 4), BIAS],
            [MAP],
            version=3,
            options=CONV,
        ),
        "along dimension 3, not 0",
    ),
    "a bias of another scale": (
        one_op(
            "FULLY_CONNECTED", [ROWS, RUNTIME_WEIGHTS, with_(ZERO_BIAS, scales=(0.5,))], [PRODUCT], version=4
        ),
        "bias must have scale in0 * in1",
    ),
    "weights of another type": (
        one_op("FULLY_CONNECTED", [ROWS, with_(RUNTIME_WEIGHTS, dtype="uint8"), None], [PRODUCT], version=4),
        "weights must have the type",
    ),
    "one dimension": (
        one_op("FULLY_CONNECTED", [with_(ROWS, shape=(4,)), RUNTIME_WEIGHTS, None], [PRODUCT], version=4),
        "rank 2, 3 or 4",
    ),
    "probabilities at another scale": (
        one_op("SOFTMAX", [I8], [with_(PROBABILITY, scales=(1 / 128,))], version=2),
        "scale 1/256 and zero point -128",
    ),
    "sigmoid at another zero point": (
        one_op("LOGISTIC", [I8], [with_(PROBABILITY, zero_points=(0,))], version=2),
        "scale 1/256 and zero point -128",
    ),
    "tanh at another scale": (one_op("TANH", [I8], [PROBABILITY], version=2), "scale 1/128 and zero point 0"),
    "a product that exceeds its scale": (
        one_op("MUL", [I8, I8], [with_(I8, scales=(0.25,))], version=2),
        "must exceed",
    ),
    "operands of two types": (one_op("ADD", [F32, I8], [F32]), "must have one type"),
    "a fused tanh": (
        one_op("ADD", [F32, F32], [F32], options=options("AddOptions", fusedActivationFunction=4)),
        "must be NONE, RELU",
    ),
    "int32 transposed": (one_op("TRANSPOSE", [I32, constant([1, 0])], [I32], version=2), "must be one of"),
    "int64 transposed": (one_op("TRANSPOSE", [I64, constant([1, 0])], [I64], version=2), "in0 is int64"),
    "five dimensions transposed": (
        one_op("TRANSPOSE", [WIDE, constant([4, 3, 2, 1, 0])], [WIDE], version=2),
        "rank above 4",
    ),
    "a reshape that changes the scale": (
        one_op("RESHAPE", [I8, constant([4])], [with_(I8, shape=(4,), scales=(0.25,))]),
        "must have the scale and zero point of in0",
    ),
    "relu that changes the scale": (
        one_op("RELU", [I8], [with_(I8, scales=(0.25,))], version=2),
        "must have the scale and zero point of in0",
    ),
    "gather in batches": (
        one_op("GATHER", [TABLE, IDS], [I8], version=2, options=options("GatherOptions", batchDims=1)),
        "does not pass on batch_dims",
    ),
    "a new axis": (
        one_op(
            "STRIDED_SLICE",
            [F32, *[constant([0, 0])] * 3],
            [F32],
            options=options("StridedSliceOptions", newAxisMask=1),
        ),
        "does not pass on new_axis_mask",
    ),
    "int8 cast to float": (one_op("CAST", [I8], [F32]), "only be cast to int8"),
    "int64 padding": (
        one_op("PAD", [F32, Operand("int64", (2, 2), 0)], [F32]),
        "in1 is int64",
    ),
    "rank 5 dequantized": (
        one_op("DEQUANTIZE", [with_(I8, shape=(1, 1, 1, 1, 4))], [RANK_5], version=2),
        "rank above 4",
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSED_BELOW))
def test_refused_by_the_runtime(name: str, tmp_path: Path) -> None:
    graph, says = REFUSED_BELOW[name]
    report = check_nnapi(read_tflite(make.write(tmp_path / "m.tflite", graph)))
    (node,) = report.nodes
    assert node.accepted is True and node.reasons == ()
    assert len(node.runtime_refusals) >= 1 and any(says in refusal for refusal in node.runtime_refusals)
    assert not node.runs and not report.whole and report.refused == (node,)
