"""BERT's primitives in each lowering: LayerNorm and gelu by the book, the ops that come out."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import small_bert
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from test_lowering import close, converted, float_spec

from mobilebert_kit.delegates import check_gpu, check_nnapi, check_xnnpack
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.lowering.cpu import CpuLowering
from mobilebert_kit.lowering.gelu import EXACT, TANH, sigmoid_gelu
from mobilebert_kit.lowering.gpu import GpuLowering
from mobilebert_kit.lowering.layer_norm import SMALLEST_HALF
from mobilebert_kit.lowering.nnapi import NnapiLowering
from mobilebert_kit.quantize.calibration import fake_quantize
from mobilebert_kit.quantize.conversion import convert
from mobilebert_kit.quantize.recipes import W8_A8, W16_A32, W32_A32

LOWERINGS = pytest.mark.parametrize("lowering", [CpuLowering, GpuLowering, NnapiLowering])
CONFIG = small_bert.BERT
S, C = 10, CONFIG.hidden_size
WEIGHTS = small_bert.weights()
SCOPE = "bert/encoder/layer_0/output"
LAYER_NORM = {"MEAN": 2, "SUB": 1, "MUL": 3, "ADD": 2, "MAXIMUM": 1, "RSQRT": 1}
RNG = np.random.default_rng(4)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def layer_norm(x: np.ndarray, norm: str, eps: float = CONFIG.layer_norm_eps) -> np.ndarray:
    """Ba et al. 2016, arXiv:1607.06450, in float64."""
    x = x.astype(np.float64)
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return normal * WEIGHTS[f"{norm}/gamma"] + WEIGHTS[f"{norm}/beta"]


def gelu(x: np.ndarray, activation: str) -> np.ndarray:
    """Hendrycks and Gimpel 2016, arXiv:1606.08415, in float64: exact, and their approximation by tanh."""
    x = x.astype(np.float64)
    if activation == "gelu":
        return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


@LOWERINGS
@pytest.mark.parametrize("with_residual", [True, False])
def test_embedding_layer_norm(lowering: type[CpuLowering], with_residual: bool, tmp_path: Path) -> None:
    """Small values, as embeddings are: of deviation 0.03."""
    ops, norm = lowering(CONFIG, WEIGHTS), "bert/embeddings/LayerNorm"
    terms = [normal(1, 1, S, C) * np.float32(0.02) for _ in range(1 + with_residual)]

    def run(x: tf.Tensor, residual: tf.Tensor | None = None) -> tf.Tensor:
        return ops.embedding_layer_norm(x, norm, residual=residual)

    close(run(*terms), layer_norm(sum(terms), norm))
    kinds = converted(run, *(float_spec(*term.shape) for term in terms), folder=tmp_path)
    assert kinds == LAYER_NORM | {"ADD": 2 + with_residual}


@LOWERINGS
@pytest.mark.parametrize("outlier", [0, 300])
def test_dense_layer_norm(lowering: type[CpuLowering], outlier: int, tmp_path: Path) -> None:
    """With an outlier whose square is beyond float16: on a GPU it is not."""
    seen = {}
    ops = lowering(CONFIG, WEIGHTS, observe=lambda x, point: seen.setdefault(point, x))
    dense, norm = f"{SCOPE}/dense", f"{SCOPE}/LayerNorm"
    x, residual = normal(S, CONFIG.intermediate_size), normal(S, C)
    residual[3, 5] += outlier
    y = x @ WEIGHTS[f"{dense}/kernel"] + WEIGHTS[f"{dense}/bias"] + residual
    actual = ops.dense_layer_norm(x[None, None], dense, norm, residual=residual[None, None])
    close(actual[0, 0], layer_norm(y, norm))
    squares = float(tf.reduce_max(seen[f"{norm}/squares"]))
    assert (squares > 65504) == (outlier == 300 and lowering is not GpuLowering)


@LOWERINGS
@pytest.mark.parametrize("recipe", [W32_A32, W16_A32], ids=lambda recipe: recipe.name)
def test_a_token_of_equal_channels_becomes_beta(lowering: type[CpuLowering], recipe, tmp_path: Path) -> None:
    """Its variance is 0, and an epsilon of 1e-12 is no float16."""
    ops, norm = lowering(CONFIG, WEIGHTS), f"{SCOPE}/LayerNorm"
    made = tf.Module()
    made.serve = tf.function(
        lambda x: ops.embedding_layer_norm(x, norm, residual=None),
        input_signature=[tf.TensorSpec([1, 1, S, C], tf.float32, name="x")],
    )
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(made, recipe))
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    x = normal(1, 1, S, C)
    x[0, 0, 2] = 1.5
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, 0]
    # Of float16's gamma and beta: half a step of 2^-10, twice, at values of at most 4.
    np.testing.assert_allclose(y, layer_norm(x, norm)[0, 0], atol=2e-5 if recipe is W32_A32 else 4 * 2.0**-10)
    np.testing.assert_allclose(y[2], WEIGHTS[f"{norm}/beta"], rtol=2.0**-10, atol=1e-6)
    assert SMALLEST_HALF == np.float16(SMALLEST_HALF) > np.float16(SMALLEST_HALF / 2.1) == 0


@LOWERINGS
def test_sizes_of_channels_change_nothing_but_the_dense_layer(lowering: type[CpuLowering]) -> None:
    dense, norm = f"{SCOPE}/dense", f"{SCOPE}/LayerNorm"
    size = np.exp(normal(C) * 2)
    sizes = {f"{dense}/output_size": size, f"{dense}/input_size": np.exp(normal(CONFIG.intermediate_size))}
    x, residual = normal(1, 1, S, CONFIG.intermediate_size), normal(1, 1, S, C)
    seen: list[dict[str, tf.Tensor]] = [{}, {}]
    plain, sized = (
        lowering(CONFIG, weights, observe=lambda y, point, at=at: at.setdefault(point, y)).dense_layer_norm(
            x, dense, norm, residual=residual
        )
        for weights, at in zip((WEIGHTS, WEIGHTS | sizes), seen, strict=True)
    )
    np.testing.assert_allclose(sized, plain, rtol=1e-4, atol=1e-4)  # terms of up to e^2 cancel
    np.testing.assert_allclose(seen[1][dense] * size, seen[0][dense], rtol=1e-4, atol=1e-4)
    ratio = seen[0][f"{dense}/input"] / seen[1][f"{dense}/input"]
    np.testing.assert_allclose(ratio[0, 0], np.tile(sizes[f"{dense}/input_size"], (S, 1)), rtol=1e-5)


def test_stretched_rows_have_the_same_context() -> None:
    """Rows of 64 tokens, from even to all on one: those below the floor reach it, the others 1."""
    scope, heads, tokens, floor = "attention", 3, 64, np.float32(0.25)
    scores = normal(1, heads, tokens, tokens) * np.linspace(0, 8, tokens, dtype=np.float32)[:, None]
    value = normal(1, heads, tokens, 5)
    seen: list[dict[str, tf.Tensor]] = [{}, {}]
    plain, stretched = (
        ops.context(ops.softmax(scores, scope), value, scope)
        for ops in (
            CpuLowering(CONFIG, weights, observe=lambda y, point, at=at: at.setdefault(point, y))
            for weights, at in zip(({}, {f"{scope}/row_floor": floor}), seen, strict=True)
        )
    )
    np.testing.assert_allclose(stretched, plain, rtol=1e-5, atol=1e-6)
    largest = np.asarray(seen[0][f"{scope}/probabilities"]).max(-1)
    assert (largest < floor).any() and (largest > floor).any()
    rows = np.asarray(seen[1][f"{scope}/probabilities"]).max(-1)
    np.testing.assert_allclose(rows, np.minimum(largest / floor, 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("activation", "coefficients", "most"), [("gelu", EXACT, 2.6e-5), ("gelu_tanh", TANH, 2e-6)]
)
def test_gelu_of_a_sigmoid(activation: str, coefficients: tuple[float, ...], most: float) -> None:
    """In float32 over [-10, 10]; 2e-6 is float32's rounding of numbers up to 10. And far outside."""
    x = np.linspace(-10, 10, 400_001, dtype=np.float32)
    difference = np.abs(sigmoid_gelu(x, coefficients).numpy() - gelu(x, activation))
    assert difference.max() < most
    far = np.array([-1e18, -1e4, -40, -12, 12, 40, 1e4, 1e18], np.float32)
    np.testing.assert_allclose(sigmoid_gelu(far, coefficients), np.maximum(far, 0), rtol=0, atol=1e-9)


