"""The configuration of a checkpoint's model, whichever family it is of: who has the last word on each key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mobilebert_kit.checkpoints.family import family_of_settings, family_of_variables
from mobilebert_kit.errors import InputError
from mobilebert_kit.json_files import read_json_object
from mobilebert_kit.models.bert_config import BertConfig
from mobilebert_kit.models.mobilebert_config import ACTIVATIONS, MASKS, SIZES, MobileBertConfig
from mobilebert_kit.models.shapes import told_by_shapes

__all__ = ["ACTIVATIONS", "SIZES", "BertConfig", "MobileBertConfig", "ModelConfig", "resolve_config"]

ModelConfig = MobileBertConfig | BertConfig
# What has no checkpoint's say: pre-QAT modeling.py is additive and so is transformers. The commit that the
# published SavedModels name has the multiplicative code on its float path too.
DEFAULT_MASK = {"tf1": "additive", "huggingface": "additive", "saved_model": "multiplicative"}
QUANTIZED_SCORE_CLIP = (-6.0, 60.0)  # modeling.py with use_quantized_training


def resolve_config(
    settings: Mapping[str, Any] | None,
    tensors: Mapping[str, np.ndarray],
    checkpoint_format: str,
    config_file: str | None = None,
    activation: str | None = None,
    mask: str | None = None,
    *,
    quantized: bool = False,
    hints: Mapping[str, str] | None = None,
) -> ModelConfig:
    """The model's configuration, from the strongest word on each key.

    Family: the configuration's model_type or keys, else the names of `tensors`. Sizes: `config_file`, else
    `settings`, else (MobileBERT) the shapes.

    Of a MobileBERT alone. Activation: `activation`, else the configuration, else the graph (`hints`), else
    relu6 for a quantized checkpoint and relu for others. Mask: `mask`, else the configuration's
    `mask_semantics`, else `hints`, else by format (DEFAULT_MASK; a quantized checkpoint is multiplicative,
    and clips scores to [-6, 60] unless `score_clip` says otherwise). BERT has one mask, and its activation is
    in its configuration.

    Args:
        settings, tensors, checkpoint_format, quantized, hints: of the `Checkpoint`.
        config_file, activation, mask: the flags --config, --activation (relu|relu6), --mask
            (additive|multiplicative); None where not given.
    Raises:
        InputError: an unsupported variant, an unknown word, a flag that the family does not have, or a
            configuration that contradicts the weights.
    """
    for flag, value, choices in (("--activation", activation, ACTIVATIONS), ("--mask", mask, MASKS)):
        if value is not None and value not in choices:
            raise InputError(f"Expected {flag} to be {' or '.join(choices)}, got {value!r}.")
    if checkpoint_format not in DEFAULT_MASK:
        raise InputError(
            f"Expected a checkpoint format of {sorted(DEFAULT_MASK)}, got {checkpoint_format!r}."
        )
    source = config_file or "the configuration beside the checkpoint"
    raw = read_json_object(config_file, "a model configuration") if config_file else settings
    told = family_of_variables(tensors)
    family = (None if raw is None else family_of_settings(raw, source)) or told
    if family != told and "mobilebert" in (family, told):
        raise InputError(
            f"Expected a configuration of this checkpoint, whose variables are of a {told}, got one of a "
            f"{family} in {source}."
        )
    evidence = _Evidence(
        family,
        raw,
        source,
        # transformers' meaning of the keys and their defaults, else that of Google's configurations
        huggingface=raw is not None
        and ("model_type" in raw or (checkpoint_format == "huggingface" and not config_file)),
        tensors=tensors,
        hints=hints or {},
        default_mask="multiplicative" if quantized else DEFAULT_MASK[checkpoint_format],
        quantized=quantized,
    )
    return _RESOLVERS[family](evidence, activation, mask)


@dataclass(frozen=True)
class _Evidence:
    """All that tells of the configuration, but for the flags --activation and --mask."""

    family: str
    raw: Mapping[str, Any] | None
    source: str
    huggingface: bool
    tensors: Mapping[str, np.ndarray]
    hints: Mapping[str, str]
    default_mask: str
    quantized: bool

    def read(self, kind: type[ModelConfig]) -> ModelConfig:
        """The configuration as it is written."""
        raw = {"model_type": self.family, **self.raw} if self.huggingface else self.raw
        return (kind.from_huggingface if self.huggingface else kind.from_published)(raw, source=self.source)

    def prove(self, config: ModelConfig, told: Mapping[str, Any]) -> None:
        """InputError where `config` contradicts the shapes, or what else is `told` of it."""
        told = {**told_by_shapes(self.tensors, self.family), **told}
        wrong = [
            f"{key}: the configuration says {getattr(config, key)}, the checkpoint {value}"
            for key, value in told.items()
            if getattr(config, key) != value
        ]
        if wrong:
            lines = "".join(f"\n    {line}" for line in wrong)
            raise InputError(
                f"Expected a configuration of this checkpoint, got another one in {self.source}:{lines}"
            )


def _resolve_mobilebert(known: _Evidence, activation: str | None, mask: str | None) -> MobileBertConfig:
    raw = known.raw or {}
    if known.raw is None:
        told_act = known.hints.get("hidden_act", "relu6" if known.quantized else "relu")
        config = replace(MobileBertConfig.from_shapes(known.tensors), hidden_act=told_act)
    else:
        config = known.read(MobileBertConfig)
        told = {}
        if activation is None and (known.quantized or "hidden_act" in known.hints):
            # Quantized training requires relu6 (modeling.py), so its weights tell the activation.
            told["hidden_act"] = "relu6" if known.quantized else known.hints["hidden_act"]
        known.prove(config, told)
    semantics = mask or raw.get("mask_semantics") or known.hints.get("mask_semantics") or known.default_mask
    clip = config.score_clip
    if clip is None and "score_clip" not in raw and known.quantized and semantics == "multiplicative":
        clip = QUANTIZED_SCORE_CLIP
    if mask == "additive":
        clip = None  # it would cut -10000 down to the masked score of the other semantics
    return replace(
        config, hidden_act=activation or config.hidden_act, mask_semantics=semantics, score_clip=clip
    )


def _resolve_bert(known: _Evidence, activation: str | None, mask: str | None) -> BertConfig:
    if activation is not None:
        raise InputError(
            f"Expected no --activation for a {known.family}, got {activation}: only a MobileBERT takes it. "
            "Set hidden_act in its configuration."
        )
    if mask == "multiplicative":
        raise InputError(f"Expected --mask additive for a {known.family}, which has no other, got {mask}.")
    if known.raw is None:
        raise InputError(
            f"Expected the configuration of a {known.family} beside the checkpoint, got none: its variables "
            "tell neither the number of heads nor the activation. Give its config.json or bert_config.json "
            "with --config."
        )
    config = known.read(BertConfig)
    known.prove(config, {key: value for key, value in known.hints.items() if key == "hidden_act"})
    return config


_RESOLVERS: dict[str, Callable[[_Evidence, str | None, str | None], ModelConfig]] = {
    "mobilebert": _resolve_mobilebert,
    "bert": _resolve_bert,
    "distilbert": _resolve_bert,
}
