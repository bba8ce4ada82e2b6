"""Every target of small models of the BERT family: against transformers, and against float."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import small_bert
import small_export
from small_bert import BERT, CONFIGS

from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.lowering.cpu import CpuLowering, unobserved
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.quantize.calibration import calibrate, fake_quantize, without_padding
from mobilebert_kit.quantize.centering import center_values, mean_values
from mobilebert_kit.quantize.conversion import convert
from mobilebert_kit.quantize.equalization import channel_sizes
from mobilebert_kit.quantize.recipes import W8_A8_XNNPACK
from mobilebert_kit.quantize.row_floors import row_floors
from mobilebert_kit.runtime.accelerator import run_on_accelerator
from mobilebert_kit.runtime.interpreter import load
from mobilebert_kit.targets import FLOAT, INT8, NNAPI, TARGETS, Target
from tools.transformers_reference import missing_packages, reference_logits

NAMES = ("float", "fp16", "dynamic", "int8", "gpu", "gpu_fp16", "nnapi")
TOKENS = np.stack([window["input_mask"][0] for window in small_bert.arrays()]) == 1


def run_file(path: Path, config: object = BERT) -> np.ndarray:
    """[start or end, windows, S]."""
    model = load(path, threads=1)
    outputs = [model.run(**window) for window in small_bert.arrays(config)]
    return np.stack([[o[name][0] for o in outputs] for name in ("start_logits", "end_logits")])


def error(logits: np.ndarray, expected: np.ndarray) -> float:
    """Root of the mean squared difference over tokens, relative to the width of the expected logits."""
    difference = (logits - expected)[:, TOKENS]
    return float(np.sqrt(np.mean(difference**2)) / np.ptp(expected[:, TOKENS]))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoint/`, a small BERT's, and `out/`: all of NAMES. For reading only."""
    from mobilebert_kit.build import export

    folder = tmp_path_factory.mktemp("bert")
    small_bert.write_checkpoint(folder / "checkpoint")
    small_export.write_squad(folder / "questions.json")
    export(small_export.request(folder, *NAMES))
    return folder


def file_of(exported: Path, name: str) -> Path:
    return exported / "out" / TARGETS[name].file_for(small_export.LENGTH, "bert")


def test_every_target_is_taken_whole(exported: Path) -> None:
    manifest = json.loads((exported / "out" / "manifest.json").read_text())
    assert set(manifest["files"]) >= {file_of(exported, name).name for name in NAMES}
    for name in NAMES:
        target = TARGETS[name]
        report = target.delegate.check(read_tflite(file_of(exported, name)))
        assert {verdict.op for verdict in report.refused} <= target.may_fall_back, name
        assert report.whole or target.may_fall_back, name


