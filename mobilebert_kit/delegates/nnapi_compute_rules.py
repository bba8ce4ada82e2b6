"""What the NNAPI delegate accepts of the ops that compute or convert values. Source: nnapi_rules.py."""

from __future__ import annotations

from mobilebert_kit.delegates.conditions import (
    API_28,
    API_29,
    API_30,
    FEATURE_LEVEL_6,
    FEATURE_LEVEL_7,
    Condition,
    InputCountIn,
    MaxVersion,
    OptionIn,
    RankFrom,
    RankIn,
    SameType,
    Since,
    Special,
    When,
)
from mobilebert_kit.delegates.nnapi_wording import (
    BEFORE_29,
    BEFORE_30,
    FLOAT,
    FLOAT_OR_QUANT8,
    FROM_29,
    FROM_30,
    UP_TO_RANK_4,
    exactly,
    expect_types,
    input_type,
    is_float,
    is_float_or_quant8,
    is_float_or_uint8,
    is_float_quant8_or_int32,
    no_activation,
    output_type,
    rank_in,
    special,
)

_INPUT_RANKS = rank_in(("in0", "in1"), UP_TO_RANK_4, "Input rank must be <= 4")
_INT32_IS_PLAIN = no_activation(when=When(is_type=("int32",)))
_INT32_IS_PLAIN_FROM_30 = no_activation(when=When(since=API_30, is_type=("int32",)))
_ARITHMETIC = (
    is_float_quant8_or_int32(FROM_30),
    _INT32_IS_PLAIN_FROM_30,
    is_float_or_quant8(BEFORE_30),
    _INPUT_RANKS,
)
_RESTRICTED_SCALES = special(
    "restricted_scales",
    "NotRestrictedScaleCompliant",
    "When using NN API version 1.0 or 1.1, input_scale * filter_scale < output_scale.",
    When(below=API_29, is_type=("uint8",)),
)
_NOT_HYBRID = special(
    "not_hybrid",
    "UnsupportedHybridOperator",
    "Hybrid operators not supported before NNAPI 1.2",
    BEFORE_29,
)
_ARG_MIN_MAX = (
    MaxVersion(2),
    Since(API_29),
    expect_types("in0", "float16", "float32", "int32", "uint8", "int8"),
    special(
        "int64_axis_fits",
        "UnsupportedInputType",
        "NNAPI only supports axis as int32. If the axis type is int64 and constant we can convert it to "
        "int32 if the value isn't too large.",
        When(operand="in1", is_type=("int64",)),
    ),
    input_type(("int32", "int64"), "Axis should be Int32", operand="in1"),
    OptionIn(
        "output_type", ("int32",), failure="UnsupportedOutputType", says="NNAPI only supports int32 output."
    ),
)
_ACTIVATION = (MaxVersion(2), is_float_or_quant8())
_FLOAT_FROM_29 = (exactly(1), Since(API_29), is_float())
_MAXIMUM = (
    MaxVersion(3),
    Since(API_29),
    expect_types("in0", "float32", "uint8", "int8", "int32"),
    special("scalar_in0_constant", "UnsupportedInputType", "Scalar operand should be constant"),
    special("scalar_in1_constant", "UnsupportedInputType", "Scalar operand should be constant"),
)
_COMPARISON = (
    MaxVersion(2),
    Since(API_29),
    expect_types("in0", "float32", "uint8", "int8", "bool", "int32"),
)
_LOGICAL = (exactly(1), Since(API_29), input_type(("bool",), "Input should be bool"))
_LEAKY = (exactly(1), Since(API_29), expect_types("in0", "float32", "uint8", "int8"))
_NO_SCALAR_OUTPUT = "NNAPI does not support generating a scalar as output"
_REDUCE_MIN_MAX = (
    MaxVersion(2),
    Since(API_29),
    expect_types("in0", "float32", "uint8", "int8"),
    # The delegate tests the rank of the input here, though its message speaks of the output.
    RankFrom(("in0",), 1, failure="UnsupportedOutputType", says=_NO_SCALAR_OUTPUT + "."),
)
_SUM = (
    exactly(1),
    Since(API_29),
    RankFrom(("out0",), 1, failure="UnsupportedOutputType", says=_NO_SCALAR_OUTPUT),
    input_type(FLOAT, "NNAPI only supports floating point input."),
)

