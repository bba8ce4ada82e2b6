"""A model that is pruned in seconds: small_training's, without a weight that is zero of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_export import CONFIG, weights, write_checkpoint
from small_training import NO_DROPOUT, write_data

from mobilebert_kit.training.pruning.request import PruningRequest
from mobilebert_kit.training.request import TrainingRequest

KERNELS = [name for name in CONFIG.variable_shapes() if "encoder" in name and name.endswith("/kernel")]
STEPS = 6
HALF = PruningRequest(
    target_sparsity=0.5, pruning_pattern="2:4", start_step=1, end_step=5, pruning_frequency=2
)


# The small model's weights are multiples of 1/256, some of them zero: here none is, before it is pruned.
DENSE = {name: np.where(value == 0, np.float32(1 / 512), value) for name, value in weights().items()}


def write_dense_data(folder: Path) -> Path:
    """`folder` with `checkpoint/` (DENSE) and `questions.json`."""
    write_data(folder)
    write_checkpoint(folder / "checkpoint", DENSE, **NO_DROPOUT)
    return folder


class Killed(BaseException):
    """Nothing of the run is left but its folder."""


def train_until(step: int, asked: TrainingRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while it tells of `step`. (With SIGKILL, at any moment: tools/check_resume.py.)"""
    from mobilebert_kit.training.curve import Metrics
    from mobilebert_kit.training.trainer import train

    add = Metrics.add

    def add_until(self: Metrics, row: dict[str, object]) -> None:
        if row["step"] == step:
            raise Killed
        add(self, row)

    with monkeypatch.context() as changed, pytest.raises(Killed):
        changed.setattr(Metrics, "add", add_until)
        train(asked)
