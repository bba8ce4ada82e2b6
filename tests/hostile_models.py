"""Files that are made to cost a reader memory or time: much out of little, or one thing said many times.

HOSTILE["one name for many nodes"]() -> bytes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from one_op_model import OP_CODES, TYPE_CODES, Graph, Op, Operand, to_bytes

from mobilebert_kit.delegates.flatbuffer import MAX_TABLES

MANY = 20_000


class Writer:
    """The schema's low-level builder: an offset may be written down any number of times."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1 << 16)

    def ints(self, values: Sequence[int]) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependInt32(value)
        return self.builder.EndVector()

    def tables(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def text(self, value: str) -> int:
        return self.builder.CreateString(value)

    def table(self, fields: Sequence[tuple[str, object]], kind: str) -> int:
        getattr(schema, f"{kind}Start")(self.builder)
        for name, value in fields:
            getattr(schema, f"{kind}Add{name}")(self.builder, value)
        return getattr(schema, f"{kind}End")(self.builder)

    def tensor(
        self,
        shape: Sequence[int] = (1, 4),
        name: str = "t",
        dtype: str = "float32",
        buffer: int = 0,
    ) -> int:
        fields = [("Shape", self.ints(shape)), ("Name", self.text(name)), ("Type", TYPE_CODES[dtype])]
        return self.table([*fields, ("Buffer", buffer)], "Tensor")

    def code(self, op: str, custom: str = "") -> int:
        # Written as deprecated code too, but for those that do not fit.
        fields = [("BuiltinCode", OP_CODES[op]), ("DeprecatedBuiltinCode", min(OP_CODES[op], 127))]
        fields += [("Version", 1)] + ([("CustomCode", self.text(custom))] if custom else [])
        return self.table(fields, "OperatorCode")

    def node(self, inputs: Sequence[int], outputs: Sequence[int] = ()) -> int:
        given, made = self.ints(inputs), self.ints(outputs)
        return self.table([("Inputs", given), ("Outputs", made)], "Operator")

    def graph(
        self,
        tensors: Sequence[int],
        nodes: Sequence[int],
        inputs: Sequence[int] = (),
        outputs: Sequence[int] = (),
    ) -> int:
        fields = [("Tensors", self.tables(tensors)), ("Operators", self.tables(nodes))]
        fields += [("Inputs", self.ints(inputs)), ("Outputs", self.ints(outputs))]
        return self.table(fields, "SubGraph")

    def finish(self, graphs: Sequence[int], code: int, buffers: Sequence[int] = ()) -> bytes:
        fields = [("Version", 3), ("OperatorCodes", self.tables([code])), ("Subgraphs", self.tables(graphs))]
        fields.append(("Buffers", self.tables(buffers)))
        self.builder.Finish(self.table(fields, "Model"), b"TFL3")
        return bytes(self.builder.Output())


def _one_tensor_many_times() -> bytes:
    writer = Writer()
    tensors = [writer.tensor((1,) * 16, "n" * 64)] * MANY
    return writer.finish([writer.graph(tensors, [writer.node([0])])], writer.code("RELU"))


def _one_node_many_times() -> bytes:
    writer = Writer()
    nodes = [writer.node([0, 0, 0, 0])] * MANY
    return writer.finish([writer.graph([writer.tensor()], nodes)], writer.code("ADD"))


def _one_subgraph_many_times() -> bytes:
    writer = Writer()
    graphs = [writer.graph([writer.tensor()], [writer.node([0])])] * MANY
    return writer.finish(graphs, writer.code("RELU"))


def _everything_many_times() -> bytes:
    """2 KB of vectors that point to vectors that point to vectors: 10**8 tensors, were they all read."""
    writer = Writer()
    graphs = [writer.graph([writer.tensor()] * 500, [writer.node([0] * 500)] * 500)] * 500
    return writer.finish(graphs, writer.code("RELU"))


def _as_many_tables_as_are_read() -> bytes:
    writer, count = Writer(), MAX_TABLES // 2 - 10
    graph = writer.graph([writer.tensor()] * count, [writer.node([0], [])] * count)
    return writer.finish([graph], writer.code("RELU"))


def _one_name_for_many_nodes() -> bytes:
    writer = Writer()
    tensor = writer.tensor(name="n" * 1_000_000)
    return writer.finish(
        [writer.graph([tensor], [writer.node([0]) for _ in range(MANY)])], writer.code("RELU")
    )


def _one_custom_code_for_many_nodes() -> bytes:
    writer = Writer()
    nodes = [writer.node([0]) for _ in range(MANY)]
    return writer.finish([writer.graph([writer.tensor()], nodes)], writer.code("CUSTOM", "\n\x1b" * 500_000))


def _many_operands() -> bytes:
    writer = Writer()
    nodes = [writer.node([0] * 500_000)]
    return writer.finish([writer.graph([writer.tensor()], nodes)], writer.code("CONCATENATION"))


def _many_constant_operands(op: str) -> Callable[[], bytes]:
    def make() -> bytes:
        writer = Writer()
        data = writer.builder.CreateByteVector(b"\0" * 4)
        buffers = [writer.table([], "Buffer"), writer.table([("Data", data)], "Buffer")]
        tensors = [writer.tensor((1, 1, 1, 1), buffer=1), writer.tensor((1, 1, 1, MANY))]
        return writer.finish(
            [writer.graph(tensors, [writer.node([0] * MANY, [1])])], writer.code(op), buffers
        )

    return make


def _many_scales(count: int) -> Callable[[], bytes]:
    """A tensor quantized along its only dimension, and many nodes that read it."""

    def make() -> bytes:
        writer = Writer()
        data = writer.builder.CreateByteVector(b"\0" * count)
        buffers = [writer.table([], "Buffer"), writer.table([("Data", data)], "Buffer")]
        scales = writer.builder.CreateNumpyVector(np.linspace(1, 2, count, dtype=np.float32))
        zero_points = writer.builder.CreateNumpyVector(np.zeros(count, np.int64))
        details = writer.table([("Scale", scales), ("ZeroPoint", zero_points)], "QuantizationParameters")
        fields = [("Shape", writer.ints([count])), ("Type", TYPE_CODES["int8"]), ("Buffer", 1)]
        tensor = writer.table([*fields, ("Quantization", details)], "Tensor")
        nodes = [writer.node([0]) for _ in range(MANY if count < 1_000_000 else 1)]
        return writer.finish([writer.graph([tensor], nodes)], writer.code("RELU"), buffers)

    return make


def _large_axes() -> bytes:
    """Ten million axes, and a thousand nodes that are asked for theirs."""
    writer, count = Writer(), 10_000_000
    data = writer.builder.CreateByteVector(bytes(4 * count))
    buffers = [writer.table([], "Buffer"), writer.table([("Data", data)], "Buffer")]
    tensors = [writer.tensor(), writer.tensor((count,), dtype="int32", buffer=1)]
    nodes = [writer.node([0, 1], [2 + n]) for n in range(1000)]
    tensors += [writer.tensor()] * len(nodes)
    return writer.finish([writer.graph(tensors, nodes)], writer.code("TRANSPOSE"), buffers)


def _many_dimensions(size: int) -> Callable[[], bytes]:
    def make() -> bytes:
        writer = Writer()
        tensors = [writer.tensor((size,) * 300_000), writer.tensor()]
        nodes = [writer.node([0]) for _ in range(MANY)]
        return writer.finish([writer.graph(tensors, nodes)], writer.code("RELU"))

    return make


def _many_dequantized_outputs() -> bytes:
    """Each float16 constant is dequantized into an output of the graph."""
    writer = Writer()
    data = writer.builder.CreateByteVector(b"\0" * 2)
    buffers = [writer.table([], "Buffer"), writer.table([("Data", data)], "Buffer")]
    tensors = [writer.tensor((1,), dtype="float16", buffer=1)] + [writer.tensor((1,))] * MANY
    nodes = [writer.node([0], [1 + n]) for n in range(MANY)]
    graph = writer.graph(tensors, nodes, outputs=list(range(MANY, 0, -1)))
    return writer.finish([graph], writer.code("DEQUANTIZE"), buffers)


def _long_chain() -> bytes:
    """Two ops in turn, so that every node is a partition where one of them is refused."""
    operands = [Operand() for _ in range(3001)]
    ops = [Op(("RELU", "SIN")[n % 2], [n], [n + 1]) for n in range(3000)]
    return to_bytes(Graph(operands, ops, [0], [3000]))


def _chain_of_splits() -> bytes:
    """A part of a part of a part: what is remembered of each must not grow with each."""
    operands = [Operand("int32", (), 0), *(Operand(shape=(4, 4)) for _ in range(6001))]
    ops = [Op("SPLIT", [0, n], [n + 1, n + 3001]) for n in range(1, 3001)]
    return to_bytes(Graph(operands, ops, [1], [3001]))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "one tensor many times": _one_tensor_many_times,
    "one node many times": _one_node_many_times,
    "one subgraph many times": _one_subgraph_many_times,
    "everything many times": _everything_many_times,
    "as many tables as are read": _as_many_tables_as_are_read,
    "one name for many nodes": _one_name_for_many_nodes,
    "one custom code for many nodes": _one_custom_code_for_many_nodes,
    "many operands": _many_operands,
    "many constants joined": _many_constant_operands("CONCATENATION"),
    "many constants added": _many_constant_operands("ADD"),
    "many constants packed": _many_constant_operands("PACK"),
    "many scales": _many_scales(1_400_000),
    "many scales for many nodes": _many_scales(100_000),
    "large axes": _large_axes,
    "many dimensions of 1": _many_dimensions(1),
    "many dimensions of 2**31 - 1": _many_dimensions(2**31 - 1),
    "many dimensions of 0": _many_dimensions(0),
    "many dequantized outputs": _many_dequantized_outputs,
    "long chain": _long_chain,
    "chain of splits": _chain_of_splits,
}
