"""The weights of a checkpoint or a .tflite, as far as their zeros go."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.checkpoints.locate import locate
from mobilebert_kit.delegates.model_card import weights
from mobilebert_kit.delegates.tflite_file import ABSENT, IDENTIFIER, Node, Subgraph, Tensor, read_tflite
from mobilebert_kit.errors import InputError
from mobilebert_kit.native_log import import_tensorflow
from mobilebert_kit.sparse_weights.layers import encoder_layers

DENSE = frozenset({"CONV_2D", "FULLY_CONNECTED"})
TFLITE = "TFLite"
FLOAT = np.dtype(np.float32)
MOST_SHARED = 8  # subgraphs may share weights; in a broken file a million tensors may share one buffer
_LAYER_KERNEL = re.compile(r"bert/encoder/layer_(\d+)/(.+)/kernel")
_OTHER_KERNEL = re.compile(r"(.+)/kernel|(.+/output_weights)")


@dataclass(frozen=True)
class Kernel:
    """The kernel of a dense layer.

    Attributes:
        layer: of the encoder, from 0; None for a kernel outside its layers: a change of width, the head.
        dtype: as it is stored.
        zeros: bool [outputs, inputs], True where it is exactly zero. A convolution's taps are inputs.
        columns: the last dimension of the tensor, as .tflite files store it: inputs, of one tap.
        densified: whether LiteRT runs it from the sparse encoding, see `runs_densified`.
    """

    name: str
    layer: int | None
    dtype: np.dtype
    zeros: np.ndarray
    columns: int
    densified: bool = True


@dataclass(frozen=True)
class Weights:
    """All weights of a model. `kernels` are in the order of the checkpoint or the file, each once.

    `parameters` and `zeros` are of all weights: tables, norms and biases too. `data` is what is stored: the
    file's bytes, or a checkpoint's tensors as float32.
    """

    kind: str
    kernels: Sequence[Kernel]
    parameters: int
    zeros: int
    data: Sequence[memoryview]


def read_weights(path: str | Path) -> Weights:
    """Of a .tflite file, or of any checkpoint that the kit reads.

    Raises:
        InputError: neither, a damaged one, or a .tflite whose weights are packed (int4, sparse already).
    """
    path = Path(path)
    if path.suffix == ".tflite" or _is_tflite(path):
        return _of_tflite(path)
    if not path.exists() and not path.with_name(path.name + ".index").exists():
        raise InputError(f"Expected a .tflite file or a checkpoint, got nothing at {path}. Check the path.")
    return _of_checkpoint(path)


def _is_tflite(path: Path) -> bool:
    if not path.is_file():
        return False  # opening a named pipe would wait for ever
    try:
        with path.open("rb") as file:
            return file.read(8)[4:] == IDENTIFIER
    except OSError:
        return False  # the reader of checkpoints says why


def _of_checkpoint(path: Path) -> Weights:
    with contextlib.suppress(OSError):  # load_checkpoint says why
        if locate(path).format != "huggingface":
            import_tensorflow()
    checkpoint = load_checkpoint(path, headless=True)
    tensors = checkpoint.tensors
    return Weights(
        kind=f"checkpoint, {checkpoint.format}",
        kernels=[kernel for name, tensor in tensors.items() if (kernel := _canonical(name, tensor))],
        parameters=sum(tensor.size for tensor in tensors.values()),
        zeros=sum(int(np.count_nonzero(tensor == 0)) for tensor in tensors.values()),
        data=[np.ascontiguousarray(tensor).data.cast("B") for tensor in tensors.values()],
    )


def _canonical(name: str, tensor: np.ndarray) -> Kernel | None:
    """The kernel of a canonical variable; None for a table, a bias, a norm. Kernels are [inputs, outputs]."""
    inside, other = _LAYER_KERNEL.fullmatch(name), _OTHER_KERNEL.fullmatch(name)
    if tensor.ndim != 2 or not other:
        return None
    zeros = np.ascontiguousarray((tensor.T if other[1] else tensor) == 0)
    shown = (inside[2] if inside else other[1] or other[2]).removesuffix("/dense")
    return Kernel(shown, int(inside[1]) if inside else None, FLOAT, zeros, zeros.shape[1])


def _of_tflite(path: Path) -> Weights:
    model = read_tflite(path)
    found = [tensor for graph in model.subgraphs for tensor in weights(graph)]
    size, data = sum(len(tensor.buffer) for tensor in found), np.memmap(path, np.uint8, "r")
    if size > MOST_SHARED * len(data):
        raise InputError(
            f"Expected the weights in {path} to share few bytes, got {size} bytes of weights in a file of "
            f"{len(data)}."
        )
    return Weights(
        kind=TFLITE,
        kernels=[kernel for graph in model.subgraphs for kernel in _of_graph(graph)],
        parameters=sum(zeros_of(tensor).size for tensor in found),
        zeros=sum(int(np.count_nonzero(zeros_of(tensor))) for tensor in found),
        data=[memoryview(data)],
    )


def _of_graph(graph: Subgraph) -> Iterator[Kernel]:
    layers, seen = encoder_layers(graph), set()
    for node, tensor in dense_kernels(graph):
        if tensor.index not in seen:
            seen.add(tensor.index)
            zeros = zeros_of(tensor).reshape(tensor.shape[0], -1)
            yield Kernel(
                name=f"node {node.index} {node.op}",
                layer=layers.get(node.index),
                dtype=np.dtype(tensor.dtype),
                zeros=zeros,
                columns=tensor.shape[-1],
                densified=runs_densified(graph, node, tensor),
            )


def dense_kernels(graph: Subgraph) -> Iterator[tuple[Node, Tensor]]:
    """Each dense layer's node with its constant kernel, [outputs, ..., inputs]; that before a DEQUANTIZE."""
    source = {
        node.outputs[0]: node.inputs[0]
        for node in graph.nodes
        if node.op == "DEQUANTIZE" and node.inputs and node.outputs
    }
    for node in graph.nodes:
        if node.op in DENSE and len(node.inputs) > 1 and node.inputs[1] != ABSENT:
            tensor = graph.tensors[source.get(node.inputs[1], node.inputs[1])]
            if tensor.is_constant and tensor.rank > 1 and prod(tensor.shape):
                yield node, tensor


def runs_densified(graph: Subgraph, node: Node, kernel: Tensor) -> bool:
    """Whether LiteRT 2.3.0 runs `node` where a DENSIFY gives its kernel.

    Of int8 kernels XNNPACK takes only those of an int8 CONV_2D so; with another, of a FULLY_CONNECTED or for
    float inputs, the whole model fails to load.
    """
    if any(kernel.zero_points):
        return False  # what the encoding leaves out becomes the byte 0
    integer = node.op == "CONV_2D" and graph.tensors[node.inputs[0]].dtype == kernel.dtype == "int8"
    return integer or kernel.dtype in ("float32", "float16")


def zeros_of(tensor: Tensor) -> np.ndarray:
    """bool, the shape of the constant: where it is exactly zero. An int8 zero is its zero point."""
    try:
        values = tensor.data()
    except ValueError as error:
        raise InputError(
            f"Expected weights of which each has its own bytes, got packed ones: {error}. Give the file that "
            "this one was made of."
        ) from error
    points = set(tensor.zero_points) or {0}
    if len(points) > 1:
        raise InputError(
            f"Expected weights with one zero point for all channels, as TFLite demands, got {len(points)} for"
            f" {tensor.describe()}."
        )
    return values == points.pop()
