"""Each primitive of each lowering: the published formula's numbers, and the ops that the converter makes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_export
import tensorflow as tf

from mobilebert_kit.contract import MLPERF
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.lowering.cpu import CpuLowering
from mobilebert_kit.lowering.gpu import GpuLowering
from mobilebert_kit.lowering.nnapi import NnapiLowering
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.quantize.calibration import fake_quantize
from mobilebert_kit.quantize.conversion import convert
from mobilebert_kit.quantize.recipes import W8_A8, W16_A32, W32_A32, Recipe

S, HEADS = 10, 2
CONFIG = replace(small_export.CONFIG, num_attention_heads=HEADS)
RNG = np.random.default_rng(3)
LAYER = "bert/encoder/layer_0"
MASK = (np.arange(S) < 7)[None].astype(np.int32)
LOWERINGS = pytest.mark.parametrize("lowering", [CpuLowering, GpuLowering, NnapiLowering])


def weights() -> dict[str, np.ndarray]:
    """Random values that are no multiples of a power of two; gammas of both signs."""
    rng = np.random.default_rng(5)
    return {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in CONFIG.variable_shapes().items()
    }


WEIGHTS = weights()


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def close(actual: tf.Tensor, expected: np.ndarray) -> None:
    """Equal but for the order of float32 sums of some dozens of terms of size 1."""
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=2e-5, atol=2e-5)


def converted(function: Callable, *specs: tf.TensorSpec, folder: Path) -> Counter:
    """The ops of the .tflite of `function`."""
    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs)
    path = folder / "ops.tflite"
    path.write_bytes(convert(module, W32_A32))
    return Counter(node.op for node in read_tflite(path).main.nodes)


def float_spec(*shape: int) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.float32)


def merged(ops: CpuLowering, heads: object) -> np.ndarray:
    """[heads, rows, columns] of either form of heads."""
    return np.stack([np.asarray(h) for h in heads]) if isinstance(heads, list) else np.asarray(heads)[0]


@LOWERINGS
def test_embedding(lowering: type[CpuLowering], tmp_path: Path) -> None:
    ops, name = lowering(CONFIG, WEIGHTS), "bert/embeddings/word_embeddings"
    ids = RNG.integers(0, CONFIG.vocab_size, (1, S)).astype(np.int32)
    rows = ops.embedding(ids, name)
    np.testing.assert_array_equal(rows, WEIGHTS[name][ids][None])
    kinds = converted(lambda i: ops.embedding(i, name), tf.TensorSpec([1, S], tf.int32), folder=tmp_path)
    assert kinds - Counter(RESHAPE=1) == Counter(GATHER=1)


@LOWERINGS
def test_positions(lowering: type[CpuLowering], tmp_path: Path) -> None:
    ops, name = lowering(CONFIG, WEIGHTS), "bert/embeddings/position_embeddings"
    x = normal(1, 1, S, CONFIG.hidden_size)
    np.testing.assert_array_equal(ops.add_positions(x, name), x + WEIGHTS[name][:S])
    assert converted(lambda y: ops.add_positions(y, name), float_spec(*x.shape), folder=tmp_path) == {
        "ADD": 1
    }


@LOWERINGS
def test_trigram_is_one_convolution(lowering: type[CpuLowering], tmp_path: Path) -> None:
    """modeling.py: concat of the next, the current and the previous token, zero beyond the ends."""
    ops, scope = lowering(CONFIG, WEIGHTS), "bert/embeddings"
    dense, norm = f"{scope}/embedding_transformation", f"{scope}/FakeLayerNorm"
    x, residual = normal(S, CONFIG.embedding_size), normal(S, CONFIG.hidden_size)
    nothing = np.zeros_like(x[:1])
    wide = np.concatenate([np.vstack([x[1:], nothing]), x, np.vstack([nothing, x[:-1]])], axis=1)
    y = wide @ WEIGHTS[f"{dense}/kernel"] + WEIGHTS[f"{dense}/bias"] + residual
    expected = y * WEIGHTS[f"{norm}/gamma"] + WEIGHTS[f"{norm}/beta"]

    def run(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return ops.trigram_no_norm(a, dense, norm, residual=b)

    close(run(x[None, None], residual[None, None])[0, 0], expected)
    specs = [float_spec(1, 1, S, width) for width in (CONFIG.embedding_size, CONFIG.hidden_size)]
    assert converted(run, *specs, folder=tmp_path) == {"CONV_2D": 1, "MUL": 1, "ADD": 1}
    graph = read_tflite(tmp_path / "ops.tflite").main
    convolution = next(node for node in graph.nodes if node.op == "CONV_2D")
    assert graph.tensors[convolution.inputs[1]].shape == (CONFIG.hidden_size, 1, 3, CONFIG.embedding_size)


@LOWERINGS
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
def test_dense(lowering: type[CpuLowering], activation: str | None, tmp_path: Path) -> None:
    ops, name = lowering(CONFIG, WEIGHTS), f"{LAYER}/intermediate/dense"
    x = normal(S, CONFIG.intra_bottleneck_size) * 3
    y = (x @ WEIGHTS[f"{name}/kernel"] + WEIGHTS[f"{name}/bias"]) * 0.3
    expected = {None: y, "relu": np.maximum(y, 0), "relu6": np.clip(y, 0, 6)}[activation]

    def run(a: tf.Tensor) -> tf.Tensor:
        return ops.dense(a, name, activation=activation, scale=0.3)

    close(run(x[None, None])[0, 0], expected)
    assert expected.max() > 6 or activation == "relu6"
    kinds = converted(run, float_spec(1, 1, S, CONFIG.intra_bottleneck_size), folder=tmp_path)
    assert kinds == {"CONV_2D": 1}


@LOWERINGS
@pytest.mark.parametrize("with_residual", [False, True])
def test_dense_no_norm(lowering: type[CpuLowering], with_residual: bool, tmp_path: Path) -> None:
    ops = lowering(CONFIG, WEIGHTS)
    dense, norm = f"{LAYER}/output/dense", f"{LAYER}/output/FakeLayerNorm"
    x, residual = normal(S, CONFIG.intermediate_size), normal(S, CONFIG.intra_bottleneck_size)
    y = x @ WEIGHTS[f"{dense}/kernel"] + WEIGHTS[f"{dense}/bias"] + (residual if with_residual else 0)
    expected = y * WEIGHTS[f"{norm}/gamma"] + WEIGHTS[f"{norm}/beta"]
    assert WEIGHTS[f"{norm}/gamma"].min() < 0

    def run(a: tf.Tensor, b: tf.Tensor | None = None) -> tf.Tensor:
        return ops.dense_no_norm(a, dense, norm, residual=b)

    close(run(*(a[None, None] for a in (x, residual)[: 1 + with_residual]))[0, 0], expected)
    specs = [float_spec(1, 1, *a.shape) for a in (x, residual)[: 1 + with_residual]]
    kinds = converted(run, *specs, folder=tmp_path)
    assert kinds == {"CONV_2D": 1, **({"MUL": 1, "ADD": 1} if with_residual else {})}


@LOWERINGS
def test_heads_split_and_merge(lowering: type[CpuLowering]) -> None:
    ops, name = lowering(CONFIG, WEIGHTS), f"{LAYER}/attention/self/query"
    width = CONFIG.intra_bottleneck_size
    x = normal(S, width)
    expected = (x @ WEIGHTS[f"{name}/kernel"] + WEIGHTS[f"{name}/bias"]) * 0.5
    heads = ops.heads(x[None, None], name, HEADS, scale=0.5)
    close(merged(ops, heads), expected.reshape(S, HEADS, width // HEADS).transpose(1, 0, 2))
    close(ops.merge_heads(heads, "scope")[0, 0], expected)


@LOWERINGS
def test_attention_products(lowering: type[CpuLowering]) -> None:
    ops, size = lowering(CONFIG, WEIGHTS), CONFIG.attention_head_size
    query, key, value = normal(3, HEADS, S, size)
    take = list if lowering is NnapiLowering else lambda heads: heads[None]
    scores = ops.scores(take(query), take(key), "s")
    close(merged(ops, scores), query @ key.transpose(0, 2, 1))
    probabilities = ops.softmax(scores, "s")
    raw = np.exp(query @ key.transpose(0, 2, 1))
    close(merged(ops, probabilities), raw / raw.sum(-1, keepdims=True))
    close(merged(ops, ops.context(take(raw), take(value), "s")), raw @ value)


@LOWERINGS
@pytest.mark.parametrize("mask_value", [None, -20.0])
@pytest.mark.parametrize("semantics", ["additive", "multiplicative"])
@pytest.mark.parametrize("clip", [None, (-6.0, 1.5)])
def test_mask_and_clip(lowering: type[CpuLowering], semantics: str, mask_value: float | None, clip) -> None:
    """modeling.py's two masks, and clip_by_value on what comes out."""
    ops = lowering(replace(CONFIG, mask_semantics=semantics), WEIGHTS, mask_value=mask_value)
    value = mask_value or {"additive": -10000.0, "multiplicative": -6.0}[semantics]
    scores = normal(HEADS, S, S) * 3
    fill = (1 - MASK.astype(np.float32)) * np.float32(value)
    expected = (scores if semantics == "additive" else scores * MASK) + fill
    if clip:
        expected = np.clip(expected, *clip)
    take = list if lowering is NnapiLowering else lambda heads: heads[None]
    actual = ops.clip(ops.masked(take(scores), ops.mask(MASK), "s"), clip, "s")
    np.testing.assert_array_equal(merged(ops, actual), expected)


