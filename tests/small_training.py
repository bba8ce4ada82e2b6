"""A training of small_export's model that takes seconds: its data, its request, what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

from small_export import LENGTH, questions, write_checkpoint, write_squad

from mobilebert_kit.training.request import TrainingRequest
from mobilebert_kit.training.state import METRICS

ANSWERS = ("Steve Smith", "Steve", "car")  # one in each context: the answers to all of its questions
NO_DROPOUT = {"attention_probs_dropout_prob": 0.0}  # where two runs drop at different places


def write_data(folder: Path) -> Path:
    """`folder` with `checkpoint/` (without dropout) and `questions.json`."""
    write_checkpoint(folder / "checkpoint", **NO_DROPOUT)
    answers = {question.id: ANSWERS[int(question.id[1])] for question in questions()}
    write_squad(folder / "questions.json", answers)
    return folder


def request(data: Path, output_dir: Path, **changes: object) -> TrainingRequest:
    """Three steps on `data`."""
    fields = {
        "checkpoint": data / "checkpoint",
        "dataset": str(data / "questions.json"),
        "output_dir": output_dir,
        "batch_size": 4,
        "max_seq_length": LENGTH,
        "max_steps": 3,
        "learning_rate": 1e-3,
    }
    return TrainingRequest(**(fields | changes))


def rows(output_dir: Path, kind: str = "step") -> list[dict[str, object]]:
    """Of metrics.jsonl."""
    lines = (output_dir / METRICS).read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def losses(output_dir: Path) -> list[float]:
    return [row["loss"] for row in rows(output_dir)]
