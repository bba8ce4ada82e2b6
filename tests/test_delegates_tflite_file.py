"""The reader against the schema code that ai-edge-litert ships, and on files that are broken."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import one_op_model as make
import pytest
from ai_edge_litert import schema_py_generated as schema

from mobilebert_kit.delegates import read_tflite, tflite_schema
from mobilebert_kit.errors import InputError


def _values(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


def _small_model() -> bytes:
    weights = make.Operand("int8", (3, 4), 1, (0.1, 0.2, 0.3), (0, 0, 0), 0, "weights")
    given = make.Operand("int8", (1, 4), None, (0.5,), (-3,), 0, "given")
    bias = make.Operand("int32", (3,), [1, 2, 3], (0.05, 0.1, 0.15), (0, 0, 0), 0, "bias")
    out = make.Operand("int8", (1, 3), None, (0.25,), (7,), 0, "out")
    settings = make.options("FullyConnectedOptions", fusedActivationFunction=3, keepNumDims=True)
    graph = make.one_op("FULLY_CONNECTED", [given, weights, bias], [out], version=5, options=settings)
    return make.to_bytes(graph)


def test_schema_tables_are_those_of_ai_edge_litert() -> None:
    """An ai-edge-litert with a longer schema may append: the tables must be a prefix of its."""
    for table, enum in (
        (tflite_schema.OP_NAMES, schema.BuiltinOperator),
        (tflite_schema.ACTIVATIONS, schema.ActivationFunctionType),
    ):
        names = _values(enum)
        assert list(table) == [names[value] for value in range(len(table))]
    names = _values(schema.TensorType)
    assert list(tflite_schema.DTYPES) == [names[v].lower() for v in range(len(tflite_schema.DTYPES))]


ATTRIBUTES = {
    "fused_activation": "fusedActivationFunction",
    "dilation_w": "dilationWFactor",
    "dilation_h": "dilationHFactor",
}


@pytest.mark.parametrize("op", sorted(tflite_schema.OPTIONS))
def test_options_are_read_as_the_schema_code_writes_them(op: str, tmp_path: Path) -> None:
    """Every field with a value of its own, then an op with no options at all: the defaults."""
    layout = tflite_schema.OPTIONS[op]
    name = _values(schema.BuiltinOptions)[layout.union]
    written, want = {}, {}
    for number, (field, option) in enumerate(layout.fields.items()):
        value: object = {"?": not option.default, "f": 0.5, "[i]": [2, 3]}.get(option.kind, 2 + number)
        want[field] = tuple(value) if isinstance(value, list) else value
        if field == "fused_activation":
            value, want[field] = 3, "RELU6"
        elif field == "output_type":
            value, want[field] = 2, "int32"
        head, *rest = field.split("_")
        written[ATTRIBUTES.get(field, head + "".join(map(str.capitalize, rest)))] = value
    for options, expected in (
        (make.options(name, **written), want),
        (make.options(name), None),
        (None, None),
    ):
        graph = make.one_op(op, [make.Operand()], [make.Operand()], options=options)
        (node,) = read_tflite(make.write(tmp_path / "m.tflite", graph)).main.nodes
        if expected is None:
            expected = {field: option.default for field, option in layout.fields.items()}
            expected |= {"fused_activation": "NONE"} if "fused_activation" in expected else {}
            expected |= {"output_type": "float32"} if "output_type" in expected else {}
        assert dict(node.options) == expected


def test_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(_small_model())
    model = read_tflite(path)
    assert (model.description, len(model.subgraphs), model.main.name) == ("a test", 1, "main")
    given, weights, bias, out = model.main.tensors
    assert (given.name, given.dtype, given.shape, given.is_constant) == ("given", "int8", (1, 4), False)
    assert (given.scale, given.zero_point, given.per_channel) == (0.5, -3, False)
    assert weights.per_channel and weights.scale == 0.0 and weights.quantized_dimension == 0
    np.testing.assert_allclose(weights.scales, (0.1, 0.2, 0.3), rtol=1e-6)
    np.testing.assert_array_equal(weights.data(), np.ones((3, 4), np.int8))
    np.testing.assert_array_equal(bias.data(), [1, 2, 3])
    assert out.zero_points == (7,)
    (node,) = model.main.nodes
    assert (node.op, node.version, node.inputs, node.outputs) == ("FULLY_CONNECTED", 5, (0, 1, 2), (3,))
    assert node.options == {"fused_activation": "RELU6", "weights_format": 0, "keep_num_dims": True}
    assert (model.main.inputs, model.main.outputs) == ((0,), (3,))


def test_reads_the_recorded_models_as_the_schema_code_does(shared: Path) -> None:
    paths = sorted((shared / "data" / "nnapi_vectors").glob("*.tflite"))
    assert len(paths) == 31
    for path in paths:
        want = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
        got = read_tflite(path)
        assert len(got.subgraphs) == len(want.subgraphs)
        for graph, other in zip(got.subgraphs, want.subgraphs, strict=True):
            for tensor, expected in zip(graph.tensors, other.tensors, strict=True):
                assert tensor.name == expected.name.decode()
                assert tensor.shape == tuple([] if expected.shape is None else expected.shape)
                data = want.buffers[expected.buffer].data if expected.buffer else None
                assert tensor.is_constant == (data is not None)
                if data is not None and tensor.dtype != "string":
                    assert tensor.data().tobytes() == bytes(data)
            for node, expected in zip(graph.nodes, other.operators, strict=True):
                assert node.inputs == tuple(expected.inputs) and node.outputs == tuple(expected.outputs)
                assert node.version == want.operatorCodes[expected.opcodeIndex].version
        keys = [signature.signatureKey.decode() for signature in want.signatureDefs or []]
        assert [signature.key for signature in got.signatures] == keys


def test_an_op_newer_than_the_schema_is_kept_by_its_number(tmp_path: Path) -> None:
    graph = make.one_op("ADD", [make.Operand()], [make.Operand()], code=5000)
    assert read_tflite(make.write(tmp_path / "m.tflite", graph)).main.nodes[0].op == "UNKNOWN_5000"


def _patched(data: bytes, offset: int, value: int, kind: str = "<I") -> bytes:
    copy = bytearray(data)
    struct.pack_into(kind, copy, offset, value)
    return bytes(copy)


BROKEN = {
    "empty": lambda data: b"",
    "no model": lambda data: b"this is a text, not a model",
    "other identifier": lambda data: data[:4] + b"TFL2" + data[8:],
    "cut": lambda data: data[: len(data) // 2],
    "only the header": lambda data: data[:8],
    "root outside": lambda data: _patched(data, 0, 0x7FFFFFFF),
    "root vtable outside": lambda data: _patched(data, struct.unpack_from("<I", data)[0], -(2**31), "<i"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_file_is_an_input_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(BROKEN[name](_small_model()))
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_tflite(path)


def test_what_cannot_be_opened_is_an_input_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent.tflite", tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match="expected a readable"):
            read_tflite(path)


def _relu(reads: list[int], writes: list[int], **more: object) -> make.Graph:
    graph = make.Graph([make.Operand(), make.Operand()], [make.Op("RELU", reads, writes)], **more)
    graph.inputs, graph.outputs = graph.inputs or [0], graph.outputs or [1]
    return graph


GRAPHS = {
    "an operand that is not there": (_relu([9], [1]), "uses tensor 9 of 2"),
    "an operand below -1": (_relu([-2], [1]), "uses tensor -2"),
    "a graph input that is not there": (_relu([0], [1], inputs=[7]), "has tensor 7 of 2"),
    "a node that reads its own output": (_relu([1], [1]), "computed by node 0"),
    "a cycle": (
        make.Graph(
            [make.Operand() for _ in range(3)],
            [make.Op("ADD", [0, 2], [1]), make.Op("RELU", [1], [2])],
            [0],
            [2],
        ),
        "reads tensor 2",
    ),
    "a tensor computed twice": (
        make.Graph(
            [make.Operand() for _ in range(2)],
            [make.Op("RELU", [0], [1]), make.Op("RELU6", [0], [1])],
            [0],
            [1],
        ),
        "computed by nodes 0 and 1",
    ),
    "a negative dimension": (
        make.one_op("RELU", [make.Operand(shape=(-5, 4))], [make.Operand()]),
        "has the shape",
    ),
    "an unknown fused activation": (
        make.one_op(
            "ADD",
            [make.Operand(), make.Operand()],
            [make.Operand()],
            options=make.options("AddOptions", fusedActivationFunction=99),
        ),
        "unknown fused activation 99",
    ),
}


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_an_inconsistent_graph_is_an_input_error(name: str, tmp_path: Path) -> None:
    graph, says = GRAPHS[name]
    with pytest.raises(InputError, match=re.escape(says)):
        read_tflite(make.write(tmp_path / "m.tflite", graph))


def test_constant_data_must_fill_its_tensor(tmp_path: Path) -> None:
    data = _small_model()
    weights = bytes([1] * 12)
    at = data.index(weights)
    with pytest.raises(InputError, match="has 8 bytes of data, not 12"):
        path = tmp_path / "m.tflite"
        path.write_bytes(_patched(data, at - 4, 8))
        read_tflite(path)


def test_needs_neither_tensorflow_nor_a_runtime(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(_small_model())
    program = (
        "import sys\n"
        "from mobilebert_kit.delegates import check_nnapi, read_tflite\n"
        "check_nnapi(read_tflite(sys.argv[1]))\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'tensorflow', 'ai_edge_litert', 'tflite_runtime', 'flatbuffers'}, loaded\n"
    )
    repository = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, cwd=repository)
