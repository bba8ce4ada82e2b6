"""Tensor contracts: what a question-answering model calls its inputs and outputs, in which order.

The MLPerf Mobile app (mlcommons/mobile_app_open, flutter/cpp/datasets/squad.cc) reads the outputs of a
.tflite file by position, so the order here is part of the contract: output 0 is the END logits.
The kit itself binds by name, never by position.
"""

from __future__ import annotations

from dataclasses import dataclass

SIGNATURE_KEY = "serving_default"  # what runtimes and apps look for where none is named


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its signature name and its numpy dtype name ("int32", "float32")."""

    name: str
    dtype: str

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


MLPERF = Contract(
    name="mlperf",
    inputs=(
        TensorSpec("input_ids", "int32"),
        TensorSpec("input_mask", "int32"),
        TensorSpec("segment_ids", "int32"),
    ),
    outputs=(
        TensorSpec("end_logits", "float32"),
        TensorSpec("start_logits", "float32"),
    ),
)

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
