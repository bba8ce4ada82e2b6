"""The order of the batches and the tf.data pipeline, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from small_export import LENGTH, questions, windows
from tiny_question_model import write_vocab

from mobilebert_kit.errors import InputError
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.training.data import Order, make_buckets, make_dataset
from mobilebert_kit.training.features import make_features

ARRAYS = ("input_ids", "input_mask", "segment_ids")


def order(count: int = 103, batch_size: int = 4, accumulation: int = 2, seed: int = 1) -> Order:
    lengths = np.random.default_rng(0).integers(20, 97, count)
    return Order(lengths, (32, 64, 96), batch_size, accumulation, seed)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    tokenizer = load_tokenizer(write_vocab(tmp_path_factory.mktemp("vocab")))
    return make_features(questions(), tokenizer, max_seq_length=LENGTH)


@pytest.mark.parametrize("count", [1, 7, 8, 96, 103])
def test_every_window_in_every_epoch(count):
    """Each once; where they do not fill the last step, some come once more, never one twice as often."""
    made = order(count)
    for epoch in range(3):
        rows, lengths = made.epoch(epoch)
        assert rows.shape == (made.steps_per_epoch, 2, 4)
        assert lengths.shape == (made.steps_per_epoch,)
        times = np.bincount(rows.ravel(), minlength=count)
        assert times.min() >= 1
        assert times.max() - times.min() <= 1
        assert made.steps_per_epoch == -(-count // 8)


def test_buckets_hold_their_windows_and_are_used():
    made = order(1000)
    rows, lengths = made.epoch(0)
    longest = made.lengths[rows].max(axis=(1, 2))
    assert (longest <= lengths).all()
    # Only what was left in a bucket at the end of the epoch is in a longer one: less than a step's windows.
    least = np.array(made.buckets)[np.searchsorted(made.buckets, made.lengths[rows])]
    moved = (least < lengths[:, None, None]).sum()
    assert moved < 2 * made.windows_per_step
    assert set(lengths) == set(made.buckets)


def test_the_order_follows_from_seed_and_epoch():
    first = order().epoch(3)[0]
    assert np.array_equal(first, order().epoch(3)[0])
    assert not np.array_equal(first, order().epoch(4)[0])
    assert not np.array_equal(first, order(seed=2).epoch(3)[0])


def test_elements_are_the_windows(features):
    """Against the windows of the evaluation, cut to the bucket."""
    made = Order(features.lengths, (32, LENGTH), 2, 2, 0)
    theirs = windows()
    for step in make_dataset(features, made, 0).as_numpy_iterator():
        for place in np.ndindex(2, 2):
            row = step["rows"][place]
            length = step["input_ids"].shape[-1]
            assert length in made.buckets
            for name in ARRAYS:
                assert step[name].dtype == np.int32
                assert np.array_equal(step[name][place], getattr(theirs[row], name)[:length])
            assert step["start_positions"][place] == features.starts[row]
            assert step["end_positions"][place] == features.ends[row]


@pytest.mark.parametrize("first_step", [0, 1, 2, 3])
def test_the_pipeline_goes_on_at_any_step(features, first_step):
    made = Order(features.lengths, (32, LENGTH), 2, 1, 0)
    whole = list(make_dataset(features, made, 5).as_numpy_iterator())
    rest = list(make_dataset(features, made, 5, first_step).as_numpy_iterator())
    assert len(rest) == len(whole) - first_step
    for expected, found in zip(whole[first_step:], rest, strict=True):
        for name, value in expected.items():
            assert np.array_equal(value, found[name])


@pytest.mark.parametrize(
    ("text", "longest", "padding_counts", "expected"),
    [
        (None, 384, False, (64, 128, 192, 256, 320, 384)),
        (None, 200, False, (64, 128, 192, 200)),
        (None, 384, True, (384,)),
        ("128,192,256,384", 384, True, (128, 192, 256, 384)),
        ("100", 384, False, (100, 384)),
        ("384", 384, False, (384,)),
    ],
)
def test_bucket_lengths(text, longest, padding_counts, expected):
    assert make_buckets(text, longest, padding_counts=padding_counts) == expected


@pytest.mark.parametrize("text", ["", "a", "64,32", "64,64", "0,64", "64,385", "64;128", "-5"])
def test_wrong_buckets(text):
    with pytest.raises(InputError, match="--buckets"):
        make_buckets(text, 384, padding_counts=False)
