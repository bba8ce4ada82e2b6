"""A few real questions from all over a dataset: neighbours ask about the same passage. No TensorFlow."""

from __future__ import annotations

from pathlib import Path

from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import Window, make_windows


def spread_questions(dataset: str, count: int) -> list[Question]:
    """`count` of them, or some more, evenly spread; all where the dataset has fewer."""
    questions = load_questions(dataset)
    return questions[:: max(1, len(questions) // count)]


def spread_windows(dataset: str, vocab: Path, length: int, count: int) -> list[Window]:
    """The first `count` windows of such questions, of `length` tokens."""
    questions = spread_questions(dataset, count)
    return make_windows(questions, load_tokenizer(vocab), max_seq_length=length)[:count]
