"""A family's names as data: Hugging Face <-> canonical, row by row.

`{layer}` and `{ffn}` stand for a number without leading zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

LAYER = "bert/encoder/layer_{layer}/"
NUMBER = r"(0|[1-9][0-9]{0,3})"

# A module's leaves: torch's, TensorFlow's, transposed? A torch Linear stores [out, in], TensorFlow [in, out].
Leaves = tuple[tuple[str, str, bool], ...]
DENSE: Leaves = (("weight", "kernel", True), ("bias", "bias", False))
NORM: Leaves = (("weight", "gamma", False), ("bias", "beta", False))
TABLE: Leaves = (("weight", "", False),)
# pytorch-pretrained-BERT, of 2018 and 2019, kept TensorFlow's names here.
FORMER_LEAVES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


class Rule(NamedTuple):
    """One row of the bijection; `transpose` is from the Hugging Face tensor to the canonical one."""

    huggingface: str
    canonical: str
    transpose: bool


PRETRAINING_HEADS = (
    "cls.predictions.bias",
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
    "cls.predictions.transform.dense.weight",
    "cls.predictions.transform.dense.bias",
    "cls.predictions.transform.LayerNorm.weight",
    "cls.predictions.transform.LayerNorm.bias",
    "cls.seq_relationship.weight",
    "cls.seq_relationship.bias",
)
# The published head multiplies by the transposed table, so that both store [2, hidden].
HEAD = (
    Rule("qa_outputs.weight", "cls/squad/output_weights", False),
    Rule("qa_outputs.bias", "cls/squad/output_bias", False),
)


@dataclass(frozen=True)
class NameTable:
    """The names of one family.

    Attributes:
        title: the family as its authors write it.
        rules: a row for every variable.
        unused: Hugging Face names that a checkpoint may have besides: other heads, buffers.
    """

    title: str
    rules: tuple[Rule, ...]
    unused: frozenset[str]

    @cached_property
    def _huggingface(self) -> tuple[tuple[re.Pattern[str], Rule], ...]:
        return tuple((_pattern(rule.huggingface), rule) for rule in self.rules)

    @cached_property
    def _canonical(self) -> tuple[tuple[re.Pattern[str], Rule], ...]:
        return tuple((_pattern(rule.canonical), rule) for rule in self.rules)

    def from_huggingface(self, name: str) -> tuple[str, bool] | None:
        """(canonical name, whether to transpose) of a Hugging Face name; None where no model has it."""
        for pattern, rule in self._huggingface:
            if match := pattern.fullmatch(name):
                return rule.canonical.format(**match.groupdict()), rule.transpose
        return None

    def to_huggingface(self, name: str) -> tuple[str, bool] | None:
        """(Hugging Face name, whether to transpose) of a canonical name; None where no model has it."""
        for pattern, rule in self._canonical:
            if match := pattern.fullmatch(name):
                return rule.huggingface.format(**match.groupdict()), rule.transpose
        return None

    def is_canonical(self, name: str) -> bool:
        """Whether a model of some size, with its question-answering head, has a variable of that name."""
        return self.to_huggingface(name) is not None


def rules(modules: Iterable[tuple[str, str, Leaves]]) -> tuple[Rule, ...]:
    """The rows of modules, (Hugging Face scope, canonical scope, leaves) each, and of the head."""
    return (
        *(
            Rule(f"{theirs}.{leaf}", f"{canonical}/{canonical_leaf}".rstrip("/"), transpose)
            for theirs, canonical, leaves in modules
            for leaf, canonical_leaf, transpose in leaves
        ),
        *HEAD,
    )


def modern(name: str) -> str:
    """Today's Hugging Face name of a tensor that may have a former one."""
    for former, today in FORMER_LEAVES.items():
        if name.endswith(f".{former}"):
            return name.removesuffix(former) + today
    return name


def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template)
    for field in ("layer", "ffn"):
        text = text.replace(re.escape("{" + field + "}"), f"(?P<{field}>{NUMBER})")
    return re.compile(text)
