"""The order of the batches, and the tf.data pipeline that makes them.

    (seed, epoch) -> a permutation of the windows -> each into the bucket of its length -> a step when full
    what a bucket has left at the end of the epoch -> the next longer bucket

The order follows from (seed, epoch) alone, so a run goes on at any step without reading what came before.
Every epoch has the same number of steps, and every step is full: where the windows do not fill the last one,
the first windows of the epoch come again in it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from mobilebert_kit.errors import InputError
from mobilebert_kit.training.features import Features

# Lengths whose windows share a batch. Of SQuAD's windows two in three are of 192 tokens at most.
STANDARD_BUCKETS = (64, 128, 192, 256, 320, 384)


def make_buckets(text: str | None, max_seq_length: int, *, padding_counts: bool) -> tuple[int, ...]:
    """Bucket lengths, ascending; the last is `max_seq_length`.

    Args:
        text: the flag --buckets, as "128,192,256"; None for the standard ones.
        padding_counts: the mask gives padding a share of the attention (multiplicative), so that a model
            must learn with as much padding as it will see: then no bucket is standard but the longest.
    Raises:
        InputError: not ascending whole numbers of at most `max_seq_length`.
    """
    if text is None:
        standard = () if padding_counts else STANDARD_BUCKETS
        return (*(length for length in standard if length < max_seq_length), max_seq_length)
    try:
        lengths = [int(item) for item in text.split(",")]
    except ValueError:
        lengths = []
    ascending = all(a < b for a, b in itertools.pairwise(lengths))
    if not lengths or not ascending or lengths[0] < 1 or lengths[-1] > max_seq_length:
        raise InputError(
            f"Expected --buckets as ascending lengths of 1 to {max_seq_length} (--max_seq_length), for "
            f"example 128,192,256,384, got {text!r}."
        )
    return (*(length for length in lengths if length < max_seq_length), max_seq_length)


@dataclass(frozen=True, eq=False)
class Order:
    """Which windows each step reads. A step is `accumulation` batches of one bucket.

    Attributes:
        lengths: tokens of each of N windows, int64 [N].
        buckets: ascending; the last holds the longest window.
    """

    lengths: np.ndarray
    buckets: Sequence[int]
    batch_size: int
    accumulation: int
    seed: int

    @property
    def windows_per_step(self) -> int:
        return self.batch_size * self.accumulation

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.lengths) / self.windows_per_step)

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Window numbers, int64 [steps, accumulation, batch_size], and the bucket length of each step."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.lengths))
        order = np.resize(order, self.steps_per_epoch * self.windows_per_step)  # repeats from its beginning
        bucket_of = np.searchsorted(self.buckets, self.lengths[order])
        waiting: list[list[int]] = [[] for _ in self.buckets]
        steps: list[tuple[list[int], int]] = []
        for window, bucket in zip(order.tolist(), bucket_of.tolist(), strict=True):
            waiting[bucket].append(window)
            if len(waiting[bucket]) == self.windows_per_step:
                steps.append((waiting[bucket], self.buckets[bucket]))
                waiting[bucket] = []
        left: list[int] = []
        for bucket, windows in zip(self.buckets, waiting, strict=True):
            left += windows
            while len(left) >= self.windows_per_step:
                steps.append((left[: self.windows_per_step], bucket))
                left = left[self.windows_per_step :]
        rows = np.array([windows for windows, _ in steps], np.int64)
        shape = (len(steps), self.accumulation, self.batch_size)
        return rows.reshape(shape), np.array([length for _, length in steps], np.int32)


def make_dataset(features: Features, order: Order, epoch: int, first_step: int = 0) -> tf.data.Dataset:
    """The steps of an epoch from `first_step` on, one an element; L is the length of the step's bucket.

    input_ids, input_mask, segment_ids          int32 [accumulation, batch_size, L]
    start_positions, end_positions, rows        int32 [accumulation, batch_size]; rows are window numbers
    """
    rows, lengths = order.epoch(epoch)
    tables = {
        name: tf.constant(value)
        for name, value in (
            ("ids", features.ids),
            ("offsets", features.offsets[:-1]),
            ("lengths", features.lengths),
            ("contexts", features.contexts.astype(np.int64)),
            ("starts", features.starts),
            ("ends", features.ends),
        )
    }

    @tf.autograph.experimental.do_not_convert
    def read(windows: tf.Tensor, length: tf.Tensor) -> dict[str, tf.Tensor]:
        column = tf.range(tf.cast(length, tf.int64))
        mask = column < tf.gather(tables["lengths"], windows)[..., None]
        place = tf.where(mask, tf.gather(tables["offsets"], windows)[..., None] + column, 0)
        segments = mask & (column >= tf.gather(tables["contexts"], windows)[..., None])
        return {
            "input_ids": tf.where(mask, tf.gather(tables["ids"], place), 0),
            "input_mask": tf.cast(mask, tf.int32),
            "segment_ids": tf.cast(segments, tf.int32),
            "start_positions": tf.gather(tables["starts"], windows),
            "end_positions": tf.gather(tables["ends"], windows),
            "rows": tf.cast(windows, tf.int32),
        }

    dataset = tf.data.Dataset.from_tensor_slices((rows[first_step:], lengths[first_step:]))
    return dataset.map(read, num_parallel_calls=2, deterministic=True).prefetch(4)
