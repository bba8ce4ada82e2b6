"""What XNNPACK takes of the ops that compute. Source: xnnpack_rules.py."""

from __future__ import annotations

from mobilebert_kit.delegates.conditions import Condition, OptionIn, RankFrom, TypeIn, When
from mobilebert_kit.delegates.xnnpack_wording import (
    ACTIVATION,
    FLOAT,
    FLOAT32_OR_8_BIT,
    FLOAT_OR_8_BIT,
    LIKE_IN0,
    NOT_BUILT,
    PADDING,
    constant,
    operands,
    positive,
    rank,
    same_type,
    sizes,
    special,
    unbuilt,
    usable,
    value,
)

_SYMMETRIC_KEYS = "recipe symkv (--target int8): key and value with zero point 0"
_MATRICES = "CpuLowering.scores and .context (--target int8): BATCH_MATMUL of two activations"
_FLOAT_SOFTMAX = "recipe f32softmax (--target int8): SOFTMAX on float scores"


def _unary(*types: str) -> tuple[Condition, ...]:
    return (
        *operands((1,)),
        sizes("in0"),
        *value("in0", types),
        *value("out0", types),
        same_type("in0", "out0"),
    )


def _binary(*types: str) -> tuple[Condition, ...]:
    return (
        *operands((2,)),
        sizes("in0"),
        sizes("in1"),
        *value("in0", types),
        *value("in1", types),
        *value("out0", types),
        same_type("in0", "in1", "out0"),
    )


_UNARY_FLOAT = _unary(*FLOAT)
_UNARY = _unary(*FLOAT_OR_8_BIT)
_BINARY_FLOAT = _binary(*FLOAT)
_SUM_OF_TWO = (
    *_binary(*FLOAT_OR_8_BIT),
    special("in0_scale_256", "the scale of in0 over that of out0 is not in [1/1024, 256)"),
    special("in1_scale_256", "the scale of in1 over that of out0 is not in [1/1024, 256)"),
    ACTIVATION,
)
_REDUCTION = (
    *operands((2,)),
    *value("in0", FLOAT_OR_8_BIT),
    *constant("in1"),
    special("in1_flat", "in1 has more than one dimension"),
    special("axes", "there is no axis to reduce, or more than 6"),
    *value("out0", FLOAT_OR_8_BIT),
)
_REQUANTIZATION = "the scales of input and weights over that of the output are 256 or more"
_BIAS_SCALES = "bias and weights are not both quantized per channel, or both per tensor"
_SYMMETRIC_WEIGHTS = "the int8 weights have a zero point that is not 0"
_PLAIN_WEIGHTS = (
    special("quantized_weights", "in1 is 8-bit, but not quantized"),
    special("uint8_weights", "in1 is uint8, but not quantized per tensor"),
)
_STEPS = ("stride_w", "stride_h", "dilation_w", "dilation_h")
_MIXED = "the weights' type does not go with the activations'"


def _convolution(along: int, *more: Condition) -> tuple[Condition, ...]:
    return (
        *operands((2, 3)),
        special("in2_given", "it has no bias"),
        *positive(*_STEPS),
        *value("in0", FLOAT32_OR_8_BIT),
        rank("in0", 4),
        sizes("in0"),
        *constant("in1", FLOAT32_OR_8_BIT),
        rank("in1", 4),
        sizes("in1"),
        *_PLAIN_WEIGHTS,
        special(f"scales_along_{along}", f"the weights' scales are not along dimension {along}"),
        usable("in1"),
        usable("in2"),
        special("in2_bias_type", "the bias is not float32, or beside 8-bit activations quantized int32"),
        rank("in2", 1),
        special("in2_constant", "the bias is not a constant"),
        special("bias_width", "the bias is float16, but the weights are float32"),
        *value("out0", FLOAT32_OR_8_BIT),
        rank("out0", 4),
        same_type("in0", "out0"),
        PADDING,
        ACTIVATION,
        *more,
        unbuilt("in2_bias_scales", _BIAS_SCALES),
        unbuilt("in0_requantization", _REQUANTIZATION),
    )


