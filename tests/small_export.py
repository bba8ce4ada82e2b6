"""A MobileBERT small enough to export in seconds, with questions that its float model answers rightly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from checkpoint_files import (
    SMALL,
    huggingface_config,
    huggingface_tensors,
    random_tensors,
    write_config,
    write_safetensors,
)
from tiny_question_model import VOCAB, write_vocab

from mobilebert_kit.models.config import MobileBertConfig
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.tokenizer import make_tokenizer
from mobilebert_kit.squad.windows import Window, make_windows
from mobilebert_kit.targets import TARGETS

if TYPE_CHECKING:
    from mobilebert_kit.inputs import Request

LENGTH = 96  # the shortest windows hold 68 tokens
CONFIG = replace(SMALL, vocab_size=len(VOCAB), max_position_embeddings=128)

CONTEXTS = (
    "Steve Smith was in Paris in 1999 . The red car was in the river in London .",
    "The river was red . Who was in the car ? Steve was . Where was Smith ? In London .",
    "What was the red car ? The car was a car in Paris . Smith saw 12 cars in the river .",
)
QUESTIONS = ("Who was in Paris ?", "Where was the car ?", "What was red ?")


def questions() -> list[Question]:
    """Nine questions; the answers are any."""
    return [
        Question(f"q{i}{j}", question, context, "t", (context.split()[0],), (0,))
        for i, context in enumerate(CONTEXTS)
        for j, question in enumerate(QUESTIONS)
    ]


def windows(length: int = LENGTH) -> list[Window]:
    vocab = {token: number for number, token in enumerate(VOCAB)}
    return make_windows(questions(), make_tokenizer(vocab), max_seq_length=length)


def arrays(length: int = LENGTH) -> list[dict[str, np.ndarray]]:
    """The model's inputs, window by window."""
    names = ("input_ids", "input_mask", "segment_ids")
    return [{name: getattr(window, name)[None] for name in names} for window in windows(length)]


def weights(config: MobileBertConfig = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    """Random, with activations that keep their size from layer to layer."""
    tensors = random_tensors(config, seed)
    return {
        name: value * np.float32(0.25) if name.endswith(("/kernel", "/bias")) else value
        for name, value in tensors.items()
    }


def write_checkpoint(
    folder: Path,
    tensors: dict[str, np.ndarray] | None = None,
    config: MobileBertConfig = CONFIG,
    **keys: object,
) -> Path:
    """A Hugging Face directory with vocab.txt."""
    write_safetensors(folder, huggingface_tensors(weights() if tensors is None else tensors))
    write_config(folder, huggingface_config(config, **keys))
    write_vocab(folder)
    return folder


def write_squad(path: Path, answers: dict[str, str] | None = None) -> Path:
    """A SQuAD file of `questions()`; `answers`, where given, are in the contexts."""
    entries = []
    for question in questions():
        text = (answers or {}).get(question.id, question.answers[0])
        answer = {"text": text, "answer_start": question.context.index(text)}
        qa = {"id": question.id, "question": question.question, "answers": [answer]}
        entries.append({"context": question.context, "qas": [qa]})
    content = {"version": "1.1", "data": [{"title": "t", "paragraphs": entries}]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def request(folder: Path, *names: str, **changes: object) -> Request:
    """An export of `folder`'s checkpoint and questions to `folder`/out; any drop of F1 is allowed."""
    from mobilebert_kit.inputs import Request

    questions_file = str(folder / "questions.json")
    fields = {
        "targets": [TARGETS[name] for name in names],
        "checkpoint": folder / "checkpoint",
        "output_dir": folder / "out",
        "calibration": questions_file,
        "evaluation": questions_file,
        "calibration_questions": 9,
        "sequence_length": LENGTH,
        "max_f1_drop": 100.0,
    }
    return Request(**(fields | changes))


def export_all(folder: Path) -> Path:
    """What the fixture `exported` is."""
    from mobilebert_kit.build import export

    write_checkpoint(folder / "checkpoint")
    write_squad(folder / "questions.json")
    score = export(request(folder, "float", output_dir=folder / "float")).float_score
    write_squad(folder / "questions.json", score.predictions)
    export(request(folder, *TARGETS, output_dir=folder / "all", keep_saved_model=True))
    return folder
