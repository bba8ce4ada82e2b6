"""What stays of a pruned kernel, fitted anew: against NumPy's least squares, and in a training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import small_bert
from small_pruning import DENSE, HALF, KERNELS, STEPS, train_until, write_dense_data
from small_training import request, rows

pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")

import tensorflow as tf
from safetensors.numpy import load_file
from small_export import CONFIG, windows

from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.errors import InputError
from mobilebert_kit.inputs import checkpoint_config
from mobilebert_kit.lowering.cpu import CpuLowering
from mobilebert_kit.models.forward import question_answering
from mobilebert_kit.training.model import INPUTS, TrainableModel
from mobilebert_kit.training.pruning.patterns import parse_pattern
from mobilebert_kit.training.pruning.plan import HEAD, as_outputs_inputs
from mobilebert_kit.training.pruning.refit import DAMPING, refit, refitted
from mobilebert_kit.training.state import FOLDER, MODEL, STATE
from mobilebert_kit.training.trainer import train

REFITTED = replace(HALF, refit_steps=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dense_data(tmp_path_factory.mktemp("training"))


def batch_of_windows() -> dict[str, tf.Tensor]:
    """All of the small model's windows, int32 [9, S] by the names of the inputs."""
    return {name: tf.constant(np.stack([getattr(each, name) for each in windows()])) for name in INPUTS}


def half_of_each_four(scores: np.ndarray) -> np.ndarray:
    """2:4, bool [out, in]."""
    pattern = parse_pattern("2:4")
    return pattern.mask(scores, pattern.block_scores(scores) < np.inf)


def least_squares(kernel, mask, before, now):
    """[out, in] by numpy.linalg.lstsq, output by output, with the damping as rows of its own.

    `kernel` [out, in]; `before`, `now` [tokens, in]: what its layer read and reads.
    """
    damping = np.sqrt(DAMPING * np.mean(np.sum(now**2, axis=0))) * np.eye(kernel.shape[1])
    wanted = np.concatenate([before, damping]) @ kernel.astype(np.float64).T
    rows, found = np.concatenate([now, damping]), np.zeros(kernel.shape)
    for output, kept in enumerate(mask):
        found[output, kept] = np.linalg.lstsq(rows[:, kept], wanted[:, output], rcond=None)[0]
    return found


@pytest.mark.parametrize("share", [0.3, 0.7])  # solved by what goes, and by what stays
@pytest.mark.parametrize("pattern", ["2:4", "4x1", "1x1", "4x8"])
def test_least_squares(pattern, share):
    chance = np.random.default_rng(0)
    before = chance.normal(size=(50, 24)) @ chance.normal(size=(24, 24))  # correlated, as a layer's are
    now = before + 0.3 * chance.normal(size=before.shape)
    kernel = chance.normal(size=(16, 24)).astype(np.float32)
    pattern = parse_pattern(pattern)
    scores = np.abs(kernel)
    blocks = pattern.block_scores(scores)
    mask = pattern.mask(scores, blocks < np.quantile(blocks, share))
    found = refitted(kernel, mask, now.T @ now, before.T @ now)
    assert found.dtype == np.float32 and (found[~mask] == 0).all()
    expected = least_squares(kernel, mask, before, now)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    error, without = (np.sum((now @ each.T - before @ kernel.T) ** 2) for each in (found, kernel * mask))
    assert error < without


def test_a_kernel_that_loses_nothing_or_all():
    kernel = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    moments = np.eye(8)
    same = refitted(kernel, np.ones((4, 8), bool), moments, moments)
    np.testing.assert_allclose(same, kernel, rtol=1e-6)
    assert not refitted(kernel, np.zeros((4, 8), bool), moments, moments).any()
    # A layer that saw nothing but zeros: any weights give its outputs; those that stay are as they were.
    mask, nothing = kernel > 0, np.zeros((8, 8))
    np.testing.assert_array_equal(refitted(kernel, mask, nothing, nothing), kernel * mask)


def inputs_of(config, tensors, names, batch):
    """Each kernel's inputs, float64 [tokens, in]: every window alone, by the lowering of the float file."""
    found = {name: [] for name in names}

    def record(tensor: tf.Tensor, point: str) -> tf.Tensor:
        scope = point.rpartition("/")[0]
        for name in (f"{scope}/kernel", f"{scope}/output_weights"):
            if point.endswith("/input") and name in found:
                rows = tensor.numpy().reshape(-1, tensor.shape[-1]).astype(np.float64)
                found[name].append(rows[:tokens])
        return tensor

    for number in range(len(batch["input_mask"])):
        window = {name: value[number : number + 1] for name, value in batch.items()}
        tokens = int(window["input_mask"].numpy().sum())
        assert tokens < window["input_ids"].shape[1]
        question_answering(config, CpuLowering(config, tensors, observe=record), **window)
    return {name: np.concatenate(rows) for name, rows in found.items()}


def test_each_layer_makes_good_what_those_before_it_do():
    """All kernels, on what the fitted model gives them, to what they gave in the dense one; the head too."""
    model, names = TrainableModel(CONFIG, DENSE), [*KERNELS, HEAD]
    batch = batch_of_windows()
    kernels = {name: as_outputs_inputs(name, DENSE[name]) for name in names}
    masks = {name: half_of_each_four(np.abs(kernel)) for name, kernel in kernels.items()}
    parts = [{name: value[part] for name, value in batch.items()} for part in (slice(0, 2), slice(2, None))]
    fitted = refit(model, masks, parts)
    assert all(np.array_equal(value, DENSE[name]) for name, value in model.tensors().items())

    before = inputs_of(CONFIG, DENSE, names, batch)
    now = inputs_of(CONFIG, DENSE | fitted, names, batch)
    assert set(fitted) == set(names)
    for name, kernel in kernels.items():
        expected = least_squares(kernel, masks[name], before[name], now[name])
        found = as_outputs_inputs(name, fitted[name])
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("family", small_bert.CONFIGS)
def test_other_families(family, tmp_path):
    """Without training: the logits stay nearer to the dense ones than with kernels that are zeroed."""
    checkpoint = load_checkpoint(small_bert.write_checkpoint(tmp_path / "dense", small_bert.CONFIGS[family]))
    config, tensors = checkpoint_config(checkpoint), checkpoint.tensors
    model, batch = TrainableModel(config, tensors), batch_of_windows()
    kernels = [name for name in tensors if "encoder" in name and name.endswith("/kernel")]
    masks = {name: half_of_each_four(np.abs(tensors[name].T)) for name in kernels}
    zeroed = {name: tensors[name] * mask.T for name, mask in masks.items()}
    token = batch["input_mask"].numpy() == 1
    errors = [
        np.mean((TrainableModel(config, tensors | pruned)(batch)[name] - model(batch)[name])[token] ** 2)
        for pruned in (refit(model, masks, [batch]), zeroed)
        for name in ("start_logits", "end_logits")
    ]
    assert sum(errors[:2]) < 0.5 * sum(errors[2:])


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
