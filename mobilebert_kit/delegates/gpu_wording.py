"""How the GPU rules are written: short forms of the conditions, in the accelerator's words where it has some.

Source: gpu_rules.py.
"""

from __future__ import annotations

from mobilebert_kit.delegates.conditions import (
    Condition,
    InputCountIn,
    IsConstant,
    MaxVersion,
    OptionIn,
    OutputCountIn,
    RankIn,
    RuntimeTypes,
    Special,
    TypeIn,
)

FLOAT = ("float32",)
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6")
FLOAT_MODEL = (
    "--target gpu or --target float: activations of float32, ids of int32; int8 is for the CPU and NNAPI"
)


def version(most: int) -> Condition:
    return MaxVersion(most, says=f"Max version supported: {most}.")


def special(test: str, says: str, fix: str = "") -> Condition:
    return Special(f"gpu_{test}", says=says, fix=fix)


def computes(inputs: tuple[str, ...] = FLOAT, outputs: tuple[str, ...] = FLOAT) -> Condition:
    """The types of what is computed at run time."""
    says = f"Tensor type is not supported: computed inputs are {_any(inputs)}, outputs {_any(outputs)}."
    return RuntimeTypes(inputs, outputs, says=says, fix=FLOAT_MODEL)


def operands(*inputs: int, outputs: tuple[int, ...] = (1,)) -> tuple[Condition, ...]:
    """How many inputs and outputs it has."""
    given = InputCountIn(inputs, says=f"Expected {_any(inputs)} input tensor(s).")
    return given, OutputCountIn(outputs, says=f"Expected {_any(outputs)} output tensor(s).")


def runtime_input(name: str = "in0") -> Condition:
    return special(f"{name}_is_computed", "Expected 1 runtime input tensor(s): a constant is no input here.")


def constant(name: str, *types: str) -> tuple[Condition, ...]:
    """The operand is a constant of one of `types`."""
    place = name.removeprefix("in")
    return (
        IsConstant(name, says=f"input {place} must be constant."),
        TypeIn(name, types, says=f"input {place} must be {_any(types)}."),
    )


def ranks(*allowed: int) -> Condition:
    return RankIn(("in0",), allowed, says=f"Supports {_any(allowed)} dimensional tensors only.")


def activation() -> Condition:
    """TANH is read too, but TFLite's own kernels leave it out: other numbers than on the CPU."""
    says = f"The fused activation must be {_any(ACTIVATIONS)}."
    return OptionIn("fused_activation", ACTIVATIONS, says=says)


def option(name: str, *values: object, says: str = "") -> Condition:
    return OptionIn(name, values, says=says or f"{name} must be {_any(values)}.")


def _any(values: tuple[object, ...]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}" if first else last
