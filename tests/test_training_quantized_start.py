"""Where quantized training starts from a float model: its ranges, and values with mean zero."""

from __future__ import annotations

import numpy as np
import pytest
from small_training import request, write_data

pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")


from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.training.data import make_dataset
from mobilebert_kit.training.inputs import TrainingInputs
from mobilebert_kit.training.model import INPUTS, TrainableModel
from mobilebert_kit.training.quantized_start import centered_start
from mobilebert_kit.training.state import MODEL
from mobilebert_kit.training.trainer import train

FIRST = "bert/encoder/layer_0/bottleneck/input/dense/MobileBertActFakeQuantWithMinMaxVars"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("training"))


def test_ranges_start_at_what_the_float_model_shows(data, tmp_path):
    """Of the first layer's input against transformers' embeddings: the mean of two batches' extremes, then
    three steps of an average that keeps 0.999."""
    transformers = pytest.importorskip("transformers", reason="no transformers (extra [distill])")
    import torch

    asked = request(data, tmp_path / "out", qat=True, qat_calibration_steps=2)
    train(asked)
    low, high = load_checkpoint(tmp_path / "out" / MODEL).ranges[FIRST]
    model = transformers.MobileBertForQuestionAnswering.from_pretrained(data / "checkpoint").mobilebert
    inputs = TrainingInputs(asked)
    lows, highs = [], []
    for step in make_dataset(inputs.features, inputs.order, 0).take(2):
        ids, segments = (torch.from_numpy(step[name][0].numpy()).long() for name in INPUTS[::2])
        hidden = model.embeddings(ids, token_type_ids=segments).detach().numpy()
        lows.append(min(hidden.min(), 0))
        highs.append(max(hidden.max(), 0))
    span = np.mean(highs) - np.mean(lows)
    np.testing.assert_allclose([low, high], [np.mean(lows), np.mean(highs)], rtol=0, atol=0.003 * span)


def test_values_are_centred_and_logits_stay(data, tmp_path):
    """The model's own values, averaged by hand: zero over the tokens. They were 3 before."""
    inputs = TrainingInputs(request(data, tmp_path / "out", qat=True))
    tensors = {
        name: value + 3 if name.endswith("/self/value/bias") else value
        for name, value in inputs.checkpoint.tensors.items()
    }
    model = TrainableModel(inputs.config, tensors)
    step = next(iter(make_dataset(inputs.features, inputs.order, 0)))
    batch = {name: step[name][0] for name in INPUTS}
    before = model(batch)
    biases = centered_start(inputs.config, model.named_variables, [batch, batch])
    assert len(biases) == 2 * inputs.config.num_hidden_layers
    for name, value in biases.items():
        model.named_variables[name].assign(value)
    seen = {}
    after = model(batch, observe=lambda tensor, point: seen.setdefault(point, tensor))
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=0, atol=1e-4)  # of values of 3
    for layer in range(inputs.config.num_hidden_layers):
        value = seen[f"bert/encoder/layer_{layer}/attention/self/value"].numpy()
        assert value.shape[-1] == inputs.config.intra_bottleneck_size
        mean = np.average(
            value.reshape(-1, value.shape[-1]), axis=0, weights=batch["input_mask"].numpy().ravel()
        )
        np.testing.assert_allclose(mean, 0, atol=1e-4)
