"""How far two machines agree on a quantized model.

A step is the scale of the last quantized tensor before the logits. Every logit is a whole number of steps,
so one step is the least by which two machines can differ at all: it is what a value that is rounded the other
way, in the last layer or somewhere before it, comes to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mobilebert_kit.delegates.tflite_file import Model, Subgraph
from mobilebert_kit.errors import InputError

if TYPE_CHECKING:
    from arm64_logits import Outcome

# Ops that leave the values as they are -> which operand holds them
_PASSES_ON = {
    **dict.fromkeys(("DEQUANTIZE", "RESHAPE", "SQUEEZE", "SLICE", "STRIDED_SLICE", "TRANSPOSE", "UNPACK"), 0),
    "SPLIT": 1,
}


@dataclass(frozen=True)
class Agreement:
    """Of one model on two machines.

    Attributes:
        windows: compared.
        other_tokens, other_answers: windows whose token ids, or answer, differ.
        steps: the largest difference of two logits.
        differing: the share of logits that differ, 0 to 1.
    """

    windows: int
    other_tokens: int
    other_answers: int
    steps: int
    differing: float


def logit_step(model: Model) -> float:
    """The step of the model's logits, of both outputs (and of all its lengths) the smallest.

    Raises:
        InputError: logits that are computed as floats: these have no steps.
    """
    numbers = {signature.subgraph for signature in model.signatures} or {0}
    return min(
        _step(model, model.subgraphs[number], tensor)
        for number in numbers
        for tensor in model.subgraphs[number].outputs
    )


def _step(model: Model, graph: Subgraph, tensor: int) -> float:
    maker = {output: node for node in graph.nodes for output in node.outputs}
    while not graph.tensors[tensor].scale:
        node = maker.get(tensor)
        if node is None or node.op not in _PASSES_ON:
            raise InputError(
                f"Expected quantized logits, as int8 and nnapi have, got {graph.tensors[tensor].describe()} "
                f"in {model.path}. Floats differ from machine to machine by rounding; see compare."
            )
        tensor = node.inputs[_PASSES_ON[node.op]]
    return graph.tensors[tensor].scale


def agreement(one: Outcome, other: Outcome, step: float) -> Agreement:
    """Two outcomes of the same windows."""
    pairs = ((one.start, other.start), (one.end, other.end))
    differences = np.stack(
        [np.abs(np.rint(a / np.float64(step)) - np.rint(b / np.float64(step))) for a, b in pairs]
    )
    return Agreement(
        windows=len(one.answers),
        other_tokens=int((one.input_ids != other.input_ids).any(axis=1).sum()),
        other_answers=int((one.answers != other.answers).sum()),
        steps=int(differences.max()),
        differing=float((differences > 0).mean()),
    )