@LOWERINGS
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_dense_with_gelu(lowering: type[CpuLowering], activation: str, tmp_path: Path) -> None:
    ops, name = lowering(CONFIG, WEIGHTS), "bert/encoder/layer_0/intermediate/dense"
    x = normal(S, C) * 3
    y = x @ WEIGHTS[f"{name}/kernel"] + WEIGHTS[f"{name}/bias"]

    def run(a: tf.Tensor) -> tf.Tensor:
        return ops.dense(a, name, activation=activation)

    atol = 2.6e-5 if lowering is NnapiLowering and activation == "gelu" else 0
    np.testing.assert_allclose(run(x[None, None])[0, 0], gelu(y, activation), rtol=2e-5, atol=2e-5 + atol)
    assert y.min() < -6 and y.max() > 6
    kinds = converted(run, float_spec(1, 1, S, C), folder=tmp_path)
    terms = {"gelu": 2, "gelu_tanh": 1}[activation]  # of the polynomial, beside its first
    island = {"MUL": 3 + terms, "ADD": terms, "MINIMUM": 1, "LOGISTIC": 1}
    assert kinds == {"CONV_2D": 1} | (island if lowering is NnapiLowering else {"GELU": 1})


@pytest.mark.parametrize("name", list(small_bert.CONFIGS))
def test_lowerings_agree_on_the_whole_model(name: str) -> None:
    config = small_bert.CONFIGS[name]
    tensors, windows = small_bert.weights(config), small_bert.arrays(config)[:3]
    cpu, gpu, nnapi = (
        small_bert.run(small_bert.module(config, tensors, lowering), windows)
        for lowering in (CpuLowering, GpuLowering, NnapiLowering)
    )
    np.testing.assert_allclose(gpu, cpu, rtol=0, atol=2e-5)
    # NNAPI's gelu is 2.6e-5 off in each of 2 layers; LayerNorm passes on about as much.
    np.testing.assert_allclose(nnapi, cpu, rtol=0, atol=2e-4)
    assert np.std(cpu) > 0.1


