"""The fake quantizers: published names and places, and their numbers by TensorFlow's formulas in NumPy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")
pytest.importorskip("tensorflow_model_optimization", reason="tfmot is not installed (extra [training])")

import tensorflow as tf
from checkpoint_files import SMALL
from test_checkpoints_names import PUBLISHED, published_variables
from test_training_model import batch_of

from mobilebert_kit.checkpoints import names
from mobilebert_kit.errors import InputError
from mobilebert_kit.lowering.fake_quantized import FakeQuantizedLowering
from mobilebert_kit.models.config import MobileBertConfig
from mobilebert_kit.models.mobilebert import question_answering
from mobilebert_kit.training.model import INPUTS, TrainableModel
from mobilebert_kit.training.quantizers import FakeQuantizers, places, quantized_config
from tools.random_weights import random_tensors

CONFIG = quantized_config(SMALL)
LENGTH = 13
BATCH = batch_of(CONFIG.vocab_size, LENGTH, (13, 9, 5))
ACT, WEIGHT = "MobileBertActFakeQuantWithMinMaxVars", "MobileBertWeightFakeQuantWithMinMaxVars"
LAYER = "bert/encoder/layer_0"
Ranges = dict[str, np.ndarray]


def quantized(weights: str = "per_tensor", **more: np.ndarray) -> TrainableModel:
    return TrainableModel(CONFIG, {**random_tensors(CONFIG, seed=1), **more}, qat_weights=weights)


def variable(name: str, shape: tuple[int, ...], initializer: object, **_: object) -> tf.Variable:
    """An `add_weight` without Keras."""
    return tf.Variable(initializer(shape, tf.float32), name=name)


# What is independent of the kit, of tfmot and of TensorFlow


def nudged(low: np.ndarray, high: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(scale, lowest, highest value) of 8 bits from `first` (1: narrow) to 255, with 0 among the steps.

    As in tensorflow/core/kernels/fake_quant_ops_functor.h, Nudge.
    """
    scale = (high - low) / np.float32(255 - first)
    zero = np.clip(np.floor(first - low / scale + np.float32(0.5)), first, 255)
    return scale, (first - zero) * scale, (255 - zero) * scale


def fake_quant(x: np.ndarray, low: float, high: float, first: int = 0) -> np.ndarray:
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    scale, lowest, highest = nudged(low, high, first)
    steps = np.floor((np.clip(x, lowest, highest) - lowest) / scale + np.float32(0.5))
    return steps * scale + lowest


def near(actual: object, expected: np.ndarray, step: np.ndarray) -> None:
    """Equal but for float32 rounding, which moves a value that lies between two steps to either."""
    difference = np.abs(np.asarray(actual) - expected)
    assert (difference <= 1.001 * step).all()
    assert (difference > 1e-5 * np.maximum(1, np.abs(expected))).mean() < 1e-3


# Names


@pytest.mark.parametrize(
    "config", [CONFIG, replace(CONFIG, num_feedforward_networks=1, num_hidden_layers=1)], ids=["3", "1"]
)
def test_variables_are_those_of_the_name_table(config: MobileBertConfig) -> None:
    model = TrainableModel(config, random_tensors(config), qat_weights="per_tensor")
    ranges = names.quant_ranges(config.num_hidden_layers, config.num_feedforward_networks)
    assert set(model.tensors()) == ranges | set(config.variable_shapes())
    assert {v.name for v in model.non_trainable_variables} == {f"{name}:0" for name in ranges}
    assert [v.name for v in model.trainable_variables] == [f"{n}:0" for n in config.variable_shapes()]


def test_full_size_has_the_published_variables(shared: Path) -> None:
    """Every quantizer of 24 layers, without the float weights, which would take memory and tell nothing."""
    published = published_variables(shared, "quant")
    quantizers = FakeQuantizers(PUBLISHED, variable)
    assert len(places(PUBLISHED)) == 66 * 24
    assert len(quantizers.variables) == 3168
    ours = set(quantizers.variables) | set(PUBLISHED.variable_shapes())
    assert ours | {"global_step"} == set(published) and len(published) == 4282
    assert all(tuple(v.shape) == published[name] == () for name, v in quantizers.variables.items())
    assert {v.numpy() for name, v in quantizers.variables.items() if name.endswith("/min")} == {-6}
    assert {v.numpy() for name, v in quantizers.variables.items() if name.endswith("/max")} == {6}
    assert all(v.name == f"{name}:0" for name, v in quantizers.variables.items())


