"""A .tflite file as plain frozen dataclasses: Model -> Subgraph -> Tensor and Node.

Needs numpy and nothing else. Constant data stays in the mapped file until `Tensor.data()` asks for it.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mobilebert_kit.delegates.flatbuffer import MAX_ELEMENTS, BrokenBuffer, FlatBuffer, Table
from mobilebert_kit.delegates.tflite_schema import ACTIVATIONS, DTYPE_BITS, DTYPES, OP_NAMES, OPTIONS
from mobilebert_kit.errors import InputError

IDENTIFIER = b"TFL3"
ABSENT = -1  # an optional operand that is left out

# Beyond any model, and low enough that no tensor, name or op costs much however often it is spoken of.
MAX_RANK = 32  # numpy's
MAX_SIZE = 2**63 - 1  # elements: TFLite itself counts bytes in 64 bits
MAX_CUSTOM_CODE = 256
MAX_SUBGRAPHS = 1_000
_NAME_SHOWN = 80
_NOT_IN_NUMPY = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2", "int2", "int4", "uint4"})


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph. `shape` is the static one; `shape_signature` has -1 where it may be resized."""

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    quantized_dimension: int
    is_constant: bool
    is_variable: bool
    is_sparse: bool
    buffer: memoryview | None = field(repr=False, compare=False, default=None)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def per_channel(self) -> bool:
        return len(self.scales) > 1

    @property
    def scale(self) -> float:
        """The one scale, 0.0 for none or per channel: what TFLite's legacy `params.scale` holds."""
        return self.scales[0] if len(self.scales) == 1 and len(self.zero_points) == 1 else 0.0

    @property
    def zero_point(self) -> int:
        """The one zero point, 0 for none or per channel (TFLite's `params.zero_point`)."""
        return self.zero_points[0] if len(self.scales) == 1 and len(self.zero_points) == 1 else 0

    def data(self) -> np.ndarray:
        """The constant's values, `shape`, `dtype`, read-only. ValueError where numpy has no such data."""
        if not self.is_constant or self.buffer is None:
            raise ValueError(f"tensor {self.index}, {self.describe()}, is no constant")
        if self.is_sparse or self.dtype not in DTYPE_BITS or self.dtype in _NOT_IN_NUMPY:
            raise ValueError(f"tensor {self.index}, {self.describe()}, has data that have no numpy form")
        return np.frombuffer(self.buffer, np.dtype(self.dtype).newbyteorder("<")).reshape(self.shape)

    def describe(self) -> str:
        """Name, the beginning of a long one, type and shape: "'ids' int32[1,384]"."""
        name = self.name if len(self.name) <= _NAME_SHOWN else self.name[:_NAME_SHOWN] + "..."
        return f"{name!r} {self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Node:
    """An op of the graph. Operands are tensor indices, ABSENT (-1) for an optional one that is left out."""

    index: int
    op: str  # the name of the builtin op, "CUSTOM", or "UNKNOWN_<code>" for an op newer than this reader
    custom_code: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, object] = field(hash=False)


@dataclass(frozen=True)
class Subgraph:
    name: str
    tensors: tuple[Tensor, ...] = field(repr=False)
    nodes: tuple[Node, ...] = field(repr=False)
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    key: str
    subgraph: int
    inputs: Mapping[str, int] = field(hash=False)
    outputs: Mapping[str, int] = field(hash=False)


@dataclass(frozen=True)
class Model:
    path: Path
    description: str
    subgraphs: tuple[Subgraph, ...] = field(repr=False)
    signatures: tuple[Signature, ...]

    @property
    def main(self) -> Subgraph:
        """The subgraph that an interpreter runs, the first."""
        return self.subgraphs[0]