@LOWERINGS
def test_logits_come_end_first(lowering: type[CpuLowering], tmp_path: Path) -> None:
    ops, x = lowering(CONFIG, WEIGHTS), normal(S, CONFIG.hidden_size)
    start, end = WEIGHTS["cls/squad/output_weights"] @ x.T + WEIGHTS["cls/squad/output_bias"][:, None]
    for actual, expected in zip(ops.logits(x[None, None], "cls/squad"), (end, start), strict=True):
        close(actual[0], expected)


ATTENTION = {
    CpuLowering: {"BATCH_MATMUL": 4, "SOFTMAX": 2, "FULLY_CONNECTED": 0, "CONCATENATION": 0, "SPLIT": 1},
    GpuLowering: {"BATCH_MATMUL": 4, "SOFTMAX": 2, "FULLY_CONNECTED": 0, "CONCATENATION": 0, "SLICE": 2},
    NnapiLowering: {"BATCH_MATMUL": 0, "SOFTMAX": 4, "FULLY_CONNECTED": 8, "CONCATENATION": 2},
}
# A layer: 2 bottlenecks, attention output, 3 feed-forwards of 2, output bottleneck, and query, key, value:
# one each, or one a head. Then the trigram and the head of the model.
CONVOLUTIONS = {
    CpuLowering: 2 * (10 + 3) + 2,
    GpuLowering: 2 * (10 + 3) + 2,
    NnapiLowering: 2 * (10 + 3 * HEADS) + 2,
}


