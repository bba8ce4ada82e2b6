"""What a training reads: checkpoint, configuration, windows. Each once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mobilebert_kit.checkpoints import (
    Checkpoint,
    content_digest,
    load_checkpoint,
    prove_complete,
    prove_ranges,
)
from mobilebert_kit.checkpoints.family import family_of_variables
from mobilebert_kit.errors import InputError
from mobilebert_kit.inputs import checkpoint_config, find_vocab, prove_length
from mobilebert_kit.models.config import QUANTIZED_SCORE_CLIP, ModelConfig
from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import Window, make_windows
from mobilebert_kit.training.data import Order, make_buckets
from mobilebert_kit.training.distillation import DistillationLoss, SpanLoss, prove_teachable
from mobilebert_kit.training.features import Features, make_features
from mobilebert_kit.training.lowering import Dropout
from mobilebert_kit.training.optimizer import BETAS, Schedule
from mobilebert_kit.training.pruning.plan import Plan, make_plan
from mobilebert_kit.training.quantizers import prove_quantizable
from mobilebert_kit.training.request import TrainingRequest
from mobilebert_kit.training.step import Loss
from mobilebert_kit.training.teacher import Teacher, load_teacher

HEAD = "cls/squad/"


@dataclass(frozen=True)
class Evaluation:
    """Questions to score on, with their windows at full length."""

    questions: list[Question]
    windows: list[Window]


@dataclass
class TrainingInputs:
    """The inputs of a request. Raises InputError for any that cannot be used."""

    request: TrainingRequest
    checkpoint: Checkpoint = field(init=False)
    config: ModelConfig = field(init=False)

    def __post_init__(self) -> None:
        request = self.request
        checkpoint = load_checkpoint(request.checkpoint, headless=True)
        self.config = training_config(checkpoint, request)
        self.checkpoint = with_head(checkpoint, self.config, request.seed)
        prove_complete(self.checkpoint.tensors, self.config.variable_shapes())
        prove_ranges(self.checkpoint.ranges)
        if request.qat:
            prove_quantizable(self.config)
        elif self.checkpoint.quantized:
            raise InputError(
                f"Expected --qat with a checkpoint that has the ranges of quantized training, got float "
                f"training of {request.checkpoint}. Add --qat, or name a float checkpoint."
            )
        prove_length(request.max_seq_length, self.config)
        _ = self.buckets

    @cached_property
    def buckets(self) -> tuple[int, ...]:
        multiplicative = self.config.mask_semantics == "multiplicative"
        return make_buckets(self.request.buckets, self.request.max_seq_length, padding_counts=multiplicative)

    @cached_property
    def dropout(self) -> Dropout:
        asked = self.request.dropout
        return Dropout.from_settings(self.checkpoint.settings) if asked is None else Dropout(asked, asked)

    @cached_property
    def vocab(self) -> Path:
        return find_vocab(self.request.vocab, self.checkpoint)

    @cached_property
    def features(self) -> Features:
        questions = load_questions(self.request.dataset, split="train", limit=self.request.train_questions)
        return make_features(questions, self._tokenizer, max_seq_length=self.request.max_seq_length)

    @cached_property
    def teacher(self) -> Teacher | None:
        """Loaded, and proven to fit the student."""
        request = self.request
        if request.teacher is None:
            return None
        teacher = load_teacher(request.teacher, self.vocab)
        hidden, attention = bool(request.hidden_weight), bool(request.attention_weight)
        prove_teachable(teacher, self.config, request.max_seq_length, hidden=hidden, attention=attention)
        return teacher

    @cached_property
    def loss(self) -> Loss:
        request = self.request
        if self.teacher is None:
            return SpanLoss()
        return DistillationLoss(
            config=self.config,
            logit_weight=request.distill_loss_weight,
            hidden_weight=request.hidden_weight,
            attention_weight=request.attention_weight,
            temperature=request.temperature,
        )

    @cached_property
    def evaluation(self) -> Evaluation | None:
        source = self.request.evaluation
        if source is None:
            return None
        questions = load_questions(source, split="validation", limit=self.request.eval_questions)
        windows = make_windows(questions, self._tokenizer, max_seq_length=self.request.max_seq_length)
        if not windows:
            raise InputError(f"Expected contexts with text in {source}, got not a single token.")
        return Evaluation(questions, windows)

    @cached_property
    def order(self) -> Order:
        request = self.request
        return Order(
            self.features.lengths, self.buckets, request.batch_size, request.accumulation, request.seed
        )

    @cached_property
    def schedule(self) -> Schedule:
        """Over all steps: those of the epochs, or the first --max_steps of them."""
        request = self.request
        total = request.epochs * self.order.steps_per_epoch
        total = min(total, request.max_steps or total)
        warmup = request.num_warmup_steps
        if warmup is None:
            warmup = int(request.warmup * total)
        if warmup >= total:
            raise InputError(
                f"Expected --num_warmup_steps below the {total} steps of the training, got {warmup}. Train "
                "longer, or warm up for less."
            )
        return Schedule(request.learning_rate, warmup, total)

    @cached_property
    def pruning(self) -> Plan | None:
        """What is pruned, and when; None without --target_sparsity."""
        if self.request.pruning is None:
            return None
        return make_plan(
            self.request.pruning,
            {name: self.checkpoint.tensors[name] for name in self.config.variable_shapes()},
            warmup=self.schedule.warmup,
            steps=self.schedule.total,
            steps_per_epoch=self.order.steps_per_epoch,
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that the resulting weights follow from, but for the hardware."""
        request = self.request
        names = (
            "epochs", "batch_size", "accumulation", "learning_rate", "warmup", "weight_decay",
            "max_seq_length", "mixed_precision", "seed", "max_steps", "qat", "qat_weights",
            "qat_calibration_steps", "distribute",
        )  # fmt: skip
        return {
            "checkpoint_sha256": self.checkpoint.digest,
            "ranges_sha256": content_digest(self.checkpoint.range_variables),
            "windows_sha256": self.features.digest,
            "teacher_sha256": self.teacher.digest if self.teacher else None,
            "loss": self.loss.settings(),
            "config": self.config.to_dict(),
            "dropout": vars(self.dropout),
            "buckets": self.buckets,
            **{name: getattr(request, name) for name in names},
            **self._rarer_settings(),
        }

    def _rarer_settings(self) -> dict[str, Any]:
        """Those that most runs leave alone: only where they say something, so that older runs can go on."""
        request = self.request
        settings = {
            "num_warmup_steps": request.num_warmup_steps,
            "adam_beta2": None if request.adam_beta2 == BETAS[1] else request.adam_beta2,
            "pruning": self.pruning.settings() if self.pruning else None,
            "keep_zeros": None if request.keep_zeros else False,
        }
        return {name: value for name, value in settings.items() if value is not None}

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.vocab, expected_size=self.config.vocab_size)


