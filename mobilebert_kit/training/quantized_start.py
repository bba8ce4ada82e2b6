"""Where quantized training starts, from a float model: values centred, activations' ranges as it shows them.

Ranges: the moving average of 0.999 forgets the published -6 and 6 in thousands of steps, of which the
published training has 13,700. One that starts at what a trained float model shows needs far fewer, and has
right ranges from the first on. What the average converges to is the mean of the batches' extremes.

Values: that of each layer gets mean zero, exactly (quantize/centering.py says how and why). Training does not
quantize probabilities, the exported file does; and once ranges are trained, it is too late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from mobilebert_kit.models.config import MobileBertConfig
from mobilebert_kit.models.mobilebert import question_answering
from mobilebert_kit.quantize.centering import centered_biases
from mobilebert_kit.training.model import INPUTS
from mobilebert_kit.training.quantizers import QuantizedTrainingLowering, places

Batch = Mapping[str, tf.Tensor]  # input_ids, input_mask, segment_ids: int32 [B, S] each


def centered_start(
    config: MobileBertConfig, weights: Mapping[str, tf.Variable], batches: Sequence[Batch]
) -> dict[str, np.ndarray]:
    """The biases that centre every layer's values over the tokens of `batches`: name -> float32 array."""

    def sums(tensor: tf.Tensor, point: str, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        if not point.endswith("/self/value"):
            return {}
        token = tf.cast(mask, tf.float32)[..., None]
        return {point: tf.reduce_sum(tensor * token, axis=[0, 1])}

    found = _observed(config, weights, batches, sums)
    tokens = sum(int(tf.reduce_sum(batch["input_mask"])) for batch in batches)
    means = {point: np.sum([each[point] for each in found], axis=0) / tokens for point in found[0]}
    return centered_biases(means, {name: variable.numpy() for name, variable in weights.items()})


def initial_ranges(
    config: MobileBertConfig, weights: Mapping[str, tf.Variable], batches: Sequence[Batch]
) -> dict[str, np.ndarray]:
    """Mean over `batches` of each activation's least and greatest value, zero included, without quantization.

    Args:
        config: of quantized training: see prove_quantizable.
    Returns:
        A float32 scalar for each range variable of the activations: "<published scope>/min" and ".../max".
        Those of kernels follow from the kernels in each step.
    """
    names = {point: place.name for point, place in places(config).items() if place.channels is None}

    def extremes(tensor: tf.Tensor, point: str, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        if point not in names:
            return {}
        low, high = tf.minimum(tf.reduce_min(tensor), 0.0), tf.maximum(tf.reduce_max(tensor), 0.0)
        return {f"{names[point]}/min": low, f"{names[point]}/max": high}

    found = _observed(config, weights, batches, extremes)
    return {name: np.mean([each[name] for each in found], dtype=np.float32) for name in found[0]}


def _observed(
    config: MobileBertConfig,
    weights: Mapping[str, tf.Variable],
    batches: Sequence[Batch],
    measure: Callable[[tf.Tensor, str, tf.Tensor], dict[str, tf.Tensor]],
) -> list[dict[str, np.ndarray]]:
    """What `measure(tensor, point, input_mask)` finds at the points of the float model, for each batch."""

    @tf.function(autograph=False)
    def measured(ids: tf.Tensor, mask: tf.Tensor, segments: tf.Tensor) -> dict[str, tf.Tensor]:
        found: dict[str, tf.Tensor] = {}

        def record(tensor: tf.Tensor, point: str, training: bool) -> tf.Tensor:
            found.update(measure(tensor, point, mask))
            return tensor

        ops = QuantizedTrainingLowering(config, weights, quantizers=record, training=False)
        question_answering(config, ops, ids, mask, segments)
        return found

    outputs = (measured(*(batch[name] for name in INPUTS)) for batch in batches)
    return [{name: value.numpy() for name, value in each.items()} for each in outputs]
