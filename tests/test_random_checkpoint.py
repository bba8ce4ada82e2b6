"""tools/random_weights.py: what it writes is a whole checkpoint of any family, as sparse as asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobilebert_kit.checkpoints import load_checkpoint, prove_complete
from mobilebert_kit.inputs import checkpoint_config
from mobilebert_kit.models.config import BertConfig, MobileBertConfig
from tools.random_weights import random_tensors, write_random_checkpoint

SIZES = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 56,
    "max_position_embeddings": 20,
}
CONFIGS = {
    "mobilebert": MobileBertConfig(40, 8, 24, 2, 3, 12, 20, 3, 16, 2),
    "bert": BertConfig.from_huggingface(SIZES),
    "bert, gelu_tanh": BertConfig.from_huggingface(SIZES | {"hidden_act": "gelu_tanh"}),
    "distilbert": BertConfig.from_huggingface(SIZES | {"model_type": "distilbert"}),
    "small bert": BertConfig.from_huggingface(SIZES | {"embedding_size": 32, "output_size": 36}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_written_is_read(tmp_path: Path, name: str) -> None:
    config = CONFIGS[name]
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("word\n" * config.vocab_size)
    write_random_checkpoint(tmp_path / "made", config, vocab, seed=3, sparsity=0.854)
    checkpoint = load_checkpoint(tmp_path / "made")
    assert checkpoint_config(checkpoint) == config
    prove_complete(checkpoint.tensors, config.variable_shapes())
    made = random_tensors(config, seed=3, sparsity=0.854)
    assert all(np.array_equal(checkpoint.tensors[key], value) for key, value in made.items())
    for key, value in checkpoint.tensors.items():
        pruned = "/layer_" in key and key.endswith("/kernel")
        share = float(np.mean(value == 0))
        # A share of a whole number of values: off by half of one at most.
        assert abs(share - 0.854) <= 0.5 / value.size if pruned else share < 0.01, key


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
def test_feed_forward_adds_nothing_to_all_tokens(activation: str) -> None:
    """The bias takes off the mean of the activation of a standard normal: here, of 200,000 samples."""
    config = BertConfig.from_huggingface(SIZES | {"hidden_act": activation})
    tensors = random_tensors(config, seed=1)
    scope = "bert/encoder/layer_1/output/dense"
    x = np.random.default_rng(0).standard_normal((200_000, config.intermediate_size))
    tanh = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))  # within 5e-4 of the exact gelu
    activated = np.maximum(x, 0) if activation == "relu" else x * (1 + tanh) / 2
    added = activated @ tensors[f"{scope}/kernel"] + tensors[f"{scope}/bias"]
    # Beside the bias's own deviation of 0.05; without the correction the mean would be some 0.15 to 0.3.
    assert np.abs(added.mean(axis=0)).std() < 0.06
    assert abs(added.std(axis=0).mean() - 0.3) < 0.05
