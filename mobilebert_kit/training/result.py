"""A trained model as a checkpoint: a Hugging Face directory, or the published layout where there are ranges.

config.json  vocab.txt  manifest.json  model.safetensors                       float training
config.json  vocab.txt  manifest.json  model.ckpt.index  model.ckpt.data-...   quantized training: TF1
                                                                               variables, ranges among them
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.artifacts import describe_files, staged_folder, write_manifest
from mobilebert_kit.checkpoints import names
from mobilebert_kit.models.bert_config import DISTILBERT_KEYS
from mobilebert_kit.models.config import ModelConfig
from mobilebert_kit.training.lowering import Dropout

PREFIX = "model.ckpt"
_ARCHITECTURES = {
    "mobilebert": "MobileBertForQuestionAnswering",
    "bert": "BertForQuestionAnswering",
    "distilbert": "DistilBertForQuestionAnswering",
}
_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"}  # transformers' word where it is not ours
_DISTILBERT_DROPOUT = {"hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout"}


def write_result(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    config: ModelConfig,
    *,
    dropout: Dropout,
    vocab: Path,
    step: int,
    about: Mapping[str, Any],
) -> None:
    """Makes `folder`, whole or not at all; what the kit wrote there before is replaced.

    Args:
        tensors: canonical name -> float32 array; with the ranges of quantized training by their published
            names (.../min, .../max) it becomes the published layout.
        step: that the weights are of.
        about: further entries of the manifest.
    Raises:
        InputError: the folder cannot be written, or holds files that are not the kit's.
    """
    quantized = any(names.is_quant_range(name) for name in tensors)
    settings = published_settings(config, dropout) if quantized else huggingface_settings(config, dropout)
    with staged_folder(folder, overwrite=True) as stage:
        (stage / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(vocab, stage / "vocab.txt")
        if quantized:
            _write_tensorflow(stage / PREFIX, {**tensors, "global_step": np.int64(step)})
        else:
            _write_safetensors(stage / "model.safetensors", tensors, config)
        manifest = {"schema_version": 1, "step": step, **about, "files": describe_files(stage)}
        write_manifest(stage, manifest)


def published_settings(config: ModelConfig, dropout: Dropout) -> dict[str, Any]:
    """The keys of google-research/mobilebert or google-research/bert, and the mask's."""
    return {
        **config.to_dict(),
        "classifier_activation": False,  # a MobileBERT's: there is no pooler
        "attention_probs_dropout_prob": dropout.attention,
        "hidden_dropout_prob": dropout.hidden,
        "initializer_range": 0.02,
    }


def huggingface_settings(config: ModelConfig, dropout: Dropout) -> dict[str, Any]:
    """The keys that transformers reads; it ignores the kit's own (the mask's, the small BERT's widths)."""
    settings = published_settings(config, dropout)
    settings |= {"model_type": config.family, "architectures": [_ARCHITECTURES[config.family]]}
    settings |= {"hidden_act": _ACTIVATIONS.get(config.hidden_act, config.hidden_act), "pad_token_id": 0}
    if config.family == "mobilebert":
        settings |= {"true_hidden_size": config.intra_bottleneck_size, "layer_norm_eps": 1e-12}
    if config.family == "distilbert":
        theirs = {own: key for key, own in DISTILBERT_KEYS.items()} | _DISTILBERT_DROPOUT
        settings = {theirs.get(key, key): value for key, value in settings.items()}
    return settings


def _write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], config: ModelConfig) -> None:
    from safetensors.numpy import save_file

    renamed = {}
    for name, tensor in tensors.items():
        theirs, transpose = names.TABLES[config.family].to_huggingface(name)
        renamed[theirs] = np.ascontiguousarray(tensor.T if transpose else tensor)
    save_file(renamed, str(path), metadata={"format": "pt"})


def _write_tensorflow(prefix: Path, tensors: Mapping[str, np.ndarray]) -> None:
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )
