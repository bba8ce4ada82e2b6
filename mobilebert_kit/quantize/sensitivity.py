"""What the rounding of a tensor, or of a group of them, does to the logits.

Of every single tensor, by one gradient: with v a random sign for each logit of a token,

    (d (v . logits) / d t)^2   averages to   |what the tensor's rounding adds to the logits|^2

where t is the tensor's switch in the quantized model (Hutchinson's estimator; to first order). One pass
backwards serves all tensors: leaving out one at a time would cost a pass each, 1,000 at full size. With 20
windows and 2 draws an estimate is good to some 20% (of 40 squares of a normal: sqrt(2 / 40)), enough to rank.

Of groups, by running them: the group alone in int8, and everything but the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from mobilebert_kit.quantize.calibration import Inputs
from mobilebert_kit.quantize.simulation import Simulation
from mobilebert_kit.quantize.sqnr import decibels

DRAWS = 2  # of signs, a window
SEED = 0
LOGITS = ("start_logits", "end_logits")


def logit_noise(simulation: Simulation, windows: Sequence[Inputs], draws: int = DRAWS) -> np.ndarray:
    """float64 [tensors]: the sum of squares that each tensor's rounding adds to the logits of tokens."""
    signature = [tf.TensorSpec([2, *simulation.input_signature[0].shape]), *simulation.input_signature]

    @tf.function(input_signature=signature, autograph=False)
    def slopes(signs: tf.Tensor, *inputs: tf.Tensor) -> tf.Tensor:
        switches = simulation.switches(simulation.tensors)
        with tf.GradientTape() as tape:
            tape.watch(switches)
            outputs = simulation.outputs(switches, *inputs)
            projection = tf.reduce_sum(tf.stack([outputs[name] for name in LOGITS]) * signs)
        return tape.gradient(projection, switches)

    random = np.random.default_rng(SEED)
    total = np.zeros(len(simulation.tensors))
    for window in windows:
        tokens = window["input_mask"].astype(np.float32)
        for _ in range(draws):
            signs = random.choice(np.array([-1, 1], np.float32), (2, *tokens.shape)) * tokens
            slope = slopes(tf.constant(signs), *simulation.arguments(window)).numpy()
            total += np.square(slope, dtype=np.float64) / draws
    return total


@dataclass(frozen=True)
class LogitDifference:
    """Between the logits of two models, at tokens.

    Attributes:
        sqnr_db: of the second against the first; None where they are equal.
        mean: of the absolute differences.
        same_spans: the share of windows whose best start and best end are the same, 0 to 1.
    """

    sqnr_db: float | None
    mean: float
    same_spans: float


def compare_logits(
    reference: Sequence[np.ndarray], logits: Sequence[np.ndarray], tokens: np.ndarray
) -> LogitDifference:
    """Start and end logits, [windows, S] each, of two models; `tokens` bool [windows, S]."""
    one, other = np.stack(reference).astype(np.float64), np.stack(logits).astype(np.float64)
    difference = (one - other)[:, tokens]
    best = [np.where(tokens, values, -np.inf).argmax(axis=-1) for values in (one, other)]
    signal = float(np.sum(one[:, tokens] ** 2))
    return LogitDifference(
        sqnr_db=decibels(signal, float(np.sum(difference**2))),
        mean=float(np.mean(np.abs(difference))),
        same_spans=float(np.mean((best[0] == best[1]).all(axis=0))),
    )