def read_tflite(path: str | Path) -> Model:
    """Reads a .tflite file. InputError for what cannot be opened, or is no well-formed model."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            # Opening a named pipe would wait for ever.
            raise InputError(f"{path}: expected a readable .tflite model: it is no regular file.")
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise InputError(f"{path}: expected a .tflite model, got an empty file.")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise InputError(f"{path}: expected a readable .tflite model: {error.strerror or error}.") from error
    try:
        return _read_model(path, FlatBuffer(data))
    except BrokenBuffer as error:
        raise InputError(
            f"{path}: expected a well-formed .tflite model: {error}. Copy or export the file again."
        ) from error


def _read_model(path: Path, buffer: FlatBuffer) -> Model:
    root = buffer.root(IDENTIFIER)
    if root.number(0, "I", 0) != 3:
        raise BrokenBuffer(f"schema version {root.number(0, 'I', 0)}, expected 3")
    codes = root.each(1, lambda _, table: _read_op_code(table))
    buffers = root.each(4, lambda _, table: _read_buffer(buffer, table))
    subgraphs = root.each(2, lambda _, table: _read_subgraph(table, codes, buffers))
    if not 1 <= len(subgraphs) <= MAX_SUBGRAPHS:
        raise BrokenBuffer(f"{len(subgraphs) or 'no'} subgraphs, expected 1 to {MAX_SUBGRAPHS}")
    signatures = root.each(7, lambda _, table: _read_signature(table, subgraphs))
    return Model(path, root.text(3), subgraphs, signatures)


def _read_op_code(table: Table) -> tuple[str, str, int]:
    # Codes up to 126 stand in the old byte field, later ones in the new field; the larger is meant.
    code = int(max(table.number(0, "b", 0), table.number(3, "i", 0)))
    if code < 0:
        raise BrokenBuffer(f"op code {code}")
    name = OP_NAMES[code] if code < len(OP_NAMES) else f"UNKNOWN_{code}"
    custom_code = table.text(1)
    if len(custom_code) > MAX_CUSTOM_CODE:
        raise BrokenBuffer(
            f"a custom op's name of {len(custom_code)} characters, not {MAX_CUSTOM_CODE} or fewer"
        )
    return name, custom_code, int(table.number(2, "i", 1))


def _read_buffer(buffer: FlatBuffer, table: Table) -> memoryview | None:
    data = table.data(0)
    if data is not None:
        return data
    # Models beyond 2 GB keep data behind the FlatBuffer: offset and size from the start of the file.
    offset, size = int(table.number(1, "Q", 0)), int(table.number(2, "Q", 0))
    if offset <= 1 or size <= 1:
        return None
    buffer.check(offset, size, "a buffer")
    return buffer.data[offset : offset + size]


def _read_tensor(index: int, table: Table, buffers: tuple[memoryview | None, ...]) -> Tensor:
    code = int(table.number(1, "b", 0))
    if not 0 <= code < len(DTYPES):
        raise BrokenBuffer(f"tensor {index} has the unknown type {code}")
    shape = table.numbers(0, "i")
    if len(shape) > MAX_RANK:
        raise BrokenBuffer(f"tensor {index} has {len(shape)} dimensions, not {MAX_RANK} or fewer")
    # Those of 0 aside, so that what is computed from some of the sizes stays small too.
    if any(size < 0 for size in shape) or prod(filter(None, shape)) > MAX_SIZE:
        raise BrokenBuffer(f"tensor {index} has the shape {shape}")
    number = int(table.number(2, "I", 0))
    if number >= len(buffers) and number != 0:
        raise BrokenBuffer(f"tensor {index} points to buffer {number} of {len(buffers)}")
    # Buffer 0 is by definition empty: a tensor that is computed.
    data = buffers[number] if number else None
    dtype, is_sparse = DTYPES[code], table.has(6)
    if data is not None and not is_sparse and dtype in DTYPE_BITS:
        expected = -(-prod(shape) * DTYPE_BITS[dtype] // 8)
        if len(data) != expected:
            raise BrokenBuffer(
                f"tensor {index}, {dtype} {shape}, has {len(data)} bytes of data, not {expected}"
            )
    quantization = table.table(4)
    return Tensor(
        index=index,
        name=table.text(3),
        dtype=dtype,
        shape=shape,
        shape_signature=table.numbers(7, "i") or shape,
        scales=quantization.numbers(2, "f") if quantization else (),
        zero_points=quantization.numbers(3, "q") if quantization else (),
        quantized_dimension=int(quantization.number(6, "i", 0)) if quantization else 0,
        is_constant=data is not None,
        is_variable=bool(table.number(5, "?", False)),
        is_sparse=is_sparse,
        buffer=data,
    )


def _read_options(op: str, table: Table) -> Mapping[str, object]:
    """An op's options by name; those at their defaults too, and enums as text."""
    layout = OPTIONS.get(op)
    if layout is None:
        return MappingProxyType({})
    # As in TFLite, options of another op's type count as absent.
    options = table.table(4) if table.number(3, "B", 0) == layout.union else None
    values: dict[str, object] = {}
    for name, option in layout.fields.items():
        value: object = option.default
        if options is not None:
            if option.kind == "[i]":
                value = options.numbers(option.slot, "i")
            else:
                value = options.number(option.slot, option.kind, option.default)
        if name == "fused_activation":
            if not 0 <= value < len(ACTIVATIONS):
                raise BrokenBuffer(f"the unknown fused activation {value} of {op}")
            value = ACTIVATIONS[value]
        elif name == "output_type":
            if not 0 <= value < len(DTYPES):
                raise BrokenBuffer(f"the unknown output type {value} of {op}")
            value = DTYPES[value]
        values[name] = value
    return MappingProxyType(values)


