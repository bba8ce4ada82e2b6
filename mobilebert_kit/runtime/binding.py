"""Which of a model's tensors is which, by name.

A model that got no segment_ids still answers, only worse: published BERTs lost 23 to 54 points of F1 between
two frameworks, most likely that way. So every input must be known by name, and none is left out in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilebert_kit.contract import ALIASES, MLPERF
from mobilebert_kit.errors import InputError

INPUT_NAMES = frozenset(alias for own in MLPERF.input_names for alias in ALIASES[own])
INPUT_DTYPES = ("int32", "int64", "float32")  # that ids may be of
OUTPUT_DTYPES = ("float32",)
# What a model says of a tensor: numpy's name of its dtype, and its shape with -1 where a size is free.
Declared = tuple[str, Sequence[int]]


@dataclass(frozen=True)
class Bound:
    """A model of one sequence length: {the kit's name: the model's own} of what it takes and gives."""

    inputs: dict[str, str]
    outputs: dict[str, str]
    dtypes: dict[str, str]  # of the inputs, by the model's names
    length: int

    def feed(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """By the model's names, [1, length] of its dtypes: `inputs` by the kit's, integers [S] or [1, S].

        Raises ValueError unless they are all of the model's inputs, and no other.
        """
        if set(inputs) != set(self.inputs):
            raise ValueError(f"Expected {', '.join(self.inputs)}, got {', '.join(inputs)}.")
        return {
            theirs: np.asarray(inputs[own], self.dtypes[theirs]).reshape(1, self.length)
            for own, theirs in self.inputs.items()
        }


def bind(fed: Mapping[str, Declared], given: Mapping[str, Declared], path: Path) -> Bound:
    """The tensors of question answering among a model's inputs and outputs, by its names.

    Raises:
        InputError: as `bind_inputs` and `bind_outputs`; or one is not of a dtype that fits, or not [1, S].
    """
    inputs, outputs = bind_inputs(fed, path), bind_outputs(given, path)
    *_, length = fed[inputs["input_ids"]][1] or [0]
    for names, tensors, dtypes in (
        (inputs.values(), fed, INPUT_DTYPES),
        (outputs.values(), given, OUTPUT_DTYPES),
    ):
        for name in names:
            _check_tensor(name, *tensors[name], length, dtypes, path)
    return Bound(inputs, outputs, {name: dtype for name, (dtype, _) in fed.items()}, length)


def bind_inputs(names: Collection[str], path: Path) -> dict[str, str]:
    """{the kit's name: the model's own} of all inputs; segment_ids may be missing (see segments.py).

    Raises:
        InputError: an input that is none of the three, two for one, or no ids or no mask.
    """
    bound = _bind(MLPERF.input_names, names, path)
    unknown = sorted(set(names) - set(bound.values()))
    if unknown:
        known = "; ".join(f"{name}: {', '.join(ALIASES[name])}" for name in MLPERF.input_names)
        raise InputError(
            f"Expected inputs that are known by name ({known}), got {', '.join(unknown)} in {path}. It would "
            "have to be left out. Export the model without it."
        )
    _require(bound, ("input_ids", "input_mask"), names, path)
    return bound


def bind_outputs(names: Collection[str], path: Path) -> dict[str, str]:
    """{end_logits, start_logits: the model's own names}; other outputs are not read.

    Raises:
        InputError: one is missing, or there are two for one.
    """
    bound = _bind(MLPERF.output_names, names, path)
    _require(bound, MLPERF.output_names, names, path)
    return bound


def plain_name(tensor_name: str) -> str:
    """The signature's name in a converter's tensor name: "serving_default_input_ids:0" -> "input_ids"."""
    return tensor_name.removeprefix("serving_default_").split(":")[0]


def _check_tensor(
    name: str, dtype: str, shape: Sequence[int], length: int, dtypes: Sequence[str], path: Path
) -> None:
    """InputError unless a tensor is [1, length] of one of `dtypes`.

    shape: with -1 where a size is free. length: of the ids, for all tensors have the same.
    """
    if dtype not in dtypes or tuple(shape) != (1, length) or length < 1:
        raise InputError(
            f"Expected {name} to be {' or '.join(dtypes)} [1, S] with one fixed sequence length S for all "
            f"tensors, got {dtype} {list(shape)} in {path}."
        )


def _bind(wanted: Sequence[str], names: Collection[str], path: Path) -> dict[str, str]:
    bound = {}
    for own in wanted:
        found = [alias for alias in ALIASES[own] if alias in names]
        if len(found) > 1:
            raise InputError(f"Expected one tensor for {own}, got {' and '.join(found)} in {path}.")
        if found:
            bound[own] = found[0]
    return bound


def _require(bound: Mapping[str, str], wanted: Sequence[str], names: Collection[str], path: Path) -> None:
    missing = [own for own in wanted if own not in bound]
    if missing:
        accepted = "; ".join(" or ".join(ALIASES[own]) for own in missing)
        raise InputError(
            f"Expected a tensor named {accepted}, got {', '.join(sorted(names)) or 'none'} in {path}. They "
            "are known by name, never by position: export the model with a signature that names them."
        )
