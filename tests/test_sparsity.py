"""That no step loses a zero, what zeros are worth in bytes, and `sparsity` as a command."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import one_op_model as make
import pytest
import small_bert
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from checkpoint_files import write_tensorflow
from conftest import REPOSITORY
from one_op_model import F32, Operand, one_op, options, with_
from zeroed_export import FAMILIES, SHARE, export_zeroed, in_layer

from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.errors import InputError
from mobilebert_kit.lowering.cpu import CpuLowering
from mobilebert_kit.lowering.gpu import GpuLowering
from mobilebert_kit.lowering.nnapi import NnapiLowering
from mobilebert_kit.quantize.conversion import convert
from mobilebert_kit.quantize.recipes import W32_A32
from mobilebert_kit.sparse_weights import report
from mobilebert_kit.sparse_weights.kernels import read_weights
from mobilebert_kit.sparse_weights.layers import encoder_layers
from mobilebert_kit.sparse_weights.report import SPEED, analyze, table
from mobilebert_kit.sparse_weights.sparse_file import sparse_tflite

OPS = {  # op: (shape of the kernel, of its input, of its output, options)
    "CONV_2D": (
        (128, 1, 1, 256),
        (1, 1, 5, 256),
        (1, 1, 5, 128),
        options("Conv2DOptions", strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1),
    ),
    "FULLY_CONNECTED": ((128, 256), (5, 256), (5, 128), options("FullyConnectedOptions")),
}
MADE_ZEROS = {
    "unstructured": lambda random: random.random((128, 256)) < 0.85,
    "2:4": lambda random: (random.random((128, 64, 4)).argsort(axis=2) >= 2).reshape(128, 256),
    "4x1 blocks": lambda random: np.repeat(random.random((32, 256)) < 0.8, 4, axis=0),
    "4x8 blocks": lambda random: np.kron(random.random((32, 32)) < 0.8, np.ones((4, 8), bool)),
}


def dense_model(path: Path, zeros: np.ndarray, dtype: str, op: str) -> Path:
    """A file of one dense layer, whose weights are zero where `zeros` [128, 256] and not elsewhere."""
    kernel_shape, given, out, settings = OPS[op]
    random = np.random.default_rng(0)
    values = np.where(zeros, 0, random.integers(1, 99, zeros.shape)).reshape(kernel_shape)
    kernel = Operand(dtype, kernel_shape, values * (0.37 if dtype == "float32" else 1))
    rows, bias = Operand(dtype, given), Operand("float32", (128,), 0)
    if dtype == "int8":
        rows = with_(rows, scales=(0.5,), zero_points=(3,))
        kernel = with_(kernel, scales=(0.01,), zero_points=(0,))
        bias = with_(bias, dtype="int32", scales=(0.005,), zero_points=(0,))
    outs = with_(rows, shape=out)
    return make.write(path, one_op(op, [rows, kernel, bias], [outs], version=3, options=settings))


def run(path: Path) -> np.ndarray:
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    [given], [out] = interpreter.get_input_details(), interpreter.get_output_details()
    values = np.random.default_rng(1).integers(-50, 50, given["shape"]).astype(given["dtype"])
    interpreter.set_tensor(given["index"], values)
    interpreter.invoke()
    return interpreter.get_tensor(out["index"])


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("pattern", MADE_ZEROS)
def test_litert_computes_the_same_from_a_sparse_file(
    pattern: str, dtype: str, op: str, tmp_path: Path
) -> None:
    """And the file is as large as the report says, within what its tables differ."""
    zeros = MADE_ZEROS[pattern](np.random.default_rng(0))
    dense, sparse = dense_model(tmp_path / "dense.tflite", zeros, dtype, op), tmp_path / "sparse.tflite"
    sparse.write_bytes(sparse_tflite(dense))
    found = analyze(read_weights(dense))
    [kernel] = found["kernels"]
    assert (kernel["pattern"], kernel["zeros"]) == (pattern, zeros.mean())
    # Half of int8 weights with a byte of index each is no less than all of them. And XNNPACK fails on an int8
    # FULLY_CONNECTED behind DENSIFY.
    smaller = dtype == "float32" or (op == "CONV_2D" and pattern != "2:4")
    assert [node.op for node in read_tflite(sparse).main.nodes] == (["DENSIFY"] if smaller else []) + [op]
    assert abs(sparse.stat().st_size - found["bytes"]["sparse"]) <= 150
    out = run(dense)
    assert np.ptp(out.astype(np.float64)) > 0
    np.testing.assert_array_equal(run(sparse), out)


def test_a_shared_kernel_is_made_dense_once(tmp_path: Path) -> None:
    """Two layers of one kernel, before and after: the first reader needs it."""
    square = np.where(np.random.default_rng(0).random((64, 64)) < 0.85, 0, 0.5)
    rows = with_(F32, shape=(5, 64))
    graph = make.Graph(
        [rows, Operand("float32", (64, 64), square), Operand("float32", (64,), 0), rows, rows],
        [
            make.Op("FULLY_CONNECTED", [0, 1, 2], [3], options=options("FullyConnectedOptions")),
            make.Op("FULLY_CONNECTED", [3, 1, 2], [4], options=options("FullyConnectedOptions")),
        ],
        [0],
        [4],
    )
    dense, sparse = make.write(tmp_path / "dense.tflite", graph), tmp_path / "sparse.tflite"
    sparse.write_bytes(sparse_tflite(dense))
    assert len(read_weights(dense).kernels) == 1
    assert [node.op for node in read_tflite(sparse).main.nodes] == ["DENSIFY", *2 * ["FULLY_CONNECTED"]]
    np.testing.assert_array_equal(run(sparse), run(dense))


def test_deflated_as_a_zip_stores_it(tmp_path: Path) -> None:
    path = dense_model(
        tmp_path / "m.tflite", MADE_ZEROS["unstructured"](np.random.default_rng(0)), "int8", "CONV_2D"
    )
    with zipfile.ZipFile(io.BytesIO(), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(path)
        [entry] = archive.infolist()
    sizes = analyze(read_weights(path))["bytes"]
    assert (sizes["raw"], sizes["deflated"]) == (entry.file_size, entry.compress_size)


EACH_FILE = pytest.mark.parametrize(
    ("family", "target"), [(name, target) for name, family in FAMILIES.items() for target in family.targets]
)
Exports = dict[str, tuple[Path, dict[str, np.ndarray]]]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Of each family: the folder with `checkpoint` and `out`, and the checkpoint's tensors."""
    folder = tmp_path_factory.mktemp("zeroed")
    return {name: (folder / name, export_zeroed(folder / name, family)) for name, family in FAMILIES.items()}


