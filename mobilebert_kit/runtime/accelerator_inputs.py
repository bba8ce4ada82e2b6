"""Inputs that a model can be run with, made up from nothing but its file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mobilebert_kit.delegates import Model, Node, Subgraph, Tensor
from mobilebert_kit.errors import InputError

# Ops that pass on the numbers of their first operand, or some of them, in another form.
_PASSING = ("RESHAPE", "CAST", "SQUEEZE", "EXPAND_DIMS", "SLICE", "STRIDED_SLICE", "TRANSPOSE", "UNPACK")
_LARGEST_BYTES = 1 << 30  # of one input: SwiftShader's own limit for a buffer


@dataclass(frozen=True)
class Endpoints:
    """What goes in and comes out, by name: of a signature of the main graph, else of its tensors.

    signature: its key, "" for none.
    """

    signature: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    graph: Subgraph


def endpoints(model: Model) -> Endpoints:
    """The model's inputs and outputs, named as LiteRT's CompiledModel names them.

    Raises:
        InputError: two inputs, or two outputs, have one name.
    """
    graph = model.main
    signature = next((item for item in model.signatures if item.subgraph == 0), None)
    if signature:
        inputs = {name: graph.tensors[index] for name, index in signature.inputs.items()}
        outputs = {name: graph.tensors[index] for name, index in signature.outputs.items()}
        return Endpoints(signature.key, inputs, outputs, graph)
    inputs = {graph.tensors[index].name: graph.tensors[index] for index in graph.inputs}
    outputs = {graph.tensors[index].name: graph.tensors[index] for index in graph.outputs}
    for named, all_of_them in ((inputs, graph.inputs), (outputs, graph.outputs)):
        if len(named) != len(all_of_them):
            raise InputError(
                f"Expected inputs and outputs that their names tell apart, got {len(all_of_them)} tensors "
                f"named {', '.join(map(repr, named))}: {model.path}. Export the model with a signature."
            )
    return Endpoints("", inputs, outputs, graph)


def check_inputs(ends: Endpoints, inputs: Sequence[Mapping[str, np.ndarray]]) -> None:
    """InputError where these are not the model's inputs, by name, dtype and shape."""
    for arrays in inputs:
        if set(arrays) != set(ends.inputs):
            raise InputError(
                f"Expected the inputs {', '.join(ends.inputs) or 'none'}, got {', '.join(arrays) or 'none'}."
            )
        for name, tensor in ends.inputs.items():
            array = arrays[name]
            dtype = "string" if array.dtype.kind == "S" else array.dtype.name
            if array.shape != tensor.shape or dtype != tensor.dtype:
                expected = f"{tensor.dtype} {list(tensor.shape)}"
                raise InputError(f"Expected {name} to be {expected}, got {dtype} {list(array.shape)}.")


def model_inputs(model: Model, count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """`count` plausible inputs by name, each array of its tensor's shape and dtype.

    Floats are normal with deviation 1; quantized integers fill their range. Other integers lie in the table
    which they index, where a GATHER or EMBEDDING_LOOKUP takes them; else they are 0 or 1. Text is empty.

    Raises:
        InputError: an input that numpy has no dtype for, or one of more than 1 GiB.
    """
    ends = endpoints(model)
    random = np.random.default_rng(seed)
    limits = {name: _limit(ends.graph, tensor.index) for name, tensor in ends.inputs.items()}
    return [
        {name: _values(random, tensor, limits[name]) for name, tensor in ends.inputs.items()}
        for _ in range(count)
    ]


def _values(random: np.random.Generator, tensor: Tensor, limit: int) -> np.ndarray:
    if tensor.dtype == "string":
        return np.zeros(tensor.shape, "S1")
    try:
        dtype = np.dtype(tensor.dtype)
    except TypeError as error:
        raise InputError(f"Expected an input of a dtype that numpy has, got {tensor.describe()}.") from error
    if math.prod(tensor.shape) * dtype.itemsize > _LARGEST_BYTES:
        raise InputError(f"Expected an input of {_LARGEST_BYTES} bytes at most, got {tensor.describe()}.")
    if dtype.kind in "fc":
        return random.normal(size=tensor.shape).astype(dtype)
    if tensor.scales and dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        return random.integers(bounds.min, bounds.max, tensor.shape, dtype, endpoint=True)
    largest = 1 if dtype.kind == "b" else np.iinfo(dtype).max
    return random.integers(0, min(limit - 1, largest), tensor.shape, np.int64, endpoint=True).astype(dtype)


def _limit(graph: Subgraph, tensor: int) -> int:
    """What the numbers of an integer tensor must be below: the rows of the smallest table that it indexes."""
    forms, limits = {tensor}, []
    for node in graph.nodes:  # in file order: what a node reads is made before
        if node.op in _PASSING and node.inputs and node.inputs[0] in forms:
            forms.update(node.outputs)
        limits += _table_rows(graph, node, forms)
    return max(min(limits, default=2), 1)


def _table_rows(graph: Subgraph, node: Node, indices: set[int]) -> list[int]:
    if len(node.inputs) != 2 or min(node.inputs) < 0:
        return []
    first, second = (graph.tensors[index] for index in node.inputs)
    if node.op == "EMBEDDING_LOOKUP" and first.index in indices:
        return [second.shape[0]] if second.rank else []
    if node.op == "GATHER" and second.index in indices:
        axis = int(node.options["axis"])
        return [first.shape[axis]] if -first.rank <= axis < first.rank else []
    if node.op == "GATHER_ND" and second.index in indices:
        return list(first.shape[: second.shape[-1]]) if second.rank else []
    return []