def test_float_targets_agree(exported: Path) -> None:
    """fp16: weights of 11 bits, so 2^-12 of each of some dozen terms; the others are the same sums."""
    logits = {name: run_file(file_of(exported, name)) for name in ("float", "fp16", "gpu", "gpu_fp16")}
    np.testing.assert_allclose(logits["gpu"], logits["float"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits["gpu_fp16"], logits["fp16"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits["fp16"], logits["float"], rtol=0, atol=1e-2)
    assert np.abs(logits["fp16"] - logits["float"]).max() > 1e-5  # it does hold other weights


@pytest.mark.parametrize("name", ["gpu", "gpu_fp16"])
def test_gpu_files_run_whole_on_the_accelerator(accelerator: object, exported: Path, name: str) -> None:
    """LayerNorm and GELU too, with the CPU's numbers."""
    windows = small_bert.arrays()[:2]
    run = run_on_accelerator(file_of(exported, name), windows)
    assert (run.fully_accelerated, run.refusals, run.failure) == (True, (), "")
    expected = run_file(file_of(exported, name))
    for i, output in enumerate(run.outputs):
        for number, logits in enumerate(("start_logits", "end_logits")):
            np.testing.assert_allclose(np.ravel(output[logits]), expected[number, i], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["dynamic", "int8", "nnapi"])
def test_integer_targets_follow_float(exported: Path, name: str) -> None:
    """Errors of some int8 steps, 1/255 of the range each."""
    assert error(run_file(file_of(exported, name)), run_file(file_of(exported, "float"))) < 8 / 255


@pytest.mark.parametrize("name", ["int8", "nnapi"])
def test_matrix_products_are_integer(exported: Path, name: str) -> None:
    """And LayerNorm and gelu are not."""
    graph = read_tflite(file_of(exported, name)).main
    dtypes = {
        op: {graph.tensors[i].dtype for node in graph.nodes if node.op == op for i in node.inputs[:2]}
        for op in ("CONV_2D", "BATCH_MATMUL", "FULLY_CONNECTED", "RSQRT")
    }
    product = {"int8": "BATCH_MATMUL", "nnapi": "FULLY_CONNECTED"}[name]
    assert dtypes.pop(product) == dtypes["CONV_2D"] == {"int8"}
    assert dtypes["RSQRT"] == {"float32"}
    gelu = [graph.tensors[node.inputs[0]].dtype for node in graph.nodes if node.op in ("GELU", "LOGISTIC")]
    assert gelu == ["float32"] * BERT.num_hidden_layers


@pytest.mark.parametrize("target", [INT8, NNAPI], ids=lambda target: target.name)
@pytest.mark.parametrize("name", ["distilbert", "small bert"])
def test_integer_targets_of_the_rest_of_the_family(name: str, target: Target, tmp_path: Path) -> None:
    config, windows = CONFIGS[name], small_bert.arrays(CONFIGS[name])
    tensors = small_bert.weights(config)
    expected = small_bert.run(small_bert.module(config, tensors), windows)
    sizes = channel_sizes(
        lambda observe: small_bert.module(config, tensors, observe=observe), windows, tensors
    )
    rewritten = tensors | sizes | row_floors(tensors)
    make = partial(small_bert.module, config, rewritten, target.lowering_class(), mask_value=-20.0)
    ranges = calibrate(lambda observe: make(observe=observe), windows)
    observe = fake_quantize(target.recipe.quantizes, target.recipe.bounds, ranges)
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(make(observe=observe), target.recipe))
    report = target.delegate.check(read_tflite(path))
    assert {verdict.op for verdict in report.refused} <= target.may_fall_back
    assert error(run_file(path, config), expected) < 8 / 255


def int8_error(tensors: dict[str, np.ndarray], *, equalized: bool) -> float:
    """Of the small BERT of `tensors`, its int8 simulated by fake-quants."""
    windows, build = small_bert.arrays(), partial(small_bert.module, BERT)
    expected = small_bert.run(build(tensors), windows)
    if equalized:
        tensors = tensors | channel_sizes(lambda observe: build(tensors, observe=observe), windows, tensors)
    ranges = calibrate(lambda observe: build(tensors, observe=observe), windows)
    observe = fake_quantize(W8_A8_XNNPACK.quantizes, W8_A8_XNNPACK.bounds, ranges)
    return error(small_bert.run(build(tensors, observe=observe), windows), expected)


def test_sizes_of_channels_save_what_an_outlier_takes() -> None:
    """60 in one channel, 0.3 in the others: those have some two steps of one scale for all. With sizes the
    error is that of a model without the outlier."""
    without = int8_error(small_bert.weights(), equalized=False)
    outlier = small_bert.weights(outlier=True)
    assert int8_error(outlier, equalized=False) > 1.5 * without
    assert int8_error(outlier, equalized=True) < 1.2 * without


def test_sizes_are_those_of_the_channels() -> None:
    """Of outputs the largest magnitude; of inputs that over the median channel's, where it is larger."""
    tensors, windows = small_bert.weights(outlier=True), small_bert.arrays()
    seen: dict[str, np.ndarray] = {}

    def keep(tensor, point: str):
        size = np.abs(tensor.numpy()).max((0, 1, 2))
        seen[point] = np.maximum(seen.get(point, 0), size)
        return tensor

    eager = small_bert.module(BERT, tensors, observe=keep)
    for window in windows:
        eager.serve.python_function(*map(np.asarray, window.values()))
    sizes = channel_sizes(lambda observe: small_bert.module(BERT, tensors, observe=observe), windows, tensors)
    assert len(sizes) == BERT.num_hidden_layers * (3 + 2)
    for name, size in sizes.items():
        point = name.removesuffix("/output_size").removesuffix("_size")
        expected = seen[point]
        if name.endswith("/input_size"):
            expected = np.maximum(expected / np.median(expected), 1)
        np.testing.assert_allclose(size, expected, rtol=1e-4, err_msg=name)


def test_mobilebert_has_no_such_channels() -> None:
    def build(observe):
        config, contract = small_export.CONFIG, small_bert.contract(BERT)
        return serving_module(
            config,
            small_export.weights(),
            lowering=CpuLowering,
            contract=contract,
            sequence_length=small_export.LENGTH,
            observe=observe,
        )

    assert channel_sizes(build, small_export.arrays(), small_export.weights()) == {}


def test_centred_values_change_no_logit() -> None:
    tensors, windows = small_bert.weights(), small_bert.arrays()

    def build(observe=unobserved, given=tensors):
        return small_bert.module(BERT, given, observe=observe)

    centred = tensors | center_values(build, windows, tensors)
    before, after = (mean_values(partial(build, given=given), windows) for given in (tensors, centred))
    assert len(before) == BERT.num_hidden_layers
    for point, mean in before.items():
        assert np.abs(mean).max() > 0.01
        np.testing.assert_allclose(after[point], 0, atol=1e-6)
    logits = [small_bert.run(build(given=given), windows) for given in (tensors, centred)]
    np.testing.assert_allclose(logits[1], logits[0], rtol=0, atol=1e-5)


@pytest.mark.skipif(bool(missing_packages()), reason=f"not installed: {' '.join(missing_packages())}")
@pytest.mark.parametrize("name", list(CONFIGS))
def test_float_file_is_transformers(name: str, tmp_path: Path) -> None:
    """Logits of deviation 1, some hundred products a layer, rounded at 6e-8 each: about 1e-6."""
    config = CONFIGS[name]
    checkpoint = small_bert.write_checkpoint(tmp_path / "checkpoint", config)
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(small_bert.module(config, small_bert.weights(config)), FLOAT.recipe))
    windows = small_bert.arrays()
    inputs = {key: np.concatenate([window[key] for window in windows]) for key in windows[0]}
    reference = reference_logits(checkpoint, inputs)
    expected = np.stack([reference["start_logits"], reference["end_logits"]])
    assert expected.std() > 0.3
    np.testing.assert_allclose(run_file(path, config), expected, rtol=0, atol=1e-5)


def test_padding_is_calibrated_as_tokens_and_changes_no_logit() -> None:
    window = small_bert.arrays()[0]
    tokens = int(window["input_mask"].sum())
    filled = without_padding(window)
    assert 1 < tokens < window["input_ids"].shape[1] - 1
    np.testing.assert_array_equal(filled["input_mask"], window["input_mask"])
    for name in ("input_ids", "segment_ids"):
        np.testing.assert_array_equal(filled[name][0, : tokens + 1], window[name][0, : tokens + 1])
        np.testing.assert_array_equal(filled[name][0, tokens + 1 : tokens + 11], window[name][0, :10])
    module = small_bert.module(BERT, small_bert.weights())
    for logits, other in zip(small_bert.run(module, [window]), small_bert.run(module, [filled]), strict=True):
        np.testing.assert_allclose(np.ravel(logits)[:tokens], np.ravel(other)[:tokens], rtol=1e-5, atol=1e-5)
