"""Random weights under which a MobileBERT of any size behaves like a trained one.

With weights of one small standard deviation the signal dies out within a few layers: quantization errors and
float rounding would then be measured on noise. Here every branch is scaled so that activations keep their
size from the first layer to the last, and attention is neither uniform nor on one token.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mobilebert_kit.checkpoints.names import RULES
from mobilebert_kit.errors import InputError
from mobilebert_kit.models.config import MobileBertConfig

# Standard deviations, relative to the hidden state's, which is 1 by construction. BRANCH is what a block adds
# to its residual; gamma = 1 / sqrt(1 + BRANCH**2) brings the sum back to 1. It decides how fast errors grow
# from layer to layer. At 0.3 and full size, logits correlate with float's by 0.999 with dynamic range
# quantization and by 0.955 with TensorFlow's own post-training int8: as was seen before of a full-size
# MobileBERT with random weights. At 0.5 dynamic range quantization comes to 0.995.
BRANCH = 0.3
# relu of a standard normal: mean 0.40, deviation 0.58. The mean is taken off again by the next bias, else
# every feed-forward network adds the same vector to all tokens, which in the end is most of the hidden state.
RELU_MEAN = 1.0 / math.sqrt(2.0 * math.pi)
RELU_DEVIATION = math.sqrt(0.5 - RELU_MEAN**2)
QUERY_KEY_GAIN = 1.25  # scaled scores of deviation 1.56
CONTEXT_GAIN = 1.4  # an average over many tokens is smaller than the values
TOKEN_TYPE = POSITION = 0.3
BIAS = 0.05
GAMMA_SPREAD = 0.1  # so that no channel's gamma is another's


def random_tensors(config: MobileBertConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Canonical name -> float32 array, for every variable of `config`; the same for the same seed."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in config.variable_shapes().items():
        values = random.standard_normal(shape, dtype=np.float32)
        mean, deviation = _distribution(name, shape)
        tensors[name] = values * np.float32(deviation) + np.float32(mean)
    for name, kernel in tensors.items():
        if _reads_relu(name):
            tensors[name.replace("kernel", "bias")] -= RELU_MEAN * kernel.sum(axis=0)
    return tensors


def _reads_relu(name: str) -> bool:
    return name.endswith("/output/dense/kernel") and "/attention/" not in name


def _distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """(mean, standard deviation) of a variable's values."""
    if name.endswith("/kernel"):
        return 0.0, _gain(name) / math.sqrt(shape[0])
    if name == "cls/squad/output_weights":
        return 0.0, 1.0 / math.sqrt(shape[1])
    if name.endswith("/gamma"):
        gamma = _gamma(name)
        return gamma, GAMMA_SPREAD * gamma
    embeddings = {"word": 1.0, "token_type": TOKEN_TYPE, "position": POSITION}
    table = name.rpartition("/")[2].removesuffix("_embeddings")
    return 0.0, embeddings.get(table, BIAS)


def _gain(kernel: str) -> float:
    if kernel.endswith(("/self/query/kernel", "/self/key/kernel")):
        return QUERY_KEY_GAIN
    if kernel.endswith("/attention/output/dense/kernel"):
        return BRANCH * CONTEXT_GAIN
    if kernel.endswith("/output/bottleneck/dense/kernel"):
        return BRANCH
    if _reads_relu(kernel):
        return BRANCH / RELU_DEVIATION
    return 1.0


def _gamma(name: str) -> float:
    if name.startswith("bert/embeddings/"):
        return 1.0 / math.sqrt(1.0 + TOKEN_TYPE**2 + POSITION**2)
    if "/bottleneck/input/" in name or "/bottleneck/attention/" in name:
        return 1.0
    return 1.0 / math.sqrt(1.0 + BRANCH**2)


def write_random_checkpoint(directory: Path, config: MobileBertConfig, vocab: Path, seed: int = 0) -> None:
    """Writes a Hugging Face directory: config.json, model.safetensors (float32) and vocab.txt.

    Raises:
        InputError: `directory` exists, or `vocab` is of another size than `config.vocab_size`.
    """
    lines = vocab.read_text(encoding="utf-8").count("\n") if vocab.is_file() else 0
    if lines != config.vocab_size:
        raise InputError(f"Expected a vocabulary of {config.vocab_size} lines, got {lines} in {vocab}.")
    if directory.exists():
        raise InputError(f"Expected a folder that does not exist yet, got {directory}.")
    directory.mkdir(parents=True)
    save_file(
        huggingface_tensors(random_tensors(config, seed), config),
        str(directory / "model.safetensors"),
        metadata={"format": "pt"},  # transformers refuses files that do not say so
    )
    (directory / "config.json").write_text(
        json.dumps(huggingface_settings(config), indent=2) + "\n", encoding="utf-8"
    )
    shutil.copyfile(vocab, directory / "vocab.txt")


def huggingface_settings(config: MobileBertConfig) -> dict[str, object]:
    """The config.json that transformers reads; `mask_semantics` and `score_clip` are the kit's own keys."""
    names = {"architectures": ["MobileBertForQuestionAnswering"], "model_type": "mobilebert"}
    return {**names, "classifier_activation": True, **config.to_dict()}


def huggingface_tensors(tensors: dict[str, np.ndarray], config: MobileBertConfig) -> dict[str, np.ndarray]:
    """The same tensors under transformers' names, kernels transposed."""
    renamed = {}
    for rule in RULES:
        for layer in range(config.num_hidden_layers if "{layer}" in rule.canonical else 1):
            for ffn in range(config.num_feedforward_networks - 1 if "{ffn}" in rule.canonical else 1):
                tensor = tensors[rule.canonical.format(layer=layer, ffn=ffn)]
                value = np.ascontiguousarray(tensor.T) if rule.transpose else tensor
                renamed[rule.huggingface.format(layer=layer, ffn=ffn)] = value
    return renamed
