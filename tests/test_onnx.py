"""ONNX files: what `--target onnx` and `onnx_qdq` write, what runs them, what is refused."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_bert
import small_export as small
import tensorflow as tf
from without_tensorflow import run_light

from mobilebert_kit import __version__
from mobilebert_kit.artifacts import sha256_file
from mobilebert_kit.build import export
from mobilebert_kit.comparison.models import open_model
from mobilebert_kit.contract import CONTRACTS, MLPERF
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.lowering.onnx import OnnxLowering
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.quantize.recipes import W8_DYNAMIC, W16_A32, Recipe
from mobilebert_kit.runtime.engine import open_engine
from mobilebert_kit.runtime.onnx_model import OnnxModel
from mobilebert_kit.runtime.scoring import run_windows
from mobilebert_kit.targets import FLOAT, INT8, ONNX, ONNX_QDQ, parse_targets

onnx = pytest.importorskip("onnx", reason="no onnx (extra [onnx_export])")
onnxruntime = pytest.importorskip("onnxruntime", reason="no onnxruntime (extra [onnx])")
pytest.importorskip("tf2onnx", reason="no tf2onnx (extra [onnx_export])")

WINDOWS = small.windows()
FILES = {
    "onnx": "mobilebert_float_96.onnx",
    "onnx_qdq": "mobilebert_squad11_int8_qdq.onnx",
    "float": "mobilebert_float_96.tflite",
}
OPSET = 17
# Sums of some 20 products in another order, 2 layers: 1e-6 was seen.
ROUNDING = 1e-5


def module(contract: str = "mlperf", seed: int = 0) -> tf.Module:
    return serving_module(
        small.CONFIG,
        small.weights(seed=seed),
        lowering=OnnxLowering,
        contract=CONTRACTS[contract],
        sequence_length=small.LENGTH,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MobileBERT's export in `out`, and questions that its float model answers rightly."""
    folder = tmp_path_factory.mktemp("onnx")
    small.write_checkpoint(folder / "checkpoint")
    small.write_squad(folder / "questions.json")
    score = export(small.request(folder, "float", output_dir=folder / "first")).float_score
    small.write_squad(folder / "questions.json", score.predictions)
    export(small.request(folder, targets=[FLOAT, INT8, ONNX, ONNX_QDQ]))
    return folder


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    return folder / "out" / FILES["onnx"]


@pytest.mark.parametrize("name", ["onnx", "onnx_qdq"])
def test_a_file_is_whole_and_says_what_it_is(folder: Path, name: str) -> None:
    model = onnx.load(folder / "out" / FILES[name], load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert (model.producer_name, model.producer_version) == ("mobilebert_kit", __version__)
    recipes = {"onnx": ONNX.recipe.name, "onnx_qdq": ONNX_QDQ.recipe.name}
    assert {prop.key: prop.value for prop in model.metadata_props} == {"recipe": recipes[name]}
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    for side, specs in ((model.graph.input, MLPERF.inputs), (model.graph.output, MLPERF.outputs)):
        assert [value.name for value in side] == [spec.name for spec in specs]
        for value, spec in zip(side, specs, strict=True):
            tensor = value.type.tensor_type
            assert onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) == spec.dtype
            assert [size.dim_value for size in tensor.shape.dim] == [1, small.LENGTH]


