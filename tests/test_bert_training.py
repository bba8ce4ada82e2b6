"""Training of a BERT: loss and gradients of transformers, dropout where BERT has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")
pytest.importorskip("tensorflow_model_optimization", reason="tfmot is not installed (extra [training])")

import small_bert
import tensorflow as tf
from test_training_model import batch_of, loss_of, same_gradients, value_and_gradients

from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.errors import InputError
from mobilebert_kit.training.lowering import Dropout
from mobilebert_kit.training.model import TrainableModel
from tools.transformers_reference import missing_packages

LENGTH = 40
# PyTorch's loss and gradients without dropout, saved as a checkpoint: the kit's reader renames them.
REFERENCE = """
import sys, numpy as np, torch
from transformers import AutoModelForQuestionAnswering
model = AutoModelForQuestionAnswering.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
for module in model.modules():
    if isinstance(module, torch.nn.Embedding):
        module.padding_idx = None
batch = {name: torch.from_numpy(value).long() for name, value in np.load(sys.argv[2]).items()}
segments = {} if "distilbert" in model.config.model_type else {"token_type_ids": batch["segment_ids"]}
out = model(input_ids=batch["input_ids"], attention_mask=batch["input_mask"], **segments,
            start_positions=batch["start_positions"], end_positions=batch["end_positions"])
parameters = dict(model.named_parameters())
gradients = torch.autograd.grad(out.loss, list(parameters.values()))
model.save_pretrained(sys.argv[3], state_dict=dict(zip(parameters, gradients)))
np.save(sys.argv[4], out.loss.item())
"""


@pytest.mark.skipif(bool(missing_packages()), reason=f"not installed: {' '.join(missing_packages())}")
@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_step_is_transformers_step(name: str, tmp_path: Path) -> None:
    config = small_bert.CONFIGS[name]
    checkpoint = small_bert.write_checkpoint(tmp_path / "checkpoint", config)
    batch = batch_of(config.vocab_size, LENGTH, (LENGTH, LENGTH - 1, LENGTH // 3))
    np.savez(tmp_path / "batch.npz", **batch)
    arguments = [checkpoint, tmp_path / "batch.npz", tmp_path / "gradients", tmp_path / "loss.npy"]
    subprocess.run([sys.executable, "-c", REFERENCE, *map(str, arguments)], check=True)
    loss, gradients = value_and_gradients(TrainableModel(config, small_bert.weights(config)), batch, loss_of)
    assert loss == pytest.approx(float(np.load(tmp_path / "loss.npy")), rel=1e-4)
    # A loss takes a softmax over tokens: what adds the same to all of them has no gradient.
    last = f"bert/encoder/layer_{config.num_hidden_layers - 1}/output/LayerNorm/beta"
    theirs = load_checkpoint(tmp_path / "gradients").tensors
    same_gradients(gradients, theirs, config, {"cls/squad/output_bias", last})


def test_dropout_is_where_bert_has_it() -> None:
    """On the embeddings and on both dense outputs of a layer: a share of zeros, the rest scaled up."""
    seen: dict[str, tf.Tensor] = {}

    def outputs(training: bool, **rates: float) -> dict[str, tf.Tensor]:
        model = TrainableModel(small_bert.BERT, small_bert.weights(), dropout=Dropout(**rates))
        batch = batch_of(small_bert.BERT.vocab_size, LENGTH, (LENGTH,) * 4)
        seen.clear()
        model(batch, training=training, observe=lambda x, point: seen.setdefault(point, x))
        return dict(seen)

    reader = "bert/encoder/layer_0/attention/self/query/input"
    plain, dropped = outputs(False, hidden=0.25, attention=0.0), outputs(True, hidden=0.25, attention=0.0)
    zeros = dropped[reader].numpy() == 0
    assert abs(zeros.mean() - 0.25) < 0.02  # 7,680 draws: 4 deviations of 0.005
    kept = (x[reader].numpy()[~zeros] for x in (dropped, plain))
    np.testing.assert_allclose(next(kept), next(kept) / 0.75, rtol=1e-5)
    scope = "bert/encoder/layer_1"
    for dense in (f"{scope}/attention/output", f"{scope}/output"):
        assert np.count_nonzero(plain[f"{dense}/LayerNorm"].numpy() == 0) == 0
        assert f"{dense}/dense" in dropped
    assert Dropout.from_settings({"model_type": "bert"}) == Dropout(0.1, 0.1)
    told = {"model_type": "distilbert", "dropout": 0.2, "attention_dropout": 0.3}
    assert Dropout.from_settings(told) == Dropout(0.2, 0.3)
    assert Dropout.from_settings({"model_type": "mobilebert"}) == Dropout(0.0, 0.1)


def test_quantized_training_is_refused() -> None:
    with pytest.raises(InputError, match="relu6"):
        TrainableModel(small_bert.BERT, small_bert.weights(), qat_weights="per_tensor")
