"""The model of training: transformers' loss and gradients, the exported model's logits, losses by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")
pytest.importorskip("tensorflow_model_optimization", reason="tfmot is not installed (extra [training])")

import tensorflow as tf
from checkpoint_files import SMALL
from test_fidelity import KEYS, MAKE

from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.contract import MLPERF
from mobilebert_kit.errors import InputError
from mobilebert_kit.lowering.cpu import CpuLowering
from mobilebert_kit.models.config import MobileBertConfig, resolve_config
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.training.loss import (
    attention_transfer,
    hidden_transfer,
    logit_distillation,
    span_loss,
)
from mobilebert_kit.training.lowering import NO_DROPOUT, Dropout
from mobilebert_kit.training.model import TrainableModel
from tools.random_weights import random_tensors
from tools.transformers_reference import missing_packages

Batch = dict[str, np.ndarray]
Outputs = Mapping[str, tf.Tensor]
RELATIVE = 1e-4  # of the norm, per variable: what is promised against PyTorch
ROUNDING = 1e-6  # of the largest gradient's norm: what rounding leaves of a 0

# PyTorch's loss and gradients without dropout, in a process of its own: of one training step, and of a sum of
# logits with given weights. The word of [PAD] trains too, as in Google's code: transformers' padding_idx
# would leave its gradient out.
REFERENCE = """
import sys, numpy as np, torch
from transformers import MobileBertForQuestionAnswering
model = MobileBertForQuestionAnswering.from_pretrained(
    sys.argv[1], dtype=torch.float32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
).train()
model.mobilebert.embeddings.word_embeddings.padding_idx = None
batch = {name: torch.from_numpy(value) for name, value in np.load(sys.argv[2]).items()}
out = model(input_ids=batch["input_ids"].long(), attention_mask=batch["input_mask"].long(),
            token_type_ids=batch["segment_ids"].long(), start_positions=batch["start_positions"].long(),
            end_positions=batch["end_positions"].long())
weighted = (out.start_logits * batch["weights"] + out.end_logits * batch["weights"].flip(0)).sum()
parameters = dict(model.named_parameters())
for value, folder in ((out.loss, sys.argv[3]), (weighted, sys.argv[4])):
    gradients = torch.autograd.grad(value, list(parameters.values()), retain_graph=True)
    # Saved as a checkpoint, so that the kit's reader, which is tested on its own, renames and transposes.
    model.save_pretrained(folder, state_dict=dict(zip(parameters, gradients)))
