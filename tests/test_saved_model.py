"""The SavedModel: a TensorFlow user's, and a checkpoint for the kit again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_export
import tensorflow as tf

from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.contract import MLPERF
from mobilebert_kit.models.config import resolve_config
from mobilebert_kit.runtime.scoring import run_windows


@pytest.fixture(scope="module")
def folder(exported: Path) -> Path:
    return exported / "all" / "saved_model"


def test_tensorflow_runs_it_to_the_same_logits(exported: Path, folder: Path) -> None:
    model = tf.saved_model.load(str(folder))
    serve = model.signatures[MLPERF.signature_key]
    _, inputs = serve.structured_input_signature
    assert {name: (spec.dtype.name, tuple(spec.shape)) for name, spec in inputs.items()} == {
        spec.name: (spec.dtype, (1, 96)) for spec in MLPERF.inputs
    }
    windows = small_export.windows()
    start, end = run_windows(exported / "all" / "mobilebert_float_96.tflite", windows, progress=False)
    for row, window in enumerate(small_export.arrays()):
        outputs = serve(**{name: tf.constant(value) for name, value in window.items()})
        assert set(outputs) == set(MLPERF.output_names)
        np.testing.assert_allclose(outputs["start_logits"][0], start[row], atol=1e-5)
        np.testing.assert_allclose(outputs["end_logits"][0], end[row], atol=1e-5)


def test_it_is_the_same_checkpoint(exported: Path, folder: Path) -> None:
    first, again = load_checkpoint(exported / "checkpoint"), load_checkpoint(folder)
    assert again.format == "saved_model"
    assert again.digest == first.digest
    assert set(again.tensors) == set(small_export.weights())
    assert not again.unused_names


def test_it_brings_its_configuration_and_vocabulary(exported: Path, folder: Path) -> None:
    """Without, it would be taken for a published SavedModel: multiplicative mask, 4 heads."""
    checkpoint = load_checkpoint(folder)
    config = resolve_config(
        checkpoint.settings, checkpoint.tensors, checkpoint.format, hints=checkpoint.hints
    )
    assert config == small_export.CONFIG
    assert checkpoint.vocab_path.read_bytes() == (exported / "checkpoint" / "vocab.txt").read_bytes()
