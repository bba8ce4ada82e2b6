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