def test_another_contract(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "m.onnx"
    assert ONNX.write(module("openvino"), path) == [path]
    session = onnxruntime.InferenceSession(path)
    contract = CONTRACTS["openvino"]
    assert tuple(node.name for node in session.get_inputs()) == contract.input_names
    assert tuple(node.name for node in session.get_outputs()) == contract.output_names
    window = {name: value[0] for name, value in small.arrays()[0].items()}
    given, expected = OnnxModel(path).run(**window), OnnxModel(file).run(**window)
    for own in MLPERF.output_names:
        np.testing.assert_array_equal(given[own], expected[own])
    assert not np.array_equal(given["start_logits"], given["end_logits"])


def test_float_gives_litert_s_logits(folder: Path, file: Path) -> None:
    start, end = (run_windows(folder / "out" / FILES[n], WINDOWS, progress=False) for n in ("onnx", "float"))
    np.testing.assert_allclose(start, end, rtol=0, atol=ROUNDING)
    model = open_model(file)  # as `compare` opens it
    assert (model.kind, model.sequence_length) == ("ONNX", small.LENGTH)
    np.testing.assert_allclose(model.logits(WINDOWS), start, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("family", list(small_bert.CONFIGS))
def test_berts(family: str, tmp_path: Path) -> None:
    """LayerNorm, both gelus, the dense layers around an encoder, no segments: as TensorFlow computes them."""
    config = small_bert.CONFIGS[family]
    weights = small_bert.weights(config)
    path = tmp_path / "bert.onnx"
    ONNX.write(small_bert.module(config, weights, OnnxLowering), path)
    model = OnnxModel(path)
    expected = small_bert.run(small_bert.module(config, weights), small_bert.arrays(config))
    for index, window in enumerate(small_bert.arrays(config)):
        logits = model.run(**window)
        for row, name in enumerate(("start_logits", "end_logits")):
            np.testing.assert_allclose(logits[name][0], expected[row, index], rtol=0, atol=2 * ROUNDING)


def test_every_dense_layer_becomes_an_integer_kernel(folder: Path, tmp_path: Path) -> None:
    """But for the trigram's, which the recipe keeps in float; and the products of attention."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that the file is for this machine
    path = folder / "out" / FILES["onnx_qdq"]
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    before, after = (
        Counter(node.op_type for node in onnx.load(name).graph.node)
        for name in (path, tmp_path / "optimized.onnx")
    )
    layers = small.CONFIG.num_hidden_layers
    assert after["QGemm"] == before["Gemm"] - 1
    assert after["Gemm"] + after["FusedGemm"] == 1
    assert (after["MatMulIntegerToFloat"], after["QLinearMatMul"]) == (layers, layers)
    assert after["Relu"] == after["MatMul"] == 0


def test_openvino_runs_both(folder: Path) -> None:
    """As ONNX Runtime with its default options: without VNNI the int8 kernels of both saturate, alike.

    Where they do not, the last bit of an int8 tensor may differ, as in test_onnx_integers.
    """
    openvino = pytest.importorskip("openvino", reason="no openvino (extra [openvino])")
    core = openvino.Core()
    for name, atol in (("onnx", ROUNDING), ("onnx_qdq", 0.1)):
        path = folder / "out" / FILES[name]
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for window in small.arrays()[:3]:
            given = compiled(window)
            for own, expected in zip(MLPERF.output_names, session.run(None, window), strict=True):
                np.testing.assert_allclose(given[own], expected, rtol=0, atol=atol)


def test_the_manifest_has_its_score(folder: Path) -> None:
    manifest = json.loads((folder / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert set(FILES.values()) <= set(manifest["files"])
    entry = manifest["targets"]["onnx"]
    assert (entry["file"], entry["f1"], entry["f1_drop"]) == (FILES["onnx"], 100.0, 0.0)
    entry = manifest["targets"]["onnx_qdq"]
    assert (entry["file"], entry["recipe"]) == (FILES["onnx_qdq"], ONNX_QDQ.recipe.name)
    assert entry["ranges"]["calibrated"] > 0 == entry["ranges"]["trained"]
    assert "delegate" not in entry
    assert manifest["versions"]["onnxruntime"] == onnxruntime.__version__


def test_evaluate_runs_it_without_tensorflow(folder: Path) -> None:
    manifest = json.loads((folder / "out" / "manifest.json").read_text(encoding="utf-8"))
    path = folder / "out" / FILES["onnx_qdq"]
    arguments = ("--model", path, "--dataset", folder / "questions.json", "--json", "--workers", 2)
    done = run_light("mobilebert_kit.evaluate", *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["f1"] == pytest.approx(manifest["targets"]["onnx_qdq"]["f1"], abs=1e-4)
    assert done.stderr == ""


def test_twice_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    [again] = ONNX.write(module(), tmp_path / "again.onnx")
    assert sha256_file(again) == sha256_file(file)  # no assert on megabytes: its message would be as long


def write_another(module_: tf.Module, recipe: Recipe, file: Path) -> list[Path]:
    """Of another network than asked for."""
    return ONNX.write(module(seed=1), file)


def test_it_is_scored_before_it_is_put_in_place(folder: Path, tmp_path: Path) -> None:
    target = replace(ONNX, writer="test_onnx:write_another")
    request = small.request(folder, targets=[target], output_dir=tmp_path / "out", max_f1_drop=2.0)
    with pytest.raises(CheckFailed, match=r"onnx to lose 2 F1 at most .* 100\.00 -> "):
        export(request)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("package", "extra"), [("onnxruntime", "onnx"), ("tf2onnx", "onnx_export")])
@pytest.mark.parametrize("target", ["onnx", "onnx_qdq"])
def test_without_an_extra_nothing_is_begun(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    request = small.request(folder, targets=parse_targets(target), output_dir=tmp_path / "out")
    with pytest.raises(InputError, match=rf"{package}.*pip install 'mobilebert_kit\[{extra}\]'"):
        export(replace(request, checkpoint=tmp_path / "not even looked at"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recipe", [W16_A32, W8_DYNAMIC])
def test_no_weights_are_rounded_alone(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"float32 or of int8 activations, got {recipe.name}"):
        replace(ONNX, recipe=recipe).write(module(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [len(small.VOCAB), -1])
def test_every_window_must_fit(file: Path, wrong: int, capfd: pytest.CaptureFixture[str]) -> None:
    model = open_engine(file)
    ids = np.zeros(small.LENGTH, np.int32)
    with pytest.raises(InputError, match="Does the vocabulary fit the model"):
        model.run(input_ids=ids + wrong, input_mask=ids, segment_ids=ids)
    with pytest.raises(ValueError, match="Expected input_ids, input_mask, segment_ids, got input_ids"):
        model.run(input_ids=ids)
    assert capfd.readouterr().err == ""  # onnxruntime would log what the error says


def write_sum(path: Path, names: list[str], shape: list[object], dtype: str = "INT32") -> None:
    """A model that adds up its inputs, and gives the sum as both logits."""
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [helper.make_node("Cast", [name], [f"{name}_"], to=types.FLOAT) for name in names]
    nodes.append(helper.make_node("Sum", [f"{name}_" for name in names], ["start_logits"]))
    nodes.append(helper.make_node("Neg", ["start_logits"], ["end_logits"]))
    fed = [helper.make_tensor_value_info(name, types.DataType.Value(dtype), shape) for name in names]
    given = [helper.make_tensor_value_info(n, types.FLOAT, shape) for n in ("start_logits", "end_logits")]
    graph = helper.make_graph(nodes, "sum", fed, given)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", OPSET)]), path)


OWN = list(MLPERF.input_names)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.onnx", "got no such file"),
        ("empty.onnx", "a model that onnxruntime can load"),
        ("text.onnx", "a model that onnxruntime can load"),
        ("cut.onnx", "a model that onnxruntime can load"),
        ("renamed.onnx", "known by name .* got positions"),
        ("unmasked.onnx", "a tensor named input_mask or attention_mask"),
        ("free.onnx", r"input_ids to be .* got int32 \[-1, -1\]"),
        ("strings.onnx", r"input_ids to be .* got tensor\(int16\)"),
        ("flat.onnx", r"input_ids to be .* got int32 \[96\]"),
    ],
)
def test_bad_files(file: Path, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "text.onnx").write_text("none")
    (tmp_path / "cut.onnx").write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    write_sum(tmp_path / "renamed.onnx", [*OWN, "positions"], [1, 96])
    write_sum(tmp_path / "unmasked.onnx", ["input_ids", "segment_ids"], [1, 96])
    write_sum(tmp_path / "free.onnx", OWN, ["batch", "sequence"])
    write_sum(tmp_path / "strings.onnx", OWN, [1, 96], "INT16")
    write_sum(tmp_path / "flat.onnx", OWN, [96])
    with pytest.raises(InputError, match=f"(?s){message}"):
        OnnxModel(tmp_path / name)


def test_others_files_are_run_too(tmp_path: Path) -> None:
    write_sum(tmp_path / "m.onnx", ["ids", "mask", "token_type_ids"], [1, small.LENGTH], "INT64")
    start, end = run_windows(tmp_path / "m.onnx", WINDOWS, threads=2, workers=1, progress=False)
    expected = [sum(np.asarray(getattr(w, name), np.float32) for name in OWN) for w in WINDOWS]
    np.testing.assert_array_equal(start, expected)
    np.testing.assert_array_equal(end, np.negative(expected))
