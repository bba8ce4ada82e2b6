"""Names of variables as data: the families' tables, what only training needs, quantizer ranges.

Canonical names of a MobileBERT are those of the published TensorFlow checkpoints (google-research/mobilebert;
the MLCommons SavedModels have the same 1,114).
Source of the Hugging Face column: transformers, models/mobilebert/modeling_mobilebert.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mobilebert_kit.checkpoints.bert_names import BERT, DISTILBERT
from mobilebert_kit.checkpoints.name_table import (
    DENSE,
    LAYER,
    NORM,
    NUMBER,
    PRETRAINING_HEADS,
    TABLE,
    NameTable,
    rules,
)

_HF_LAYER = "mobilebert.encoder.layer.{layer}."
_BLOCKS = (  # a dense layer followed by a NoNorm
    ("attention.output", "attention/output"),
    ("bottleneck.input", "bottleneck/input"),
    ("bottleneck.attention", "bottleneck/attention"),
    ("ffn.{ffn}.output", "ffn_layer_{ffn}/output"),
    ("output", "output"),
    ("output.bottleneck", "output/bottleneck"),
)
_MODULES = (
    ("mobilebert.embeddings.word_embeddings", "bert/embeddings/word_embeddings", TABLE),
    ("mobilebert.embeddings.position_embeddings", "bert/embeddings/position_embeddings", TABLE),
    ("mobilebert.embeddings.token_type_embeddings", "bert/embeddings/token_type_embeddings", TABLE),
    ("mobilebert.embeddings.embedding_transformation", "bert/embeddings/embedding_transformation", DENSE),
    ("mobilebert.embeddings.LayerNorm", "bert/embeddings/FakeLayerNorm", NORM),
    *(
        (_HF_LAYER + f"attention.self.{x}", LAYER + f"attention/self/{x}", DENSE)
        for x in ("query", "key", "value")
    ),
    *((_HF_LAYER + f"{hf}.dense", LAYER + f"{tf}/dense", DENSE) for hf, tf in _BLOCKS),
    *((_HF_LAYER + f"{hf}.LayerNorm", LAYER + f"{tf}/FakeLayerNorm", NORM) for hf, tf in _BLOCKS),
    (_HF_LAYER + "intermediate.dense", LAYER + "intermediate/dense", DENSE),
    (_HF_LAYER + "ffn.{ffn}.intermediate.dense", LAYER + "ffn_layer_{ffn}/intermediate/dense", DENSE),
)

MOBILEBERT = NameTable(
    "MobileBERT",
    rules(_MODULES),
    # Heads that question answering does not use, and a buffer that older transformers versions saved.
    frozenset(
        [
            "mobilebert.embeddings.position_ids",
            "mobilebert.pooler.dense.weight",
            "mobilebert.pooler.dense.bias",
            "cls.predictions.dense.weight",
            *PRETRAINING_HEADS,
        ]
    ),
)
TABLES = {"mobilebert": MOBILEBERT, "bert": BERT, "distilbert": DISTILBERT}

TENSORFLOW_UNUSED = frozenset(
    [
        "global_step",
        "beta1_power",
        "beta2_power",
        "bert/pooler/dense/kernel",
        "bert/pooler/dense/bias",
        "cls/predictions/extra_output_weights",
        "cls/predictions/output_bias",
        "cls/predictions/transform/dense/kernel",
        "cls/predictions/transform/dense/bias",
        "cls/predictions/transform/LayerNorm/gamma",
        "cls/predictions/transform/LayerNorm/beta",
        "cls/seq_relationship/output_weights",
        "cls/seq_relationship/output_bias",
    ]
)
OPTIMIZER_SLOTS = ("adam_m", "adam_v", "lamb_m", "lamb_v", "Adam", "Adam_1", "LAMB", "LAMB_1", "Momentum")

# Quantizers of one layer (google-research/mobilebert, modeling.py with use_quantized_training): scope ->
# how many activation and how many weight quantizers it has. 15 dense x 2 + 8 NoNorm x 4 + 4 = 66 when there
# are 4 feed-forward networks, each with a `min` and a `max`.
ACTIVATION_QUANTIZER = "MobileBertActFakeQuantWithMinMaxVars"
WEIGHT_QUANTIZER = "MobileBertWeightFakeQuantWithMinMaxVars"
QUANTIZERS: tuple[tuple[str, int, int], ...] = (
    ("attention/self", 4, 0),  # QK^T, scaled and masked, mask added, context
    *((f"attention/self/{x}", 1, 1) for x in ("query", "key", "value")),
    ("intermediate/dense", 1, 1),
    ("ffn_layer_{ffn}/intermediate/dense", 1, 1),
    *((f"{scope}/dense", 1, 1) for _, scope in _BLOCKS),
    *((scope, 1, 0) for _, scope in _BLOCKS),  # NoNorm's input
    *((f"{scope}/FakeLayerNorm", 3, 0) for _, scope in _BLOCKS),  # beta, gamma, input * gamma
)
_RANGE = re.compile(f"(.+)/({ACTIVATION_QUANTIZER}|{WEIGHT_QUANTIZER})(_[0-9]+)?/(min|max)")


def is_quant_range(name: str) -> bool:
    """Whether `name` is the min or max of a fake quantizer of the published quantized checkpoint."""
    return _RANGE.fullmatch(name) is not None


def is_optimizer_slot(name: str, all_names: Iterable[str]) -> bool:
    """Whether `name` is an optimizer's slot of a variable that the same checkpoint holds."""
    base, _, slot = name.rpartition("/")
    return slot in OPTIMIZER_SLOTS and base in all_names


def quantized_kernel(quantizer: str) -> str | None:
    """The kernel that a weight quantizer rounds; None for an activation's quantizer."""
    scope, _, kind = quantizer.rpartition("/")
    return f"{scope}/kernel" if kind == WEIGHT_QUANTIZER else None


def quant_ranges(layers: int, feedforward_networks: int) -> set[str]:
    """The 2 x 66 x layers (for 4 feed-forward networks) range names that a quantized checkpoint must have."""
    return {f"{name}/{end}" for name in quantizers(layers, feedforward_networks) for end in ("min", "max")}


def quantizers(layers: int, feedforward_networks: int) -> set[str]:
    """The names of all quantizers, without /min and /max: 66 x layers for 4 feed-forward networks."""
    names = set()
    for template, activations, weights in QUANTIZERS:
        extra = range(feedforward_networks - 1) if "{ffn}" in template else range(1)
        for layer in range(layers):
            for ffn in extra:
                scope = (LAYER + template).format(layer=layer, ffn=ffn)
                numbers = [f"_{i}" if i else "" for i in range(activations)]
                kinds = [ACTIVATION_QUANTIZER + number for number in numbers] + [WEIGHT_QUANTIZER] * weights
                names.update(f"{scope}/{kind}" for kind in kinds)
    return names


def depth(names: Iterable[str]) -> tuple[int, int]:
    """(layers, feed-forward networks a layer) in the canonical `names`, by their highest numbers."""
    layers, networks = 0, 1
    for name in names:
        if match := re.match(rf"bert/encoder/layer_{NUMBER}/(?:ffn_layer_{NUMBER}/)?", name):
            layers = max(layers, int(match[1]) + 1)
            networks = max(networks, int(match[2]) + 2 if match[2] else 1)
    return layers, networks