np.save(sys.argv[5], out.loss.item())
"""
MODELS = (
    ("relu", (2, 48, 20, 60, 3, 56, 3, 499, 70), 40),
    ("relu6", (1, 96, 36, 50, 5, 72, 1, 511, 64), 64),
)


def batch_of(vocab: int, length: int, used: tuple[int, ...], seed: int = 0) -> Batch:
    """Windows of `used` tokens, padded to `length`; ids repeat, so that gradients of a row add up."""
    rng = np.random.default_rng(seed)
    place, used = np.arange(length), np.array(used)
    mask = place < used[:, None]
    ids = rng.integers(1, vocab, mask.shape)
    ids[:, 3] = ids[0, 5]
    return {
        "input_ids": np.where(mask, ids, 0).astype(np.int32),
        "input_mask": mask.astype(np.int32),
        "segment_ids": (mask & (place >= 4)).astype(np.int32),
        "start_positions": (used // 2).astype(np.int32),
        "end_positions": (used - 2).astype(np.int32),
    }


def tensors_of(config: MobileBertConfig) -> dict[str, np.ndarray]:
    return random_tensors(config, seed=1)


def loss_of(outputs: Outputs, batch: Batch) -> tf.Tensor:
    return span_loss(outputs, batch["start_positions"], batch["end_positions"])


def weighted_sum(outputs: Outputs, batch: Batch) -> tf.Tensor:
    weights = batch["weights"]
    return tf.reduce_sum(outputs["start_logits"] * weights + outputs["end_logits"] * weights[::-1])


def value_and_gradients(
    model: TrainableModel, batch: Batch, function: Callable[[Outputs, Batch], tf.Tensor] = loss_of
) -> tuple[float, dict[str, np.ndarray]]:
    """As a training loop would: in one tf.function."""

    @tf.function
    def run() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            value = function(model(batch, training=True), batch)
        gradients = tape.gradient(value, model.trainable_variables)
        return value, [tf.convert_to_tensor(gradient) for gradient in gradients]

    value, gradients = run()
    names = [variable.name.removesuffix(":0") for variable in model.trainable_variables]
    return float(value), {n: g.numpy() for n, g in zip(names, gradients, strict=True)}


def vanishing(config: MobileBertConfig) -> set[str]:
    """Variables whose exact gradient is 0, because they add the same to all tokens in front of the softmax.

    For any function of the logits, that is every key's bias; for the loss, which takes a softmax over tokens,
    also what the last layer adds behind its last activation.
    """
    last = f"bert/encoder/layer_{config.num_hidden_layers - 1}/output"
    return {
        "cls/squad/output_bias",
        *(f"{last}/{scope}" for scope in ("dense/bias", "FakeLayerNorm/beta")),
        *(f"{last}/bottleneck/{scope}" for scope in ("dense/bias", "FakeLayerNorm/beta")),
    }


@pytest.mark.skipif(bool(missing_packages()), reason=f"not installed: {' '.join(missing_packages())}")
@pytest.mark.parametrize(("activation", "sizes", "length"), MODELS)
def test_step_is_transformers_step(
    activation: str, sizes: tuple[int, ...], length: int, tmp_path: Path
) -> None:
    settings = {"hidden_act": activation, **dict(zip(KEYS, sizes, strict=True))}
    weights, of_loss, of_sum = (tmp_path / name for name in ("weights", "of_loss", "of_sum"))
    batch = batch_of(settings["vocab_size"], length, (length, length - 1, length // 3))
    batch["weights"] = np.random.default_rng(9).normal(size=(3, length)).astype(np.float32)
    np.savez(tmp_path / "batch.npz", **batch)
    for code, arguments in (
        (MAKE, [json.dumps(settings), weights, tmp_path / "bin"]),
        (REFERENCE, [weights, tmp_path / "batch.npz", of_loss, of_sum, tmp_path / "loss.npy"]),
    ):
        subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)

    checkpoint = load_checkpoint(weights)
    config = resolve_config(checkpoint.settings, checkpoint.tensors, checkpoint.format)
    model = TrainableModel(config, checkpoint.tensors)
    loss, gradients = value_and_gradients(model, batch)
    assert loss == pytest.approx(float(np.load(tmp_path / "loss.npy")), rel=RELATIVE)
    same_gradients(gradients, load_checkpoint(of_loss).tensors, config, vanishing(config))
    _, gradients = value_and_gradients(model, batch, weighted_sum)
    same_gradients(gradients, load_checkpoint(of_sum).tensors, config, set())


def same_gradients(
    ours: dict[str, np.ndarray],
    theirs: dict[str, np.ndarray],
    config: MobileBertConfig,
    without: set[str],
) -> None:
    assert ours.keys() == theirs.keys() == config.variable_shapes().keys()
    largest = max(np.linalg.norm(gradient) for gradient in theirs.values())
    for name, gradient in theirs.items():
        norm, difference = np.linalg.norm(gradient), np.linalg.norm(ours[name] - gradient)
        if name in without or name.endswith("/key/bias"):
            assert max(norm, difference) < ROUNDING * largest, name
        else:
            assert norm > 10 * ROUNDING * largest, f"{name}: nothing to compare"
            assert difference <= RELATIVE * norm, name


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"hidden_act": "relu6"},
        {"mask_semantics": "multiplicative"},
        {"mask_semantics": "multiplicative", "hidden_act": "relu6", "score_clip": (-0.5, 1.5)},
    ],
    ids=str,
)
def test_logits_are_those_of_the_exported_graph(variant: dict[str, object]) -> None:
    """Batch 1 by the CPU's lowering; and a batch by this model is its windows, one by one."""
    config, length = replace(SMALL, **variant), 13
    tensors = tensors_of(config)
    batch = batch_of(config.vocab_size, length, (13, 9, 5))
    model = TrainableModel(config, tensors)
    outputs = model(batch)
    serve = serving_module(
        config, tensors, lowering=CpuLowering, contract=MLPERF, sequence_length=length
    ).serve
    for row in range(3):
        expected = serve(*(tf.constant(batch[name][row : row + 1]) for name in MLPERF.input_names))
        for name in MLPERF.output_names:
            assert outputs[name].shape == (3, length) and outputs[name].dtype == tf.float32
            # Logits of size 1, sums of some dozen products rounded at 6e-8, in another order.
            np.testing.assert_allclose(outputs[name][row], expected[name][0], rtol=0, atol=3e-6)


def test_variants_are_told_apart() -> None:
    """Else the test above would pass with the variants ignored."""
    batch = batch_of(SMALL.vocab_size, 13, (13, 9, 5))
    tensors = tensors_of(SMALL)
    tensors = {name: value * (3 if "intermediate" in name else 1) for name, value in tensors.items()}
    variants = (
        {},
        {"hidden_act": "relu6"},
        {"mask_semantics": "multiplicative"},
        {"score_clip": (-0.5, 1.5)},
    )
    rows = [TrainableModel(replace(SMALL, **v), tensors)(batch)["end_logits"].numpy() for v in variants]
    for i in range(len(rows)):
        for other in rows[:i]:
            assert np.abs(rows[i] - other).max() > 1e-3


