"""A node as a delegate sees it: what the conditions of conditions.py are asked of.

A rule may ask for an operand that a broken model does not have, where the delegate itself would read past an
array. That is `OperandMissing`: neither accepted nor refused, but unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from mobilebert_kit.delegates.tflite_file import ABSENT, Node, Tensor

QUANTIZED_8 = ("uint8", "int8")
MAX_PARAMETERS = 1_024  # elements of a constant that says what an op does: axes, sizes, paddings


class OperandMissing(LookupError):
    """The node has no such operand, option or constant."""


@dataclass(frozen=True)
class View:
    """A node as the delegate sees it: its operands, the level, and whether accelerators are targeted."""

    node: Node
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor | None, ...]
    level: int
    accelerator: bool

    def optional(self, name: str) -> Tensor | None:
        operands = self.inputs if name.startswith("in") else self.outputs
        index = int(name.removeprefix("in").removeprefix("out"))
        return operands[index] if index < len(operands) else None

    def operand(self, name: str) -> Tensor:
        tensor = self.optional(name)
        if tensor is None:
            raise OperandMissing(f"it has no operand {name}")
        return tensor

    def option(self, name: str) -> object:
        if name not in self.node.options:
            raise OperandMissing(f"it has no option {name}")
        return self.node.options[name]

    def constant(self, name: str) -> np.ndarray:
        """The values of an operand that says what the op does: few, `shape` and `dtype` of the tensor."""
        tensor = self.operand(name)
        if prod(tensor.shape) > MAX_PARAMETERS:
            raise OperandMissing(f"{name} has {prod(tensor.shape)} elements, not {MAX_PARAMETERS} or fewer")
        try:
            return tensor.data()
        except ValueError as error:
            raise OperandMissing(str(error)) from error


def view_of(
    node: Node, tensors: Sequence[Tensor], level: int, accelerator: bool, remap: dict[int, int] | None = None
) -> View:
    """The view of a node; `remap` replaces input tensors (a dequantized constant by its float16 source)."""
    remap = remap or {}
    inputs = tuple(None if i == ABSENT else tensors[remap.get(i, i)] for i in node.inputs)
    outputs = tuple(None if i == ABSENT else tensors[i] for i in node.outputs)
    return View(node, inputs, outputs, level, accelerator)
