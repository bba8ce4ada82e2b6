"""What quant_report measures: the simulation, SQNR, the share of each tensor, the search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import small_bert
import small_export
import tensorflow as tf
from quant_case import Case, planted_weights

from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.models.bert_config import BertConfig
from mobilebert_kit.quantize.calibration import calibrate
from mobilebert_kit.quantize.groups import GROUPS, RoundedTensor, layer_of, rounded_tensors
from mobilebert_kit.quantize.keep import MOST_KEPT, best, does, keep_in_float
from mobilebert_kit.quantize.sensitivity import compare_logits, logit_noise
from mobilebert_kit.quantize.simulation import round_constant
from mobilebert_kit.quantize.sqnr import decibels, kernel_noise, measure_noise
from mobilebert_kit.targets import INT8, NNAPI, TARGETS, Target

SELF = "bert/encoder/layer_0/attention/self"


@pytest.fixture(scope="module", params=[INT8, NNAPI], ids=["int8", "nnapi"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.fixture(scope="module")
def file(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .tflite that export would write."""
    path = tmp_path_factory.mktemp("file") / f"{case.target.name}.tflite"
    case.convert(path)
    return path


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


# The simulation


def test_all_off_is_the_float_model(case: Case) -> None:
    outputs = [case.build(case.weights).serve(*map(tf.constant, w.values())) for w in case.arrays]
    expected = [[output[name].numpy()[0] for output in outputs] for name in ("start_logits", "end_logits")]
    np.testing.assert_allclose(case.logits(()), np.array(expected)[:, case.tokens], atol=1e-5)


def test_all_on_is_the_file(case: Case, file: Path) -> None:
    """To two steps of the logits, one of which the head itself rounds away."""
    difference = case.logits(case.simulation.tensors) - case.file_logits(file)
    low, high = case.target.recipe.bounds("cls/squad", *case.ranges["cls/squad"])
    assert rms(difference) < 2 * (high - low) / 255


def test_the_error_is_the_files(case: Case, tmp_path: Path) -> None:
    """The simulation is wrong as the file is: it explains most of the file's error."""
    planted = Case(case.target, planted_weights())
    planted.convert(tmp_path / "m.tflite")
    file = planted.file_logits(tmp_path / "m.tflite")
    off, on = planted.logits(()), planted.logits(planted.simulation.tensors)
    assert rms(on - file) < 0.5 * rms(off - file)


def test_weights_are_those_of_the_file(case: Case, file: Path) -> None:
    """Kernels; and where the file has them in int8, residuals' gammas and the positions."""
    constants = [tensor for tensor in read_tflite(file).main.tensors if tensor.is_constant and tensor.scales]
    stored = [
        (t.data().reshape(len(t.scales), -1).astype(np.float32) - np.array(t.zero_points)[:, None])
        * np.array(t.scales)[:, None]
        for t in constants
    ]
    layers = [f"bert/encoder/layer_{i}" for i in range(small_export.CONFIG.num_hidden_layers)]
    expected = {
        name: case.rounded[name].T for name in (f"{layer}/intermediate/dense/kernel" for layer in layers)
    }
    if case.target is NNAPI:
        gammas = [f"{layer}/output/FakeLayerNorm/gamma" for layer in layers]
        expected |= {name: round_constant(case.weights[name])[None] for name in gammas}
        positions = "bert/embeddings/position_embeddings"
        expected[positions] = round_constant(case.weights[positions][: small_export.LENGTH]).reshape(1, -1)
    else:
        trigram = "bert/embeddings/embedding_transformation/kernel"
        assert case.rounded[trigram] is case.weights[trigram]  # f32embedding
    for name, value in expected.items():
        found = [np.abs(one - value).max() for one in stored if one.shape == value.shape]
        assert found and min(found) < 1e-6, name


# SQNR