def test_one_graph_takes_every_batch_size_and_length() -> None:
    model = TrainableModel(SMALL, tensors_of(SMALL))
    batches = [batch_of(SMALL.vocab_size, length, (length,) * size) for size, length in ((1, 9), (4, 16))]

    @tf.function(
        input_signature=[{name: tf.TensorSpec([None, None], tf.int32) for name in MLPERF.input_names}]
    )
    def run(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return model(inputs)

    for batch in batches:
        inputs = {name: tf.constant(batch[name]) for name in MLPERF.input_names}
        np.testing.assert_allclose(run(inputs)["end_logits"], model(inputs)["end_logits"], atol=3e-6)


def test_tensors_are_what_was_loaded_and_load_again() -> None:
    tensors = tensors_of(SMALL)
    model = TrainableModel(SMALL, tensors)
    assert [v.name for v in model.trainable_variables] == [f"{n}:0" for n in SMALL.variable_shapes()]
    assert model.tensors().keys() == tensors.keys()
    for name, value in model.tensors().items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, tensors[name])
    model.assign({name: value + 1 for name, value in tensors.items()})
    again = TrainableModel(SMALL, model.tensors())
    np.testing.assert_array_equal(
        again.tensors()["cls/squad/output_bias"], tensors["cls/squad/output_bias"] + 1
    )


BOTH = Dropout(0.2, 0.2)


def test_dropout_follows_seed_and_step_and_nothing_else() -> None:
    tensors, batch = tensors_of(SMALL), batch_of(SMALL.vocab_size, 13, (13, 9, 5))

    def logits(training: bool, seed: int, step: int, dropout: Dropout = BOTH) -> np.ndarray:
        model = TrainableModel(SMALL, tensors, dropout=dropout, seed=seed)
        run = tf.function(lambda inputs, number: model(inputs, training=training, step=number))
        return run({n: tf.constant(batch[n]) for n in MLPERF.input_names}, tf.constant(step, tf.int64))[
            "end_logits"
        ].numpy()

    first = logits(True, 1, 7)
    np.testing.assert_array_equal(first, logits(True, 1, 7))
    others = [logits(True, 1, 8), logits(True, 2, 7), logits(False, 1, 7)]
    others += [logits(True, 1, 7, Dropout(0.2, 0.0)), logits(True, 1, 7, Dropout(0.0, 0.2))]
    for other in others:
        assert np.abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(logits(False, 1, 7), logits(False, 2, 8))
    np.testing.assert_array_equal(logits(False, 1, 7), logits(True, 1, 7, NO_DROPOUT))


def test_dropout_drops_its_share_elsewhere_at_every_point() -> None:
    """Of ones: 0 or 1/(1 - rate), a rate of them 0; places and layers do not share their draw."""
    seen: dict[str, np.ndarray] = {}

    def observe(tensor: tf.Tensor, point: str) -> tf.Tensor:
        if point.endswith("/probabilities"):
            return tf.ones_like(tensor)
        if point.endswith("/context"):  # ones @ ones: the number of keys kept, scaled
            seen[point] = tensor.numpy()
        return tf.ones_like(tensor) if point.endswith("/self/value") else tensor

    model = TrainableModel(SMALL, tensors_of(SMALL), dropout=Dropout(0.0, 0.25))
    model(batch_of(SMALL.vocab_size, 16, (16,) * 50), training=True, observe=observe)
    counts = [values[..., 0] * 0.75 for values in seen.values()]
    assert len(counts) == SMALL.num_hidden_layers
    for kept in counts:
        np.testing.assert_allclose(kept, np.round(kept), atol=1e-4)
        # 50 windows x 2 heads x 16 x 16 draws: five standard deviations
        assert kept.mean() / 16 == pytest.approx(0.75, abs=5 * (0.25 * 0.75 / 25600) ** 0.5)
    assert (np.round(counts[0]) != np.round(counts[1])).mean() > 0.5


def test_mixed_precision_keeps_float32_where_it_matters() -> None:
    tensors, batch = tensors_of(SMALL), batch_of(SMALL.vocab_size, 13, (13, 9, 5))
    kinds: dict[str, tf.DType] = {}

    def observe(tensor: tf.Tensor, point: str) -> tf.Tensor:
        kinds[point] = tensor.dtype
        return tensor

    model = TrainableModel(SMALL, tensors, compute_dtype="bfloat16")
    outputs = model(batch, observe=observe)
    assert set(kinds.values()) == {tf.bfloat16}
    assert outputs["end_logits"].dtype == tf.float32
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    exact = TrainableModel(SMALL, tensors)(batch)
    # bfloat16 has 8 bits: 2**-9 a rounding, some dozen of them one after another.
    np.testing.assert_allclose(outputs["end_logits"], exact["end_logits"], atol=0.1)
    assert np.abs(outputs["end_logits"] - exact["end_logits"]).max() > 1e-4
    _, gradients = value_and_gradients(model, batch)
    assert all(np.isfinite(value).all() and value.dtype == np.float32 for value in gradients.values())


