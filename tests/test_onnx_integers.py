"""The integers of `onnx_qdq`: scales, kernels and logits beside those of the int8 .tflite."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import quantized_export
import small_bert
import small_export as small
from ai_edge_litert.interpreter import Interpreter

from mobilebert_kit.build import export
from mobilebert_kit.contract import MLPERF
from mobilebert_kit.lowering.cpu import CpuLowering
from mobilebert_kit.lowering.onnx import OnnxLowering
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.quantize.calibration import calibrate, fake_quantize
from mobilebert_kit.runtime.scoring import run_windows
from mobilebert_kit.targets import INT8, ONNX_QDQ

onnx = pytest.importorskip("onnx", reason="no onnx (extra [onnx_export])")
pytest.importorskip("onnxruntime", reason="no onnxruntime (extra [onnx])")
pytest.importorskip("tf2onnx", reason="no tf2onnx (extra [onnx_export])")

TFLITE, QDQ = "mobilebert_int8_96.tflite", "mobilebert_squad11_int8_qdq.onnx"
# Of ranges that were calibrated on float sums in two orders.
RELATIVE = 1e-5


class Integers(NamedTuple):
    """Of a file: kernels [in, out] with their steps, biases, and (scale, int8 zero point) of activations."""

    kernels: list[tuple[np.ndarray, np.ndarray]]
    activations: np.ndarray
    biases: list[np.ndarray]


def of_tflite(path: Path) -> Integers:
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    kernels, activations, biases = [], set(), []
    for tensor in interpreter.get_tensor_details():
        quantization, dtype = tensor["quantization_parameters"], tensor["dtype"]
        scales, zero_points = quantization["scales"], quantization["zero_points"]
        if len(scales) > 1 and dtype == np.int8:
            kernel = interpreter.get_tensor(tensor["index"])
            # [out, 1, taps, in]; the trigram's taps from the previous token on, in ONNX from the next.
            kernels.append((kernel[:, 0, ::-1].reshape(len(kernel), -1).T, scales))
        elif len(scales) > 1:
            biases.append(interpreter.get_tensor(tensor["index"]))
        elif len(scales) == 1:
            activations.add((float(scales[0]), int(zero_points[0])))
    return Integers(kernels, np.array(sorted(activations)), biases)


def of_onnx(path: Path) -> Integers:
    graph = onnx.load(path).graph
    value = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kernels, activations, biases = [], set(), []
    for node in graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        scale, zero_point = (value[name] for name in node.input[1:])
        if node.input[0] in value and value[node.input[0]].ndim == 2:
            assert zero_point.dtype == np.int8 and not zero_point.any()
            kernels.append((value[node.input[0]], scale))
        elif node.input[0] in value:
            biases.append(value[node.input[0]])
        else:
            assert zero_point.dtype == np.uint8
            activations.add((float(scale), int(zero_point) - 128))
    return Integers(kernels, np.array(sorted(activations)), biases)


def logit_step(path: Path) -> float:
    """Of the last tensor that is quantized."""
    graph = onnx.load(path).graph
    value = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return float([value[node.input[1]] for node in graph.node if node.op_type == "QuantizeLinear"][-1])


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated")
    small.write_checkpoint(folder / "checkpoint")
    small.write_squad(folder / "questions.json")
    export(small.request(folder, targets=[INT8, ONNX_QDQ]))
    return folder / "out"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a checkpoint with the ranges of quantized training."""
    folder = tmp_path_factory.mktemp("trained")
    return quantized_export.make(folder, quantized_export.seen(1.0), targets=[INT8, ONNX_QDQ]).out


@pytest.mark.parametrize("folder", ["calibrated", "trained"])
def test_ranges_are_those_of_the_tflite(folder: str, request: pytest.FixtureRequest) -> None:
    out = request.getfixturevalue(folder)
    ours, theirs = (read(out / name).activations for read, name in ((of_onnx, QDQ), (of_tflite, TFLITE)))
    for scale, zero_point in ours:
        near = theirs[np.isclose(theirs[:, 0], scale, rtol=RELATIVE, atol=0)]
        assert zero_point in near[:, 1]
    # The recipe leaves scores and dense outputs in float32, and nothing else: three and more a layer.
    points = len(theirs) - len(ours)
    assert 0 < points <= small.CONFIG.num_hidden_layers * (3 + small.CONFIG.num_feedforward_networks)


