"""Ranges, recipes, the mask, and what of them is in the files."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import small_export
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from mobilebert_kit.contract import MLPERF
from mobilebert_kit.delegates.nnapi import check_nnapi
from mobilebert_kit.delegates.tflite_file import Node, Subgraph, read_tflite
from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.lowering.cpu import CpuLowering, unobserved
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.quantize import recipes
from mobilebert_kit.quantize.calibration import calibrate, fake_quantize
from mobilebert_kit.quantize.conversion import convert
from mobilebert_kit.quantize.mask import CANDIDATES, clamp_mask
from mobilebert_kit.runtime.scoring import run_windows
from mobilebert_kit.targets import FLOAT, INT8, NNAPI, Target

CONFIG = small_export.CONFIG
SELF = "bert/encoder/layer_0/attention/self"


def build(config, tensors, target: Target, mask_value=None, observe=unobserved, length=small_export.LENGTH):
    return serving_module(
        config,
        tensors,
        lowering=target.lowering_class(),
        contract=MLPERF,
        sequence_length=length,
        observe=observe,
        mask_value=mask_value,
    )


def seen_by(module: tf.Module, seen: dict[str, list[np.ndarray]]) -> None:
    """Runs every window eagerly: the module's observer fills `seen` with the tensors themselves."""
    for window in small_export.arrays():
        module.serve.python_function(*(tf.constant(value) for value in window.values()))


# Calibration


@pytest.mark.parametrize("target", [INT8, NNAPI])
def test_ranges_are_the_extremes_of_the_tensors(target: Target) -> None:
    tensors, seen = small_export.weights(), {}

    def keep(tensor: tf.Tensor, point: str) -> tf.Tensor:
        seen.setdefault(point, []).append(tensor.numpy())
        return tensor

    seen_by(build(CONFIG, tensors, target, -20.0, keep), seen)
    ranges = calibrate(partial(build, CONFIG, tensors, target, -20.0), small_export.arrays())
    assert ranges.keys() == seen.keys()
    for point, values in seen.items():
        expected = min(v.min() for v in values), max(v.max() for v in values)
        # Eager and traced kernels sum in different orders; 10 times float32's resolution of the largest.
        np.testing.assert_allclose(ranges[point], expected, rtol=0, atol=1e-6 * max(1, *np.abs(expected)))


@pytest.mark.parametrize("value", [1e20, 3e38])
def test_absurd_activations_are_refused(value: float) -> None:
    tensors = small_export.weights()
    tensors["bert/embeddings/FakeLayerNorm/beta"] = np.full(CONFIG.hidden_size, value, np.float32)
    with pytest.raises(CheckFailed, match=r"below 1e\+15 .* at bert/.*checkpoint damaged"):
        calibrate(partial(build, CONFIG, tensors, INT8, -20.0), small_export.arrays()[:1])


def test_fake_quant_stands_where_the_recipe_says() -> None:
    ranges = {"a": (-1.28, 1.27)}
    observe = fake_quantize(lambda point: point == "a", lambda point, low, high: (low, high), ranges)
    x = tf.constant([-2.0, 0.302, 2.0])
    assert observe(x, "b") is x
    np.testing.assert_allclose(observe(x, "a"), [-1.28, 0.3, 1.27], atol=1e-6)


# Recipes


@pytest.mark.parametrize(
    ("recipe", "point", "seen", "bounds"),
    [
        (recipes.W8_A8, "x", (-1.0, 2.0), (-1.0, 2.0)),
        (recipes.W8_A8, "x", (0.5, 2.0), (0.0, 2.0)),
        (recipes.W8_A8, "x", (-3.0, -1.0), (-3.0, 0.0)),
        (recipes.W8_A8, "x", (0.0, 0.0), recipes.RANGE_OF_ZERO),
        (recipes.W8_A8, "x", (-1e-20, 1e-20), recipes.RANGE_OF_ZERO),
        (recipes.W8_A8, f"{SELF}/key", (-1.0, 2.0), (-1.0, 2.0)),
        (recipes.W8_A8, f"{SELF}/head_3/probabilities", (0.1, 0.2), (0.0, 255 / 256)),
        (recipes.W8_A8_XNNPACK, f"{SELF}/probabilities", (0.1, 1.0), (0.0, 255 / 256)),
        (recipes.W8_A8_XNNPACK, f"{SELF}/key", (-1.0, 2.54), (-128 * 0.02, 127 * 0.02)),
        (recipes.W8_A8_XNNPACK, f"{SELF}/value", (-2.54, 1.0), (-128 * 0.02, 127 * 0.02)),
        (recipes.W8_A8_XNNPACK, f"{SELF}/query", (-1.0, 2.0), (-1.0, 2.0)),
    ],
)
def test_bounds(recipe: recipes.Recipe, point: str, seen: tuple, bounds: tuple) -> None:
    assert recipe.bounds(point, *seen) == pytest.approx(bounds)