def test_span_loss_by_hand() -> None:
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(2, 4, 7)).astype(np.float32)
    where = np.array([0, 3, 6, 6]), np.array([0, 5, 6, 6])
    logs = [x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (start, end)]
    expected = -np.mean([log[np.arange(4), at].mean() for log, at in zip(logs, where, strict=True)])
    outputs = {"start_logits": tf.constant(start), "end_logits": tf.constant(end)}
    assert float(span_loss(outputs, *map(tf.constant, where))) == pytest.approx(expected, rel=1e-6)
    beyond = tf.constant([0, 3, 7, 400]), tf.constant([-1, 5, 7, 400])  # clipped into the window
    assert float(span_loss(outputs, *beyond)) == pytest.approx(expected, rel=1e-6)


def test_distillation_by_hand() -> None:
    """Each window without its padding, in float64."""
    rng = np.random.default_rng(0)
    used, heads = (5, 3), 2
    student, teacher = ({n: rng.normal(size=(2, 5)) for n in ("start_logits", "end_logits")} for _ in "st")
    hidden = rng.normal(size=(2, 2, 5, 6))
    maps = rng.dirichlet(np.ones(5), size=(2, 2, heads, 5))
    mask = (np.arange(5) < np.array(used)[:, None]).astype(np.int32)

    def softmax(x: np.ndarray) -> np.ndarray:
        return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)

    def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return (p * np.log(p / q)).sum(axis=-1)

    def normalized(p: np.ndarray) -> np.ndarray:
        return p / p.sum(axis=-1, keepdims=True)

    by_hand = [
        kl(softmax(teacher[n][i, :k] / 3), softmax(student[n][i, :k] / 3)) * 9
        for i, k in enumerate(used)
        for n in student
    ]
    single = [{n: tf.constant(v, tf.float32) for n, v in x.items()} for x in (student, teacher)]
    assert float(logit_distillation(*single, mask, temperature=3.0)) == pytest.approx(
        np.mean(by_hand), rel=1e-5
    )
    squares = np.concatenate([((hidden[0] - hidden[1]) ** 2)[i, :k] for i, k in enumerate(used)])
    assert float(hidden_transfer(*map(tf.constant, hidden), mask)) == pytest.approx(squares.mean())
    rows = [
        kl(normalized(maps[1, i, h, t, :k]), normalized(maps[0, i, h, t, :k]))
        for i, k in enumerate(used)
        for h in range(heads)
        for t in range(k)
    ]
    tensors = (tf.constant(m, tf.float32) for m in maps)
    assert float(attention_transfer(*tensors, mask)) == pytest.approx(np.mean(rows), rel=1e-4)


def test_distillation_of_padding_has_no_gradient() -> None:
    mask = np.array([[1, 1, 0]], np.int32)
    logits = tf.Variable([[0.3, -0.2, 5.0]])
    teacher = {name: tf.constant([[1.0, 0.0, -9.0]]) for name in ("start_logits", "end_logits")}
    with tf.GradientTape() as tape:
        loss = logit_distillation({"start_logits": logits, "end_logits": logits}, teacher, mask)
    gradient = tape.gradient(loss, logits).numpy()[0]
    assert gradient[2] == 0 and gradient[0] < 0 < gradient[1]


@pytest.mark.parametrize("value", [-0.1, 1.0, "0.1", float("nan")])
def test_dropout_of_no_probability_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="attention dropout"):
        Dropout.from_settings({"attention_probs_dropout_prob": value})


def test_bad_tensors_are_refused() -> None:
    tensors = tensors_of(SMALL)
    broken = {**tensors, "cls/squad/output_bias": np.array([np.nan, 0], np.float32)}
    missing = {name: value for name, value in tensors.items() if name != "cls/squad/output_bias"}
    with pytest.raises(InputError, match="1 not finite"):
        TrainableModel(SMALL, broken)
    with pytest.raises(InputError, match="1 missing"):
        TrainableModel(SMALL, missing)
    model = TrainableModel(SMALL, tensors)
    with pytest.raises(InputError, match="1 missing"):
        model.assign(missing)
    with pytest.raises(InputError, match="at most 16 tokens, got 17"):
        model(batch_of(SMALL.vocab_size, 17, (17,)))
