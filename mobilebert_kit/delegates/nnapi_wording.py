"""The helpers of NNAPIDelegateKernel::Validate, each with its failure type and words.

The same words as the delegate's, so that a verdict here can be held against a log of the real one.
Source: google-ai-edge/LiteRT, tflite/delegates/nnapi/nnapi_delegate.cc (Expect..., EXPECT_INPUT_TYPE_IN).
"""

from __future__ import annotations

from mobilebert_kit.delegates.conditions import (
    ALWAYS,
    API_29,
    API_30,
    IsConstant,
    MaxVersion,
    OptionIn,
    RankIn,
    Special,
    TypeIn,
    When,
)

FLOAT = ("float32",)
FLOAT_OR_UINT8 = ("float32", "uint8")
FLOAT_OR_QUANT8 = ("float32", "uint8", "int8")
FLOAT_QUANT8_OR_INT32 = ("float32", "uint8", "int8", "int32")
BEFORE_29 = When(below=API_29)
FROM_29 = When(since=API_29)
BEFORE_30 = When(below=API_30)
FROM_30 = When(since=API_30)
UP_TO_RANK_4 = (0, 1, 2, 3, 4)
_KTFLITE = {
    "bool": "kTfLiteBool",
    "float16": "kTfLiteFloat16",
    "float32": "kTfLiteFloat32",
    "int32": "kTfLiteInt32",
    "int64": "kTfLiteInt64",
    "int8": "kTfLiteInt8",
    "uint8": "kTfLiteUInt8",
}


def expect_types(operand: str, *types: str, when: When = ALWAYS) -> TypeIn:
    """The macro EXPECT_INPUT_TYPE_IN, which words the reason from the list."""
    listed = ", ".join(_KTFLITE[name] for name in types)
    return TypeIn(
        operand,
        types,
        failure="UnsupportedInputType",
        says=f"Input type not in expected list {listed}",
        when=when,
    )


def input_type(types: tuple[str, ...], says: str, when: When = ALWAYS, operand: str = "in0") -> TypeIn:
    return TypeIn(operand, types, failure="UnsupportedInputType", says=says, when=when)


def output_type(types: tuple[str, ...], says: str, when: When = ALWAYS) -> TypeIn:
    return TypeIn("out0", types, failure="UnsupportedOutputType", says=says, when=when)


def is_float(when: When = ALWAYS) -> TypeIn:
    return input_type(FLOAT, "Input should be Float", when)


def is_float_or_uint8(when: When = ALWAYS) -> TypeIn:
    return input_type(FLOAT_OR_UINT8, "Input should be Float or UINT8", when)


def is_float_or_quant8(when: When = ALWAYS) -> TypeIn:
    return input_type(FLOAT_OR_QUANT8, "Input should be Float or Quant8", when)


def is_float_quant8_or_int32(when: When = ALWAYS) -> TypeIn:
    return input_type(FLOAT_QUANT8_OR_INT32, "Input should be Float, Quant8, or Int32", when)


def rank_in(operands: tuple[str, ...], ranks: tuple[int, ...], says: str, when: When = ALWAYS) -> RankIn:
    return RankIn(operands, ranks, failure="UnsupportedOperandRank", says=says, when=when)


def constant_shape(operand: str, says: str, when: When = ALWAYS) -> IsConstant:
    return IsConstant(operand, failure="InputTensorShouldHaveConstantShape", says=says, when=when)


def no_activation(says: str = "No activation function supported", when: When = ALWAYS) -> OptionIn:
    return OptionIn("fused_activation", ("NONE",), failure="NoActivationExpected", says=says, when=when)


def special(test: str, failure: str, says: str, when: When = ALWAYS) -> Special:
    return Special(test, failure=failure, says=says, when=when)


def exactly(version: int) -> MaxVersion:
    return MaxVersion(version, exactly=True)