# Places: each range is that of the tensor that the published code quantizes


def numpy_layer(
    tensors: dict[str, np.ndarray], x: np.ndarray, mask: np.ndarray, layer: str
) -> tuple[np.ndarray, Ranges]:
    """A layer as modeling.py computes it in the first training step.

    Returns what the layer gives, and the published scope of each quantizer -> the tensor in front of it.
    """
    seen: Ranges = {}

    def act(scope: str, value: np.ndarray) -> np.ndarray:
        kind = f"{scope}/{ACT}"
        used = sum(name.startswith(kind) for name in seen)
        seen[kind + (f"_{used}" if used else "")] = value
        low, high = moved(value)
        return fake_quant(value, low, high)

    def dense(scope: str, value: np.ndarray) -> np.ndarray:
        value, kernel = act(scope, value), tensors[f"{scope}/kernel"]
        seen[f"{scope}/{WEIGHT}"] = kernel
        most = np.abs(kernel).max()
        return value @ fake_quant(kernel, -most, most, 1) + tensors[f"{scope}/bias"]

    def no_norm(scope: str, value: np.ndarray) -> np.ndarray:
        value, inner = act(scope, value), f"{scope}/FakeLayerNorm"
        beta = act(inner, tensors[f"{inner}/beta"])
        gamma = act(inner, tensors[f"{inner}/gamma"])
        return act(inner, value * gamma) + beta

    def heads(value: np.ndarray) -> np.ndarray:
        return value.reshape(*value.shape[:2], CONFIG.num_attention_heads, -1).transpose(0, 2, 1, 3)

    def feed_forward(scope: str, value: np.ndarray) -> np.ndarray:
        inner = np.clip(dense(f"{scope}/intermediate/dense", value), 0, 6)
        return no_norm(f"{scope}/output", dense(f"{scope}/output/dense", inner) + value)

    bottleneck = no_norm(f"{layer}/bottleneck/input", dense(f"{layer}/bottleneck/input/dense", x))
    shared = no_norm(f"{layer}/bottleneck/attention", dense(f"{layer}/bottleneck/attention/dense", x))
    attention = f"{layer}/attention/self"
    query, key = (heads(dense(f"{attention}/{name}", shared)) for name in ("query", "key"))
    value = heads(dense(f"{attention}/value", x))
    keep = mask[:, None, None, :].astype(np.float32)
    own = f"{layer}/attention/self"
    scores = act(own, query @ key.swapaxes(2, 3)) * np.float32(query.shape[-1] ** -0.5)
    scores = act(own, act(own, scores * keep) + (1 - keep) * np.float32(-6))
    powers = np.exp(np.clip(scores, -6, 60))
    context = act(own, powers / powers.sum(axis=-1, keepdims=True) @ value)
    context = context.transpose(0, 2, 1, 3).reshape(shared.shape)
    y = no_norm(f"{layer}/attention/output", dense(f"{layer}/attention/output/dense", context) + bottleneck)
    for index in range(CONFIG.num_feedforward_networks - 1):
        y = feed_forward(f"{layer}/ffn_layer_{index}", y)
    y = feed_forward(layer, y)
    return no_norm(f"{layer}/output/bottleneck", dense(f"{layer}/output/bottleneck/dense", y) + x), seen


def moved(value: np.ndarray, low: float = -6, high: float = 6) -> tuple[np.float32, np.float32]:
    """One step of the moving average; the batch's range holds 0."""
    least, most = min(value.min(), 0), max(value.max(), 0)
    return np.float32(low + 0.001 * (least - low)), np.float32(high + 0.001 * (most - high))


