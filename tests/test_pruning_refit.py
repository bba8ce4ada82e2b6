"""What stays of a pruned kernel, fitted anew: against NumPy's least squares, and in a training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_pruning import DENSE, HALF, KERNELS, STEPS, train_until, write_dense_data
from small_training import request, rows

pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")

import tensorflow as tf
from safetensors.numpy import load_file
from small_export import CONFIG, windows

from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.errors import InputError
from mobilebert_kit.lowering.cpu import CpuLowering
from mobilebert_kit.models.forward import question_answering
from mobilebert_kit.training.model import INPUTS, TrainableModel
from mobilebert_kit.training.pruning.patterns import parse_pattern
from mobilebert_kit.training.pruning.refit import DAMPING, input_moments, refitted
from mobilebert_kit.training.state import FOLDER, MODEL, STATE
from mobilebert_kit.training.trainer import train

REFITTED = replace(HALF, refit_steps=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dense_data(tmp_path_factory.mktemp("training"))


def batch_of_windows() -> dict[str, tf.Tensor]:
    """All of the small model's windows, int32 [9, S] by the names of the inputs."""
    return {name: tf.constant(np.stack([getattr(each, name) for each in windows()])) for name in INPUTS}


@pytest.mark.parametrize("share", [0.3, 0.7])  # solved by what goes, and by what stays
@pytest.mark.parametrize("pattern", ["2:4", "4x1", "1x1", "4x8"])
def test_least_squares(pattern, share):
    """Output by output, numpy.linalg.lstsq on the inputs, the damping as rows of its own."""
    chance = np.random.default_rng(0)
    inputs = chance.normal(size=(50, 24)) @ chance.normal(size=(24, 24))  # correlated, as a layer's are
    kernel = chance.normal(size=(16, 24)).astype(np.float32)
    pattern = parse_pattern(pattern)
    scores = np.abs(kernel)
    blocks = pattern.block_scores(scores)
    mask = pattern.mask(scores, blocks < np.quantile(blocks, share))
    found = refitted(kernel, mask, inputs.T @ inputs)
    assert found.dtype == np.float32 and (found[~mask] == 0).all()

    damping = np.sqrt(DAMPING * np.mean(np.sum(inputs**2, axis=0)))
    rows = np.concatenate([inputs, damping * np.eye(24)])
    for output, kept in enumerate(mask):
        expected = np.linalg.lstsq(rows[:, kept], rows @ kernel[output].astype(np.float64), rcond=None)[0]
        np.testing.assert_allclose(found[output, kept], expected, rtol=1e-5, atol=1e-6)
    error, without = (np.sum((inputs @ (each - kernel).T) ** 2) for each in (found, kernel * mask))
    assert error < without


def test_a_kernel_that_loses_nothing_or_all():
    kernel = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    moments = np.eye(8)
    np.testing.assert_allclose(refitted(kernel, np.ones((4, 8), bool), moments), kernel, rtol=1e-6)
    assert not refitted(kernel, np.zeros((4, 8), bool), moments).any()
    # A layer that saw nothing but zeros: any weights give its outputs; those that stay are as they were.
    mask = kernel > 0
    np.testing.assert_array_equal(refitted(kernel, mask, np.zeros((8, 8))), kernel * mask)


def test_moments_are_those_of_the_inputs_without_padding():
    """Each window alone and without padding, by the lowering of the float file, the sums by NumPy."""
    model = TrainableModel(CONFIG, DENSE)
    batch = batch_of_windows()
    found = input_moments(model, KERNELS, [{name: value[:2] for name, value in batch.items()}])

    expected = dict.fromkeys(KERNELS, 0.0)

    def record(tensor: tf.Tensor, point: str) -> tf.Tensor:
        name = f"{point.rpartition('/')[0]}/kernel"
        if point.endswith("/input") and name in expected:
            inputs = tensor.numpy().reshape(-1, tensor.shape[-1]).astype(np.float64)[:tokens]
            expected[name] = expected[name] + inputs.T @ inputs
        return tensor

    for number in range(2):
        window = {name: value[number : number + 1] for name, value in batch.items()}
        tokens = int(window["input_mask"].numpy().sum())
        assert tokens < window["input_ids"].shape[1]
        question_answering(CONFIG, CpuLowering(CONFIG, DENSE, observe=record), **window)
    for name in KERNELS:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5 * scale)


def test_it_costs_less(data, tmp_path):
    """Pruned without learning anything, to half of each four: the logits stay nearer to the dense ones."""
    losses = {}
    for name, pruning in (("zeroed", HALF), ("refitted", REFITTED)):
        out = tmp_path / name
        train(request(data, out, pruning=pruning, max_steps=STEPS, learning_rate=1e-12))
        tensors = load_checkpoint(out / MODEL).tensors
        for kernel in KERNELS:
            groups = tensors[kernel].T.reshape(-1, 4)
            assert ((groups == 0).sum(axis=1) == 2).all()
        model, dense = TrainableModel(CONFIG, tensors), TrainableModel(CONFIG, DENSE)
        batch = batch_of_windows()
        token = batch["input_mask"].numpy() == 1
        losses[name] = sum(
            np.mean((model(batch)[key].numpy() - dense(batch)[key].numpy())[token] ** 2)
            for key in ("start_logits", "end_logits")
        )
    assert losses["refitted"] < 0.5 * losses["zeroed"]


def test_it_goes_on_to_the_same_weights(data, tmp_path, monkeypatch):
    """Stopped before the second pruning, which then fits on the same inputs as in a run that was not."""
    fields = {"pruning": REFITTED, "epochs": 2, "max_steps": STEPS, "checkpoint_steps": 1}
    train(request(data, tmp_path / "whole", **fields))
    train_until(4, request(data, tmp_path / "killed", **fields), monkeypatch)
    assert train(request(data, tmp_path / "killed", **fields)).resumed_at == 3
    whole, resumed = (load_file(tmp_path / name / FOLDER / STATE) for name in ("whole", "killed"))
    assert all(np.array_equal(resumed[name], tensor) for name, tensor in whole.items())
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")


def test_quantized_training_too(data, tmp_path):
    asked = request(
        data, tmp_path / "out", pruning=REFITTED, max_steps=STEPS, qat=True, qat_calibration_steps=0
    )
    train(asked)
    tensors = load_checkpoint(tmp_path / "out" / MODEL).tensors
    assert all(((tensors[name].T.reshape(-1, 4) == 0).sum(axis=1) == 2).all() for name in KERNELS)


def test_fewer_than_no_steps():
    with pytest.raises(InputError, match="refit_steps of 0 at least, got -1"):
        replace(HALF, refit_steps=-1)