def file_of(folder: Path, target: str) -> Path:
    manifest = json.loads((folder / "out" / "manifest.json").read_text(encoding="utf-8"))
    return folder / "out" / manifest["targets"][target]["file"]


def stored_kernels(path: Path) -> list[np.ndarray]:
    """The convolutions' kernels as stored, [outputs, inputs], read by the schema code of ai-edge-litert."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    codes = [code.builtinCode for code in model.operatorCodes]
    [graph] = model.subgraphs
    packed = {
        node.outputs[0]: node.inputs[0]
        for node in graph.operators
        if codes[node.opcodeIndex] == schema.BuiltinOperator.DEQUANTIZE
    }
    kernels = []
    for node in graph.operators:
        if codes[node.opcodeIndex] == schema.BuiltinOperator.CONV_2D:
            tensor = graph.tensors[packed.get(node.inputs[1], node.inputs[1])]
            dtype = {value: name.lower() for name, value in vars(schema.TensorType).items()}[tensor.type]
            values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), dtype)
            kernels.append(values.reshape(tensor.shape[0], -1))
    return kernels


DTYPES = {  # of the kernels in a file
    "float": {"float32"},
    "fp16": {"float16"},
    "dynamic": {"int8", "float32"},  # the head is too small to be worth it
    "int8": {"int8", "float32"},  # the first hidden state's
    "nnapi": {"int8"},
}


@EACH_FILE
def test_no_zero_is_lost_on_the_way_to_a_file(family: str, target: str, exports: Exports) -> None:
    """Each zero of each kernel of the checkpoint is one in the file, though gamma and the query's scale are
    folded in; int8 adds what it rounds to zero, the others none."""
    folder, tensors = exports[family]
    stored = stored_kernels(file_of(folder, target))
    assert {kernel.dtype.name for kernel in stored} <= DTYPES[target]
    heads = FAMILIES[family].config.num_attention_heads if target == "nnapi" else 1
    for name, kernel in tensors.items():
        parts = np.split(kernel.T, heads if "/self/" in name else 1)  # nnapi has a convolution a head
        for zeros in [part == 0 for part in parts] if in_layer(name) else []:
            [match] = [
                other == 0
                for other in stored
                if other.shape == zeros.shape and not (zeros & (other != 0)).any()
            ]
            rounded = match.sum() - zeros.sum()
            assert rounded <= (0.03 * zeros.size if "int8" in DTYPES[target] else 0), name


@EACH_FILE
def test_layers_of_a_file_are_those_of_the_checkpoint(family: str, target: str, exports: Exports) -> None:
    folder, tensors = exports[family]
    of_file = analyze(read_weights(file_of(folder, target)))
    of_checkpoint = analyze(read_weights(folder / "checkpoint"))
    config = FAMILIES[family].config
    for layer in (None, *range(config.num_hidden_layers)):
        elements = [
            sum(row["elements"] for row in found["kernels"] if row["layer"] == layer)
            for found in (of_file, of_checkpoint)
        ]
        assert elements[0] == elements[1] > 0
    inside = {name: value for name, value in tensors.items() if in_layer(name)}
    share = sum((value == 0).sum() for value in inside.values()) / sum(
        value.size for value in inside.values()
    )
    assert math.isclose(of_checkpoint["zeros"]["layers"], share) and math.isclose(share, SHARE, abs_tol=1e-3)
    assert 0 <= of_file["zeros"]["layers"] - share < 0.03
    assert of_checkpoint["elements"]["parameters"] == config.parameter_count
    zeros = sum((value == 0).sum() for value in tensors.values())
    assert math.isclose(of_checkpoint["zeros"]["parameters"], zeros / config.parameter_count)


def test_a_tensorflow_checkpoint_tells_the_same(exports: Exports, tmp_path: Path) -> None:
    folder, tensors = exports["mobilebert"]
    write_tensorflow(tmp_path / "model.ckpt", tensors)
    code, said, error = sparsity(tmp_path / "model.ckpt", "--json", tmp_path / "zeros.json")
    assert (code, error) == (0, "") and said.startswith(f"{tmp_path / 'model.ckpt'} (checkpoint, tf1)"), error
    found, same = (
        json.loads((tmp_path / "zeros.json").read_text()),
        analyze(read_weights(folder / "checkpoint")),
    )
    assert (found["zeros"], found["elements"]) == (same["zeros"], same["elements"])


@pytest.mark.parametrize("lowering", [CpuLowering, GpuLowering, NnapiLowering])
def test_changes_of_width_are_outside_the_layers(lowering: type[CpuLowering], tmp_path: Path) -> None:
    """The small BERT of the OpenVINO zoo has a dense layer before its encoder, and one behind it."""
    config = small_bert.SMALL_BERT
    module = small_bert.module(config, small_bert.weights(config), lowering)
    (tmp_path / "m.tflite").write_bytes(convert(module, W32_A32))
    kernels = read_weights(tmp_path / "m.tflite").kernels
    sizes = {
        layer: sum(kernel.zeros.size for kernel in kernels if kernel.layer == layer) for layer in (0, 1, None)
    }
    hidden, inner = config.hidden_size, config.intermediate_size
    of_a_layer = 4 * hidden**2 + 2 * hidden * inner
    outside = config.embedding_size * hidden + hidden * config.output_size + 2 * config.output_size
    assert sizes == {0: of_a_layer, 1: of_a_layer, None: outside}


def test_a_graph_without_attention_has_no_layers(tmp_path: Path) -> None:
    path = dense_model(tmp_path / "m.tflite", np.zeros((128, 256), bool), "float32", "CONV_2D")
    assert encoder_layers(read_tflite(path).main) == {}
    found = analyze(read_weights(path))
    assert found["zeros"]["layers"] is None and found["zeros"]["kernels"] == 0.0
    assert [row["layer"] for row in found["kernels"]] == [None]


def sparsity(*arguments: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of the command."""
    command = [sys.executable, "-m", "mobilebert_kit.sparsity", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


def test_the_demo_checkpoint_with_most_weights_zeroed(
    demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Magnitude pruning as it is published: 85.4 % of each kernel of the encoder."""
    from safetensors.numpy import load_file, save_file

    tensors, inside, zeros = load_file(demo_checkpoint / "model.safetensors"), 0, 0
    for name, tensor in tensors.items():
        if ".encoder." in name and tensor.ndim == 2:
            tensors[name] = np.where(np.abs(tensor) <= np.quantile(np.abs(tensor), 0.854), 0, tensor)
            inside, zeros = inside + tensor.size, zeros + (tensors[name] == 0).sum()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((demo_checkpoint / "config.json").read_bytes())
    monkeypatch.setattr(report, "deflated_bytes", lambda data: 0)  # of 36 MB it takes ten seconds
    found = analyze(read_weights(tmp_path))
    said = "\n" + "\n".join(table(found))
    assert (found["elements"]["layers"], found["zeros"]["layers"]) == (inside, pytest.approx(zeros / inside))
    patterns = [row["pattern"] for row in found["kernels"] if row["layer"] is not None]
    assert patterns == ["unstructured"] * 90
    assert "85.4%  of attention's and feed-forward's kernels are zero" in said
    assert "unstructured in 90" in said and said.count("\nlayer ") == 6 and "outside the layers" in said
    dense = [kernel for kernel in read_weights(demo_checkpoint).kernels if kernel.layer is not None]
    assert len(dense) == 90 and not any(kernel.zeros.mean() > 0.01 for kernel in dense)


def test_a_sparse_file_is_written_by_the_command(tmp_path: Path) -> None:
    zeros = MADE_ZEROS["unstructured"](np.random.default_rng(0))
    dense, sparse = (
        dense_model(tmp_path / "dense.tflite", zeros, "float32", "CONV_2D"),
        tmp_path / "sparse.tflite",
    )
    code, said, error = sparsity(dense, "--sparse_file", sparse)
    assert (code, error) == (0, "") and f"{sparse}: " in said
    assert sparse.stat().st_size < 0.5 * dense.stat().st_size
    code, _, error = sparsity(dense, "--sparse_file", sparse)
    assert code == 2 and "exists" in error and "--overwrite" in error
    code, _, error = sparsity(sparse)
    assert code == 2 and "packed" in error


def packed(folder: Path) -> Path:
    """A kernel of int4, two to a byte."""
    graph = make.Graph([F32, Operand("int8", (2, 4), 1), F32], [make.Op("FULLY_CONNECTED", [0, 1], [2])])
    model = schema.ModelT.InitFromPackedBuf(make.to_bytes(graph))
    tensor = model.subgraphs[0].tensors[1]
    tensor.type, model.buffers[tensor.buffer].data = schema.TensorType.INT4, np.ones(4, np.uint8)
    builder = make.flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (folder / "packed.tflite").write_bytes(bytes(builder.Output()))
    return folder / "packed.tflite"


def damaged(folder: Path) -> Path:
    path = make.write(
        folder / "whole.tflite", one_op("FULLY_CONNECTED", [F32, Operand(data=1.0), None], [F32])
    )
    (folder / "damaged.tflite").write_bytes(path.read_bytes()[:-40])
    return folder / "damaged.tflite"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Expected MODEL and flags"),
        (["absent.tflite"], "absent.tflite: expected a readable .tflite model"),
        (["absent"], "Expected a .tflite file or a checkpoint, got nothing at absent"),
        (["README.md"], "got another kind of file: README.md"),
        (["tests"], "Expected a TF1 checkpoint"),
        ([damaged], "damaged.tflite: expected a well-formed .tflite model"),
        ([packed], "packed ones: tensor 1"),
        (["mobilebert_kit/demo_checkpoint", "--sparse_file", "s.tflite"], "Expected a .tflite to write as"),
        (
            ["mobilebert_kit/demo_checkpoint", "--json", "tests"],
            "Expected a file name to write to, got tests",
        ),
    ],
)
def test_wrong_flags_and_files_end_with_2(arguments: list, says: str, tmp_path: Path) -> None:
    code, said, error = sparsity(*(part(tmp_path) if callable(part) else part for part in arguments))
    assert (code, said) == (2, "") and says in error and error.startswith("error: "), error
    assert not (REPOSITORY / "s.tflite").exists()


def test_what_is_said_of_speed_was_measured() -> None:
    """That none gained holds as long as no runtime is a tenth faster for any zeros, as last measured."""
    measured = json.loads((REPOSITORY / "tools/results/sparsity.json").read_text(encoding="utf-8"))["results"]
    assert {row["runtime"] for row in measured} == {"LiteRT (XNNPACK)", "ONNX Runtime", "OpenVINO"}
    assert all(runtime in SPEED for runtime in ("none gained", *(row["runtime"] for row in measured)))
    assert max(row["ratio"] for row in measured) < 1.1


def test_shared_bytes_are_bounded(tmp_path: Path) -> None:
    """Thousands of tensors may claim one buffer: the file stays small, what is looked at does not."""
    graph = make.Graph(
        [F32, *(Operand("float32", (64, 64), 1.0) for _ in range(40)), F32],
        [make.Op("FULLY_CONNECTED", [0, *range(1, 41)], [41])],
    )
    model = schema.ModelT.InitFromPackedBuf(make.to_bytes(graph))
    for tensor in model.subgraphs[0].tensors[2:41]:
        tensor.buffer = model.subgraphs[0].tensors[1].buffer
    model.buffers = model.buffers[:2]
    builder = make.flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (tmp_path / "shared.tflite").write_bytes(bytes(builder.Output()))
    with pytest.raises(InputError, match="share few bytes"):
        read_weights(tmp_path / "shared.tflite")
