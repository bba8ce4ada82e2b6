"""Size and arithmetic of a BERT or a DistilBERT: the published keys, and the variables that they imply.

Sources: google-research/bert, modeling.py; transformers, models/bert/configuration_bert.py and
models/distilbert/configuration_distilbert.py. `embedding_size` and `output_size` are this kit's own keys: the
small BERT of the OpenVINO zoo (bert-small-uncased-whole-word-masking-squad-0001) has embeddings of 1024, a
dense layer down to an encoder of 512, and one back up to the 1024 that its head reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mobilebert_kit.errors import InputError
from mobilebert_kit.models.config_keys import check_divides, check_size, check_variant, check_word

FAMILIES = ("bert", "distilbert")
# "gelu" is exact, x * (1 + erf(x / sqrt 2)) / 2; "gelu_tanh" is Hendrycks' approximation of it.
ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
MASK_VALUE = -10000.0  # modeling.py: (1 - mask) * -10000 is added to the scores
LAYER_NORM_EPS = 1e-12  # modeling.py, and transformers' default; DistilBERT has no key for it

# Size: the largest that is taken (so that a wrong file cannot stall the kit), and transformers' defaults for
# BERT and DistilBERT.
SIZES: dict[str, tuple[int, int, int]] = {
    "vocab_size": (2**24, 30522, 30522),
    "hidden_size": (2**16, 768, 768),
    "num_hidden_layers": (512, 12, 6),
    "num_attention_heads": (2**10, 12, 12),
    "intermediate_size": (2**16, 3072, 3072),
    "max_position_embeddings": (2**20, 512, 512),
    "type_vocab_size": (2**16, 2, 0),  # 0: no segments
}
WIDTHS = ("embedding_size", "output_size")  # hidden_size where they are absent
DISTILBERT_KEYS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
}
# What transformers does not read of a DistilBERT's configuration, and takes to be so.
DISTILBERT_FIXED = {"type_vocab_size": 0, "layer_norm_eps": LAYER_NORM_EPS}
# transformers' word -> ours (activations.py, ACT2FN). One function has several names there.
HUGGINGFACE_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
    "relu": "relu",
}
# Google's "gelu" is the approximation (modeling.py, commit bee6030 of 2019 and since); at first it was exact.
GOOGLE_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu"}
# What this kit builds; the default of both, too.
VARIANTS: dict[str, Any] = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
}


@dataclass(frozen=True)
class BertConfig:
    """The published keys. Raises InputError on values that no BERT has.

    model_type: "bert" or "distilbert". type_vocab_size: 0 where the model has no segments (DistilBERT).
    embedding_size, output_size: the widths of the embeddings and of what the head reads; each has a dense
    layer between it and the encoder where it is not hidden_size.
    """

    model_type: str
    vocab_size: int
    embedding_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    output_size: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = LAYER_NORM_EPS

    def __post_init__(self) -> None:
        check_word("model_type", self.model_type, FAMILIES)
        for key, (largest, *_) in SIZES.items():
            check_size(key, getattr(self, key), largest, least=0 if key == "type_vocab_size" else 1)
        for key in WIDTHS:
            check_size(key, getattr(self, key), SIZES["hidden_size"][0])
        check_divides("num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size)
        check_word("hidden_act", self.hidden_act, ACTIVATIONS)
        eps = self.layer_norm_eps
        if type(eps) not in (int, float) or not 0 <= eps <= 1:
            raise InputError(f"Expected layer_norm_eps to be a number from 0 to 1, got {eps!r:.80}.")
        if self.model_type == "distilbert" and self.type_vocab_size:
            raise InputError(
                f"Expected type_vocab_size 0 for a DistilBERT, which has no segments, got "
                f"{self.type_vocab_size}."
            )

    @property
    def family(self) -> str:
        """A word for messages and file names."""
        return self.model_type

    @property
    def has_segments(self) -> bool:
        """Whether the model reads segment_ids."""
        return self.type_vocab_size > 0

    @property
    def attention_head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def mask_semantics(self) -> str:
        """Always "additive": scores + (1 - mask) * -10000."""
        return "additive"

    @property
    def mask_value(self) -> float:
        """What padding adds to an attention score."""
        return MASK_VALUE

    @property
    def score_clip(self) -> None:
        """BERT does not clip attention scores."""
        return None

    @property
    def parameter_count(self) -> int:
        """Number of weights, the question-answering head included."""
        return sum(math.prod(shape) for shape in self.variable_shapes().values())

    @classmethod
    def from_published(cls, raw: Mapping[str, Any], *, source: str = "the configuration") -> BertConfig:
        """From Google's bert_config.json, which has no model_type; training's keys are ignored.

        Raises:
            InputError: a key is absent, or asks for what this kit does not build.
        """
        absent = [key for key in (*SIZES, "hidden_act") if key not in raw]
        if absent:
            raise InputError(
                f"Expected {', '.join(absent)} in {source}, got none. Is it a BERT configuration?"
            )
        return cls._of({**raw, "model_type": "bert"}, GOOGLE_ACTIVATIONS, source)

    @classmethod
    def from_huggingface(cls, raw: Mapping[str, Any], *, source: str = "the configuration") -> BertConfig:
        """From a config.json of transformers (or `to_dict`); transformers' defaults hold for absent keys.

        A DistilBERT's sinusoidal_pos_embds says how its table was made; the table is stored all the same.

        Raises:
            InputError: another model_type, or a variant that this kit does not build.
        """
        return cls._of(raw, HUGGINGFACE_ACTIVATIONS, source)

    @classmethod
    def _of(cls, raw: Mapping[str, Any], activations: Mapping[str, str], source: str) -> BertConfig:
        family = raw.get("model_type", "bert")
        try:
            check_word("model_type", family, FAMILIES)
            if family == "distilbert":
                raw = {DISTILBERT_KEYS.get(key, key): value for key, value in raw.items()} | DISTILBERT_FIXED
            check_variant(raw, VARIANTS, VARIANTS, "a BERT of the published structure")
            activation = raw.get("hidden_act", "gelu")
            check_word("hidden_act", activation, tuple(activations))
            default = 1 + FAMILIES.index(family)
            sizes = {key: raw.get(key, choices[default]) for key, choices in SIZES.items()}
            widths = {key: raw.get(key, sizes["hidden_size"]) for key in WIDTHS}
            eps = raw.get("layer_norm_eps", LAYER_NORM_EPS)
            return cls(family, **sizes, **widths, hidden_act=activations[activation], layer_norm_eps=eps)
        except InputError as error:
            raise InputError(f"{error} Where: {source}.") from error

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, so that `from_huggingface` reads it back."""
        return asdict(self)

    def variable_shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every variable, in the order of the forward pass."""
        embedding, hidden, inner = self.embedding_size, self.hidden_size, self.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {}

        def dense(scope: str, inputs: int, outputs: int) -> None:
            shapes[f"{scope}/kernel"], shapes[f"{scope}/bias"] = (inputs, outputs), (outputs,)

        def norm(scope: str, size: int) -> None:
            shapes[f"{scope}/LayerNorm/gamma"] = shapes[f"{scope}/LayerNorm/beta"] = (size,)

        shapes["bert/embeddings/word_embeddings"] = (self.vocab_size, embedding)
        if self.has_segments:
            shapes["bert/embeddings/token_type_embeddings"] = (self.type_vocab_size, embedding)
        shapes["bert/embeddings/position_embeddings"] = (self.max_position_embeddings, embedding)
        norm("bert/embeddings", embedding)
        if embedding != hidden:
            dense("bert/embeddings/embedding_transformation", embedding, hidden)
        for layer in range(self.num_hidden_layers):
            scope = f"bert/encoder/layer_{layer}"
            for projection in ("query", "key", "value"):
                dense(f"{scope}/attention/self/{projection}", hidden, hidden)
            dense(f"{scope}/attention/output/dense", hidden, hidden)
            norm(f"{scope}/attention/output", hidden)
            dense(f"{scope}/intermediate/dense", hidden, inner)
            dense(f"{scope}/output/dense", inner, hidden)
            norm(f"{scope}/output", hidden)
        if self.output_size != hidden:
            dense("bert/encoder/output_transformation", hidden, self.output_size)
        shapes["cls/squad/output_weights"] = (2, self.output_size)
        shapes["cls/squad/output_bias"] = (2,)
        return shapes
