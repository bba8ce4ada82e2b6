"""AdamW against torch's, on the same gradients; the learning rate; loss scaling."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mobilebert_kit.training.optimizer import INITIAL_SCALE, AdamW, Schedule, decays

SHAPES = {"a/kernel": (5, 3), "a/bias": (3,), "a/FakeLayerNorm/gamma": (3,)}
RATE, DECAY = 0.01, 0.1


def gradients(step: int) -> list[np.ndarray]:
    """Of the first step small ones, of the others some that are clipped."""
    rng = np.random.default_rng(step)
    return [rng.normal(size=shape).astype(np.float32) * 0.1 * (1 + 5 * step) for shape in SHAPES.values()]


def test_adamw_against_torch():
    """Five steps; both round in float32, so that they differ by some units in the last place of each."""
    torch = pytest.importorskip("torch", reason="no torch (extra [distill])")
    rng = np.random.default_rng(99)
    start = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    ours = {name: tf.Variable(value) for name, value in start.items()}
    optimizer = AdamW(ours, weight_decay=DECAY)
    theirs = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start.items()}
    groups = [
        {"params": [value], "weight_decay": DECAY if name == "a/kernel" else 0.0}
        for name, value in theirs.items()
    ]
    reference = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.999), eps=1e-6)
    for step in range(5):
        for parameter, gradient in zip(theirs.values(), gradients(step), strict=True):
            parameter.grad = torch.tensor(gradient)
        norm = float(torch.nn.utils.clip_grad_norm_(theirs.values(), 1.0))
        reference.step()
        ours_now = [tf.constant(gradient) for gradient in gradients(step)]
        our_norm = tf.linalg.global_norm(ours_now)
        optimizer.apply(ours_now, our_norm, tf.constant(RATE))
        assert float(our_norm) == pytest.approx(norm, rel=1e-6)
        for name, variable in ours.items():
            # torch clips by norm + 1e-6, a relative 1e-6 of an update of RATE at most.
            np.testing.assert_allclose(variable.numpy(), theirs[name].detach().numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert/encoder/layer_0/output/dense/kernel", True),
        ("bert/embeddings/word_embeddings", True),
        ("cls/squad/output_weights", True),
        ("cls/squad/output_bias", False),
        ("bert/encoder/layer_0/output/dense/bias", False),
        ("bert/encoder/layer_0/output/FakeLayerNorm/gamma", False),
        ("bert/encoder/layer_0/output/FakeLayerNorm/beta", False),
    ],
)
def test_what_decays(name, expected):
    assert decays(name) is expected


def test_schedule():
    """In lines, by hand: warm-up over 2 of 6 steps, then down, and 0 after the last."""
    schedule = Schedule(peak=1.0, warmup=2, total=6)
    assert [schedule.rate(step) for step in range(6)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert [Schedule(1.0, 0, 2).rate(step) for step in range(2)] == [1.0, 0.5]


def test_loss_scaling_skips_what_is_not_finite():
    variable = tf.Variable([1.0])
    optimizer = AdamW({"a/kernel": variable}, weight_decay=0.0, loss_scaling=True)
    before = {name: value.numpy() for name, value in optimizer.state().items()}
    optimizer.apply([tf.constant([np.nan], tf.float32)], tf.constant(np.nan), tf.constant(RATE))
    after = {name: value.numpy() for name, value in optimizer.state().items()}
    assert variable.numpy() == [1.0]
    assert after.pop("scale") == before.pop("scale") / 2 == INITIAL_SCALE / 2
    assert after == before
    optimizer.apply([tf.constant([0.5])], tf.constant(0.5), tf.constant(RATE))
    assert variable.numpy() == pytest.approx([1.0 - RATE])  # Adam's first step is the rate itself
    assert optimizer.state()["good_steps"].numpy() == 1