@LOWERINGS
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_act": "relu6", "mask_semantics": "multiplicative", "score_clip": (-6.0, 60.0)},
    ],
)
def test_ops_of_the_whole_model(lowering: type[CpuLowering], changes: dict, tmp_path: Path) -> None:
    """nnapi as it is used, in int8: of float matrices the converter would make BATCH_MATMUL again."""
    config = replace(CONFIG, **changes)
    recipe = W8_A8 if lowering is NnapiLowering else W32_A32
    observe = fake_quantize(recipe.quantizes, recipe.bounds, defaultdict(lambda: (-8.0, 8.0)))
    module = serving_module(
        config, WEIGHTS, lowering=lowering, contract=MLPERF, sequence_length=S, observe=observe
    )
    path = tmp_path / "model.tflite"
    path.write_bytes(convert(module, recipe))
    graph = read_tflite(path).main
    kinds = Counter(node.op for node in graph.nodes)
    assert {op: kinds[op] for op in ATTENTION[lowering]} == ATTENTION[lowering]
    assert kinds["CONV_2D"] == CONVOLUTIONS[lowering]
    layers_and_heads = 2 * (HEADS if lowering is NnapiLowering else 1)
    clips = layers_and_heads if config.score_clip else 0
    assert (kinds["MAXIMUM"], kinds["MINIMUM"]) == (clips, clips)
    fused = Counter(node.options.get("fused_activation") for node in graph.nodes)
    assert fused["RELU6" if config.hidden_act == "relu6" else "RELU"] == 2 * 3
    assert kinds["RELU"] == kinds["RELU6"] == kinds["PAD"] == kinds["STRIDED_SLICE"] == 0


@pytest.mark.parametrize("semantics", ["additive", "multiplicative"])
@pytest.mark.parametrize("heads", [1, 3])
def test_lowerings_agree_on_the_whole_model(semantics: str, heads: int) -> None:
    config = replace(CONFIG, mask_semantics=semantics, num_attention_heads=heads)
    tensors = small_export.weights(config)
    modules = [
        serving_module(config, tensors, lowering=lowering, contract=MLPERF, sequence_length=96)
        for lowering in (CpuLowering, GpuLowering, NnapiLowering)
    ]
    for window in small_export.arrays()[:3]:
        cpu, *others = (module.serve(*map(tf.constant, window.values())) for module in modules)
        for name in MLPERF.output_names:
            for other in others:
                np.testing.assert_allclose(cpu[name], other[name], rtol=0, atol=2e-5)


@pytest.mark.parametrize("semantics", ["additive", "multiplicative"])
@pytest.mark.parametrize("recipe", [W32_A32, W16_A32], ids=lambda recipe: recipe.name)
def test_gpu_model_has_four_dimensions(semantics: str, recipe: Recipe, tmp_path: Path) -> None:
    """No op that older delegates lack, no operands that have to be broadcast to another rank, 1-D indices."""
    config = replace(CONFIG, mask_semantics=semantics, score_clip=(-6.0, 60.0))
    module = serving_module(config, WEIGHTS, lowering=GpuLowering, contract=MLPERF, sequence_length=S)
    path = tmp_path / "model.tflite"
    path.write_bytes(convert(module, recipe))
    graph = read_tflite(path).main
    tensors = graph.tensors
    missing_on_a_gpu = {
        "PACK",
        "UNPACK",
        "SQUEEZE",
        "EXPAND_DIMS",
        "SPLIT",
        "SPLIT_V",
        "STRIDED_SLICE",
        "SUB",
    }
    assert missing_on_a_gpu.isdisjoint(node.op for node in graph.nodes)
    for node in graph.nodes:
        if node.op == "GATHER":
            assert [tensors[i].rank for i in node.inputs] == [4, 1]
        elif node.op not in ("RESHAPE", "DEQUANTIZE"):
            ranks = {tensors[i].rank for i in (*node.inputs, *node.outputs) if not tensors[i].is_constant}
            assert ranks <= {0, 1, 4} if recipe is W16_A32 else ranks == {4}, (node.op, ranks)
        if node.op in ("ADD", "MUL"):
            assert {tensors[i].rank for i in node.inputs} <= {0, 4}, node
        assert len(set(node.inputs)) == len(node.inputs)