def with_head(checkpoint: Checkpoint, config: ModelConfig, seed: int) -> Checkpoint:
    """The checkpoint; a pre-trained one with a new question-answering head: normal, 0.02 as BERT's
    initializer_range, and a bias of 0."""
    if any(name.startswith(HEAD) for name in checkpoint.tensors):
        return checkpoint
    logging.info("No question-answering head in the checkpoint: a new one, from seed %d.", seed)
    random, shape = np.random.default_rng(seed), config.variable_shapes()[f"{HEAD}output_weights"]
    head = {
        f"{HEAD}output_weights": random.normal(0, 0.02, shape).astype(np.float32),
        f"{HEAD}output_bias": np.zeros(2, np.float32),
    }
    tensors = {**checkpoint.tensors, **head}
    return replace(checkpoint, tensors=tensors, digest=content_digest(tensors))


def training_config(checkpoint: Checkpoint, request: TrainingRequest) -> ModelConfig:
    """The configuration to train with. Quantized training is relu6 with scores masked by -6 and clipped, as
    published (modeling.py, use_quantized_training), unless --activation or --mask says otherwise."""
    activation, mask = request.activation, request.mask
    family = family_of_variables(checkpoint.tensors)
    if request.qat and family != "mobilebert":
        raise InputError(
            "Expected a MobileBERT for --qat, whose fake quantizers are the published model's, got a "
            f"{family}. Train it in float; export quantizes it afterwards."
        )
    if request.qat:
        activation, mask = activation or "relu6", mask or "multiplicative"
    config = checkpoint_config(checkpoint, request.config, activation, mask)
    if request.qat and config.mask_semantics == "multiplicative" and config.score_clip is None:
        config = replace(config, score_clip=QUANTIZED_SCORE_CLIP)
    return config