@pytest.mark.parametrize("name", list(small_bert.CONFIGS))
@LOWERINGS
def test_delegates_take_the_whole_model(name: str, lowering: type[CpuLowering], tmp_path: Path) -> None:
    """nnapi as it is used, in int8: of float matrices the converter would make BATCH_MATMUL again."""
    config = small_bert.CONFIGS[name]
    recipe = W8_A8 if lowering is NnapiLowering else W32_A32
    observe = fake_quantize(recipe.quantizes, recipe.bounds, defaultdict(lambda: (-8.0, 8.0)))
    made = small_bert.module(config, small_bert.weights(config), lowering, S, observe=observe)
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(made, recipe))
    model = read_tflite(path)
    kinds = Counter(node.op for node in model.main.nodes)
    assert (kinds["MEAN"], kinds["RSQRT"]) == (10, 5)  # 2 layers of two LayerNorms, and the embeddings'
    assert kinds["GELU" if lowering is not NnapiLowering else "LOGISTIC"] == 2
    transformations = 2 * (name == "small bert")
    per_layer = 3 + 3 * (config.num_attention_heads if lowering is NnapiLowering else 1)
    assert kinds["CONV_2D"] == 2 * per_layer + transformations + 1
    report = {
        CpuLowering: check_xnnpack,
        GpuLowering: check_gpu,
        NnapiLowering: lambda m: check_nnapi(m, api_level=30),
    }[lowering](model)
    look_up = {"GATHER", "CAST"} if lowering is CpuLowering else set()
    assert {verdict.op for verdict in report.refused} == look_up
    assert report.partitions == 1
