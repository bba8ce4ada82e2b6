"""What int8 rounds in a model, tensor by tensor, and the groups that a reader knows.

A tensor has several observation points: where it is made, and `/input` of each layer that reads it. A recipe
keeps it in float only where all of them are; so all are one `RoundedTensor`, named by where it is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mobilebert_kit.checkpoints.names import LAYER
from mobilebert_kit.models.config import BertConfig, MobileBertConfig, ModelConfig
from mobilebert_kit.quantize.recipes import Recipe
from mobilebert_kit.quantize.trained_ranges import shared_tensors


@dataclass(frozen=True)
class Group:
    """`patterns` (fnmatch) are over the names of tensors; a tensor is of the first group that takes it."""

    name: str
    meaning: str
    patterns: tuple[str, ...]


WEIGHTS = Group(
    "weights",
    "kernels, one scale for each output",
    ("*/kernel", "*/output_weights", "*/gamma", "*/beta"),
)
GROUPS = (
    WEIGHTS,
    Group("embeddings", "word rows, their sums, the first hidden state", ("bert/embeddings/*",)),
    Group("mask", "the mask, before it meets the scores", ("mask/*",)),
    Group(
        "hidden states",
        "output bottleneck: each layer's result, and the terms of its sum",
        ("*/output/bottleneck/*",),
    ),
    Group("bottleneck", "input bottlenecks: what attention and feed-forwards work on", ("*/bottleneck/*",)),
    Group(
        "query, key, value",
        "of attention",
        ("*/self/query*", "*/self/key*", "*/self/value*"),
    ),
    Group("scores", "query times key, masked, to the probabilities", ("*scores*", "*/probabilities")),
    Group("context", "probabilities times value", ("*/context", "*/row_context")),
    Group(
        "feed-forward",
        "the wide layers, before and behind the activation",
        ("*intermediate/dense*", "*/output/dense/input"),
    ),
    Group(
        "residual sums",
        "behind attention and feed-forwards, and the terms",
        ("*/FakeLayerNorm*", "*/LayerNorm", "*/output/dense"),
    ),
    Group("head", "the logits", ("cls/*", "bert/encoder/output_transformation*")),
)


@dataclass(frozen=True)
class RoundedTensor:
    """A tensor that the recipe rounds, at each of `points`; a kernel has none."""

    name: str
    points: tuple[str, ...] = ()

    @property
    def group(self) -> Group:
        return next(g for g in GROUPS if any(fnmatchcase(self.name, p) for p in g.patterns))


def rounded_tensors(config: ModelConfig, recipe: Recipe, points: Iterable[str]) -> list[RoundedTensor]:
    """The activations that `recipe` rounds, of the observation points of a model, in their order."""
    maker = made_at(config)
    found: dict[str, list[str]] = {}
    for point in filter(recipe.quantizes, points):
        found.setdefault(maker.get(point, point), []).append(point)
    return [RoundedTensor(name, tuple(names)) for name, names in found.items()]


def made_at(config: ModelConfig) -> dict[str, str]:
    """Observation point -> the point at which its tensor is made, where that is another."""
    return _MADE_AT[type(config)](config)


def _made_in_mobilebert(config: MobileBertConfig) -> dict[str, str]:
    last = LAYER.format(layer=config.num_hidden_layers - 1)
    known = {"cls/squad/input": f"{last}output/bottleneck/FakeLayerNorm"}
    # The clip's two ends share a range, but are two tensors.
    shared = [tensor.points for tensor in shared_tensors(config) if "scores" not in tensor.points[0]]
    return known | {point: points[0] for points in shared for point in points}


def _made_in_bert(config: BertConfig) -> dict[str, str]:
    """What feed-forwards read is a tensor of its own: equalization scales its channels."""
    narrowed, widened = "bert/embeddings/embedding_transformation", "bert/encoder/output_transformation"
    hidden, made = "bert/embeddings/LayerNorm", {}
    if config.embedding_size != config.hidden_size:
        made[f"{narrowed}/input"] = hidden
        hidden = narrowed
    for layer in range(config.num_hidden_layers):
        scope = LAYER.format(layer=layer)
        made |= {f"{scope}attention/self/{x}/input": hidden for x in ("query", "key", "value")}
        made[f"{scope}attention/output/dense/input"] = f"{scope}attention/self/context"
        hidden = f"{scope}output/LayerNorm"
    if config.output_size != config.hidden_size:
        made[f"{widened}/input"] = hidden
        hidden = widened
    return made | {"cls/squad/input": hidden}


_MADE_AT: dict[type, Callable[..., dict[str, str]]] = {
    MobileBertConfig: _made_in_mobilebert,
    BertConfig: _made_in_bert,
}


def layer_of(name: str) -> int | None:
    """The number of the encoder layer that a tensor is in; None for embeddings, mask and head."""
    found = re.match(r"bert/encoder/layer_(\d+)/", name)
    return int(found[1]) if found else None
