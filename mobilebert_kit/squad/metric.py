"""Exact match and F1 of SQuAD v1.1, and the MLPerf Mobile app's F1, in percent."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mobilebert_kit.squad.dataset import Question

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_APP_ARTICLES = frozenset(("a", "an", "the", "A", "An", "The"))
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclass(frozen=True)
class Metrics:
    """In percent, over all questions; one without a prediction counts 0 and is named in `missing`."""

    exact_match: float
    f1: float
    missing: tuple[str, ...]


def normalize_answer(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces: evaluate-v1.1.py, normalize_answer."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match_score(prediction: str, truth: str) -> float:
    """1.0 where both normalize to the same text, else 0.0: evaluate-v1.1.py."""
    return float(normalize_answer(prediction) == normalize_answer(truth))


def f1_score(prediction: str, truth: str) -> float:
    """Harmonic mean of precision and recall over the normalized words, 0 to 1: evaluate-v1.1.py."""
    return _f1(normalize_answer(prediction).split(), normalize_answer(truth).split())


def app_f1_score(prediction: str, truth: str) -> float:
    """The MLPerf app's F1 of two texts: mobile_app_open, flutter/cpp/datasets/squad_utils/common.h, F1Score.

    Unlike the official one, articles and bare punctuation still count as (empty) words.
    """
    words, truth_words = ([_app_normalize(word) for word in text.split(" ")] for text in (prediction, truth))
    return _f1(words, truth_words)


def score(questions: Sequence[Question], predictions: Mapping[str, str]) -> Metrics:
    """The official exact match and F1: the best of a question's answers, averaged over `questions`."""
    return Metrics(
        exact_match=_average(questions, predictions, exact_match_score),
        f1=_average(questions, predictions, f1_score),
        missing=tuple(question.id for question in questions if question.id not in predictions),
    )


def app_f1(questions: Sequence[Question], predictions: Mapping[str, str]) -> float:
    """The app's F1 in percent, averaged over `questions`; one without a prediction counts 0."""
    return _average(questions, predictions, app_f1_score)


def _average(
    questions: Sequence[Question], predictions: Mapping[str, str], pair_score: Callable[[str, str], float]
) -> float:
    total = 0.0
    for question in questions:
        prediction = predictions.get(question.id)
        if prediction is not None:
            total += max(pair_score(prediction, answer) for answer in set(question.answers))
    return 100.0 * total / len(questions)


def _f1(words: list[str], truth_words: list[str]) -> float:
    common = (Counter(words) & Counter(truth_words)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(words), common / len(truth_words)
    return 2 * precision * recall / (precision + recall)


def _app_normalize(word: str) -> str:
    if word in _APP_ARTICLES:
        return ""
    return word.translate(_PUNCTUATION).translate(_ASCII_LOWER)
