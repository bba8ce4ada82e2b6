"""Tensor contracts: what a question-answering model calls its inputs and outputs, in which order.

The MLPerf Mobile app (mlcommons/mobile_app_open, flutter/cpp/datasets/squad.cc) reads the outputs of a
.tflite file by position, so the order here is part of the contract: output 0 is the END logits. The kit
itself binds by name, never by position. Inside the kit every tensor has one name, its own; a contract says
what the files of an export call it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

SIGNATURE_KEY = "serving_default"  # what runtimes and apps look for where none is named
SEGMENTS = "segment_ids"  # the input that not every family has


@dataclass(frozen=True)
class TensorSpec:
    """One tensor.

    Attributes:
        name: in the signature.
        dtype: numpy's name ("int32", "float32").
        own_name: the kit's own name for it, a key of ALIASES.
    """

    name: str
    dtype: str
    own_name: str

    def shape(self, sequence_length: int) -> tuple[int, int]:
        """(1, sequence_length): a batch of one window."""
        return (1, sequence_length)


@dataclass(frozen=True)
class Contract:
    """The signature of a model; `inputs` and `outputs` are in the order that a .tflite file must have."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    signature_key: str = SIGNATURE_KEY

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.outputs)

    @property
    def has_segments(self) -> bool:
        return any(spec.own_name == SEGMENTS for spec in self.inputs)

    def for_model(self, *, has_segments: bool) -> Contract:
        """This contract as a model keeps it that reads segment_ids, or (a DistilBERT) has no such input."""
        kept = tuple(spec for spec in self.inputs if has_segments or spec.own_name != SEGMENTS)
        return replace(self, inputs=kept)


# The kit's own names are this contract's.
MLPERF = Contract(
    name="mlperf",
    inputs=(
        TensorSpec("input_ids", "int32", "input_ids"),
        TensorSpec("input_mask", "int32", "input_mask"),
        TensorSpec("segment_ids", "int32", "segment_ids"),
    ),
    outputs=(
        TensorSpec("end_logits", "float32", "end_logits"),
        TensorSpec("start_logits", "float32", "start_logits"),
    ),
)
# Open Model Zoo, bert-small-uncased-whole-word-masking-squad-0001 and its siblings, as its README lists them.
OPENVINO = Contract(
    name="openvino",
    inputs=(
        TensorSpec("input_ids", "int32", "input_ids"),
        TensorSpec("attention_mask", "int32", "input_mask"),
        TensorSpec("token_type_ids", "int32", "segment_ids"),
    ),
    outputs=(
        TensorSpec("output_s", "float32", "start_logits"),
        TensorSpec("output_e", "float32", "end_logits"),
    ),
)
# TensorFlow Lite Task Library, BertQuestionAnswerer (bert_question_answerer.cc): it reads a file without
# metadata by position, in this order; one with metadata by the names in it, which are these.
TASK_LIBRARY = Contract(
    name="task_library",
    inputs=(
        TensorSpec("ids", "int32", "input_ids"),
        TensorSpec("mask", "int32", "input_mask"),
        TensorSpec("segment_ids", "int32", "segment_ids"),
    ),
    outputs=(
        TensorSpec("end_logits", "float32", "end_logits"),
        TensorSpec("start_logits", "float32", "start_logits"),
    ),
)

CONTRACTS = {contract.name: contract for contract in (MLPERF, OPENVINO, TASK_LIBRARY)}

# What models that others made call the same tensors, the kit's own name first. Sources: transformers and
# optimum (attention_mask, token_type_ids), the Task Library (ids, mask), TensorFlow's Model Garden
# (input_word_ids, input_type_ids), Open Model Zoo's bert-*-squad-* (output_s, output_e).
ALIASES = {
    "input_ids": ("input_ids", "ids", "input_word_ids"),
    "input_mask": ("input_mask", "attention_mask", "mask"),
    "segment_ids": ("segment_ids", "token_type_ids", "input_type_ids"),
    "end_logits": ("end_logits", "output_e"),
    "start_logits": ("start_logits", "output_s"),
}

# Families (config.json, model_type) that tell question and context apart by [SEP] alone.
FAMILIES_WITHOUT_SEGMENTS = ("distilbert",)


def shorter_signature(key: str, length: int) -> str:
    """The signature's key of a shorter graph in a file whose longest graph has `key`."""
    return f"{key}_{length}"