def test_a_recipes_name_decodes_itself() -> None:
    for recipe in (
        recipes.W32_A32,
        recipes.W16_A32,
        recipes.W8_DYNAMIC,
        recipes.W8_A8,
        recipes.W8_A8_XNNPACK,
    ):
        words = recipe.name.split("_")
        assert words[0] == {"float32": "w32", "float16": "w16", "int8": "w8"}[recipe.weights]
        assert ("a8" in words) == recipe.quantize_activations
        assert ("symkv" in words) == bool(recipe.symmetric_points)
        assert ("centerv" in words) == recipe.center_values
        assert recipe.quantizes(f"{SELF}/masked_scores") == ("a8" in words and "f32softmax" not in words)
        assert all(word in recipes.__doc__ for word in words)


# The mask


class Toy(tf.Module):
    """Answers 1 as long as the mask's value is above `threshold`, else 0."""

    def __init__(self, threshold: float, value: tf.Variable):
        super().__init__()
        spec = tf.TensorSpec([1, 3], tf.int32, name="input_mask")

        @tf.function(input_signature=[spec])
        def serve(input_mask: tf.Tensor) -> dict[str, tf.Tensor]:
            changes = tf.cast((value > threshold) & (tf.reduce_min(input_mask) == 0), tf.float32)
            return {"start_logits": tf.fill([1, 3], changes), "end_logits": tf.zeros([1, 3])}

        self.serve = serve


@pytest.mark.parametrize(
    ("threshold", "padded", "expected"),
    [
        (-13.5, True, -14.0),
        (-14.0, True, -14.0),
        (-0.5, True, -CANDIDATES[0]),
        (-63.0, True, -64.0),
        (-100.0, True, -10000.0),  # no candidate will do
        (-100.0, False, -CANDIDATES[0]),  # nothing is masked
    ],
)
def test_mask_is_the_smallest_that_changes_no_answer(threshold: float, padded: bool, expected: float) -> None:
    full = {"input_mask": np.ones((1, 3), np.int32)}
    half = {"input_mask": np.array([[1, 1, 0]], np.int32)}
    windows = [full, half, full, half] if padded else [full]
    chosen = clamp_mask(partial(Toy, threshold), windows, lambda _, start, end: (start[0], end[0]), -10000.0)
    assert chosen == expected


def test_mask_keeps_the_answers_of_a_model() -> None:
    tensors, windows = small_export.weights(), small_export.arrays()

    def answer(_: int, start: np.ndarray, end: np.ndarray) -> tuple[int, int]:
        return int(start.argmax()), int(end.argmax())

    chosen = clamp_mask(lambda value: build(CONFIG, tensors, FLOAT, value), windows, answer, -10000.0)
    assert -64 <= chosen < 0
    modules = [build(CONFIG, tensors, FLOAT, value) for value in (-10000.0, chosen)]
    for window in windows:
        outputs = [module.serve(*map(tf.constant, window.values())) for module in modules]
        spans = [answer(0, o["start_logits"].numpy()[0], o["end_logits"].numpy()[0]) for o in outputs]
        assert spans[0] == spans[1]


# Conversion


