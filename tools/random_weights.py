"""Random weights under which a model of any family and size behaves like a trained one.

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

from mobilebert_kit.checkpoints.names import TABLES
from mobilebert_kit.errors import InputError
from mobilebert_kit.models.bert_config import DISTILBERT_KEYS
from mobilebert_kit.models.config import ModelConfig

# Standard deviations, relative to the hidden state's, which is 1 by construction. BRANCH is what a block adds
# to its residual; gamma = 1 / sqrt(1 + BRANCH**2) brings the sum back to 1. It decides how fast errors grow
# from layer to layer. At 0.3 and full size, logits correlate with float's by 0.999 with dynamic range
# quantization and by 0.955 with TensorFlow's own post-training int8: as was seen before of a full-size
# MobileBERT with random weights. At 0.5 dynamic range quantization comes to 0.995.
BRANCH = 0.3
# Mean and deviation of an activation of a standard normal. The mean is taken off again by the next bias, else
# every feed-forward network adds the same vector to all tokens, which in the end is most of the hidden state.
_RELU_MEAN, _GELU_MEAN = 1.0 / math.sqrt(2.0 * math.pi), 0.5 / math.sqrt(math.pi)
_GELU_SQUARE = 1.0 / 3.0 + 1.0 / (2.0 * math.pi * math.sqrt(3.0))
_RELU = _RELU_MEAN, math.sqrt(0.5 - _RELU_MEAN**2)
_GELU = _GELU_MEAN, math.sqrt(_GELU_SQUARE - _GELU_MEAN**2)
MOMENTS = {"relu": _RELU, "relu6": _RELU, "gelu": _GELU, "gelu_tanh": _GELU}
QUERY_KEY_GAIN = 1.25  # scaled scores of deviation 1.56
CONTEXT_GAIN = 1.4  # an average over many tokens is smaller than the values
TOKEN_TYPE = POSITION = 0.3
BIAS = 0.05
GAMMA_SPREAD = 0.1  # so that no channel's gamma is another's


# What a checkpoint's config.json says besides the sizes.
ARCHITECTURES = {
    "mobilebert": {"architectures": ["MobileBertForQuestionAnswering"], "classifier_activation": True},
    "bert": {"architectures": ["BertForQuestionAnswering"]},
    "distilbert": {"architectures": ["DistilBertForQuestionAnswering"]},
}
WORDS = {"gelu_tanh": "gelu_pytorch_tanh"}  # transformers' for ours, where they differ


def random_tensors(config: ModelConfig, seed: int = 0, sparsity: float = 0.0) -> dict[str, np.ndarray]:
    """Canonical name -> float32 array, for every variable of `config`; the same for the same seed.

    `sparsity` is the share of each kernel of attention and feed-forward networks that is zero: the smallest
    values, as magnitude pruning leaves it. The others grow, so that the kernel's deviation stays.
    """
    random = np.random.default_rng(seed)
    activation_mean, activation_deviation = MOMENTS[config.hidden_act]
    tensors = {}
    for name, shape in config.variable_shapes().items():
        values = random.standard_normal(shape, dtype=np.float32)
        mean, deviation = _distribution(name, shape, activation_deviation)
        tensors[name] = values * np.float32(deviation) + np.float32(mean)
        if sparsity and name.startswith("bert/encoder/layer_") and name.endswith("/kernel"):
            tensors[name] = _pruned(tensors[name], sparsity)
    for name, kernel in tensors.items():
        if _reads_activation(name):
            tensors[name.replace("kernel", "bias")] -= activation_mean * kernel.sum(axis=0)
    return tensors


def _pruned(kernel: np.ndarray, sparsity: float) -> np.ndarray:
    pruned = kernel.copy().ravel()
    pruned[np.argsort(np.abs(pruned), kind="stable")[: round(sparsity * pruned.size)]] = 0
    return (pruned * np.float32(kernel.std() / pruned.std())).reshape(kernel.shape)


def _reads_activation(name: str) -> bool:
    return name.endswith("/output/dense/kernel") and "/attention/" not in name


def _distribution(name: str, shape: tuple[int, ...], activation: float) -> tuple[float, float]:
    """(mean, standard deviation) of a variable's values; `activation` is the activation's deviation."""
    if name.endswith("/kernel"):
        return 0.0, _gain(name, activation) / math.sqrt(shape[0])
    if name == "cls/squad/output_weights":
        return 0.0, 1.0 / math.sqrt(shape[1])
    if name.endswith("/gamma"):
        gamma = _gamma(name)
        return gamma, GAMMA_SPREAD * gamma
    embeddings = {"word": 1.0, "token_type": TOKEN_TYPE, "position": POSITION}
    table = name.rpartition("/")[2].removesuffix("_embeddings")
    return 0.0, embeddings.get(table, BIAS)


def _gain(kernel: str, activation: float) -> float:
    if kernel.endswith(("/self/query/kernel", "/self/key/kernel")):
        return QUERY_KEY_GAIN
    if kernel.endswith("/attention/output/dense/kernel"):
        return BRANCH * CONTEXT_GAIN
    if kernel.endswith("/output/bottleneck/dense/kernel"):
        return BRANCH
    if _reads_activation(kernel):
        return BRANCH / activation
    return 1.0


def _gamma(name: str) -> float:
    if "/LayerNorm/" in name:
        return 1.0
    if name.startswith("bert/embeddings/"):
        return 1.0 / math.sqrt(1.0 + TOKEN_TYPE**2 + POSITION**2)
    if "/bottleneck/input/" in name or "/bottleneck/attention/" in name:
        return 1.0
    return 1.0 / math.sqrt(1.0 + BRANCH**2)


def write_random_checkpoint(
    directory: Path, config: ModelConfig, vocab: Path, seed: int = 0, sparsity: float = 0.0
) -> None:
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
        huggingface_tensors(random_tensors(config, seed, sparsity), config),
        str(directory / "model.safetensors"),
        metadata={"format": "pt"},  # transformers refuses files that do not say so
    )
    (directory / "config.json").write_text(
        json.dumps(huggingface_settings(config), indent=2) + "\n", encoding="utf-8"
    )
    shutil.copyfile(vocab, directory / "vocab.txt")


def huggingface_settings(config: ModelConfig) -> dict[str, object]:
    """The config.json that transformers reads; it passes over the kit's own keys."""
    sizes = {**config.to_dict(), "hidden_act": WORDS.get(config.hidden_act, config.hidden_act)}
    if config.family == "distilbert":
        theirs = {ours: key for key, ours in DISTILBERT_KEYS.items()}
        sizes = {theirs.get(key, key): value for key, value in sizes.items()}
    return {"model_type": config.family, **ARCHITECTURES[config.family], **sizes}


def huggingface_tensors(tensors: dict[str, np.ndarray], config: ModelConfig) -> dict[str, np.ndarray]:
    """The same tensors under transformers' names, kernels transposed."""
    renamed = {}
    for name, tensor in tensors.items():
        theirs, transpose = TABLES[config.family].to_huggingface(name)
        renamed[theirs] = np.ascontiguousarray(tensor.T) if transpose else tensor
    return renamed
