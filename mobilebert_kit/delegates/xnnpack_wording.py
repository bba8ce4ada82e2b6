"""The conditions that many of XNNPACK's rules share, each with its words. Source: xnnpack_rules.py."""

from __future__ import annotations

from mobilebert_kit.delegates.conditions import (
    ALWAYS,
    Condition,
    InputCountIn,
    IsConstant,
    OptionFrom,
    OptionIn,
    OutputCountIn,
    PerTensor,
    RankIn,
    SameType,
    Special,
    TypeIn,
    When,
)

FLOAT = ("float32", "float16")
FLOAT_OR_8_BIT = (*FLOAT, "int8", "uint8")
FLOAT32_OR_8_BIT = ("float32", "int8", "uint8")
_USABLE = "a scale is not a positive normal number, or a zero point is not allowed"
# What the delegate takes and cannot build then. It does not fall back: allocate_tensors fails.
NOT_BUILT = "XNNPACK takes it and fails to build it, so that allocate_tensors fails"


def listed(words: tuple[object, ...]) -> str:
    *head, last = map(str, words)
    return f"{', '.join(head)} or {last}" if head else last


def operands(inputs: tuple[int, ...], outputs: tuple[int, ...] = (1,)) -> tuple[Condition, ...]:
    return (
        InputCountIn(inputs, says=f"expected {listed(inputs)} inputs"),
        OutputCountIn(outputs, says=f"expected {listed(outputs)} outputs"),
    )


def value(operand: str, types: tuple[str, ...], fix: str = "") -> tuple[Condition, ...]:
    """An operand of one of these types; int8 and uint8 quantized per tensor."""
    return (
        TypeIn(operand, types, says=f"{operand} is not {listed(types)}", fix=fix),
        PerTensor(operand, says=f"{operand} is 8-bit, but not quantized per tensor", fix=fix),
    )


def constant(operand: str, types: tuple[str, ...] = ("int32",), fix: str = "") -> tuple[Condition, ...]:
    return (
        TypeIn(operand, types, says=f"{operand} is not {listed(types)}"),
        IsConstant(operand, says=f"{operand} is not a constant", fix=fix),
    )


def special(test: str, says: str, *, fix: str = "", when: When = ALWAYS) -> Special:
    return Special(f"xnnpack_{test}", says=says, fix=fix, when=when)


def unbuilt(test: str, says: str, *, fix: str = "", when: When = ALWAYS) -> Special:
    return Special(f"xnnpack_{test}", failure=NOT_BUILT, says=says, fix=fix, when=when)


def usable(operand: str) -> Special:
    return special(f"{operand}_quantization", f"{operand}: {_USABLE}")


def rank(operand: str, *ranks: int) -> RankIn:
    return RankIn((operand,), ranks, says=f"{operand} has not {listed(ranks)} dimensions")


def sizes(operand: str) -> Special:
    return special(f"{operand}_sizes", f"{operand} has a dimension of size 0, or more than 6 dimensions")


def same_type(*names: str, failure: str = "") -> SameType:
    return SameType(names, failure=failure, says=f"{', '.join(names)} have not all the same type")


def positive(*options: str) -> tuple[Condition, ...]:
    return tuple(OptionFrom(name, 1, says=f"{name} is not positive") for name in options)


ACTIVATION = OptionIn(
    "fused_activation",
    ("NONE", "RELU", "RELU_N1_TO_1", "RELU6"),
    says="the fused activation is not NONE, RELU, RELU_N1_TO_1 or RELU6",
)
PADDING = OptionIn("padding", (0, 1), says="the padding is not SAME or VALID")
LIKE_IN0 = unbuilt("outputs_like_in0", "an output has another type, scale or zero point than in0")
# Asked of every node, after its own rules: what XNNPACK cannot define a tensor with.
TENSORS = (
    unbuilt("ranks", "an operand has more than 6 dimensions"),
    unbuilt("quantization", _USABLE),
)
