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
from mobilebert_kit.models.config import MobileBertConfig
from mobilebert_kit.training.lowering import Dropout

PREFIX = "model.ckpt"


def write_result(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    config: MobileBertConfig,
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


def published_settings(config: MobileBertConfig, dropout: Dropout) -> dict[str, Any]:
    """The keys of google-research/mobilebert, and the mask's."""
    return {
        **config.to_dict(),
        "classifier_activation": False,
        "attention_probs_dropout_prob": dropout.attention,
        "hidden_dropout_prob": dropout.hidden,
        "initializer_range": 0.02,
    }


def huggingface_settings(config: MobileBertConfig, dropout: Dropout) -> dict[str, Any]:
    """The keys that transformers reads; it ignores the mask's, which are the kit's."""
    return {
        **published_settings(config, dropout),
        "architectures": ["MobileBertForQuestionAnswering"],
        "model_type": "mobilebert",
        "true_hidden_size": config.intra_bottleneck_size,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }


def huggingface_names(config: MobileBertConfig) -> dict[str, tuple[str, bool]]:
    """Canonical name -> (Hugging Face name, whether to transpose) of every variable of the model."""
    found = {}
    for rule in names.RULES:
        for layer in range(config.num_hidden_layers if "{layer}" in rule.canonical else 1):
            for ffn in range(config.num_feedforward_networks - 1 if "{ffn}" in rule.canonical else 1):
                place = {"layer": layer, "ffn": ffn}
                found[rule.canonical.format(**place)] = rule.huggingface.format(**place), rule.transpose
    return found


def _write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], config: MobileBertConfig) -> None:
    from safetensors.numpy import save_file

    theirs = huggingface_names(config)
    renamed = {
        theirs[name][0]: np.ascontiguousarray(tensor.T if theirs[name][1] else tensor)
        for name, tensor in tensors.items()
    }
    save_file(renamed, str(path), metadata={"format": "pt"})


def _write_tensorflow(prefix: Path, tensors: Mapping[str, np.ndarray]) -> None:
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )
