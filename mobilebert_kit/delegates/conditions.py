"""The vocabulary in which a delegate's rules are written: conditions on one node, as frozen data.

A condition says what must hold; `failure` and `says` are the reason where it does not, `fix` what mends it
where that is not the op's usual mending (fixes.py), `when` restricts it to some levels, types or operand
counts. What a condition means is computed in `evaluate.py`.

Operands are named "in0", "in1", ... and "out0", .... Levels are Android API levels (27 to 31) and NNAPI
feature levels from 6 on as 1000000 + level, the numbers that the delegate compares.
"""

from __future__ import annotations

from dataclasses import dataclass

API_27, API_28, API_29, API_30, API_31 = 27, 28, 29, 30, 31
FEATURE_LEVEL_6, FEATURE_LEVEL_7, FEATURE_LEVEL_8 = 1_000_006, 1_000_007, 1_000_008


@dataclass(frozen=True, kw_only=True)
class When:
    """All of these hold: level, type of an operand, constness of an operand, number of inputs."""

    since: int = 0
    below: int | None = None
    operand: str = "in0"
    is_type: tuple[str, ...] = ()
    is_constant: str | None = None
    inputs: int | None = None
    min_inputs: int = 0
    accelerator: bool | None = None  # the delegate targets given devices, not whatever the runtime picks


ALWAYS = When()


@dataclass(frozen=True, kw_only=True)
class Condition:
    failure: str = ""
    says: str = ""
    fix: str = ""
    when: When = ALWAYS


@dataclass(frozen=True)
class MaxVersion(Condition):
    """Op version at most `version`. `exactly` changes the delegate's wording, not what it tests."""

    version: int
    exactly: bool = False


@dataclass(frozen=True)
class Since(Condition):
    """The level is at least `level`."""

    level: int


@dataclass(frozen=True)
class TypeIn(Condition):
    operand: str
    types: tuple[str, ...]


@dataclass(frozen=True)
class RuntimeTypes(Condition):
    """Each input that is no constant has one of the types `inputs`, each output one of `outputs`."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class RankIn(Condition):
    """Each operand's rank is one of `ranks`."""

    operands: tuple[str, ...]
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class RankFrom(Condition):
    """Each operand's rank is at least `least`."""

    operands: tuple[str, ...]
    least: int


@dataclass(frozen=True)
class IsConstant(Condition):
    operand: str


@dataclass(frozen=True)
class InputCountIn(Condition):
    counts: tuple[int, ...]


@dataclass(frozen=True)
class OutputCountIn(Condition):
    counts: tuple[int, ...]


@dataclass(frozen=True)
class OptionIn(Condition):
    """The option is one of `values`."""

    option: str
    values: tuple[object, ...]


@dataclass(frozen=True)
class OptionFrom(Condition):
    """The option is a number of at least `least`."""

    option: str
    least: int


@dataclass(frozen=True)
class SameType(Condition):
    """Every operand named has the type of the first; absent optional ones are passed over."""

    operands: tuple[str, ...]


@dataclass(frozen=True)
class SameShape(Condition):
    operands: tuple[str, str]


@dataclass(frozen=True)
class SameQuantization(Condition):
    """Both have the same scale and zero point (per tensor); not asked of types that are not quantized."""

    operands: tuple[str, str]


@dataclass(frozen=True)
class PerTensor(Condition):
    """One scale and one zero point, along dimension 0; not asked of types that are not quantized."""

    operand: str


@dataclass(frozen=True)
class QuantizationIs(Condition):
    operand: str
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Special(Condition):
    """A test that fits no other kind, by its name among the delegate's predicates (`*_predicates.py`)."""

    test: str
