"""Two CPU devices, and two processes, learn what one does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from small_training import losses, write_data

pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")

from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.training.state import MODEL


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("training"))


HOW = ("", "-qat", "-pruned")
IN_WORKER = """
import sys
from pathlib import Path
import tensorflow as tf
from small_training import request
from mobilebert_kit.training.pruning.request import PruningRequest
from mobilebert_kit.training.trainer import train
data, out, *names = sys.argv[1:]
if "mirrored" in names:
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
for name in names:
    distribution, _, how = name.partition("-")
    pruning = PruningRequest(target_sparsity=0.5, start_step=1, end_step=2) if how == "pruned" else None
    train(request(Path(data), Path(out, name), distribute=distribution, qat=how == "qat", pruning=pruning))
"""


def worker(data: Path, out: Path, *names: str, **environment: str) -> subprocess.Popen[bytes]:
    """A process that trains once for each of `names`: a distribution, or one with -qat or -pruned behind."""
    code = [sys.executable, "-c", IN_WORKER, str(data), str(out), *names]
    path = os.pathsep.join([str(REPOSITORY / "tests"), str(REPOSITORY)])
    return subprocess.Popen(code, env={**os.environ, "PYTHONPATH": path, **environment})


@pytest.fixture(scope="module")
def distributed(data, tmp_path_factory) -> Path:
    """A folder with the runs none and mirrored (two CPU devices), each with -qat and -pruned too, and
    multi_worker (two)."""
    out = tmp_path_factory.mktemp("distributed")
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("localhost", 0))
        cluster = {"worker": [f"localhost:{each.getsockname()[1]}" for each in (one, two)]}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(2)]
    workers = [worker(data, out, "multi_worker", TF_CONFIG=json.dumps(task)) for task in tasks]
    workers.append(worker(data, out, *(f"{one}{how}" for one in ("none", "mirrored") for how in HOW)))
    try:
        assert [each.wait(timeout=600) for each in workers] == [0, 0, 0]
    finally:
        for each in workers:
            each.kill()
    return out


@pytest.mark.parametrize("name", ["mirrored", "multi_worker"])
def test_two_devices_and_two_workers_learn_as_one(distributed, name):
    """The same global batch: sums in another order, so some units in the last place of float32."""
    assert losses(distributed / name) == pytest.approx(losses(distributed / "none"), rel=2e-6)
    ours, theirs = (load_checkpoint(distributed / run / MODEL).tensors for run in (name, "none"))
    assert all(np.allclose(ours[key], theirs[key], rtol=0, atol=1e-4) for key in theirs)


def test_two_devices_learn_the_ranges_together(distributed):
    """Each replica's range of its half of the batch, averaged: a range of the whole batch is at most as much
    wider as both halves differ, and a step takes a thousandth of it."""
    ours, theirs = (load_checkpoint(distributed / name / MODEL) for name in ("mirrored-qat", "none-qat"))
    assert losses(distributed / "mirrored-qat") == pytest.approx(losses(distributed / "none-qat"), rel=1e-2)
    for name, ends in theirs.ranges.items():
        np.testing.assert_allclose(ours.ranges[name], ends, rtol=0, atol=0.02)
    assert len(ours.ranges) == len(theirs.ranges) > 0


def test_two_devices_prune_the_same(distributed):
    """Scores differ in the last places, masks not; they hold on both replicas, or the losses would part."""
    ours, theirs = (
        load_checkpoint(distributed / name / MODEL).tensors for name in ("mirrored-pruned", "none-pruned")
    )
    assert losses(distributed / "mirrored-pruned") == pytest.approx(
        losses(distributed / "none-pruned"), rel=1e-5
    )
    zeros = {name: tensor == 0 for name, tensor in theirs.items()}
    kernels = [zero for name, zero in zeros.items() if "encoder" in name and name.endswith("/kernel")]
    assert np.concatenate(kernels, axis=None).mean() == pytest.approx(0.5, abs=0.01)
    assert all(np.array_equal(ours[name] == 0, zero) for name, zero in zeros.items())