def test_a_layer_quantizes_what_the_published_code_quantizes() -> None:
    model = quantized()
    hidden: Ranges = {}

    def observe(tensor: tf.Tensor, point: str) -> tf.Tensor:
        hidden[point] = tensor.numpy()
        return tensor

    model(BATCH, training=True, observe=observe)
    ours = model.tensors()
    # Embeddings are not quantized, and observed as they enter the first layer's last residual.
    x = hidden["bert/embeddings/FakeLayerNorm"]
    y, seen = numpy_layer(random_tensors(CONFIG, seed=1), x, BATCH["input_mask"], LAYER)
    assert len(seen) == len(names.quant_ranges(1, CONFIG.num_feedforward_networks)) / 2
    for scope, tensor in seen.items():
        if scope.endswith(WEIGHT):
            most = np.abs(tensor).max()
            expected = -most, most
        else:
            expected = moved(tensor)
        found = ours[f"{scope}/min"], ours[f"{scope}/max"]
        # One 8-bit step of 12/255, to which rounding may send a value, moves the average by 1/1000 of it.
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5, err_msg=scope)
        # From what was in front: no other tensor of the layer has the range (else a swap could go unseen).
    final = hidden[f"{LAYER}/output/bottleneck/FakeLayerNorm"]
    assert np.abs(final - y).max() < 3 * 12 / 255  # a few steps of the last quantizers
    assert np.corrcoef(final.ravel(), y.ravel())[0, 1] > 0.9999


# Numbers


@pytest.mark.parametrize("training", [True, False])
def test_activation_quantizer(training: bool) -> None:
    """Three batches: one within the range, one beyond it, one without 0."""
    quantizers = FakeQuantizers(CONFIG, variable)
    point, scope = f"{LAYER}/output/dense/input", f"{LAYER}/output/dense/{ACT}"
    run = tf.function(lambda x: quantizers(x, point, training))
    rng, low, high = np.random.default_rng(0), np.float32(-6), np.float32(6)
    for batch in (rng.normal(0, 1, (50, 40)), rng.normal(0, 9, (50, 40)), rng.uniform(2, 3, (50, 40))):
        x = batch.astype(np.float32)
        y = run(tf.constant(x))
        if training:
            low, high = moved(x, low, high)
        for end, expected in (("min", low), ("max", high)):
            assert quantizers.variables[f"{scope}/{end}"].numpy() == pytest.approx(expected, rel=1e-6)
        near(y, fake_quant(x, low, high), (high - low) / 255)
        assert len(np.unique(y)) <= 256 and not np.array_equal(y, x)


@pytest.mark.parametrize("weights", ["per_tensor", "per_channel"])
@pytest.mark.parametrize("training", [True, False])
def test_weight_quantizer(weights: str, training: bool) -> None:
    quantizers = FakeQuantizers(CONFIG, variable, weights=weights)
    point, scope = f"{LAYER}/output/dense/kernel", f"{LAYER}/output/dense/{WEIGHT}"
    low, high = (quantizers.variables[f"{scope}/{end}"] for end in ("min", "max"))
    width = CONFIG.intra_bottleneck_size
    assert low.shape == ((width,) if weights == "per_channel" else ())
    rng = np.random.default_rng(0)
    for spread in (1, 5, 0.2):  # the last range holds, whatever came before
        kernel = (rng.normal(0, spread, (CONFIG.intermediate_size, width)) + 0.3).astype(np.float32)
        y = quantizers(tf.constant(kernel), point, training)
        most = np.abs(kernel).max(axis=0 if weights == "per_channel" else None)
        most = most if training else np.full(low.shape, 6, np.float32)
        np.testing.assert_array_equal(high, most)
        np.testing.assert_array_equal(low, -most)
        near(y, fake_quant(kernel, -most, most, 1), most / 127)
        if training:
            levels = np.round(y / (most / 127))
            assert np.abs(levels).max() == 127 and levels.min() >= -127  # narrow


