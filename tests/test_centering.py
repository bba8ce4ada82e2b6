"""Centred values: the same function in float, and less lost in int8."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import small_export
import tensorflow as tf

from mobilebert_kit.contract import MLPERF
from mobilebert_kit.lowering.cpu import unobserved
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.quantize.calibration import calibrate, fake_quantize
from mobilebert_kit.quantize.centering import WINDOWS, center_values, mean_values
from mobilebert_kit.targets import FLOAT, GPU, INT8, NNAPI, Target

CONFIG = small_export.CONFIG
MULTIPLICATIVE = replace(CONFIG, mask_semantics="multiplicative", score_clip=(-6.0, 60.0), hidden_act="relu6")
VALUE, OUTPUT = "bert/encoder/layer_{}/attention/self/value", "bert/encoder/layer_{}/attention/output/dense"


def build(config, tensors, target: Target, observe=unobserved):
    return serving_module(
        config,
        tensors,
        lowering=target.lowering_class(),
        contract=MLPERF,
        sequence_length=small_export.LENGTH,
        observe=observe,
        mask_value=-20.0 if config.mask_semantics == "additive" else None,
    )


def shifted(bias: float) -> dict[str, np.ndarray]:
    """The small model's weights with `bias` added to every value, each channel another part of it."""
    tensors = small_export.weights()
    for layer in range(CONFIG.num_hidden_layers):
        name = VALUE.format(layer) + "/bias"
        tensors[name] = tensors[name] + np.linspace(0.5, 1.5, tensors[name].size, dtype=np.float32) * bias
    return tensors


def centered(config, tensors) -> dict[str, np.ndarray]:
    return {
        **tensors,
        **center_values(partial(build, config, tensors, FLOAT), small_export.arrays(), tensors),
    }


def logits(module: tf.Module) -> np.ndarray:
    """float32 [2, windows, S]."""
    outputs = [module.serve(*map(tf.constant, window.values())) for window in small_export.arrays()]
    return np.stack(
        [[output[name].numpy()[0] for output in outputs] for name in ("start_logits", "end_logits")]
    )


def test_the_mean_is_of_tokens_only() -> None:
    tensors, values = shifted(3.0), {}

    def keep(tensor: tf.Tensor, point: str) -> tf.Tensor:
        values.setdefault(point, []).append(tensor.numpy()[0, 0])
        return tensor

    module, windows = build(CONFIG, tensors, FLOAT, keep), small_export.arrays()
    for window in windows:
        module.serve.python_function(*map(tf.constant, window.values()))
    token = np.concatenate([window["input_mask"][0] for window in windows]) == 1
    assert not token.all()
    means = mean_values(partial(build, CONFIG, tensors, FLOAT), windows)
    assert len(means) == CONFIG.num_hidden_layers
    for point, mean in means.items():
        seen = np.concatenate(values[point]).astype(np.float64)
        # float32 sums over 96 positions: some ULP of the largest partial sum, 96 times the mean.
        np.testing.assert_allclose(mean, seen[token].mean(axis=0), rtol=0, atol=1e-5 * np.abs(seen).max())
        assert np.abs(seen.mean(axis=0) - mean).max() > 1e-3  # the mean of all positions is another


def test_what_changes() -> None:
    tensors = shifted(3.0)
    build_float = partial(build, CONFIG, tensors, FLOAT)
    moved = center_values(build_float, small_export.arrays(), tensors)
    layers = range(CONFIG.num_hidden_layers)
    assert moved.keys() == {f"{name.format(i)}/bias" for name in (VALUE, OUTPUT) for i in layers}
    assert all(moved[name].dtype == np.float32 and moved[name].shape == tensors[name].shape for name in moved)
    after = mean_values(partial(build, CONFIG, {**tensors, **moved}, FLOAT), small_export.arrays())
    assert max(np.abs(mean).max() for mean in after.values()) < 1e-4 * 3.0
    first = center_values(build_float, small_export.arrays() * WINDOWS, tensors)
    few = center_values(build_float, (small_export.arrays() * WINDOWS)[:WINDOWS], tensors)
    assert all(np.array_equal(first[name], few[name]) for name in first)


@pytest.mark.parametrize("target", [FLOAT, GPU, NNAPI], ids=lambda target: target.name)
@pytest.mark.parametrize("config", [CONFIG, MULTIPLICATIVE], ids=["additive", "multiplicative"])
def test_the_float_model_stays_the_same(config, target: Target) -> None:
    tensors = shifted(3.0)
    moved = centered(config, tensors)
    assert np.abs(moved[VALUE.format(0) + "/bias"] - tensors[VALUE.format(0) + "/bias"]).max() > 1
    expected = logits(build(config, tensors, target))
    # Sums of other numbers: float32's resolution, a factor of 100 for the layers that they go through.
    tolerance = 100 * np.finfo(np.float32).eps * np.abs(expected).max()
    np.testing.assert_allclose(logits(build(config, moved, target)), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("target", [INT8, NNAPI], ids=lambda target: target.name)
def test_int8_loses_less(target: Target) -> None:
    """Attention that is even over 96 tokens: probabilities of 2.67/256, which int8 takes for 3/256. A row
    sums to 1.125: an eighth of the mean value is too much, 3.75 of 30; centred values have none. What
    remains is int8's own noise, which is below half a step of the context, 45 / 255 / 2 = 0.09."""
    tensors = shifted(30.0)
    query = VALUE.format(0).replace("value", "query")
    tensors |= {f"{query}/{leaf}": np.zeros_like(tensors[f"{query}/{leaf}"]) for leaf in ("kernel", "bias")}
    window = {**small_export.arrays()[0], "input_mask": np.ones((1, small_export.LENGTH), np.int32)}
    exact = attention(partial(build, CONFIG, tensors, target), window, unobserved)
    errors = []
    for weights in (tensors, centered(CONFIG, tensors)):
        make = partial(build, CONFIG, weights, target)
        observe = fake_quantize(target.recipe.quantizes, target.recipe.bounds, calibrate(make, [window]))
        errors.append(np.sqrt(np.mean((attention(make, window, observe) - exact) ** 2)))
    assert errors[1] < errors[0] / 8


def attention(make, window: dict[str, np.ndarray], observe) -> np.ndarray:
    """What the first layer's attention adds to the residual."""
    seen = {}

    def keep(tensor: tf.Tensor, point: str) -> tf.Tensor:
        seen[point] = tensor
        return observe(tensor, point)

    make(keep).serve.python_function(*map(tf.constant, window.values()))
    return seen["bert/encoder/layer_0/attention/output/FakeLayerNorm/dense"].numpy()