@pytest.mark.parametrize(("recipe", "dtype"), [(recipes.W16_A32, "float16"), (recipes.W8_DYNAMIC, "int8")])
def test_weights_alone(recipe: recipes.Recipe, dtype: str, tmp_path: Path) -> None:
    """64 x 64 values: the converter leaves weights of less than 1,024 values in float32."""
    rng = np.random.default_rng(0)
    weights = {"d/kernel": rng.normal(size=(64, 64)).astype(np.float32), "d/bias": np.ones(64, np.float32)}
    ops = CpuLowering(CONFIG, weights)
    module = tf.Module()
    spec = tf.TensorSpec([1, 1, 8, 64], tf.float32)
    module.serve = tf.function(lambda x: ops.dense(x, "d"), input_signature=[spec])
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(module, recipe))
    graph = read_tflite(path).main
    kernels = [tensor for tensor in graph.tensors if tensor.is_constant and tensor.shape == (64, 1, 1, 64)]
    assert [kernel.dtype for kernel in kernels] == [dtype]
    assert all(graph.tensors[i].dtype == "float32" for i in (*graph.inputs, *graph.outputs))


def nodes(graph: Subgraph, *ops: str) -> list[Node]:
    return [node for node in graph.nodes if node.op in ops]


def activation_dtypes(graph: Subgraph, node: Node) -> set[str]:
    tensors = [graph.tensors[i] for i in (*node.inputs, *node.outputs) if i >= 0]
    return {tensor.dtype for tensor in tensors if not tensor.is_constant}


@pytest.mark.parametrize("name", ["mobilebert_int8_96.tflite", "mobilebert_int8_96_nnapi.tflite"])
def test_convolutions_are_int8_per_channel_and_symmetric(exported: Path, name: str) -> None:
    graph = read_tflite(exported / "all" / name).main
    convolutions = nodes(graph, "CONV_2D")
    assert len(convolutions) > 20
    kept = [node for node in convolutions if graph.tensors[node.inputs[1]].dtype == "float32"]
    # The CPU's recipe (f32embedding) keeps one in float32: the trigram's, the only one of width 3.
    assert [graph.tensors[node.inputs[1]].shape[2] for node in kept] == ([] if "nnapi" in name else [3])
    for node in [node for node in convolutions if node not in kept]:
        kernel = graph.tensors[node.inputs[1]]
        assert (kernel.dtype, kernel.quantized_dimension) == ("int8", 0)
        assert len(kernel.scales) == kernel.shape[0]
        assert set(kernel.zero_points) == {0}
        assert np.abs(kernel.data().astype(int)).max() == 127
        assert activation_dtypes(graph, node) == {"int8"}


def test_int8_is_as_xnnpack_takes_it(exported: Path) -> None:
    """All but the look-up of embeddings and the cast of the mask is in one piece on XNNPACK."""
    path = exported / "all" / "mobilebert_int8_96.tflite"
    graph = read_tflite(path).main
    products = nodes(graph, "BATCH_MATMUL")
    assert len(products) == 4
    assert {graph.tensors[node.inputs[1]].zero_points for node in products} == {(0,)}
    assert {graph.tensors[i].dtype for node in products for i in node.inputs} == {"int8"}
    assert {dtype for node in nodes(graph, "SOFTMAX") for dtype in activation_dtypes(graph, node)} == {
        "float32"
    }

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (delegate,) = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    made_by = {output: node.op for node in graph.nodes for output in node.outputs}
    assert Counter(made_by[i] for i in delegate["inputs"] if i in made_by) == {"GATHER": 2, "CAST": 1}
    assert set(delegate["outputs"]) == set(graph.outputs)


