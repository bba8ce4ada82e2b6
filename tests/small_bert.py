"""Small models of the BERT family: their weights, their checkpoints, their modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import small_export
import tensorflow as tf
from tiny_question_model import VOCAB, write_vocab

from mobilebert_kit.contract import MLPERF, Contract
from mobilebert_kit.lowering.cpu import CpuLowering
from mobilebert_kit.models.bert_config import BertConfig
from mobilebert_kit.models.serving import serving_module
from tools.random_weights import random_tensors, write_random_checkpoint

# No two widths agree, so that a swapped axis cannot go unseen.
SIZES = {
    "vocab_size": len(VOCAB),
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 80,
    "max_position_embeddings": 128,
}
BERT = BertConfig.from_huggingface(SIZES)
DISTILBERT = BertConfig.from_huggingface(SIZES | {"model_type": "distilbert"})
SMALL_BERT = BertConfig.from_huggingface(
    SIZES | {"embedding_size": 72, "output_size": 64, "hidden_act": "gelu_pytorch_tanh"}
)
CONFIGS = {"bert": BERT, "distilbert": DISTILBERT, "small bert": SMALL_BERT}
SIZE = 60.0  # of the outlier, where the hidden state has 1: a trained BERT's has 100 and more


def weights(config: BertConfig = BERT, *, outlier: bool = False) -> dict[str, np.ndarray]:
    """Random; with `outlier` the feed-forwards write SIZE into channel 5 of some tokens, as a trained BERT's.

    Nothing but the LayerNorm behind it reads that channel, whose gamma there is small.
    """
    tensors = random_tensors(config, seed=2)
    for layer in range(config.num_hidden_layers if outlier else 0):
        scope = f"bert/encoder/layer_{layer}/output"
        kernel = tensors[f"{scope}/dense/kernel"]
        kernel[:, 5] *= SIZE / np.abs(kernel[:, 5]).sum()
        tensors[f"{scope}/LayerNorm/gamma"][5] = 0.02
    return tensors


def contract(config: BertConfig) -> Contract:
    return MLPERF.for_model(has_segments=config.has_segments)


def arrays(config: BertConfig = BERT) -> list[dict[str, np.ndarray]]:
    """The inputs of each window of small_export's questions, int32 [1, 96] by name."""
    names = contract(config).input_names
    return [{name: window[name] for name in names} for window in small_export.arrays()]


def module(
    config: BertConfig,
    tensors: dict[str, np.ndarray],
    lowering: type[CpuLowering] = CpuLowering,
    length: int = small_export.LENGTH,
    **options: object,
) -> tf.Module:
    return serving_module(
        config, tensors, lowering=lowering, contract=contract(config), sequence_length=length, **options
    )


def run(made: tf.Module, windows: list[dict[str, np.ndarray]]) -> np.ndarray:
    """[start or end, windows, S] of a module, window by window."""
    outputs = [made.serve(*map(tf.constant, window.values())) for window in windows]
    return np.stack([[o[name].numpy()[0] for o in outputs] for name in ("start_logits", "end_logits")])


def write_checkpoint(folder: Path, config: BertConfig = BERT) -> Path:
    """A Hugging Face directory, with vocab.txt."""
    write_random_checkpoint(folder, config, write_vocab(folder.parent), seed=2)
    return folder
