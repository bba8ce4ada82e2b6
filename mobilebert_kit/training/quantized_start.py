"""Where the ranges of activations' quantizers start: at what the float model shows, instead of at -6 and 6.

The moving average of 0.999 forgets -6 and 6 in thousands of steps: 13,700 of them in the published training.
One that starts at a float model which is already trained needs far fewer steps, and right ranges from the
first on. What the average converges to is the mean of the batches' extremes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from mobilebert_kit.models.config import MobileBertConfig
from mobilebert_kit.models.mobilebert import question_answering
from mobilebert_kit.training.quantizers import QuantizedTrainingLowering, places


def initial_ranges(
    config: MobileBertConfig,
    weights: Mapping[str, tf.Variable],
    batches: Iterable[Mapping[str, tf.Tensor]],
) -> dict[str, np.ndarray]:
    """Mean over `batches` of each activation's least and greatest value, zero included, without quantization.

    Args:
        config: of quantized training: see prove_quantizable.
        batches: input_ids, input_mask, segment_ids, int32 [B, S] each.
    Returns:
        A float32 scalar for each range variable of the activations: "<published scope>/min" and ".../max".
        Those of kernels follow from the kernels in each step.
    """
    names = {point: place.name for point, place in places(config).items() if place.channels is None}

    @tf.function(autograph=False)
    def extremes(ids: tf.Tensor, mask: tf.Tensor, segments: tf.Tensor) -> dict[str, tf.Tensor]:
        seen = {}

        def record(tensor: tf.Tensor, point: str, training: bool) -> tf.Tensor:
            if point in names:
                seen[f"{names[point]}/min"] = tf.minimum(tf.reduce_min(tensor), 0.0)
                seen[f"{names[point]}/max"] = tf.maximum(tf.reduce_max(tensor), 0.0)
            return tensor

        ops = QuantizedTrainingLowering(config, weights, quantizers=record, training=False)
        question_answering(config, ops, ids, mask, segments)
        return seen

    found = [extremes(batch["input_ids"], batch["input_mask"], batch["segment_ids"]) for batch in batches]
    return {name: np.mean([each[name].numpy() for each in found], dtype=np.float32) for name in found[0]}
