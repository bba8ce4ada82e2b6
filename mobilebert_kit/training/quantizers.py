"""Partial quantization-aware training: which tensors are fake-quantized, by what, under which names.

In each layer (google-research/mobilebert, modeling.py with use_quantized_training):

    a dense layer      its input, its kernel; not the bias, not the output
    NoNorm             its input (the residual added), beta, gamma, input * gamma; not the sum
    attention          query @ key^T, scaled and times the mask, the mask added, the context; not the softmax

15 dense layers x 2 + 8 NoNorms x 4 + 4 = 66. Embeddings, head and biases are left to post-training.

    activations  tfmot's MovingAverageQuantizer: 8 bits, asymmetric; range = 0.999 * range + 0.001 * batch's
    weights      tfmot's LastValueQuantizer: 8 bits, symmetric, narrow (-127 to 127), range of the last step

gamma and beta count as activations there, and do so here. A batch's range is extended to hold 0. Training
quantizes with the updated range, evaluation with the stored one; gradients pass inside the range and are 0
outside of it, as those of tf.quantization.fake_quant_with_min_max_vars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_model_optimization.quantization.keras.quantizers import (
    LastValueQuantizer,
    MovingAverageQuantizer,
    Quantizer,
)

from mobilebert_kit.checkpoints.integrity import listing, prove_ranges
from mobilebert_kit.checkpoints.names import ACTIVATION_QUANTIZER as ACTIVATION
from mobilebert_kit.checkpoints.names import WEIGHT_QUANTIZER as WEIGHT
from mobilebert_kit.errors import InputError
from mobilebert_kit.lowering.cpu import Observe, unobserved
from mobilebert_kit.models.config import QUANTIZED_SCORE_CLIP, MobileBertConfig
from mobilebert_kit.training.lowering import Heads, TrainingLowering

WEIGHT_RANGES = ("per_tensor", "per_channel")
BITS = 8
# Point of the lowering, published quantizer; beneath a dense layer, a NoNorm, a layer's attention/self.
_DENSE = (("input", ACTIVATION), ("kernel", WEIGHT))
_NORM = (
    ("FakeLayerNorm/input", ACTIVATION),  # published beside the NoNorm, not in it
    ("FakeLayerNorm/beta", f"FakeLayerNorm/{ACTIVATION}"),
    ("FakeLayerNorm/gamma", f"FakeLayerNorm/{ACTIVATION}_1"),
    ("FakeLayerNorm/product", f"FakeLayerNorm/{ACTIVATION}_2"),
)
_ATTENTION = (
    ("scores", ACTIVATION),
    ("kept_scores", f"{ACTIVATION}_1"),
    ("masked_scores", f"{ACTIVATION}_2"),
    ("context", f"{ACTIVATION}_3"),
)


@dataclass(frozen=True)
class Place:
    """One fake quantizer: its published scope, and for a kernel the number of output channels, else None."""

    name: str
    channels: int | None


def places(config: MobileBertConfig) -> dict[str, Place]:
    """Point of the lowering -> quantizer, for every fake-quantized tensor of the model."""
    found = {}

    def add(scope: str, table: tuple[tuple[str, str], ...], channels: int | None = None) -> None:
        for point, name in table:
            found[f"{scope}/{point}"] = Place(f"{scope}/{name}", channels if point == "kernel" else None)

    for name, shape in config.variable_shapes().items():
        if not name.startswith("bert/encoder/"):
            continue
        if name.endswith("/kernel"):
            add(name.removesuffix("/kernel"), _DENSE, shape[1])
        elif name.endswith("/FakeLayerNorm/gamma"):
            add(name.removesuffix("/FakeLayerNorm/gamma"), _NORM)
    for layer in range(config.num_hidden_layers):
        add(f"bert/encoder/layer_{layer}/attention/self", _ATTENTION)
    return found


def quantized_config(config: MobileBertConfig) -> MobileBertConfig:
    """The same model as quantized training has it: relu6, masked scores -6, scores clipped to [-6, 60]."""
    return replace(
        config, hidden_act="relu6", mask_semantics="multiplicative", score_clip=QUANTIZED_SCORE_CLIP
    )


class FakeQuantizers:
    """The quantizers of all places, and their ranges: `variables`, "<published scope>/min" and ".../max".

    Args:
        add_weight: of a tf_keras layer, which will own the variables.
        weights: "per_tensor" as published (scalar ranges), or "per_channel" (a range for each output channel
            of a kernel, [out]; the names stay).
        ranges: name -> float array, as a checkpoint has them; without any, -6 and 6 as published. A scalar
            given for a range of many channels holds for each.
    Raises:
        InputError: another word for `weights`, ranges of another model, or impossible ones (prove_ranges).
    """

    def __init__(
        self,
        config: MobileBertConfig,
        add_weight: Callable[..., tf.Variable],
        *,
        weights: str = "per_tensor",
        ranges: Mapping[str, np.ndarray] | None = None,
    ):
        if weights not in WEIGHT_RANGES:
            raise InputError(f"Expected weight ranges {' or '.join(WEIGHT_RANGES)}, got {weights!r}.")
        per_channel = weights == "per_channel"
        activation = MovingAverageQuantizer(BITS, per_axis=False, symmetric=False, narrow_range=False)
        weight = LastValueQuantizer(BITS, per_axis=per_channel, symmetric=True, narrow_range=True)
        found = places(config)
        shapes = {
            f"{place.name}/{end}": (place.channels,) if per_channel and place.channels else ()
            for place in found.values()
            for end in ("min", "max")
        }
        owner = _Owner(add_weight, _checked(ranges or {}, shapes), shapes)
        self._at: dict[str, tuple[Quantizer, dict[str, Any]]] = {}
        for point, place in found.items():
            quantizer = activation if place.channels is None else weight
            self._at[point] = quantizer, quantizer.build((place.channels,), place.name, owner)
        self.variables: dict[str, tf.Variable] = owner.variables

    def __call__(self, tensor: tf.Tensor, point: str, training: bool) -> tf.Tensor:
        """`tensor` fake-quantized where `point` is one of `places`, else as it is."""
        if point not in self._at:
            return tensor
        quantizer, variables = self._at[point]
        return quantizer(tensor, training, variables)


class _Owner:
    """What a tfmot quantizer takes for its layer: creates the variables, under their published names.

    Quantizers ask for `<name>_min` and `<name>_max`; nothing else of a layer is used, so that no layer has to
    be wrapped, which would put the wrapper's name in front.
    """

    def __init__(
        self,
        add_weight: Callable[..., tf.Variable],
        ranges: Mapping[str, np.ndarray],
        shapes: Mapping[str, tuple[int, ...]],
    ):
        self._add_weight, self._ranges, self._shapes = add_weight, ranges, shapes
        self.variables: dict[str, tf.Variable] = {}

    def add_weight(
        self, name: str, initializer: Any, trainable: bool, shape: Any = None
    ) -> tf.Variable:  # tfmot gives per-channel shapes as a number; ours are right for both
        scope, _, end = name.rpartition("_")
        name = f"{scope}/{end}"
        if name in self._ranges:
            initializer = constant(self._ranges[name])
        self.variables[name] = self._add_weight(
            name=name,
            shape=self._shapes[name],
            initializer=initializer,
            trainable=trainable,
            aggregation=tf.VariableAggregation.MEAN,  # of the replicas of a tf.distribute strategy
        )
        return self.variables[name]


def constant(value: np.ndarray) -> Callable[..., tf.Tensor]:
    """An initializer that gives `value`; tf_keras has one for scalars only."""
    return lambda shape, dtype=None, **_: tf.constant(value, dtype, shape)


def _checked(
    ranges: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """`ranges` in the shapes of the variables; all of them, or none."""
    if not ranges:
        return {}
    wrong = [f"{name}: missing" for name in shapes if name not in ranges]
    wrong += [f"{name}: not of this model" for name in ranges if name not in shapes]
    values = {name: np.asarray(ranges[name], np.float32) for name in shapes if name in ranges}
    wrong += [
        f"{name}: expected shape {list(shapes[name])}, got {list(value.shape)}"
        for name, value in values.items()
        if value.shape not in ((), shapes[name])
    ]
    if wrong:
        raise InputError(
            f"Expected the {len(shapes)} min/max ranges of this model's quantizers, got {len(wrong)} that do "
            f"not fit:{listing(wrong)}"
        )
    scopes = [name.removesuffix("/min") for name in shapes if name.endswith("/min")]
    prove_ranges({scope: (values[f"{scope}/min"], values[f"{scope}/max"]) for scope in scopes})
    return {name: np.broadcast_to(value, shapes[name]) for name, value in values.items()}


class QuantizedTrainingLowering(TrainingLowering):
    """TrainingLowering with fake quantizers at their places.

    Args:
        quantizers: FakeQuantizers of this configuration, or what takes their place.
        training: whether to update their ranges.
        observe: sees every point after its quantizer.
        options: of TrainingLowering.
    Raises:
        InputError: a model that quantized training does not know: another activation than relu6, or a mask
            that adds -10000, which would take all 256 steps of the scores' range.
    """

    def __init__(
        self,
        config: MobileBertConfig,
        weights: Mapping[str, tf.Variable],
        *,
        quantizers: Callable[[tf.Tensor, str, bool], tf.Tensor],
        training: bool,
        observe: Observe = unobserved,
        **options: Any,
    ):
        prove_quantizable(config)
        super().__init__(
            config,
            weights,
            observe=lambda tensor, point: observe(quantizers(tensor, point, training), point),
            **options,
        )
        if self.dtype != tf.float32:
            raise InputError(f"Expected float32 for quantized training, got {self.dtype.name}.")

    def scores(self, query: Heads, key: Heads, scope: str) -> tf.Tensor:
        """query @ key^T, quantized as it is, then scaled."""
        raw = self.observe(tf.matmul(query.values, key.values, transpose_b=True), f"{scope}/scores")
        return raw * (query.scale * key.scale)


def prove_quantizable(config: MobileBertConfig) -> None:
    """InputError where `config` is not a model of quantized training; no_norm is all that a config can be."""
    wanted = {"hidden_act": "relu6", "mask_semantics": "multiplicative"}
    wrong = [
        f"{key} {getattr(config, key)}" for key, value in wanted.items() if getattr(config, key) != value
    ]
    if wrong:
        raise InputError(
            "Expected hidden_act relu6 and mask_semantics multiplicative (and normalization_type no_norm) "
            f"for quantized training, got {', '.join(wrong)}. Train with those of quantized_config, or give "
            "--activation relu6 --mask multiplicative."
        )
