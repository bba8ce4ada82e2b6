"""What the NNAPI delegate accepts of the ops that move, select or cut data. Source: nnapi_rules.py."""

from __future__ import annotations

from mobilebert_kit.delegates.conditions import (
    API_28,
    API_29,
    API_30,
    FEATURE_LEVEL_6,
    FEATURE_LEVEL_7,
    Condition,
    InputCountIn,
    IsConstant,
    MaxVersion,
    OptionIn,
    RankFrom,
    RankIn,
    SameShape,
    Since,
    When,
)
from mobilebert_kit.delegates.nnapi_wording import (
    BEFORE_29,
    BEFORE_30,
    FLOAT,
    FROM_30,
    UP_TO_RANK_4,
    constant_shape,
    exactly,
    expect_types,
    input_type,
    is_float_or_quant8,
    is_float_quant8_or_int32,
    no_activation,
    rank_in,
    special,
)

_CONSTANT_INT32_AXIS = "NNAPI only supports constant int32 axis tensor."
_SHAPE_INPUT = "The shape input tensor must be constant."
_SIZE_INPUT = "The size input tensor must be constant."
_HAS_ELEMENTS = special(
    "has_elements",
    "UnsupportedOperandValue",
    "NN API pad ops do not support input tensors with no elements",
)
_RESIZE_OPTIONS = tuple(
    OptionIn(
        option,
        (False,),
        failure="UnsupportedOperandValue",
        says=f"NNAPI does not support {option} == true.",
        when=When(below=API_30),
    )
    for option in ("align_corners", "half_pixel_centers")
)
_RESIZE_SIZE = (
    special("two_inputs", "UnsupportedOperatorVariant", "Expected at least 2 inputs"),
    constant_shape("in1", _SIZE_INPUT, When(min_inputs=2)),
)
_PAD = (
    MaxVersion(2),
    is_float_or_quant8(),
    Since(API_28),
    _HAS_ELEMENTS,
    special("two_inputs", "UnsupportedOperatorVariant", "Expecting at least 2 inputs"),
    Since(
        API_29,
        failure="UnsupportedOperatorVariant",
        says="Specification of the padding value is supported from NNAPI 1.2.",
        when=When(inputs=3),
    ),
    input_type(FLOAT, "Only Float32 inputs are supported before NNAPI 1.2", When(below=API_29, inputs=2)),
)
_LAST_AXIS = "NNAPI does not support axis being the last dimension"