def test_nnapi_is_integer_from_end_to_end(exported: Path) -> None:
    model = read_tflite(exported / "all" / "mobilebert_int8_96_nnapi.tflite")
    graph = model.main
    # In: ids are int32, the mask [1, 96] becomes float and is quantized. Out: the two logits [1, 96].
    floats = [t for t in graph.tensors if t.dtype == "float32" and not t.is_constant]
    assert {tensor.shape[-1] for tensor in floats if np.prod(tensor.shape) == 96} == {96}
    assert all(np.prod(tensor.shape) == 96 for tensor in floats)
    quantized = {
        tensor.index for tensor in graph.tensors if tensor.dtype == "int8" and not tensor.is_constant
    }
    after = [node for node in graph.nodes if quantized.intersection(node.inputs)]
    assert Counter(node.op for node in after if "float32" in activation_dtypes(graph, node)) == {
        "DEQUANTIZE": 2
    }
    assert {i for node in after if node.op == "DEQUANTIZE" for i in node.outputs} == set(graph.outputs)
    assert len(after) > 0.9 * len(graph.nodes)
    for node in nodes(graph, "SOFTMAX"):
        output = graph.tensors[node.outputs[0]]
        assert (output.scale, output.zero_point) == (1 / 256, -128)
    for node in nodes(graph, "CONCATENATION", "RESHAPE", "TRANSPOSE", "SPLIT", "GATHER"):
        sides = [graph.tensors[i] for i in (*node.inputs, *node.outputs) if graph.tensors[i].dtype == "int8"]
        assert len({(tensor.scale, tensor.zero_point) for tensor in sides}) <= 1
    report = check_nnapi(model, api_level=30)
    assert (report.refused, report.partitions) == ((), 1)


# Checkpoints out of the ordinary


def altered(**changes: float) -> dict[str, np.ndarray]:
    """The small model's weights; those whose name ends with a key (/ is __) times the value."""
    tensors = small_export.weights()
    for key, factor in changes.items():
        names = [name for name in tensors if name.endswith(key.replace("__", "/"))]
        assert names
        tensors |= {name: tensors[name] * np.float32(factor) for name in names}
    return tensors


ODD = {
    "as it is": (CONFIG, altered(), 96),
    "zero": (CONFIG, altered(kernel=0, bias=0, embeddings=0, beta=0), 96),
    "1e-20": (CONFIG, altered(kernel=1e-20, bias=1e-20, embeddings=1e-20, beta=1e-20), 96),
    "feed-forwards that give 1e-30": (
        CONFIG,
        altered(intermediate__dense__kernel=1e-30, intermediate__dense__bias=1e-30),
        96,
    ),
    "a value that is zero": (CONFIG, altered(self__value__kernel=0, self__value__bias=0), 96),
    "gammas turned": (CONFIG, altered(gamma=-1), 96),
    "one feed-forward of 1e8": (CONFIG, altered(ffn_layer_0__output__dense__kernel=1e8), 96),
    "one of everything": (
        one := replace(CONFIG, num_hidden_layers=1, num_feedforward_networks=1, num_attention_heads=1),
        small_export.weights(one),
        96,
    ),
    "quantized training's arithmetic": (
        replace(CONFIG, hidden_act="relu6", mask_semantics="multiplicative", score_clip=(-6.0, 60.0)),
        altered(),
        96,
    ),
    "128 tokens": (CONFIG, altered(), 128),
}  # fmt: skip


@pytest.mark.parametrize("case", list(ODD))
def test_int8_follows_float(case: str, tmp_path: Path) -> None:
    """Logits of real tokens: errors of some int8 steps (1/255 of the range) each."""
    config, tensors, length = ODD[case]
    mask = -20.0 if config.mask_semantics == "additive" else None
    windows, arrays = small_export.windows(length), small_export.arrays(length)
    token = np.stack([window.input_mask for window in windows]) == 1
    reference = build(config, tensors, FLOAT, mask, length=length)
    outputs = [reference.serve(*map(tf.constant, window.values())) for window in arrays]
    names = ("start_logits", "end_logits")
    expected = np.stack([[output[name].numpy()[0] for output in outputs] for name in names])[:, token]
    width = max(np.ptp(expected), 1e-6)
    for target in (INT8, NNAPI):
        make = partial(build, config, tensors, target, mask, length=length)
        observe = fake_quantize(target.recipe.quantizes, target.recipe.bounds, calibrate(make, arrays))
        path = tmp_path / f"{target.name}.tflite"
        path.write_bytes(convert(make(observe), target.recipe))
        logits = np.stack(run_windows(path, windows, progress=False))[:, token]
        assert np.sqrt(np.mean((logits - expected) ** 2)) < 16 / 255 * width, target.name
    assert check_nnapi(read_tflite(path)).whole
