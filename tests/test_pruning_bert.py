"""Pruning of BERT and DistilBERT, to a directory that transformers reads."""

from __future__ import annotations

import numpy as np
import pytest
from small_bert import CONFIGS, write_checkpoint
from small_training import request, write_data

pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")

from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.errors import InputError
from mobilebert_kit.inputs import checkpoint_config
from mobilebert_kit.squad.windows import Window
from mobilebert_kit.training.inputs import TrainingInputs
from mobilebert_kit.training.model import TrainableModel
from mobilebert_kit.training.pruning.request import PruningRequest
from mobilebert_kit.training.state import MODEL
from mobilebert_kit.training.trainer import train

NAMES = {"input_ids": "input_ids", "attention_mask": "input_mask", "token_type_ids": "segment_ids"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_data(tmp_path_factory.mktemp("training"))
    for name in ("bert", "distilbert"):
        write_checkpoint(folder / name, CONFIGS[name])
    return folder


def transformers_logits(folder, windows: list[Window], *, segments: bool) -> np.ndarray:
    torch = pytest.importorskip("torch", reason="no torch (extra [distill])")
    transformers = pytest.importorskip("transformers", reason="no transformers (extra [distill])")
    model, told = transformers.AutoModelForQuestionAnswering.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    arrays = {
        theirs: torch.from_numpy(np.stack([getattr(window, own) for window in windows])).long()
        for theirs, own in NAMES.items()
        if segments or own != "segment_ids"
    }
    with torch.no_grad():
        outputs = model.eval()(**arrays)
    return np.stack([outputs.start_logits.numpy(), outputs.end_logits.numpy()])


@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_four_by_one(data, tmp_path, name):
    """From --checkpoint to a model whose encoder has whole blocks of four outputs, and the same logits as
    transformers has."""
    config = CONFIGS[name]
    pruning = PruningRequest(target_sparsity=0.8, start_step=1, end_step=3)
    asked = request(
        data,
        tmp_path / "out",
        checkpoint=data / name,
        evaluation=str(data / "questions.json"),
        pruning=pruning,
    )
    train(asked)
    checkpoint = load_checkpoint(tmp_path / "out" / MODEL)
    assert checkpoint_config(checkpoint) == config
    zeros = total = 0
    for variable, tensor in checkpoint.tensors.items():
        if "/encoder/" in variable and variable.endswith("/kernel"):
            blocks = (tensor.reshape(tensor.shape[0], -1, 4) == 0).sum(axis=2)
            assert set(np.unique(blocks)) <= {0, 4}, variable
            zeros, total = zeros + 4 * (blocks == 4).sum(), total + tensor.size
    assert abs(zeros - 0.8 * total) <= 4
    inputs = TrainingInputs(asked)
    windows = inputs.evaluation.windows
    batch = {own: np.stack([getattr(window, own) for window in windows]) for own in NAMES.values()}
    ours = TrainableModel(config, checkpoint.tensors)(batch)
    ours = np.stack([ours["start_logits"].numpy(), ours["end_logits"].numpy()])
    theirs = transformers_logits(tmp_path / "out" / MODEL, windows, segments=config.has_segments)
    kept = batch["input_mask"] == 1
    # Two layers of float32 in two orders of summation, logits of about 1.
    np.testing.assert_allclose(ours[:, kept], theirs[:, kept], rtol=0, atol=1e-4)


def test_no_quantized_training_of_a_bert(data, tmp_path):
    with pytest.raises(InputError, match="MobileBERT for --qat"):
        train(request(data, tmp_path / "out", checkpoint=data / "bert", qat=True))
    assert not (tmp_path / "out").exists()