def fake_quantized(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Uniform affine int8 in NumPy."""
    scale = (high - low) / 255
    zero_point = np.rint(-low / scale)
    return (np.clip(np.rint(x / scale) + zero_point, 0, 255) - zero_point) * scale


def rounded(case: Case, point: str, x: np.ndarray) -> np.ndarray:
    """By the point's range; and made with an int8 constant where it is made with one."""

    def constant(value: np.ndarray) -> np.ndarray:
        return fake_quantized(value, min(value.min(), 0.0), max(value.max(), 0.0))

    if point.endswith("/residual"):
        gamma = case.weights[point.replace("/residual", "/gamma")]
        x = x / np.where(gamma == 0, 1, gamma) * constant(gamma)
    elif point.endswith("/position_embeddings"):
        positions = case.weights[point][: small_export.LENGTH]
        x = x - positions + constant(positions)
    return fake_quantized(x, *case.target.recipe.bounds(point, *case.ranges[point]))


def test_noise_is_numpys_on_tokens(case: Case) -> None:
    """All three readings, from the tensors themselves, cut to the tokens, which are the first of a window."""
    recipe, float_seen, before, after = case.target.recipe, {}, {}, {}

    def keep(tensor: tf.Tensor, point: str) -> tf.Tensor:
        float_seen.setdefault(point, []).append(tensor.numpy())
        return tensor

    def quantize(tensor: tf.Tensor, point: str) -> tf.Tensor:
        before.setdefault(point, []).append(tensor.numpy())
        if recipe.quantizes(point):
            tensor = tf.constant(rounded(case, point, tensor.numpy()), tf.float32)
        after.setdefault(point, []).append(tensor.numpy())
        return tensor

    window = case.arrays[0]
    for weights, observe in ((case.weights, keep), (case.rounded, quantize)):
        case.build(weights, observe).serve.python_function(*map(tf.constant, window.values()))
    noise = measure_noise(case.simulation, [window])
    assert noise.keys() == float_seen.keys()
    count = int(window["input_mask"].sum())

    def squares(point: str, *tensors: list[np.ndarray]) -> float:
        total = 0.0
        for values in zip(*tensors, strict=True):
            difference = values[0] - values[1] if len(values) > 1 else values[0]
            if point.startswith("mask/"):
                difference = difference[..., :count]
            elif "scores" in point or "probabilities" in point:
                difference = difference[..., :count, :count]
            else:
                difference = difference[..., :count, :]
            total += np.sum(np.square(difference, dtype=np.float64))
        return total

    for point, x in float_seen.items():
        signal = squares(point, x)
        assert noise[point].signal == pytest.approx(signal, rel=1e-4)
        own = x
        if recipe.quantizes(point):
            own = [rounded(case, point, v) for v in x]
        # Values on the edge between two steps may fall to either side: each moves the noise by little.
        slack = 0.02 * squares(point, x, own) + 1e-9 * signal
        assert noise[point].own == pytest.approx(squares(point, x, own), abs=slack), point
        for told, tensors in ((noise[point].before, before[point]), (noise[point].after, after[point])):
            expected = squares(point, x, tensors)
            assert told == pytest.approx(expected, rel=0.1, abs=1e-9 * signal), point


def test_kernel_noise() -> None:
    exact = {"a": np.array([3.0, 4.0], np.float32), "b": np.ones(2, np.float32)}
    noise = kernel_noise(exact, {"a": np.array([3.0, 3.0], np.float32), "b": exact["b"]})
    assert noise.keys() == {"a"}
    assert decibels(noise["a"].signal, noise["a"].own) == pytest.approx(10 * np.log10(25))


def test_no_noise_has_no_decibels() -> None:
    assert decibels(1.0, 0.0) is None
    assert decibels(0.0, 1.0) is None
    assert decibels(100.0, 1.0) == pytest.approx(20.0)


# What a tensor does to the logits


def test_logit_noise_is_what_a_tensor_alone_does(case: Case) -> None:
    """Against rounding one at a time, in the float model, where no later rounding covers what it does.

    The estimate is of 180 squares of normals, and if one window makes all the noise, of 20: then it is off by
    a third (sqrt(2 / 20)), thrice that at most.
    """
    estimate = logit_noise(case.simulation, case.arrays, draws=20)
    tensors = case.simulation.tensors
    exact = case.logits(())
    for index in np.argsort(-estimate)[:8]:
        alone = np.sum((case.logits([tensors[index]]) - exact) ** 2)
        assert 1 / 2 < estimate[index] / alone < 2, tensors[index].name


def test_comparison_of_logits() -> None:
    tokens = np.array([[True, True, False]])
    reference = np.array([[[3.0, 1.0, 9.0]], [[0.0, 2.0, 9.0]]])
    other = reference + np.array([[[0.0, 1.0, 7.0]], [[0.0, 0.0, 7.0]]])
    told = compare_logits(reference, other, tokens)
    assert (told.mean, told.same_spans) == (0.25, 1.0)
    assert told.sqnr_db == pytest.approx(10 * np.log10(14))
    assert compare_logits(reference, -reference, tokens).same_spans == 0.0


# Groups


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("bert/embeddings/word_embeddings", "embeddings"),
        ("bert/embeddings/FakeLayerNorm/dense", "embeddings"),
        ("bert/encoder/layer_11/bottleneck/input/FakeLayerNorm", "bottleneck"),
        ("bert/encoder/layer_11/output/bottleneck/FakeLayerNorm/residual", "hidden states"),
        ("bert/encoder/layer_1/attention/self/query/head_3", "query, key, value"),
        ("bert/encoder/layer_1/attention/self/scores/head_3", "scores"),
        ("bert/encoder/layer_1/attention/self/head_3/probabilities", "scores"),
        ("bert/encoder/layer_1/attention/self/context", "context"),
        ("bert/encoder/layer_1/attention/output/FakeLayerNorm", "residual sums"),
        ("bert/encoder/layer_1/ffn_layer_0/output/FakeLayerNorm/dense", "residual sums"),
        ("bert/encoder/layer_1/ffn_layer_0/intermediate/dense", "feed-forward"),
        ("bert/encoder/layer_1/ffn_layer_0/intermediate/dense/kernel", "weights"),
        ("cls/squad/output_weights", "weights"),
        ("cls/squad", "head"),
        ("mask/fill", "mask"),
    ],
)
def test_group_of_a_tensor(name: str, group: str) -> None:
    assert RoundedTensor(name).group.name == group


