"""What pruning is asked for and what can be had: bad input is told before anything is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_export import write_checkpoint
from small_pruning import DENSE, HALF, KERNELS, STEPS, write_dense_data
from small_training import request

pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")

import tensorflow as tf

from mobilebert_kit.errors import InputError
from mobilebert_kit.training.pruning.masks import make_masks
from mobilebert_kit.training.pruning.patterns import parse_pattern
from mobilebert_kit.training.pruning.plan import make_plan
from mobilebert_kit.training.pruning.pruner import Pruner
from mobilebert_kit.training.pruning.request import PruningRequest
from mobilebert_kit.training.trainer import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Beside the usual, `sparse/`, of whose weights more than 0.4 are zero, and `other_words/`, with another
    vocabulary."""
    folder = write_dense_data(tmp_path_factory.mktemp("training"))
    write_checkpoint(folder / "sparse", {name: value * (abs(value) > 0.15) for name, value in DENSE.items()})
    write_checkpoint(folder / "other_words", DENSE)
    vocab = folder / "other_words" / "vocab.txt"
    vocab.write_text(vocab.read_text().replace("paris", "rome"))
    return folder


def test_pruning_goes_on_from_a_pruned_model():
    """What the pattern has pruned already is the schedule's start, and stays so from the first step on."""
    mask = make_masks(
        {name: np.abs(DENSE[name].T) for name in KERNELS},
        parse_pattern("2:4"),
        0.25,
        scope="global",
        cap=0.98,
    )
    start = {name: value * mask[name].T if name in mask else value for name, value in DENSE.items()}
    plan = make_plan(HALF, start, warmup=0, steps=STEPS, steps_per_epoch=3)
    assert plan.schedule.initial == pytest.approx(0.25, abs=1e-3)
    pruner = Pruner({name: tf.Variable(value) for name, value in start.items()}, plan)
    assert pruner.sparsity == plan.schedule.initial
    assert all((pruner.masks[name].numpy() == mask[name].T).all() for name in KERNELS)


def test_the_head_can_be_pruned_too():
    """It is stored [out, in] already, 2 x 24."""
    asked = PruningRequest(
        target_sparsity=0.5, pruning_pattern="2:4", criterion="magnitude", exclude=("embeddings", "encoder")
    )
    plan = make_plan(asked, DENSE, warmup=0, steps=0, steps_per_epoch=1)
    head = tf.Variable(DENSE["cls/squad/output_weights"])
    assert Pruner({"cls/squad/output_weights": head}, plan).prune(0, dict)
    assert ((head.numpy().reshape(2, 6, 4) == 0).sum(axis=2) == 2).all()


@pytest.mark.parametrize(
    ("pruning", "changes", "message"),
    [
        ({"pruning_pattern": "5x7"}, {}, "divide a kernel .* 5x7 for kernels of 12x12"),
        ({"pruning_pattern": "2:4", "target_sparsity": 0.6}, {}, r"at most 0\.5000"),
        ({"target_sparsity": 0.95, "max_sparsity_per_layer": 0.5}, {}, r"at most 0\.50"),
        ({"start_step": 3, "end_step": 2}, {}, "--start_step at or before --end_step"),
        ({"end_step": 9}, {}, "within the 3 steps"),
        ({"cooldown_epochs": 5}, {}, "within the 3 steps"),
        ({"start_step": 0, "end_step": 0}, {}, "--criterion magnitude"),
        ({"exclude": ("no_such_name",)}, {}, "no_such_name"),
        ({"exclude": ("embeddings", "encoder", "cls")}, {}, "kernels to prune"),
        ({}, {"checkpoint": Path("sparse")}, "denser than --target_sparsity 0.4"),
        ({}, {"teacher": "other_words"}, "student's vocabulary"),
        ({}, {"num_warmup_steps": 3}, "--num_warmup_steps below the 3 steps"),
    ],
)
def test_bad_input_is_told_and_writes_nothing(data, tmp_path, monkeypatch, pruning, changes, message):
    monkeypatch.chdir(data)
    fields = {"target_sparsity": 0.4, "pruning_pattern": "1x1"} | pruning
    with pytest.raises(InputError, match=message):
        train(request(data, tmp_path / "out", pruning=PruningRequest(**fields), **changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"target_sparsity": 0.0}, "--target_sparsity"),
        ({"target_sparsity": 1.0}, "--target_sparsity"),
        ({"target_sparsity": float("nan")}, "--target_sparsity"),
        ({"pruning_pattern": "four"}, "--pruning_pattern"),
        ({"criterion": "random"}, "--criterion"),
        ({"schedule": "cube"}, "--schedule"),
        ({"scope": "layer"}, "--scope"),
        ({"start_step": -1}, "--start_step"),
        ({"pruning_frequency": 0}, "--pruning_frequency"),
        ({"cooldown_epochs": -1}, "--cooldown_epochs"),
        ({"max_sparsity_per_layer": 0.0}, "--max_sparsity_per_layer"),
        ({"exclude": ("embeddings", "")}, "--exclude"),
    ],
)
def test_wrong_numbers(asked, message):
    with pytest.raises(InputError, match=message):
        PruningRequest(**asked)
