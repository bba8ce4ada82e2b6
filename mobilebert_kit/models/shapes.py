"""What the shapes of a checkpoint's variables tell of the model's size."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from mobilebert_kit.errors import InputError

Places = dict[str, tuple[tuple[str, int], ...]]

# Size -> the variables that tell it (the first one present does), and the axis.
_MOBILEBERT: Places = {
    "vocab_size": (("bert/embeddings/word_embeddings", 0),),
    "embedding_size": (("bert/embeddings/word_embeddings", 1),),
    "hidden_size": (("bert/embeddings/position_embeddings", 1), ("cls/squad/output_weights", 1)),
    "max_position_embeddings": (("bert/embeddings/position_embeddings", 0),),
    "type_vocab_size": (("bert/embeddings/token_type_embeddings", 0),),
    "intra_bottleneck_size": (("bert/encoder/layer_0/bottleneck/input/dense/kernel", 1),),
    "intermediate_size": (("bert/encoder/layer_0/intermediate/dense/kernel", 1),),
}
_BERT: Places = {
    "vocab_size": (("bert/embeddings/word_embeddings", 0),),
    "embedding_size": (("bert/embeddings/word_embeddings", 1),),
    "hidden_size": (("bert/encoder/layer_0/attention/self/query/kernel", 0),),
    "max_position_embeddings": (("bert/embeddings/position_embeddings", 0),),
    "type_vocab_size": (("bert/embeddings/token_type_embeddings", 0),),
    "intermediate_size": (("bert/encoder/layer_0/intermediate/dense/kernel", 1),),
    "output_size": (("cls/squad/output_weights", 1),),
}
PLACES = {"mobilebert": _MOBILEBERT, "bert": _BERT, "distilbert": _BERT}
_LAYER = re.compile(r"bert/encoder/layer_([0-9]{1,4})/(?:ffn_layer_([0-9]{1,4})/)?")


def told_by_shapes(tensors: Mapping[str, np.ndarray], family: str = "mobilebert") -> dict[str, int]:
    """Published key -> size, for every size that the variables tell; the number of heads is never among them.

    Raises:
        InputError: the shapes are those of a variant of MobileBERT that this kit does not build.
    """
    told = {}
    for key, places in PLACES[family].items():
        for name, axis in places:
            if name in tensors and len(tensors[name].shape) == 2:
                told[key] = int(tensors[name].shape[axis])
                break
    numbers = [match.groups() for name in tensors if (match := _LAYER.match(name))]
    if numbers:
        told["num_hidden_layers"] = 1 + max(int(layer) for layer, _ in numbers)
    if PLACES[family] is _MOBILEBERT:
        if numbers:
            told["num_feedforward_networks"] = 1 + max(1 + int(ffn) if ffn else 0 for _, ffn in numbers)
        _refuse_variants(tensors, told, bool(numbers))
    return told


def _refuse_variants(tensors: Mapping[str, np.ndarray], told: dict[str, int], layers: bool) -> None:
    def inputs(name: str) -> int | None:
        return int(tensors[name].shape[0]) if name in tensors else None

    def has(scope: str) -> bool:
        return any(f"/{scope}/" in name for name in tensors)

    hidden, width = told.get("hidden_size"), told.get("intra_bottleneck_size")
    attention = "bert/encoder/layer_0/attention/self"
    wrong = None
    if layers and not has("bottleneck/input") and not has("output/bottleneck"):
        wrong = "use_bottleneck true", "no bottleneck variables"
    elif layers and not has("bottleneck/attention") and inputs(f"{attention}/value/kernel") == width:
        wrong = "use_bottleneck_attention false", "a value projection from the bottleneck"
    elif layers and not has("bottleneck/attention"):
        wrong = "key_query_shared_bottleneck true", "no bottleneck/attention variables"
    elif width != hidden and width is not None and inputs(f"{attention}/value/kernel") == width:
        wrong = "use_bottleneck_attention false", f"a value projection from the bottleneck ({width} inputs)"
    elif inputs("bert/embeddings/embedding_transformation/kernel") == told.get("embedding_size", -1):
        wrong = "trigram_input true", "an embedding_transformation of one token's embedding"
    if wrong:
        raise InputError(f"Expected a MobileBERT with {wrong[0]}, got {wrong[1]} in the checkpoint.")