COMPUTE_RULES: dict[str, tuple[Condition, ...]] = {
    "ABS": _FLOAT_FROM_29,
    "ADD": (MaxVersion(2), *_ARITHMETIC),
    "ARG_MAX": _ARG_MIN_MAX,
    "ARG_MIN": _ARG_MIN_MAX,
    "AVERAGE_POOL_2D": (
        MaxVersion(2),
        is_float_or_quant8(),
        special(
            "small_pool_window",
            "UnsupportedOperandSize",
            "Large filter window would overflow on the reference CPU path",
            When(is_type=("uint8", "int8"), accelerator=False),
        ),
    ),
    "BATCH_MATMUL": (
        exactly(2),
        Since(FEATURE_LEVEL_6),
        expect_types("in0", "float32", "int32", "int8"),
        SameType(
            ("in0", "in1"),
            failure="UnsupportedHybridOperator",
            says="NNAPI does not support hybrid batch matmul",
        ),
        rank_in(("in0",), (2, 3, 4), "NNAPI does not support input rank greater than 4 or less than 2"),
        special(
            "no_batch_broadcast", "UnsupportedInputType", "NNAPI does not support broadcast batch matmul"
        ),
    ),
    "CAST": (
        exactly(1),
        Since(API_29),
        expect_types("in0", "float32", "int32", "uint8", "int8", when=FROM_30),
        output_type(
            ("float32", "int32", "uint8", "int8"),
            "Output type should be one of kTfLiteFloat32, kTfLiteInt32, kTfLiteUInt8, kTfLiteInt8.",
            FROM_30,
        ),
        expect_types("in0", "float32", "int32", "uint8", when=BEFORE_30),
        output_type(
            ("float32", "int32", "uint8"),
            "Output type should be one of kTfLiteFloat32, kTfLiteInt32, kTfLiteUInt8.",
            BEFORE_30,
        ),
    ),
    "CONV_2D": (
        MaxVersion(5),
        _NOT_HYBRID,
        is_float_or_uint8(BEFORE_29),
        special(
            "weights_per_tensor",
            "UnsupportedQuantizationType",
            "Per-channel quantized convolution not supported before NNAPI 1.2.",
            BEFORE_29,
        ),
        _RESTRICTED_SCALES,
        InputCountIn((3,), failure="MissingRequiredOperand", says="Conv2D with omitted bias not supported"),
        special(
            "no_dilation",
            "UnsupportedOperandValue",
            "NNAPI supports dilated Conv2D since NNAPI 1.2.",
            BEFORE_29,
        ),
        special(
            "not_grouped",
            "UnsupportedOperandValue",
            "Grouped convolution not supported before NNAPI < 1.2",
            BEFORE_29,
        ),
    ),
    "COS": _FLOAT_FROM_29,
    "DEPTHWISE_CONV_2D": (
        MaxVersion(3),
        is_float_or_uint8(BEFORE_29),
        _RESTRICTED_SCALES,
        special(
            "no_dilation",
            "UnsupportedOperandValue",
            "dilation_width_factor and dilation_height_factor expected to be equal to 1",
            BEFORE_29,
        ),
    ),
    # A float16 operand is dealt with before these rules: nnapi.py.
    "DEQUANTIZE": (
        special("version_1_or_2", "UnsupportedOperatorVersion", "Supported op versions are 1 and 2 only"),
        expect_types("in0", "uint8", when=BEFORE_29),
        expect_types("in0", "uint8", "int8", when=FROM_29),
        special(
            "zero_point_is_0",
            "UnsupportedInputType",
            "NN API supports int8 type since version 1.2 but only for symmetric quantization.",
            When(since=API_29, below=API_30, is_type=("int8",)),
        ),
    ),
    "DIV": (
        exactly(1),
        Since(API_28),
        input_type(FLOAT, "NNAPI only support float div."),
        _INPUT_RANKS,
    ),
    "ELU": (exactly(1), Since(API_30), input_type(FLOAT, "NNAPI only supports floating point input.")),
    "EQUAL": _COMPARISON,
    "EXP": _FLOAT_FROM_29,
    "FLOOR": (exactly(1),),
    "FULLY_CONNECTED": (
        MaxVersion(5),
        special("out0_not_int16", "UnsupportedOutputType", "Unsupported output of type kTfLiteInt16"),
        _NOT_HYBRID,
        is_float_or_uint8(BEFORE_29),
        _RESTRICTED_SCALES,
        Special(
            "flat_output",
            failure="UnsupportedAndroidVersion",
            says="Android sdk version less than 30",
            when=BEFORE_30,
        ),
    ),
    "GREATER": _COMPARISON,
    "GREATER_EQUAL": _COMPARISON,
    "HARD_SWISH": (is_float_or_quant8(),),
    "L2_NORMALIZATION": (
        MaxVersion(2),
        is_float(BEFORE_29),
        RankIn(
            ("in0",), (4,), failure="UnsupportedOperatorVariant", says="Expected 4 inputs", when=BEFORE_29
        ),
        no_activation("Expected no activation"),
    ),
    "L2_POOL_2D": (
        exactly(1),
        is_float(),
        OptionIn(
            "fused_activation",
            ("NONE",),
            failure="UnsupportedOperandValue",
            says="Before NNAPI 1.2 fused activation for l2_pool may not be supported.",
            when=BEFORE_29,
        ),
    ),
    "LEAKY_RELU": _LEAKY,
    "LESS": _COMPARISON,
    "LESS_EQUAL": _COMPARISON,
    "LOCAL_RESPONSE_NORMALIZATION": (exactly(1),),
    "LOG": _FLOAT_FROM_29,
    "LOGICAL_AND": _LOGICAL,
    "LOGICAL_NOT": _LOGICAL,
    "LOGICAL_OR": _LOGICAL,
    "LOGISTIC": _ACTIVATION,
    "LOG_SOFTMAX": (exactly(1), Since(API_29), input_type(FLOAT, "Input should be Float32.")),
    "MAXIMUM": _MAXIMUM,
    "MAX_POOL_2D": (MaxVersion(2), is_float_or_quant8()),
    "MEAN": (
        MaxVersion(2),
        Since(API_28),
        input_type(FLOAT_OR_QUANT8, "Expected Float32 or Quantized input", FROM_29),
        input_type(FLOAT, "Expected Float32 input", BEFORE_29),
        RankFrom(
            ("out0",),
            1,
            failure="UnsupportedOutputType",
            says="NNAPI does not support generating a scalar as output for MEAN.",
        ),
        RankIn(
            ("in0",),
            UP_TO_RANK_4,
            failure="UnsupportedOperandValue",
            says="NNAPI does not support mean of a tensor with rank > 4",
        ),
    ),
    "MINIMUM": _MAXIMUM,
    "MUL": (
        # An int8 MUL whose scales multiply to no less than the output's is version 3 (op_version.cc).
        MaxVersion(3, when=When(accelerator=True)),
        MaxVersion(2, when=When(accelerator=False)),
        *_ARITHMETIC,
    ),
    "NEG": (MaxVersion(2), Since(API_29), expect_types("in0", "float32", "int32")),
    "NOT_EQUAL": _COMPARISON,
    "POW": _FLOAT_FROM_29,
    "PRELU": _LEAKY,
    "QUANTIZE": (
        MaxVersion(2),
        Since(API_29),
        input_type(FLOAT_OR_QUANT8, "Value should be quantized or Float32."),
        special(
            "in0_scale_positive",
            "UnsupportedQuantizationParameters",
            "Quantization scale should be > 0.",
            When(is_type=("uint8", "int8")),
        ),
        output_type(("uint8",), "Output should be kTfLiteUInt8.", BEFORE_30),
        output_type(("uint8", "int8"), "Output should be kTfLiteUInt8.", FROM_30),
        special(
            "out0_scale_positive", "UnsupportedQuantizationParameters", "Quantization scale should be > 0."
        ),
    ),
    "REDUCE_ANY": (
        exactly(2),
        Since(API_29),
        RankFrom(("out0",), 1, failure="UnsupportedOutputType", says=_NO_SCALAR_OUTPUT + "."),
    ),
    "REDUCE_MAX": _REDUCE_MIN_MAX,
    "REDUCE_MIN": _REDUCE_MIN_MAX,
    "REDUCE_PROD": _SUM,
    "RELU": _ACTIVATION,
    "RELU6": _ACTIVATION,
    "RELU_N1_TO_1": _ACTIVATION,
    "RSQRT": (
        exactly(2),
        Since(API_29),
        is_float(When(below=FEATURE_LEVEL_7)),
        is_float_or_quant8(When(since=FEATURE_LEVEL_7)),
    ),
    "SIN": _FLOAT_FROM_29,
    "SOFTMAX": (
        exactly(2),
        is_float_or_quant8(),
        output_type(
            FLOAT_OR_QUANT8, "Output type should be one of kTfLiteFloat32, kTfLiteUInt8, kTfLiteInt8."
        ),
        rank_in(("in0",), UP_TO_RANK_4, "Input rank should be <= 4"),
        rank_in(
            ("in0",),
            (2, 4),
            "Before API level 29 only 2D and 4D input tensors were supported.",
            BEFORE_29,
        ),
    ),
    "SQRT": _FLOAT_FROM_29,
    "SQUARED_DIFFERENCE": (
        exactly(2),
        Since(API_28),
        expect_types("in0", "float32", "uint8", "int8", "int32", when=FROM_30),
        expect_types("in0", "float32", "uint8", when=When(since=API_29, below=API_30)),
        expect_types("in0", "float32", when=BEFORE_29),
        rank_in(("in0", "in1"), UP_TO_RANK_4, "NNAPI does not support input rank greater than 4"),
    ),
    "SUB": (
        MaxVersion(3),
        special("sub_type", "UnsupportedInputType", "NNAPI only support float sub."),
        _INT32_IS_PLAIN,
        _INPUT_RANKS,
    ),
    "SUM": _SUM,
    "TANH": (
        MaxVersion(2),
        input_type(FLOAT, " NNAPI only support float tanh.", BEFORE_29),
        input_type(FLOAT_OR_QUANT8, " NNAPI only support float tanh.", FROM_29),
    ),
    "TRANSPOSE_CONV": (
        MaxVersion(4),
        Since(API_29),
        special(
            "in0_and_in1_constant",
            "InputTensorShouldHaveConstantShape",
            "Dynamically-sized tensors not supported.",
        ),
    ),
}
