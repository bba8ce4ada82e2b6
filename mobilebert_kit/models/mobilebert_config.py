"""Size and arithmetic of a MobileBERT: the published keys, and the variables that they imply.

Sources: google-research/mobilebert, modeling.py (BertConfig) and its configuration
uncased_L-24_H-128_B-512_A-4_F-4_OPT.json; transformers, models/mobilebert/configuration_mobilebert.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mobilebert_kit.errors import InputError
from mobilebert_kit.models.config_keys import check_divides, check_size, check_variant, check_word
from mobilebert_kit.models.shapes import told_by_shapes

ACTIVATIONS = ("relu", "relu6")
MASKS = ("additive", "multiplicative")
MASK_VALUES = {"additive": -10000.0, "multiplicative": -6.0}  # what a masked score gets, in each semantics
PUBLISHED_HEADS = 4

# Size: the largest that is taken (so that a wrong file cannot stall the kit), transformers' default.
SIZES: dict[str, tuple[int, int]] = {
    "vocab_size": (2**24, 30522),
    "embedding_size": (2**16, 128),
    "hidden_size": (2**16, 512),
    "num_hidden_layers": (512, 24),
    "num_attention_heads": (2**10, 4),
    "intra_bottleneck_size": (2**16, 128),
    "intermediate_size": (2**16, 512),
    "num_feedforward_networks": (64, 4),
    "max_position_embeddings": (2**20, 512),
    "type_vocab_size": (2**16, 2),
}
# Variant: what this kit builds, the default in modeling.py, the default in transformers.
VARIANTS: dict[str, tuple[Any, Any, Any]] = {
    "normalization_type": ("no_norm", "layer_norm", "no_norm"),
    "trigram_input": (True, False, True),
    "use_bottleneck": (True, False, True),
    "use_bottleneck_attention": (False, False, False),
    "key_query_shared_bottleneck": (True, False, True),
}


@dataclass(frozen=True)
class MobileBertConfig:
    """The published keys, the mask semantics, and the clip of attention scores (None: no clip).

    mask_semantics: "additive" is scores + (1 - mask) * -10000; "multiplicative" is
    scores * mask + (1 - mask) * -6, after which quantized training clips to `score_clip`.
    Raises InputError on values that no MobileBERT has.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intra_bottleneck_size: int
    intermediate_size: int
    num_feedforward_networks: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_act: str = "relu"
    mask_semantics: str = "additive"
    score_clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for key, (largest, _) in SIZES.items():
            check_size(key, getattr(self, key), largest)
        check_word("hidden_act", self.hidden_act, ACTIVATIONS)
        check_word("mask_semantics", self.mask_semantics, MASKS)
        heads = self.num_attention_heads
        check_divides("num_attention_heads", heads, "intra_bottleneck_size", self.intra_bottleneck_size)
        if self.score_clip is not None:
            object.__setattr__(self, "score_clip", _checked_clip(self.score_clip))

    @property
    def family(self) -> str:
        """A word for messages and file names."""
        return "mobilebert"

    @property
    def has_segments(self) -> bool:
        """Whether the model reads segment_ids."""
        return True

    @property
    def attention_head_size(self) -> int:
        return self.intra_bottleneck_size // self.num_attention_heads

    @property
    def mask_value(self) -> float:
        """What padding adds to (additive) or puts in place of (multiplicative) an attention score."""
        return MASK_VALUES[self.mask_semantics]

    @property
    def parameter_count(self) -> int:
        """Number of weights, the question-answering head included."""
        return sum(math.prod(shape) for shape in self.variable_shapes().values())

    @classmethod
    def from_published(cls, raw: Mapping[str, Any], *, source: str = "the configuration") -> MobileBertConfig:
        """From the JSON of google-research/mobilebert (or `to_dict`); training's keys are ignored.

        Raises:
            InputError: a key is absent, or asks for a variant that this kit does not build.
        """
        absent = [key for key in (*SIZES, "hidden_act") if key not in raw]
        if absent:
            raise InputError(
                f"Expected {', '.join(absent)} in {source}, got none. Is it a MobileBERT configuration?"
            )
        _check_variant(raw, {key: google for key, (_, google, _) in VARIANTS.items()}, source)
        return cls._of(raw, {key: raw[key] for key in SIZES}, raw["hidden_act"], source)

    @classmethod
    def from_huggingface(
        cls, raw: Mapping[str, Any], *, source: str = "the configuration"
    ) -> MobileBertConfig:
        """From a config.json of transformers, whose defaults hold for absent keys.

        Raises:
            InputError: another model_type, or a variant that this kit does not build.
        """
        model_type = raw.get("model_type", "mobilebert")
        if model_type != "mobilebert":
            raise InputError(f"Expected model_type mobilebert in {source}, got {model_type!r:.80}.")
        _check_variant(raw, {key: theirs for key, (_, _, theirs) in VARIANTS.items()}, source)
        sizes = {key: raw.get(key, default) for key, (_, default) in SIZES.items()}
        # transformers derives it: with bottlenecks, attention works at the bottleneck's width.
        true_hidden_size = raw.get("true_hidden_size", sizes["intra_bottleneck_size"])
        if true_hidden_size != sizes["intra_bottleneck_size"]:
            raise InputError(
                "Expected true_hidden_size to be intra_bottleneck_size "
                f"({sizes['intra_bottleneck_size']!r:.80}) in "
                f"{source}, got {true_hidden_size!r:.80}."
            )
        return cls._of(raw, sizes, raw.get("hidden_act", "relu"), source)

    @classmethod
    def from_shapes(cls, tensors: Mapping[str, np.ndarray]) -> MobileBertConfig:
        """From the shapes of the canonical variables: all but the heads (4, as published) and the activation.

        Raises:
            InputError: a variable that tells a size is absent, the shapes are those of another variant, or 4
                heads do not divide the bottleneck: then a configuration must be given.
        """
        told = told_by_shapes(tensors)
        untold = [key for key in SIZES if key not in told and key != "num_attention_heads"]
        if untold:
            raise InputError(
                f"Expected the variables of a MobileBERT, got none that tells {', '.join(untold)}. The "
                "checkpoint is "
                "incomplete, or of another model."
            )
        width = told["intra_bottleneck_size"]
        if width % PUBLISHED_HEADS:
            raise InputError(
                f"Expected a bottleneck that {PUBLISHED_HEADS} attention heads (the published number) "
                "divide, got "
                f"{width}. Give the model's configuration with --config."
            )
        return cls(num_attention_heads=PUBLISHED_HEADS, **told)

    @classmethod
    def _of(
        cls, raw: Mapping[str, Any], sizes: dict[str, Any], hidden_act: Any, source: str
    ) -> MobileBertConfig:
        mask = raw.get("mask_semantics", "additive")
        try:
            return cls(**sizes, hidden_act=hidden_act, mask_semantics=mask, score_clip=raw.get("score_clip"))
        except InputError as error:
            raise InputError(f"{error} Where: {source}.") from error

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the variant keys, so that `from_published` reads it back."""
        clip = list(self.score_clip) if self.score_clip else None
        return {**asdict(self), "score_clip": clip, **{key: built for key, (built, _, _) in VARIANTS.items()}}

    def variable_shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every variable, in the order of the forward pass."""
        hidden, width, inner = self.hidden_size, self.intra_bottleneck_size, self.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {}

        def dense(scope: str, inputs: int, outputs: int) -> None:
            shapes[f"{scope}/kernel"], shapes[f"{scope}/bias"] = (inputs, outputs), (outputs,)

        def norm(scope: str, size: int) -> None:
            shapes[f"{scope}/FakeLayerNorm/gamma"] = shapes[f"{scope}/FakeLayerNorm/beta"] = (size,)

        def block(scope: str, inputs: int, outputs: int) -> None:
            dense(f"{scope}/dense", inputs, outputs)
            norm(scope, outputs)

        shapes["bert/embeddings/word_embeddings"] = (self.vocab_size, self.embedding_size)
        dense("bert/embeddings/embedding_transformation", 3 * self.embedding_size, hidden)
        shapes["bert/embeddings/token_type_embeddings"] = (self.type_vocab_size, hidden)
        shapes["bert/embeddings/position_embeddings"] = (self.max_position_embeddings, hidden)
        norm("bert/embeddings", hidden)
        for layer in range(self.num_hidden_layers):
            scope = f"bert/encoder/layer_{layer}"
            block(f"{scope}/bottleneck/input", hidden, width)
            block(f"{scope}/bottleneck/attention", hidden, width)
            dense(f"{scope}/attention/self/query", width, width)
            dense(f"{scope}/attention/self/key", width, width)
            dense(f"{scope}/attention/self/value", hidden, width)
            block(f"{scope}/attention/output", width, width)
            networks = [f"{scope}/ffn_layer_{i}" for i in range(self.num_feedforward_networks - 1)]
            for network in [*networks, scope]:
                dense(f"{network}/intermediate/dense", width, inner)
                block(f"{network}/output", inner, width)
            block(f"{scope}/output/bottleneck", width, hidden)
        shapes["cls/squad/output_weights"], shapes["cls/squad/output_bias"] = (2, hidden), (2,)
        return shapes


def _check_variant(raw: Mapping[str, Any], defaults: Mapping[str, Any], source: str) -> None:
    built = {key: value for key, (value, _, _) in VARIANTS.items()}
    check_variant(raw, built, defaults, f"a MobileBERT of the published structure in {source}")


def _checked_clip(value: Any) -> tuple[float, float]:
    ends = tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(ends) != 2 or not all(type(end) in (int, float) and math.isfinite(end) for end in ends):
        raise InputError(f"Expected score_clip to be two finite numbers or null, got {value!r:.80}.")
    if not ends[0] < 0 < ends[1]:
        raise InputError(f"Expected score_clip to hold 0 between its ends, got {list(ends)}.")
    return float(ends[0]), float(ends[1])
