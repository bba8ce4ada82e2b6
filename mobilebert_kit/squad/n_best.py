"""The n best answers to one question, with probabilities: run_squad.py's n-best list.

From all windows, the spans that are valid (see answers.py) by their sum of logits; of those with the same
text the best alone; probabilities are the softmax over the sums of the list. The first is the answer that
`extract_answers` gives.

Source: google-research/google-research, mobilebert/run_squad.py (write_predictions). It leaves equal sums in
the order of windows, starts, ends; so does this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.squad.answers import MAX_ANSWER_LENGTH, N_BEST, align_answer, span_text
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.windows import Window


@dataclass(frozen=True)
class Candidate:
    """An answer.

    Attributes:
        score: start logit plus end logit.
        probability: among the candidates of its list.
        first_word, last_word: of the context (see split_words), that the text was taken from.
    """

    text: str
    score: float
    probability: float
    first_word: int
    last_word: int


def n_best_answers(
    question: Question, windows: Sequence[Window], start_logits: np.ndarray, end_logits: np.ndarray
) -> list[Candidate]:
    """The best answers first, N_BEST at most; none where no span is valid.

    Args:
        windows: N windows, all of `question`.
        start_logits, end_logits: float32 [N, S], row by row those of `windows`.
    Raises:
        CheckFailed: a logit is no finite number.
    """
    if not (np.isfinite(start_logits).all() and np.isfinite(end_logits).all()):
        raise CheckFailed("Expected finite numbers as logits, got others. The model is broken.")
    spans = [
        (score, row, start, end)
        for row, window in enumerate(windows)
        for score, start, end in _spans(window, start_logits[row], end_logits[row])
    ]
    best: dict[str, tuple[float, int, int]] = {}
    for score, row, start, end in sorted(spans, key=lambda span: -span[0]):  # stable
        if len(best) == N_BEST:
            break
        window = windows[row]
        words = window.token_to_orig_map[[start - window.doc_offset, end - window.doc_offset]]
        text = span_text(question, window, start, end, align_answer)
        best.setdefault(text, (score, int(words[0]), int(words[1])))
    scores = np.array([score for score, _, _ in best.values()])
    weights = np.exp(scores - scores.max(initial=-np.inf))
    probabilities = weights / weights.sum()
    return [
        Candidate(text, score, float(probability), first, last)
        for (text, (score, first, last)), probability in zip(best.items(), probabilities, strict=True)
    ]


def _spans(window: Window, start_logits: np.ndarray, end_logits: np.ndarray) -> list[tuple[float, int, int]]:
    """(sum of logits, start, end) of the valid spans of one window, in run_squad.py's order."""
    starts, ends = (np.argsort(-logits, kind="stable")[:N_BEST] for logits in (start_logits, end_logits))
    low, high = window.doc_offset, len(window.tokens) - 1
    return [
        (float(start_logits[start]) + float(end_logits[end]), int(start), int(end))
        for start in starts
        if low <= start < high and window.token_is_max_context[start - low]
        for end in ends
        if start <= end < high and end - start < MAX_ANSWER_LENGTH
    ]
