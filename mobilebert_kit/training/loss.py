"""What training minimizes: where the answer starts and ends, or what a teacher says of it.

Outputs are {"end_logits", "start_logits"}, float32 [B, S]; every loss is a float32 scalar.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

Logits = Mapping[str, tf.Tensor]
OUTPUTS = ("start_logits", "end_logits")


def span_loss(outputs: Logits, start_positions: tf.Tensor, end_positions: tf.Tensor) -> tf.Tensor:
    """Mean of the start's and the end's cross-entropy over all S positions (run_squad.py of BERT).

    Args:
        start_positions, end_positions: int [B], in tokens; 0 ([CLS]) where the window has no answer.
            Positions beyond the window are clipped into it.
    """
    losses = []
    for name, positions in zip(OUTPUTS, (start_positions, end_positions), strict=True):
        logits = outputs[name]
        inside = tf.clip_by_value(tf.cast(positions, tf.int32), 0, tf.shape(logits)[1] - 1)
        losses.append(
            tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=inside, logits=logits))
        )
    return (losses[0] + losses[1]) / 2


def logit_distillation(
    outputs: Logits, teacher: Logits, input_mask: tf.Tensor, *, temperature: float = 1.0
) -> tf.Tensor:
    """KL(teacher || student) of the softmax over tokens, both logits / temperature, times temperature^2.

    Mean of start and end, and over the batch (Hinton et al. 2015, arXiv:1503.02531, section 2). Padding takes
    no part: the teacher may have been run with another amount of it.
    """
    kept = tf.cast(input_mask, tf.bool)
    losses = []
    for name in OUTPUTS:
        told = masked_log_softmax(teacher[name] / temperature, kept)
        said = masked_log_softmax(outputs[name] / temperature, kept)
        losses.append(tf.reduce_mean(tf.reduce_sum(divergence(told, said, kept), axis=-1)))
    return (losses[0] + losses[1]) / 2 * temperature**2


def hidden_transfer(hidden: tf.Tensor, teacher: tf.Tensor, input_mask: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of two hidden states [B, S, C] over the tokens (MobileBERT, section 3.4)."""
    difference = tf.reduce_mean(tf.math.squared_difference(hidden, teacher), axis=-1)
    return _mean_of_tokens(difference, input_mask)


def attention_transfer(probabilities: tf.Tensor, teacher: tf.Tensor, input_mask: tf.Tensor) -> tf.Tensor:
    """KL(teacher || student) of two attention maps [B, heads, S, S], mean over heads and tokens.

    MobileBERT, section 3.4. Both are taken over the tokens only: normalized again without the padding's part.
    """
    kept = tf.cast(input_mask, tf.bool)[:, None, None, :]
    told, said = (masked_log_softmax(tf.math.log(p + 1e-30), kept) for p in (teacher, probabilities))
    rows = tf.reduce_sum(divergence(told, said, kept), axis=-1)
    return _mean_of_tokens(tf.reduce_mean(rows, axis=1), input_mask)


def masked_log_softmax(logits: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Log-probabilities over the last axis where `kept`; elsewhere finite values that are not to be read."""
    return tf.nn.log_softmax(tf.where(kept, logits, logits.dtype.min / 2))


def divergence(told: tf.Tensor, said: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Terms of KL(told || said) from log-probabilities; 0 where not `kept`, in value and gradient."""
    zero = tf.zeros([], said.dtype)
    return tf.where(kept, tf.exp(told) * (tf.where(kept, told, zero) - tf.where(kept, said, zero)), zero)


def _mean_of_tokens(values: tf.Tensor, input_mask: tf.Tensor) -> tf.Tensor:
    """values [B, S] -> their mean where the mask is 1."""
    weights = tf.cast(input_mask, values.dtype)
    return tf.reduce_sum(values * weights) / tf.maximum(tf.reduce_sum(weights), 1)