def _read_node(index: int, table: Table, codes: tuple[tuple[str, str, int], ...]) -> Node:
    code = int(table.number(0, "I", 0))
    if code >= len(codes):
        raise BrokenBuffer(f"node {index} has op code {code} of {len(codes)}")
    op, custom_code, version = codes[code]
    return Node(
        index,
        op,
        custom_code,
        version,
        table.numbers(1, "i"),
        table.numbers(2, "i"),
        _read_options(op, table),
    )


def _read_subgraph(
    table: Table, codes: tuple[tuple[str, str, int], ...], buffers: tuple[memoryview | None, ...]
) -> Subgraph:
    tensors = table.each(0, lambda index, item: _read_tensor(index, item, buffers))
    nodes = table.each(3, lambda index, item: _read_node(index, item, codes))
    graph = Subgraph(table.text(4), tensors, nodes, table.numbers(1, "i"), table.numbers(2, "i"))
    _check_graph(graph)
    return graph


def _check_graph(graph: Subgraph) -> None:
    """Operands exist, and nothing is read before the node that computes it: nodes run in file order.

    And what is looked at node by node is no more than a file may hold: a tensor of a million scales that a
    thousand nodes read would be a billion.
    """
    count = len(graph.tensors)
    for index in graph.inputs + graph.outputs:
        if not 0 <= index < count:
            raise BrokenBuffer(f"the graph has tensor {index} of {count} as input or output")
    made_by: dict[int, int] = {}
    for node in graph.nodes:
        for index in node.inputs + node.outputs:
            if not ABSENT <= index < count:
                raise BrokenBuffer(f"node {node.index} ({node.op}) uses tensor {index} of {count}")
        for index in node.outputs:
            if made_by.setdefault(index, node.index) != node.index and index != ABSENT:
                raise BrokenBuffer(f"tensor {index} is computed by nodes {made_by[index]} and {node.index}")
    scales = [len(tensor.scales) for tensor in graph.tensors]
    looked_at = sum(scales[i] for node in graph.nodes for i in node.inputs + node.outputs if i != ABSENT)
    if looked_at > MAX_ELEMENTS:
        raise BrokenBuffer(f"the operands of all nodes together have {looked_at} scales, not {MAX_ELEMENTS}")
    for node in graph.nodes:
        for index in node.inputs:
            if index != ABSENT and made_by.get(index, ABSENT) >= node.index:
                raise BrokenBuffer(
                    f"node {node.index} ({node.op}) reads tensor {index}, computed by node {made_by[index]}"
                )


def _read_signature(table: Table, subgraphs: tuple[Subgraph, ...]) -> Signature:
    number = int(table.number(4, "I", 0))
    if number >= len(subgraphs):
        raise BrokenBuffer(f"a signature of subgraph {number} of {len(subgraphs)}")
    count = len(subgraphs[number].tensors)

    def entry(_: int, item: Table) -> tuple[str, int]:
        index = int(item.number(1, "I", 0))
        if index >= count:
            raise BrokenBuffer(f"a signature names tensor {index} of {count}")
        return item.text(0), index

    return Signature(
        table.text(2),
        number,
        MappingProxyType(dict(table.each(0, entry))),
        MappingProxyType(dict(table.each(1, entry))),
    )
