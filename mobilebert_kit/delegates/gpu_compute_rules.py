"""What the GPU accelerator takes of the ops that compute or convert values. Source: gpu_rules.py."""

from __future__ import annotations

from mobilebert_kit.delegates.conditions import Condition
from mobilebert_kit.delegates.fixes import BROADCAST_MASK
from mobilebert_kit.delegates.gpu_wording import (
    FLOAT_MODEL,
    activation,
    computes,
    constant,
    operands,
    option,
    ranks,
    runtime_input,
    special,
    version,
)

_FULL_RANK = "GpuLowering.scaled and .add_positions (--target gpu): constants of as many dimensions"

_PAIR = (
    *operands(2),
    special("one_of_two_computed", "No runtime input tensors: both are constant."),
    special("float_constants", "A constant operand must be float32."),
    special(
        "constant_in_place",
        "A constant must be a scalar, or of as many dimensions: it is read as [H, W, C] aligned at C, and "
        "that is not where this one belongs beside the computed operand.",
        fix=_FULL_RANK,
    ),
    special(
        "ranks_broadcast",
        "Doesn't support broadcasting of two computed tensors of these ranks.",
        fix="CpuLowering.dense (--target gpu): activations are [1,1,S,C] throughout",
    ),
    special(
        "one_operand_is_whole",
        "One computed operand must have the output's shape: no outer product, no larger constant. (The "
        "accelerator takes it, older delegates do not.)",
        fix=BROADCAST_MASK,
    ),
)
_ARITHMETIC = (computes(), *_PAIR, activation())
_COMPARISON = (version(2), computes(outputs=("bool",)), *_PAIR)
_UNARY = (
    computes(),
    *operands(1),
    runtime_input(),
    special("same_shape", "Input and output must have the same shape."),
)
_REDUCTION = (
    version(2),
    computes(),
    *operands(2),
    runtime_input(),
    *constant("in1", "int32"),
    special("reduced_axes", "The axes must be one or more of the input's, the output what is left."),
)
_CONVOLUTION_OPERANDS = (
    computes(),
    *operands(3),
    runtime_input(),
    special("float_weights", "The weights must be float32.", fix=FLOAT_MODEL),
    special("bias_constant", "The bias must be a constant vector, one float32 an output channel."),
    special("steps", "Strides and dilations must be positive."),
    activation(),
)

COMPUTE_RULES: dict[str, tuple[Condition, ...]] = {
    "ADD": (version(2), *_ARITHMETIC),
    "MUL": (version(3), *_ARITHMETIC),
    "SUB": (version(2), *_ARITHMETIC),
    "DIV": (version(2), *_ARITHMETIC),
    "MAXIMUM": (version(2), computes(), *_PAIR),
    "MINIMUM": (version(2), computes(), *_PAIR),
    "SQUARED_DIFFERENCE": (version(2), computes(), *_PAIR),
    "POW": (
        version(1),
        computes(),
        *operands(2),
        runtime_input(),
        special(
            "exponent_2_or_3",
            "Only a constant exponent of 2 or 3: WebGPU's pow leaves negative bases undefined, and others "
            "come out as numbers that differ from the CPU's.",
        ),
        special("same_shape", "Input and output must have the same shape."),
    ),
    **dict.fromkeys(("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"), _COMPARISON),
    **dict.fromkeys(("ABS", "EXP", "GELU", "LEAKY_RELU", "LOG", "LOGISTIC"), (version(2), *_UNARY)),
    **dict.fromkeys(("RELU", "RELU6", "RSQRT", "SQRT", "TANH"), (version(2), *_UNARY)),
    **dict.fromkeys(("ELU", "FLOOR", "HARD_SWISH", "NEG", "RELU_N1_TO_1", "SQUARE"), (version(1), *_UNARY)),
    "CAST": (
        version(5),
        computes(
            ("float32", "int32", "bool", "float16"),
            ("float32", "int32", "bool"),
        ),
        *operands(1),
        runtime_input(),
        special(
            "cast_pair",
            "Not supported Cast case: not between int32 and float32, bool and float32, float16 to float32.",
        ),
        special("same_shape", "Input and output must have the same shape."),
    ),
    "DEQUANTIZE": (
        computes(),
        *operands(1),
        runtime_input(),
        special("never", "Only a constant of float16 is dequantized.", fix=FLOAT_MODEL),
    ),
    "QUANTIZE": (
        version(2),
        computes(outputs=("float32",)),
        special("never", "Nothing is quantized.", fix=FLOAT_MODEL),
    ),
    "SOFTMAX": (
        version(2),
        computes(),
        *operands(1),
        runtime_input(),
        ranks(2, 3, 4),
        option("beta", 1.0, says="Softmax.beta != 1 is not supported."),
        special("same_shape", "Input and output must have the same shape."),
    ),
    "CONV_2D": (
        version(6),
        *_CONVOLUTION_OPERANDS,
        special(
            "convolution_shapes",
            "The weights must be [out, H, W, in] with as many input channels as the input: no groups.",
        ),
    ),
    "DEPTHWISE_CONV_2D": (
        version(6),
        *_CONVOLUTION_OPERANDS,
        *constant("in1", "float32", "float16"),
        special(
            "depthwise_shapes",
            "Only one output channel an input channel: with more, numbers come out wrong.",
        ),
    ),
    "FULLY_CONNECTED": (
        version(9),
        computes(),
        *operands(2, 3),
        runtime_input(),
        option("weights_format", 0, says="Unsupported FullyConnected weights format."),
        special("float_weights", "The weights must be float32.", fix=FLOAT_MODEL),
        special("bias_constant", "The bias must be a constant vector, one float32 an output channel."),
        special("no_bias_on_runtime_weights", "Beside computed weights the bias is left out of the result."),
        special("fully_connected_shapes", "Amount of input channels should match weights width."),
        activation(),
    ),
    "BATCH_MATMUL": (
        version(4),
        computes(),
        *operands(2),
        runtime_input(),
        special("float_weights", "A constant operand must be float32.", fix=FLOAT_MODEL),
        special("constant_matrix_is_plain", "Not supported batched mat mul case: a constant is [K, N]."),
        special("matmul_shapes", "The batches of both must be the same: they are not broadcast."),
    ),
    **dict.fromkeys(("MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "SUM"), _REDUCTION),
}