LAYOUT_RULES: dict[str, tuple[Condition, ...]] = {
    "BATCH_TO_SPACE_ND": (
        MaxVersion(2),
        Since(API_28),
        special("zero_crops", "UnsupportedOperandValue", "All crops should be 0."),
    ),
    "CONCATENATION": (
        MaxVersion(2),
        no_activation(),
        rank_in(("in0",), UP_TO_RANK_4, "Input rank should be less than 4"),
        expect_types("in0", "float16", "float32", "uint8", "int8"),
        special(
            "inputs_share_quantization",
            "UnsupportedOperandValue",
            "NNAPI 1.0-1 only supported concatenating quantized tensor of the same scale and offset.",
            When(below=API_29, is_type=("uint8",)),
        ),
    ),
    "DENSIFY": (
        # Refused without a reason in the delegate; the wording is this checker's.
        Since(API_30),
        constant_shape("in0", "The sparse tensor must be constant."),
    ),
    "DEPTH_TO_SPACE": (expect_types("in0", "float32", "uint8", "int8"),),
    "EMBEDDING_LOOKUP": (
        exactly(1),
        input_type(FLOAT, "NNAPI only support float32 values.", operand="in1"),
    ),
    "EXPAND_DIMS": (
        exactly(1),
        Since(API_29),
        expect_types("in0", "float32", "float16", "int32", "uint8", "int8"),
        special("constant_int32_in1", "UnsupportedInputType", _CONSTANT_INT32_AXIS),
    ),
    "FILL": (
        exactly(1),
        Since(API_30),
        IsConstant(
            "in0",
            failure="UnsupportedInputType",
            says="NNAPI doesn't support dynamic dimensions tensor.",
        ),
        expect_types("in0", "int32", "int64"),
        special(
            "fill_has_dimensions",
            "UnsupportedOperandValue",
            "NNAPI doesn't support generating scalars from FILL",
            When(is_constant="in0"),
        ),
        special(
            "in0_fits_int32",
            "UnsupportedOperandValue",
            "NNAPI only supports int32 dimensions tensor. If the dimensions type is int64 and they are "
            "constant we can convert them to int32 if the value isn't too large.",
            When(is_constant="in0", is_type=("int64",)),
        ),
        expect_types("in1", "float32", "int32", "int64"),
        special(
            "in1_fits_int32",
            "UnsupportedInputType",
            "NNAPI only supports int32 input. If the input type is int64 and constant we can convert it to "
            "int32 if the value isn't too large.",
            When(operand="in1", is_constant="in1", is_type=("int64",)),
        ),
    ),
    "GATHER": (
        exactly(2),
        Since(API_29),
        expect_types("in0", "float32", "float16", "int32", "uint8", "int8"),
        input_type(("int32",), "Positions type should be one of kTfLiteInt32", operand="in1"),
        RankFrom(
            ("in1",),
            1,
            failure="UnsupportedOperandRank",
            says="0-dimension args are not supported by NNAPI.",
        ),
    ),
    "MIRROR_PAD": (
        MaxVersion(2),
        Since(FEATURE_LEVEL_7),
        is_float_quant8_or_int32(),
        OptionIn("mode", (0, 1), failure="UnsupportedOperandValue", says="Unknown padding mode"),
        _HAS_ELEMENTS,
        InputCountIn((2,), failure="UnsupportedOperatorVariant", says="Expecting 2 inputs"),
    ),
    "PACK": (
        exactly(2),
        Since(API_30),
        expect_types("in0", "int32", "float32", "int8", "uint8", when=When(since=FEATURE_LEVEL_6)),
        expect_types("in0", "float32", "int8", when=When(below=FEATURE_LEVEL_6)),
        special("pack_axis_not_last", "UnsupportedOperandValue", _LAST_AXIS, When(below=FEATURE_LEVEL_6)),
    ),
    "PAD": _PAD,
    "PADV2": _PAD,
    "RESHAPE": (
        exactly(1),
        is_float_or_quant8(When(below=FEATURE_LEVEL_6)),
        is_float_quant8_or_int32(When(since=FEATURE_LEVEL_6)),
        rank_in(("in0",), UP_TO_RANK_4, "Input rank should be <= 4"),
        rank_in(("out0",), UP_TO_RANK_4, "Output rank should be <= 4"),
        constant_shape("in1", _SHAPE_INPUT, When(min_inputs=2)),
        special(
            "new_shape_not_scalar",
            "UnsupportedOperandRank",
            "New shape rank should be > 0",
            When(inputs=1),
        ),
    ),
    "RESIZE_BILINEAR": (
        MaxVersion(3),
        rank_in(("in0",), (4,), "Input should have rank 4"),
        is_float_or_quant8(),
        *_RESIZE_SIZE,
        special(
            "square_output",
            "UnsupportedOperandValue",
            "Require width == height due to driver differences in NNAPI < 1.2",
            BEFORE_29,
        ),
        *_RESIZE_OPTIONS,
        input_type(FLOAT, "NNAPI 1.0 & 1.1 only supports float input.", BEFORE_29),
    ),
    "RESIZE_NEAREST_NEIGHBOR": (
        MaxVersion(3),
        Since(API_29),
        is_float_or_quant8(),
        *_RESIZE_SIZE,
        *_RESIZE_OPTIONS,
    ),
    "REVERSE_V2": (
        MaxVersion(3),
        Since(FEATURE_LEVEL_7),
        is_float_quant8_or_int32(),
        InputCountIn((2,), failure="UnsupportedOperatorVariant", says="Expecting 2 inputs"),
    ),
    "SELECT": (
        MaxVersion(2),
        Since(API_29),
        expect_types("in1", "float32", "int32", "uint8", "int8"),
        SameShape(
            ("in0", "in1"),
            failure="UnsupportedOperandValue",
            says="Condition and inputs tensors should have the same shape",
        ),
    ),
    "SLICE": (
        MaxVersion(2),
        Since(API_29),
        expect_types("in0", "float32", "int32", "uint8", "int8"),
        input_type(("int32",), "Begin type should be Int32", operand="in1"),
        input_type(("int32",), "Size type should be Int32", operand="in2"),
    ),
    "SPACE_TO_BATCH_ND": (MaxVersion(2), Since(API_28)),
    "SPACE_TO_DEPTH": (MaxVersion(2), expect_types("in0", "float32", "uint8", "int8")),
    "SPLIT": (
        exactly(3),
        Since(API_29),
        expect_types("in1", "float32", "uint8", "int8", "int32", when=FROM_30),
        expect_types("in1", "float32", "uint8", "int32", when=BEFORE_30),
        special("constant_int32_in0", "UnsupportedInputType", _CONSTANT_INT32_AXIS),
    ),
    "SPLIT_V": (
        exactly(2),
        Since(API_30),
        expect_types("in0", "float32", "uint8", "int8", "int32"),
        special(
            "constant_int32_vector_in1",
            "UnsupportedInputType",
            "NNAPI only supports constant int32 size_splits vector.",
        ),
        special("constant_int32_in2", "UnsupportedInputType", _CONSTANT_INT32_AXIS),
        special(
            "split_sizes_not_zero",
            "UnsupportedInputType",
            "NNAPI only supports non-zero split sizes.",
            When(is_constant="in1"),
        ),
    ),
    "SQUEEZE": (
        exactly(1),
        Since(API_28),
        special(
            "squeeze_dims_given",
            "UnsupportedOperandValue",
            "NNAPI 1.1 does not support null squeeze_dims properly.",
            When(since=API_28, below=API_29),
        ),
    ),
    "STRIDED_SLICE": (MaxVersion(2), is_float_or_quant8(), Since(API_28)),
    "TILE": (
        exactly(1),
        Since(API_29),
        expect_types("in0", "float32", "int8", "uint8", "int32"),
        input_type(("int32",), "Multipliers should be Int32", operand="in1"),
    ),
    "TOPK_V2": (
        MaxVersion(2),
        Since(API_29),
        expect_types("in0", "float32", "int32", "uint8", "int8"),
        special("constant_int32_in1", "UnsupportedInputType", "K param should be a constant of type Int32"),
    ),
    "TRANSPOSE": (
        MaxVersion(2),
        Since(API_28),
        constant_shape("in1", "Dynamically-sized tensors not supported."),
    ),
    "UNPACK": (
        exactly(2),
        Since(API_30),
        expect_types("in0", "float32", "uint8", "int8"),
        RankFrom(
            ("in0",),
            2,
            failure="UnsupportedOperandValue",
            says="NNAPI does not support unpacking a rank-1 tensor",
        ),
        RankIn(
            ("in0",),
            UP_TO_RANK_4,
            failure="UnsupportedOperandValue",
            says="NNAPI does not support unpacking a tensor with rank > 4",
        ),
        special("unpack_axis_not_last", "UnsupportedOperandValue", _LAST_AXIS),
    ),
}
