"""What an export reads: the checkpoint and its configuration, the vocabulary, the questions. Each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.checkpoints import Checkpoint, load_checkpoint, prove_complete, prove_ranges
from mobilebert_kit.contract import MLPERF, Contract
from mobilebert_kit.errors import InputError
from mobilebert_kit.models.config import ModelConfig, resolve_config
from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.digest import calibration_digest
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import DOC_STRIDE, MAX_QUERY_LENGTH, Window, make_windows
from mobilebert_kit.targets import Target


@dataclass(frozen=True)
class Request:
    """What the flags of `export` ask for."""

    targets: Sequence[Target]
    checkpoint: Path
    output_dir: Path
    calibration: str
    evaluation: str
    calibration_questions: int = 100
    eval_questions: int | None = None
    config: str | None = None
    vocab: str | None = None
    activation: str | None = None
    mask: str | None = None
    sequence_length: int = 384
    buckets: Sequence[int] = ()
    doc_stride: int = DOC_STRIDE
    contract: Contract = MLPERF
    max_f1_drop: float = 2.0
    keep_saved_model: bool = False
    overwrite: bool = False
    command: str = ""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Of the signatures of a file; the last is that of the windows."""
        return tuple(self.buckets) or (self.sequence_length,)

    @property
    def calibrates(self) -> bool:
        """Whether a target needs the ranges of the activations."""
        return any(target.recipe.quantize_activations or target.half_precision for target in self.targets)


@dataclass(frozen=True)
class Data:
    """Questions with their windows."""

    source: str
    questions: list[Question]
    windows: list[Window]

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "source": Path(self.source).name,
            "questions": len(self.questions),
            "windows": len(self.windows),
            "questions_sha256": calibration_digest(self.questions),
        }


@dataclass
class Inputs:
    """The inputs of a request. Raises InputError for a checkpoint that cannot be read."""

    request: Request
    checkpoint: Checkpoint = field(init=False)
    config: ModelConfig = field(init=False)

    def __post_init__(self) -> None:
        request = self.request
        self.checkpoint = load_checkpoint(request.checkpoint)
        self.config = checkpoint_config(self.checkpoint, request.config, request.activation, request.mask)

    def validate(self) -> None:
        """Reads everything that a later step needs, so that a bad input is told before the long work."""
        prove_complete(self.checkpoint.tensors, self.config.variable_shapes())
        prove_ranges(self.checkpoint.ranges)
        prove_length(self.request.sequence_length, self.config)
        prove_buckets(self.request)
        _ = self.evaluation
        if self.request.calibrates:
            _ = self.calibration

    @cached_property
    def contract(self) -> Contract:
        """What the files call their tensors."""
        return self.request.contract.for_model(has_segments=self.config.has_segments)

    @cached_property
    def own_contract(self) -> Contract:
        """The same tensors by the kit's own names, for the modules that are run to measure."""
        return MLPERF.for_model(has_segments=self.config.has_segments)

    @cached_property
    def vocab(self) -> Path:
        return find_vocab(self.request.vocab, self.checkpoint)

    @cached_property
    def calibration(self) -> Data:
        return self._load(self.request.calibration, self.request.calibration_questions, split="train")

    @cached_property
    def evaluation(self) -> Data:
        return self._load(self.request.evaluation, self.request.eval_questions, split="validation")

    @cached_property
    def calibration_arrays(self) -> list[dict[str, np.ndarray]]:
        """The model's inputs for each window of the calibration data, int32 [1, S] by the kit's names."""
        return [self.arrays(window) for window in self.calibration.windows]

    def arrays(self, window: Window) -> dict[str, np.ndarray]:
        """The model's inputs for one window, int32 [1, S] by the kit's names."""
        return {name: getattr(window, name)[None] for name in self.own_contract.input_names}

    def _load(self, source: str, limit: int | None, *, split: str) -> Data:
        tokenizer = load_tokenizer(self.vocab, expected_size=self.config.vocab_size)
        questions = load_questions(source, split=split, limit=limit)
        windows = make_windows(
            questions,
            tokenizer,
            max_seq_length=self.request.sequence_length,
            doc_stride=self.request.doc_stride,
        )
        if not windows:
            raise InputError(f"Expected contexts with text in {source}, got not a single token.")
        return Data(source, questions, windows)


def checkpoint_config(
    checkpoint: Checkpoint, config: str | None = None, activation: str | None = None, mask: str | None = None
) -> ModelConfig:
    """The configuration of `checkpoint`, but for what the flags of these names say."""
    return resolve_config(
        checkpoint.settings,
        checkpoint.tensors,
        checkpoint.format,
        config,
        activation,
        mask,
        quantized=checkpoint.quantized,
        hints=checkpoint.hints,
    )


def find_vocab(asked: str | None, checkpoint: Checkpoint) -> Path:
    """The vocabulary that was asked for, or that beside the checkpoint. InputError where there is neither."""
    if asked:
        return Path(asked)
    if checkpoint.vocab_path:
        return checkpoint.vocab_path
    raise InputError("Expected a vocab.txt beside the checkpoint, got none. Name one with --vocab.")


def prove_buckets(request: Request) -> None:
    """InputError unless the buckets are lengths that one file can have, and the targets are such files."""
    lengths = list(request.lengths)
    if lengths != sorted(set(lengths)) or lengths[0] < 1 or lengths[-1] != request.sequence_length:
        raise InputError(
            f"Expected --buckets that ascend and end with --max_seq_length, {request.sequence_length}, got "
            f"{','.join(map(str, lengths))}."
        )
    others = [target.name for target in request.targets if target.runtime != "litert"]
    if len(lengths) > 1 and others:
        raise InputError(f"Expected --buckets with targets that are .tflite files, got {', '.join(others)}.")


def prove_length(length: int, config: ModelConfig) -> None:
    """InputError unless a window of `length` tokens holds the longest question, [CLS], two [SEP] and one
    token of the context, and the model has so many positions."""
    least, most = MAX_QUERY_LENGTH + 4, config.max_position_embeddings
    if not least <= length <= most:
        raise InputError(
            f"Expected --max_seq_length from {least} (a question of {MAX_QUERY_LENGTH} tokens and some "
            f"context) to {most} (the model's number of positions), got {length}."
        )