@pytest.mark.parametrize("folder", ["calibrated", "trained"])
def test_kernels_are_those_of_the_tflite(folder: str, request: pytest.FixtureRequest) -> None:
    out = request.getfixturevalue(folder)
    ours, theirs = of_onnx(out / QDQ), of_tflite(out / TFLITE)
    assert len(ours.kernels) == len(theirs.kernels)
    for kernel, steps in ours.kernels:
        same = [their for values, their in theirs.kernels if np.array_equal(values, kernel)]
        assert any(np.allclose(their, steps, rtol=RELATIVE, atol=0) for their in same)


def test_biases_are_those_of_the_tflite(calibrated: Path) -> None:
    """int32, one apart at most where the steps of the input are."""
    ours, theirs = of_onnx(calibrated / QDQ), of_tflite(calibrated / TFLITE)
    assert len(ours.biases) == len(ours.kernels)
    for bias in ours.biases:
        assert bias.dtype == np.int32
        alike = [other for other in theirs.biases if other.shape == bias.shape]
        assert any(np.allclose(other, bias, rtol=RELATIVE, atol=1) for other in alike)


@pytest.mark.parametrize("folder", ["calibrated", "trained"])
def test_logits_are_those_of_the_tflite(folder: str, request: pytest.FixtureRequest) -> None:
    """QUANT(5): a last bit that is rounded the other way, at the logit, at the head's input, and in each of
    two layers and the embeddings before, where an error that is carried on does not grow."""
    out = request.getfixturevalue(folder)
    tokens = quantized_export.tokens()
    ours, theirs = (
        np.stack(run_windows(out / name, small.windows(), progress=False))[:, tokens]
        for name in (QDQ, TFLITE)
    )
    step = logit_step(out / QDQ)
    assert np.abs(ours - theirs).max() <= 5 * step
    assert np.abs(ours - theirs).mean() <= step
    assert np.ptp(theirs) > 20 * step  # else the bounds would hold of anything


def test_a_bert(tmp_path: Path) -> None:
    """Without ONNX Runtime's kernels in between: its ranges, kernels and table are the .tflite's too."""
    weights = small_bert.weights()
    options = {"mask_value": -10000.0}

    def ranges_of(observe):
        return small_bert.module(small_bert.BERT, weights, CpuLowering, observe=observe, **options)

    ranges = calibrate(ranges_of, small_bert.arrays())
    files = []
    for target, lowering, name in ((INT8, CpuLowering, "b.tflite"), (ONNX_QDQ, OnnxLowering, "b.onnx")):
        recipe = target.recipe
        observe = fake_quantize(recipe.quantizes, recipe.bounds, ranges)
        made = small_bert.module(small_bert.BERT, weights, lowering, observe=observe, **options)
        files += target.write(made, tmp_path / name)
    theirs, ours = of_tflite(files[0]), of_onnx(files[1])
    assert len(ours.kernels) == len(theirs.kernels)
    for kernel, _ in ours.kernels:
        assert any(np.array_equal(values, kernel) for values, _ in theirs.kernels)
    for scale, zero_point in ours.activations:
        assert (np.isclose(theirs.activations, (scale, zero_point), rtol=1e-7, atol=0).all(axis=1)).any()
    start, end = (np.stack(run_windows(f, small.windows(), progress=False)) for f in files)
    assert np.corrcoef(start.ravel(), end.ravel())[0, 1] > 0.999


def test_an_output_of_nothing_but_its_bias(tmp_path: Path) -> None:
    """A dead unit: its kernel is zero, and its bias neither overflows nor is lost."""
    weights = small.weights()
    dense = "bert/encoder/layer_0/intermediate/dense"
    weights[f"{dense}/kernel"][:, 3] = 0
    weights[f"{dense}/bias"][3] = 0.5

    def build(observe, lowering=CpuLowering):
        return serving_module(
            small.CONFIG, weights, lowering=lowering, contract=MLPERF,
            sequence_length=small.LENGTH, observe=observe,
        )  # fmt: skip

    recipe = ONNX_QDQ.recipe
    ranges = calibrate(build, small.arrays())
    observe = fake_quantize(recipe.quantizes, recipe.bounds, ranges)
    [path] = ONNX_QDQ.write(build(observe, OnnxLowering), tmp_path / "m.onnx")
    graph = onnx.load(path).graph
    value = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    for gemm in (node for node in graph.node if node.op_type == "Gemm" and node.input[1] in makers):
        kernel, bias = (makers[name] for name in gemm.input[1:])
        integers, scale = value[kernel.input[0]], value[kernel.input[1]]
        dead = ~integers.any(axis=0)
        if dead.any():
            found = value[bias.input[0]] * value[bias.input[1]]
            assert found[dead] == pytest.approx(0.5, rel=1e-6)
            assert (scale > 0).all()
            return
    pytest.fail("no kernel has the dead unit")