def test_straight_through_gradient() -> None:
    """1 within the nudged range, 0 outside; nothing by way of the range."""
    quantizers = FakeQuantizers(CONFIG, variable)
    start = -5, 6  # 0 of the range -6 to 6 lies halfway between two steps: rounding would decide
    for end, value in zip(("min", "max"), start, strict=True):
        quantizers.variables[f"{LAYER}/output/dense/{ACT}/{end}"].assign(value)
    x = tf.constant(np.linspace(-8, 9, 400).astype(np.float32).reshape(20, 20))
    kernel = tf.constant(np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32))
    upstream = tf.constant(np.random.default_rng(1).normal(size=(20, 20)).astype(np.float32))
    for training in (True, False):  # in that order: evaluation finds what training left
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, kernel])
            y = tf.reduce_sum(quantizers(x, f"{LAYER}/output/dense/input", training) * upstream)
            z = tf.reduce_sum(quantizers(kernel, f"{LAYER}/output/dense/kernel", training))
        low, high = (
            quantizers.variables[f"{LAYER}/output/dense/{ACT}/{end}"].numpy() for end in ("min", "max")
        )
        assert (low, high) == pytest.approx(moved(x.numpy(), *start), rel=1e-6)
        _, lowest, highest = nudged(low, high, 0)
        inside = (x.numpy() >= lowest) & (x.numpy() <= highest)
        assert 0.5 < inside.mean() < 0.9
        np.testing.assert_array_equal(tape.gradient(y, x), inside * upstream.numpy())
        passed = tape.gradient(z, kernel).numpy()
        # The largest weight lies on the end of its own range: on either side of it, after rounding.
        assert set(np.unique(passed)) <= {0, 1} and (passed == 0).sum() <= 1


def test_evaluation_reads_ranges_and_training_writes_them() -> None:
    model = quantized()
    before = model.tensors()
    first = model(BATCH)["end_logits"].numpy()
    np.testing.assert_array_equal(model(BATCH)["end_logits"], first)
    assert all(np.array_equal(value, before[name]) for name, value in model.tensors().items())
    tf.function(lambda: model(BATCH, training=True))()
    after = model.tensors()
    changed = {name for name in after if not np.array_equal(after[name], before[name])}
    # Padding's score is -6, which is where that range starts.
    masked = {n for n in after if n.endswith(f"attention/self/{ACT}_2/min")}
    assert changed == {name for name in after if names.is_quant_range(name)} - masked
    assert np.abs(model(BATCH)["end_logits"] - first).max() > 1e-4
    again = TrainableModel(CONFIG, after, qat_weights="per_tensor")
    np.testing.assert_array_equal(again(BATCH)["end_logits"], model(BATCH)["end_logits"])


def test_fitting_ranges_cost_little() -> None:
    """With the float model's own ranges, logits come near its own: no scale is lost, nothing clipped."""
    tensors, seen = random_tensors(CONFIG, seed=1), {}

    def observe(tensor: tf.Tensor, point: str) -> tf.Tensor:
        seen[point] = tensor.numpy()
        return tensor

    exact = TrainableModel(CONFIG, tensors)(BATCH, observe=observe)
    model = quantized()
    for point, place in places(CONFIG).items():
        value = seen[point] * (CONFIG.attention_head_size**0.5 if point.endswith("/scores") else 1)
        low, high = min(value.min(), 0), max(value.max(), 0)
        if point.endswith("/kernel"):
            low, high = -np.abs(value).max(), np.abs(value).max()
        model.quantizers.variables[f"{place.name}/min"].assign(low)
        model.quantizers.variables[f"{place.name}/max"].assign(high)
    ours = model(BATCH)
    for name in exact:
        assert np.corrcoef(np.ravel(ours[name]), np.ravel(exact[name]))[0, 1] > 0.99
        assert np.abs(ours[name] - exact[name]).max() > 1e-4


def test_every_variable_has_a_gradient() -> None:
    model = quantized("per_channel")
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(BATCH, training=True)["end_logits"] ** 2)
    gradients = tape.gradient(total, model.trainable_variables)
    for variable_, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), variable_.name
        assert np.any(tf.convert_to_tensor(gradient)), variable_.name


