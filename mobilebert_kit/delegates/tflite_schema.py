"""The parts of the TFLite schema that the checker reads, as constants.

Source: tflite/converter/schema/schema.fbs of google-ai-edge/LiteRT, as ai-edge-litert 2.3.0 has it:
tests/test_delegates_tflite_file.py holds these tables against that module. A later schema only appends.
"""

from __future__ import annotations

from dataclasses import dataclass

# enum TensorType, by value.
DTYPES = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8",
    "float64", "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16", "int2",
    "uint4", "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip

# Bits of one element, for the types that have a fixed size.
DTYPE_BITS = {
    "float32": 32, "float16": 16, "int32": 32, "uint8": 8, "int64": 64, "bool": 8, "int16": 16, "int8": 8,
    "complex64": 64, "float64": 64, "complex128": 128, "uint64": 64, "uint32": 32, "uint16": 16, "int4": 4,
    "bfloat16": 16, "int2": 2, "uint4": 4, "float8_e4m3fn": 8, "float8_e5m2": 8,
}  # fmt: skip

# enum ActivationFunctionType, by value.
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")

# enum BuiltinOperator, by value.
OP_NAMES = tuple(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP
    FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION
    LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN
    SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
    UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE
    UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX
    DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER
    GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL
    NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR
    ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD
    RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL
    REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG
    ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY
    SEGMENT_SUM BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D
    IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
    CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL
    BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
    UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR
    RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM
    STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM
    STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS
    STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM
    STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT
    STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
    STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA
    STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER
    STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE
    STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
    """.split()  # noqa: SIM905 - 210 quoted names would fill a screen per twenty
)


@dataclass(frozen=True)
class Option:
    """One field of an op's options table: slot, and what stands where the file leaves it out."""

    slot: int
    kind: str  # a struct letter; "[i]" a vector of int32
    default: int | float | bool | tuple


@dataclass(frozen=True)
class Options:
    """An op's options table: its value in the union BuiltinOptions, and the fields that are read."""

    union: int
    fields: dict[str, Option]


def _fused(slot: int) -> dict[str, Option]:
    return {"fused_activation": Option(slot, "b", 0)}


_DILATION_CONV = {"dilation_w": Option(4, "i", 1), "dilation_h": Option(5, "i", 1)}
_DILATION_DEPTHWISE = {"dilation_w": Option(5, "i", 1), "dilation_h": Option(6, "i", 1)}
_STRIDES = {"padding": Option(0, "b", 0), "stride_w": Option(1, "i", 0), "stride_h": Option(2, "i", 0)}
_POOL = Options(
    5, {**_STRIDES, "filter_width": Option(3, "i", 0), "filter_height": Option(4, "i", 0), **_fused(5)}
)
_REDUCER = Options(27, {"keep_dims": Option(0, "?", False)})
_STRIDED_SLICE = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")

OPTIONS: dict[str, Options] = {
    "ADD": Options(11, _fused(0)),
    "ARG_MAX": Options(40, {"output_type": Option(0, "b", 0)}),
    "ARG_MIN": Options(57, {"output_type": Option(0, "b", 0)}),
    "AVERAGE_POOL_2D": _POOL,
    "BATCH_MATMUL": Options(101, {"adj_x": Option(0, "?", False), "adj_y": Option(1, "?", False)}),
    "CONCATENATION": Options(10, {"axis": Option(0, "i", 0), **_fused(1)}),
    "CONV_2D": Options(1, {**_STRIDES, **_fused(3), **_DILATION_CONV}),
    "DEPTH_TO_SPACE": Options(94, {"block_size": Option(0, "i", 0)}),
    "DEPTHWISE_CONV_2D": Options(
        2, {**_STRIDES, "depth_multiplier": Option(3, "i", 0), **_fused(4), **_DILATION_DEPTHWISE}
    ),
    "DIV": Options(29, _fused(0)),
    "FULLY_CONNECTED": Options(
        8, {**_fused(0), "weights_format": Option(1, "b", 0), "keep_num_dims": Option(2, "?", False)}
    ),
    "GATHER": Options(23, {"axis": Option(0, "i", 0), "batch_dims": Option(1, "i", 0)}),
    "GELU": Options(116, {"approximate": Option(0, "?", False)}),
    "L2_NORMALIZATION": Options(12, _fused(0)),
    "L2_POOL_2D": _POOL,
    "LEAKY_RELU": Options(75, {"alpha": Option(0, "f", 0.0)}),
    "MAX_POOL_2D": _POOL,
    "MEAN": _REDUCER,
    "MIRROR_PAD": Options(77, {"mode": Option(0, "b", 0)}),
    "MUL": Options(21, _fused(0)),
    "ONE_HOT": Options(61, {"axis": Option(0, "i", 0)}),
    "PACK": Options(59, {"values_count": Option(0, "i", 0), "axis": Option(1, "i", 0)}),
    "REDUCE_ANY": _REDUCER,
    "REDUCE_MAX": _REDUCER,
    "REDUCE_MIN": _REDUCER,
    "REDUCE_PROD": _REDUCER,
    "RESHAPE": Options(17, {"new_shape": Option(0, "[i]", ())}),
    "RESIZE_BILINEAR": Options(
        15, {"align_corners": Option(2, "?", False), "half_pixel_centers": Option(3, "?", False)}
    ),
    "RESIZE_NEAREST_NEIGHBOR": Options(
        74, {"align_corners": Option(0, "?", False), "half_pixel_centers": Option(1, "?", False)}
    ),
    "SOFTMAX": Options(9, {"beta": Option(0, "f", 0.0)}),
    "SPACE_TO_DEPTH": Options(19, {"block_size": Option(0, "i", 0)}),
    "SPLIT": Options(35, {"num_splits": Option(0, "i", 0)}),
    "SPLIT_V": Options(79, {"num_splits": Option(0, "i", 0)}),
    "SQUEEZE": Options(30, {"squeeze_dims": Option(0, "[i]", ())}),
    "STRIDED_SLICE": Options(
        32,
        {
            **{name: Option(i, "i", 0) for i, name in enumerate(_STRIDED_SLICE)},
            "offset": Option(5, "?", False),
        },
    ),
    "SUB": Options(28, _fused(0)),
    "SUM": _REDUCER,
    "TRANSPOSE_CONV": Options(49, {**_STRIDES, **_fused(3)}),
    "UNPACK": Options(64, {"num": Option(0, "i", 0), "axis": Option(1, "i", 0)}),
}