def _pool(*types: str) -> tuple[Condition, ...]:
    return (
        *operands((1,)),
        *value("in0", types),
        *value("out0", types),
        special("pool_window", "a stride is not positive, or larger than the window"),
        PADDING,
        ACTIVATION,
        LIKE_IN0,
    )


COMPUTE_RULES: dict[str, tuple[Condition, ...]] = {
    **dict.fromkeys(
        (
            *("ABS", "CEIL", "COS", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LOG", "NEG", "RELU", "RELU6"),
            *("RELU_N1_TO_1", "ROUND", "RSQRT", "SIN", "SQRT", "SQUARE"),
        ),
        _UNARY_FLOAT,
    ),
    "ADD": _SUM_OF_TWO,
    "AVERAGE_POOL_2D": _pool(*FLOAT),
    "BATCH_MATMUL": (
        *operands((2,)),
        *value("in0", (*FLOAT, "int8")),
        TypeIn("in1", (*FLOAT, "int8"), says="in1 is not float32, float16 or int8"),
        *_PLAIN_WEIGHTS,
        special("in1_with_in0", "in1 has not the type of in0, nor is it int8 beside float32"),
        usable("in1"),
        special("columns_quantized", "the scales of in1 are not along the product's columns"),
        special(
            "in1_symmetric",
            "in1 is int8 with a zero point that is not 0",
            fix=_SYMMETRIC_KEYS,
            when=When(is_type=("int8",)),
        ),
        special("int8_matrix_per_tensor", "in0 is int8 and in1 is quantized per channel"),
        RankFrom(("in0", "in1"), 2, says="an input has fewer than 2 dimensions"),
        *value("out0", (*FLOAT, "int8")),
        same_type("in0", "out0", failure=NOT_BUILT),
        unbuilt("in1_symmetric", "in1 is int8 with a zero point that is not 0, beside float32"),
    ),
    "CONV_2D": _convolution(
        0,
        special("in1_with_in0", _MIXED),
        special("groups", "the weights have more input channels than in0"),
        unbuilt("in1_symmetric", _SYMMETRIC_WEIGHTS, when=When(is_type=("int8",))),
    ),
    "DEPTHWISE_CONV_2D": _convolution(
        3,
        special("in1_like_in0", _MIXED),
        special("multiplier", "the depth multiplier is not positive, or does not divide the output channels"),
        unbuilt("in1_symmetric", _SYMMETRIC_WEIGHTS),
    ),
    # One of a constant is dealt with before these rules: xnnpack.py.
    "DEQUANTIZE": (
        *operands((1,)),
        sizes("in0"),
        *value("in0", ("int8", "uint8")),
        *value("out0", FLOAT),
    ),
    "DIV": (*_BINARY_FLOAT, ACTIVATION),
    "ELU": _unary(*FLOAT, "int8"),
    "FULLY_CONNECTED": (
        *operands((2, 3)),
        special("not_sparse_version", "version 8 is the one of sparse weights"),
        special("covered_weights", "this checker's rules do not cover its weights"),
        OptionIn("weights_format", (0,), says="the weights are shuffled"),
        *value("in0", FLOAT32_OR_8_BIT),
        *constant("in1", FLOAT32_OR_8_BIT, fix=_MATRICES),
        rank("in1", 2),
        sizes("in1"),
        *_PLAIN_WEIGHTS,
        special("scales_along_0", "the weights' scales are not along dimension 0"),
        usable("in2"),
        special("bias_size", "the bias has not one number for each row of the weights"),
        special("in2_bias_type", "the bias is not float32, or beside 8-bit activations quantized int32"),
        special("in2_constant", "the bias is not a constant"),
        special("bias_width", "the bias is float16, but the weights are float32"),
        *value("out0", FLOAT32_OR_8_BIT),
        same_type("in0", "out0"),
        special("in1_with_in0", _MIXED),
        special("in1_symmetric", _SYMMETRIC_WEIGHTS, when=When(is_type=("int8",))),
        ACTIVATION,
        unbuilt("in1_symmetric", _SYMMETRIC_WEIGHTS),
        unbuilt("in2_bias_scales", _BIAS_SCALES, when=When(is_type=("uint8",))),
        unbuilt("in0_requantization", _REQUANTIZATION),
    ),
    "LEAKY_RELU": (
        *_UNARY,
        special("alpha_normal", "alpha is 0 or not a normal number"),
        special("in0_scale_128", "the scale of in0 over that of out0 is not in [1/256, 128]"),
        special("leaky_slope", "alpha times the scale of in0 over that of out0 is out of range"),
    ),
    **dict.fromkeys(("LOGISTIC", "TANH"), _UNARY),
    **dict.fromkeys(("MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"), _BINARY_FLOAT),
    "MAX_POOL_2D": _pool(*FLOAT32_OR_8_BIT),
    **dict.fromkeys(("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM"), _REDUCTION),
    "MUL": (
        *_binary(*FLOAT_OR_8_BIT),
        special("product_scale_256", "the scales of in0 and in1 over that of out0 are not in [1/65536, 256)"),
        ACTIVATION,
    ),
    "PRELU": (*_BINARY_FLOAT, *constant("in1", FLOAT)),
    "QUANTIZE": (
        *operands((1,)),
        sizes("in0"),
        *value("in0", FLOAT_OR_8_BIT),
        *value("out0", ("int8", "uint8")),
        *(
            TypeIn("out0", (dtype,), says=f"in0 is {dtype}, but out0 is not", when=When(is_type=(dtype,)))
            for dtype in ("int8", "uint8")
        ),
        special("in0_scale_128", "the scale of in0 over that of out0 is not in [1/256, 128]"),
    ),
    "RESIZE_BILINEAR": (
        *operands((2,)),
        *value("in0", FLOAT32_OR_8_BIT),
        rank("in0", 4),
        sizes("in0"),
        *constant("in1"),
        special("in1_vector", "in1 has not one dimension"),
        special("resize", "the new size is not two positive numbers"),
        *value("out0", FLOAT32_OR_8_BIT),
        rank("out0", 4),
        LIKE_IN0,
    ),
    "SOFTMAX": (
        *operands((1,)),
        OptionIn("beta", (1.0,), says="beta is not 1"),
        *value("in0", FLOAT, fix=_FLOAT_SOFTMAX),
        *value("out0", FLOAT, fix=_FLOAT_SOFTMAX),
        same_type("in0", "out0"),
        RankFrom(("in0",), 1, says="in0 is a scalar"),
    ),
    "SUB": _SUM_OF_TWO,
    "TRANSPOSE_CONV": (
        *operands((3, 4)),
        *constant("in0"),
        special("in0_vector", "in0 has not one dimension"),
        *constant("in1", FLOAT32_OR_8_BIT),
        rank("in1", 4),
        sizes("in1"),
        *value("in2", FLOAT32_OR_8_BIT),
        rank("in2", 4),
        sizes("in2"),
        *_PLAIN_WEIGHTS,
        special("scales_along_0", "the weights' scales are not along dimension 0"),
        usable("in1"),
        usable("in3"),
        special("in1_with_in2", _MIXED),
        special("in3_bias_type", "the bias is not float32, or beside 8-bit activations quantized int32"),
        special("in3_constant", "the bias is not a constant"),
        *value("out0", FLOAT32_OR_8_BIT),
        rank("out0", 4),
        PADDING,
        special("deconvolution", "the sizes of output, weights and input do not fit the strides"),
        ACTIVATION,
        same_type("in2", "out0"),
        unbuilt("in3_bias_scales", _BIAS_SCALES),
        unbuilt("in2_requantization", _REQUANTIZATION),
    ),
}
