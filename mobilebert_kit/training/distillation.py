"""Learning from a teacher: which of its outputs a step reads, from where, and what they add to the loss.

    loss = max(0, 1 - logit_weight) * cross-entropy with the labels + logit_weight * KL(teacher || student)
           + hidden_weight * MSE of hidden states + attention_weight * KL of attention maps

From 1 on there are no labels: neural-compressor's weights of 3 and 4.5 scale its KL, which has replaced them
(run_qa_no_trainer.py).

Logits of each window are computed once and kept on disk. Hidden states and attention maps are not: those of
all SQuAD would take hundreds of GB, so the teacher runs in each step where they have a weight.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.models.config import ModelConfig
from mobilebert_kit.training.features import Features
from mobilebert_kit.training.loss import (
    OUTPUTS,
    attention_transfer,
    hidden_transfer,
    logit_distillation,
    span_loss,
)
from mobilebert_kit.training.model import INPUTS
from mobilebert_kit.training.teacher import Teacher, attention_point, hidden_point

PREFIX = "teacher_"  # of the batch's entries: teacher_start_logits, teacher_hidden, ...


@dataclass(frozen=True)
class SpanLoss:
    """The labels alone."""

    points: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        return {"points": self.points}

    def __call__(self, outputs: Mapping[str, tf.Tensor], batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return span_loss(outputs, batch["start_positions"], batch["end_positions"])


@dataclass(frozen=True)
class DistillationLoss:
    """The loss above, of a student of `config`; `points` are what it reads of the model's inside."""

    config: ModelConfig
    logit_weight: float
    hidden_weight: float
    attention_weight: float
    temperature: float

    def settings(self) -> dict[str, Any]:
        """What a resumed run must have again; its configuration is told elsewhere."""
        weights = {name: value for name, value in vars(self).items() if name != "config"}
        return {"layers": self.config.num_hidden_layers, **weights}

    @property
    def points(self) -> tuple[str, ...]:
        return tuple(point for weight, *_, points in self._transfers() if weight for point in points)

    def _transfers(self) -> list[tuple[float, str, Callable[..., tf.Tensor], list[str]]]:
        """Of hidden states and attention: weight, name, what compares them, and the points of each layer."""
        layers = range(self.config.num_hidden_layers)
        hidden = [hidden_point(self.config, layer) for layer in layers]
        return [
            (self.hidden_weight, "hidden", hidden_transfer, hidden),
            (self.attention_weight, "attention", attention_transfer, list(map(attention_point, layers))),
        ]

    def __call__(self, outputs: Mapping[str, tf.Tensor], batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        mask = batch["input_mask"]
        loss = tf.zeros([])
        if self.logit_weight < 1:  # else the weight of the labels is 0
            labels = span_loss(outputs, batch["start_positions"], batch["end_positions"])
            loss += (1 - self.logit_weight) * labels
        if self.logit_weight:
            told = {name: batch[PREFIX + name] for name in OUTPUTS}
            loss += self.logit_weight * logit_distillation(outputs, told, mask, temperature=self.temperature)
        for weight, name, transfer, points in self._transfers():
            if weight:
                told = batch[PREFIX + name]
                each = [
                    transfer(tf.cast(outputs[point], tf.float32), told[:, layer], mask)
                    for layer, point in enumerate(points)
                ]
                loss += weight * tf.add_n(each) / len(each)
        return loss


class Lessons:
    """What a teacher says of each training window.

    Args:
        config: the student's.
        hidden, attention: whether its inner states are wanted too.
        folder: where logits are kept, for other runs too; None to keep them in memory only.
    """

    def __init__(
        self,
        teacher: Teacher,
        features: Features,
        config: ModelConfig,
        *,
        hidden: bool,
        attention: bool,
        folder: Path | None,
    ) -> None:
        self._teacher, self._features, self._config = teacher, features, config
        self._inner = {"hidden": hidden, "attention": attention}
        self._layers = layer_map(config.num_hidden_layers, teacher.layers)
        # Start and end logit of each token of each window; NaN until the teacher has read it.
        shape = (len(features.ids), len(OUTPUTS))
        if folder is None:
            self._logits = np.full(shape, np.nan, np.float32)
        else:
            key = hashlib.sha256(f"{teacher.digest} {features.digest}".encode()).hexdigest()
            self._logits = _kept(folder / f"teacher_logits_{key[:16]}.npy", shape)

    def teach(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """`batch` of one step [accumulation, batch_size, ...] with the teacher's outputs beside it, float32:
        teacher_start_logits and teacher_end_logits [..., L], 0 where padded, and where they are wanted
        teacher_hidden [..., layers, L, C] and teacher_attention [..., layers, heads, L, L]."""
        parts = [
            self._told({name: batch[name][number].numpy() for name in (*INPUTS, "rows")})
            for number in range(batch["rows"].shape[0])
        ]
        return {**batch, **{PREFIX + name: tf.stack([part[name] for part in parts]) for name in parts[0]}}

    def _told(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        offsets, mask = self._features.offsets, batch["input_mask"].astype(bool)
        places = [np.arange(offsets[row], offsets[row + 1]) for row in batch["rows"]]
        new = [index for index, place in enumerate(places) if np.isnan(self._logits[place]).any()]
        said: dict[str, np.ndarray] = {}
        if new or any(self._inner.values()):
            # The whole batch, whatever is new in it: alone, a window's logits would round otherwise.
            said = self._teacher({name: batch[name] for name in INPUTS}, **self._inner)
            for index in new:
                here = np.stack([said[name][index][mask[index]] for name in OUTPUTS], axis=1)
                if not np.isfinite(here).all():
                    raise CheckFailed(
                        "Expected numbers as the teacher's logits, got others for question "
                        f"{self._features.question_ids[batch['rows'][index]]}. Is its checkpoint damaged?"
                    )
                self._logits[places[index]] = here
        logits = np.zeros((*mask.shape, len(OUTPUTS)), np.float32)
        for index, place in enumerate(places):
            logits[index, : len(place)] = self._logits[place]
        told = {name: logits[..., number] for number, name in enumerate(OUTPUTS)}
        if self._inner["hidden"]:
            told["hidden"] = said["hidden"][:, self._layers]
        if self._inner["attention"]:
            maps = said["attention"][:, self._layers]
            batch_size, layers, _, length, _ = maps.shape
            heads = (batch_size, layers, self._config.num_attention_heads, -1, length, length)
            told["attention"] = maps.reshape(heads).mean(axis=3)
        return told


def layer_map(student: int, teacher: int) -> list[int]:
    """The teacher's layer that each of the student's learns from: the last of an equal share of layers."""
    return [-(-(layer + 1) * teacher // student) - 1 for layer in range(student)]


def prove_teachable(
    teacher: Teacher, config: ModelConfig, longest: int, *, hidden: bool, attention: bool
) -> None:
    """InputError where the teacher's shapes do not fit the student's."""
    if teacher.positions < longest:
        raise InputError(
            f"Expected a teacher that reads windows of {longest} tokens, got one of {teacher.positions} "
            "positions. Lower --max_seq_length, or choose another teacher."
        )
    if hidden and teacher.width != config.hidden_size:
        raise InputError(
            f"Expected a teacher with hidden states of {config.hidden_size}, the student's width, got "
            f"{teacher.width}. Leave --hidden_weight at 0, or choose another teacher."
        )
    if attention and teacher.heads % config.num_attention_heads:
        raise InputError(
            f"Expected a teacher whose attention heads are a multiple of the student's "
            f"{config.num_attention_heads}, got {teacher.heads}. Leave --attention_weight at 0, or choose "
            "another teacher."
        )


def _kept(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The array in the file at `path`, float32, writable in place; a new one is all NaN.

    A kill leaves NaN where nothing was written yet, and what was written is right.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{os.getpid()}")
        array = np.lib.format.open_memmap(new, mode="w+", dtype=np.float32, shape=shape)
        array[:] = np.nan
        array.flush()
        del array
        os.replace(new, path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # "r+" would lengthen a truncated file
        fits = array.shape == shape and array.dtype == np.float32
    except (ValueError, OSError, EOFError):
        fits = False
    if not fits:
        raise InputError(
            f"Expected the teacher's logits of {shape[0]} tokens in {path}, got a damaged or other file. "
            "Delete it: they will be computed again."
        )
    return np.load(path, mmap_mode="r+")