def test_evaluation_is_the_graph_of_the_saved_model() -> None:
    """Which another lowering writes for batch 1, with a quantizer's formula of its own."""
    model = quantized()
    for _ in range(3):
        model(BATCH, training=True)
    tensors = model.tensors()
    floats = {name: tensors[name] for name in CONFIG.variable_shapes()}
    scopes = {name.removesuffix("/min") for name in tensors if name.endswith("/min")}
    ranges = {scope: (tensors[f"{scope}/min"], tensors[f"{scope}/max"]) for scope in scopes}
    ops, outputs = FakeQuantizedLowering(CONFIG, floats, ranges), model(BATCH)
    for row in range(3):
        inputs = (tf.constant(BATCH[name][row : row + 1]) for name in INPUTS)
        theirs = question_answering(CONFIG, ops, *inputs)
        for name, logits in theirs.items():
            # Rounding sends a few values to the next of 256 steps; what follows moves by less than one step.
            assert np.abs(outputs[name][row] - logits[0]).max() < 0.05
            assert np.corrcoef(outputs[name][row], logits[0])[0, 1] > 0.999


# Ranges of a checkpoint


def published_ranges(value: float = 2.5) -> Ranges:
    every = names.quant_ranges(CONFIG.num_hidden_layers, CONFIG.num_feedforward_networks)
    return {n: np.float32(-value if n.endswith("/min") else value * (1 if WEIGHT in n else 2)) for n in every}


def test_ranges_load_and_per_channel_takes_the_published_scalars() -> None:
    ranges = published_ranges()
    tensors = quantized(**ranges).tensors()
    assert all(tensors[name] == value for name, value in ranges.items())
    wide = quantized("per_channel", **ranges).tensors()
    for name, value in ranges.items():
        if WEIGHT in name:
            kernel = tensors[name.replace(f"{WEIGHT}/min", "kernel").replace(f"{WEIGHT}/max", "kernel")]
            np.testing.assert_array_equal(wide[name], np.full(kernel.shape[1], value))
        else:
            assert wide[name] == value
    again = TrainableModel(CONFIG, wide, qat_weights="per_channel").tensors()
    assert all(np.array_equal(again[name], wide[name]) for name in wide)
    with pytest.raises(InputError, match="expected shape"):
        TrainableModel(CONFIG, wide, qat_weights="per_tensor")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r, n: r.pop(n), "missing"),
        (lambda r, n: r.update({n: np.float32(np.nan)}), "1 not finite"),
        (lambda r, n: r.update({n: np.float32(0.5)}), "1 without zero"),
        (lambda r, n: r.update({n: np.zeros(3, np.float32)}), "expected shape"),
        (lambda r, n: r.update({n.replace("layer_0", "layer_9"): np.float32(-1)}), "not of this model"),
    ],
)
def test_bad_ranges_are_refused(change: object, message: str) -> None:
    ranges = published_ranges()
    change(ranges, f"{LAYER}/output/dense/{ACT}/min")
    with pytest.raises(InputError, match=message):
        quantized(**ranges)


def test_what_quantized_training_does_not_know_is_refused() -> None:
    tensors = random_tensors(SMALL)
    for config, word in (
        (replace(CONFIG, hidden_act="relu"), "hidden_act relu[,.]"),
        (replace(CONFIG, mask_semantics="additive", score_clip=None), "mask_semantics additive"),
    ):
        with pytest.raises(InputError, match=word):
            TrainableModel(config, tensors, qat_weights="per_tensor")
    with pytest.raises(InputError, match="normalization_type"):
        MobileBertConfig.from_published({**SMALL.to_dict(), "normalization_type": "layer_norm"})
    with pytest.raises(InputError, match="per_tensor or per_channel"):
        quantized("per_row")
    with pytest.raises(InputError, match="float model"):
        TrainableModel(CONFIG, {**tensors, **published_ranges()})
    with pytest.raises(InputError, match="float32"):
        TrainableModel(CONFIG, tensors, qat_weights="per_tensor", compute_dtype="bfloat16")(BATCH)
