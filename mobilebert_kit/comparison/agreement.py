"""How far two models agree: their logits, the best span of each window, the answers and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilebert_kit.comparison.batches import Logits
from mobilebert_kit.comparison.models import Model
from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.runtime.scoring import Score, score_logits
from mobilebert_kit.squad.answers import MAX_ANSWER_LENGTH
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.windows import Window, split_words

MASKED = -1000.0  # some models give the question -10000 or less; no logit of a possible answer is near that
FIRST_DIFFERING = 5


@dataclass(frozen=True)
class DifferingWindow:
    """A window in which the models' best spans differ; the answers are whole words of the context."""

    question_id: str
    window: int  # of the question, from 0
    answers: tuple[str, str]


@dataclass(frozen=True)
class Agreement:
    """Of two models over the same windows; shares in percent."""

    max_logit_difference: float
    mean_logit_difference: float
    logits: int  # compared: start and end logits of all tokens
    same_spans: float  # of windows
    same_answers: float  # of questions
    scores: tuple[Score, Score]
    first_differing: tuple[DifferingWindow, ...]


def agreement(models: Sequence[Model], questions: Sequence[Question], windows: Sequence[Window]) -> Agreement:
    """Run both models and compare.

    Raises:
        InputError: a model cannot take the windows.
        CheckFailed: a model gives NaN or infinity (but -inf outside of the context).
    """
    first, second = (_checked_logits(model, windows) for model in models)
    differences = logit_differences(windows, first, second)
    spans = [np.stack(best_spans(windows, *logits)) for logits in (first, second)]
    differing = np.flatnonzero((spans[0] != spans[1]).any(axis=0))
    scores = tuple(score_logits(questions, windows, *logits) for logits in (first, second))
    answers = [score.predictions for score in scores]
    same_answers = sum(answers[0][question.id] == answers[1][question.id] for question in questions)
    return Agreement(
        max_logit_difference=float(differences.max()),
        mean_logit_difference=float(differences.mean()),
        logits=len(differences),
        same_spans=100 * (1 - len(differing) / len(windows)),
        same_answers=100 * same_answers / len(questions),
        scores=scores,
        first_differing=tuple(
            DifferingWindow(
                windows[row].qas_id,
                windows[row].span_index,
                tuple(
                    _words(questions[windows[row].question_index], windows[row], *span[:, row])
                    for span in spans
                ),
            )
            for row in differing[:FIRST_DIFFERING]
        ),
    )


def logit_differences(windows: Sequence[Window], first: Logits, second: Logits) -> np.ndarray:
    """|first - second| of the start and end logits that count, float64 [n].

    Those of padding do not, nor those of the question and of [CLS] and [SEP] where a model masks them.
    """
    tokens = np.stack([window.input_mask for window in windows]) == 1
    context = _context(windows, tokens.shape[1])
    found = []
    for a, b in zip(first, second, strict=True):
        counts = tokens & (context | ((a > MASKED) & (b > MASKED)))
        found.append(np.abs(a[counts].astype(np.float64) - b[counts]))
    return np.concatenate(found)


def best_spans(
    windows: Sequence[Window], start: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(first, last) token of each window's best span, int [N] each: the highest sum of a start and an end
    logit over at most 30 tokens of the context. Of equals the shortest, then the first."""
    context = _context(windows, start.shape[1])
    start, end = (np.where(context, logits.astype(np.float64), -np.inf) for logits in (start, end))
    rows = np.arange(len(windows))
    best = np.full(len(windows), -np.inf)
    first, last = np.zeros((2, len(windows)), np.int64)
    for length in range(min(MAX_ANSWER_LENGTH, start.shape[1])):
        sums = start[:, : start.shape[1] - length] + end[:, length:]
        at = sums.argmax(axis=1)
        better = sums[rows, at] > best
        best = np.where(better, sums[rows, at], best)
        first, last = np.where(better, at, first), np.where(better, at + length, last)
    return first, last


def _checked_logits(model: Model, windows: Sequence[Window]) -> Logits:
    logits = model.logits(windows)
    context = _context(windows, logits[0].shape[1])
    for values in logits:
        # -inf is how some models mask the question.
        broken = ~np.isfinite(values) & (context | ~np.isneginf(values))
        bad = np.flatnonzero(broken.any(axis=1))
        if bad.size:
            raise CheckFailed(
                f"Expected numbers as logits, got NaN or infinity in {bad.size} of {len(windows)} windows, "
                f"the first of question {windows[bad[0]].qas_id}: {model.path}. The model is broken."
            )
    return logits


def _context(windows: Sequence[Window], length: int) -> np.ndarray:
    """bool [N, length]: the tokens that an answer may be of."""
    context = np.zeros((len(windows), length), bool)
    for row, window in zip(context, windows, strict=True):
        row[window.doc_offset : len(window.tokens) - 1] = True
    return context


def _words(question: Question, window: Window, first: int, last: int) -> str:
    word_of = window.token_to_orig_map
    begin, end = word_of[first - window.doc_offset], word_of[last - window.doc_offset]
    return " ".join(split_words(question.context)[begin : end + 1])