def test_every_rounded_point_is_in_one_tensor_of_one_group(case: Case) -> None:
    points = [point for tensor in case.simulation.tensors for point in tensor.points]
    assert sorted(points) == sorted(filter(case.target.recipe.quantizes, case.ranges))
    assert {tensor.group for tensor in case.simulation.tensors} <= set(GROUPS)
    by_name = {tensor.name: tensor.points for tensor in case.simulation.tensors}
    shared = "bert/encoder/layer_0/bottleneck/attention/FakeLayerNorm"
    assert set(by_name[shared]) == {shared, f"{SELF}/query/input", f"{SELF}/key/input"}


@pytest.mark.parametrize("config", small_bert.CONFIGS.values(), ids=small_bert.CONFIGS)
@pytest.mark.parametrize("target", [INT8, NNAPI], ids=lambda target: target.name)
def test_every_point_of_a_bert_is_in_one_tensor_of_one_group(config: BertConfig, target: Target) -> None:
    weights = small_bert.weights(config)
    build = partial(small_bert.module, config, weights, target.lowering_class())
    ranges = calibrate(lambda observe: build(observe=observe), small_bert.arrays(config)[:1])
    tensors = rounded_tensors(config, target.recipe, ranges)
    points = [point for tensor in tensors for point in tensor.points]
    assert sorted(points) == sorted(filter(target.recipe.quantizes, ranges))
    assert {tensor.group for tensor in tensors} <= set(GROUPS)
    # A tensor's points have one range: they are one tensor.
    for tensor in tensors:
        assert len({ranges[point] for point in tensor.points}) == 1, tensor.points


def test_layer_of_a_tensor() -> None:
    assert [layer_of(f"{SELF}/key"), layer_of("bert/encoder/layer_23/x"), layer_of("cls/squad")] == [
        0,
        23,
        None,
    ]


# The search


@pytest.mark.parametrize(
    ("enough", "candidates", "tried"),
    [
        (1, 9, [1]),
        (3, 9, [1, 2, 4]),
        (9, 9, [1, 2, 4, 8, 9]),
        (10, 9, [1, 2, 4, 8, 9]),
        (17, 99, [1, 2, 4, 8, MOST_KEPT]),
    ],
)
def test_search_doubles_until_it_will_do(enough: int, candidates: int, tried: list[int]) -> None:
    def measure(kept: Sequence[int]) -> dict:
        assert list(kept) == list(range(len(kept)))  # the first ones
        return {"refused": False, "f1_drop": 0.5 if len(kept) >= enough else 1.0}

    trials = keep_in_float(range(candidates), 0.5, measure)
    assert [trial["kept"] for trial in trials] == tried
    chosen = best(trials)
    assert does(chosen, 0.5) == (enough <= tried[-1])
    assert chosen["kept"] == (tried[-1] if enough <= tried[-1] else 1)


def test_search_ends_where_the_delegate_refuses() -> None:
    trials = keep_in_float(range(9), 0.5, lambda kept: {"refused": len(kept) > 1, "f1_drop": 2.0 / len(kept)})
    assert [trial["kept"] for trial in trials] == [1, 2]
    assert best(trials)["kept"] == 1
    assert not does({"refused": True, "f1_drop": 0.0}, 0.5)


def test_targets_without_int8_activations_have_nothing_to_simulate() -> None:
    quantized: Callable[[str], bool] = lambda name: TARGETS[name].recipe.quantize_activations  # noqa: E731
    assert [name for name in TARGETS if quantized(name)] == ["int8", "nnapi"]
