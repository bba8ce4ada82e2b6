"""From logits to answer texts, as Google's run_squad.py does it, and as the MLPerf Mobile app does.

Both take the 20 best starts and ends of each window, keep the spans of at most 30 tokens that lie in the
context and start where the window has the most context, and take the best sum of logits over all windows of
the question. They differ in how the sum is rounded (double, float) and in aligning wordpieces to text: the
app does not check that the alignment can work.

Sources: google-research/google-research, mobilebert/run_squad.py (write_predictions, get_final_text);
mlcommons/mobile_app_open, flutter/cpp/datasets/squad.cc (ComputeAccuracy), squad_utils/common.h.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.tokenizer import basic_tokens
from mobilebert_kit.squad.windows import Window, split_words

N_BEST = 20
MAX_ANSWER_LENGTH = 30  # wordpieces

# run_squad.py's answer where no span is valid. The app has none: it reads past its arrays there.
NO_ANSWER = "empty"

_CHUNK = 1024  # windows: 1024 x 20 x 20 candidate spans at a time


@dataclass(frozen=True)
class Answers:
    """{question id: text}, by run_squad.py's rules and by the app's."""

    official: dict[str, str]
    app: dict[str, str]


@dataclass(frozen=True)
class _Spans:
    """The best span of each window: [N] each; score -inf where no span is valid."""

    score: np.ndarray  # float64 or float32
    start: np.ndarray  # token positions
    end: np.ndarray


def extract_answers(
    questions: Sequence[Question],
    windows: Sequence[Window],
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    *,
    n_best: int = N_BEST,
    max_answer_length: int = MAX_ANSWER_LENGTH,
) -> Answers:
    """The answer of every question.

    Args:
        windows: N windows; `question_index` into `questions`.
        start_logits, end_logits: float32 [N, S], row by row those of `windows`.
    Raises:
        CheckFailed: a logit is NaN: no order, hence no answer.
    """
    shape = (len(windows), len(windows[0].input_ids)) if windows else (0, 0)
    if windows and not start_logits.shape == end_logits.shape == shape:
        raise ValueError(
            f"Expected logits of shape {shape}, got {start_logits.shape} and {end_logits.shape}."
        )
    broken = np.flatnonzero(np.isnan(start_logits).any(axis=-1) | np.isnan(end_logits).any(axis=-1))
    if broken.size:
        raise CheckFailed(
            f"Expected numbers as logits, got NaN in {broken.size} of {len(windows)} windows, the first of "
            f"question {windows[broken[0]].qas_id}. The model is broken."
        )
    exact, single = _best_spans(windows, start_logits, end_logits, n_best, max_answer_length)
    official, app = {}, {}
    for texts, spans, align in ((official, exact, align_answer), (app, single, align_answer_as_app)):
        best: dict[
            int, int
        ] = {}  # question -> its window; the first of equals, as in run_squad.py and the app
        for row, window in enumerate(windows):
            known = best.get(window.question_index)
            if known is None or spans.score[row] > spans.score[known]:
                best[window.question_index] = row
        for index, question in enumerate(questions):
            row = best.get(index)
            if row is None or spans.score[row] == -np.inf:
                texts[question.id] = NO_ANSWER
            else:
                texts[question.id] = span_text(
                    question, windows[row], int(spans.start[row]), int(spans.end[row]), align
                )
    return Answers(official, app)


def _best_spans(
    windows: Sequence[Window], start_logits: np.ndarray, end_logits: np.ndarray, n_best: int, max_length: int
) -> tuple[_Spans, _Spans]:
    """The best span of each window with sums in float64 (run_squad.py) and in float32 (the app)."""
    results: tuple[list[_Spans], list[_Spans]] = ([], [])
    for first in range(0, len(windows), _CHUNK):
        chunk = windows[first : first + _CHUNK]
        logits = [
            np.asarray(values[first : first + _CHUNK], np.float32) for values in (start_logits, end_logits)
        ]
        # Stable: of equal logits the earlier token first, as Python's sorted(reverse=True) leaves them.
        starts, ends = (np.argsort(-values, axis=1, kind="stable")[:, :n_best] for values in logits)
        top = [
            np.take_along_axis(values, at, axis=1) for values, at in zip(logits, (starts, ends), strict=True)
        ]

        low = np.array([window.doc_offset for window in chunk])[:, None]
        high = np.array([len(window.tokens) - 1 for window in chunk])[:, None]
        peak = np.zeros(logits[0].shape, bool)
        for row, window in enumerate(chunk):
            peak[row, window.doc_offset : len(window.tokens) - 1] = window.token_is_max_context
        good_start = np.take_along_axis(peak, starts, axis=1)
        good_end = (ends >= low) & (ends < high)
        length = ends[:, None, :] - starts[:, :, None] + 1
        valid = good_start[:, :, None] & good_end[:, None, :] & (length >= 1) & (length <= max_length)
        for spans, dtype in zip(results, (np.float64, np.float32), strict=True):
            total = top[0].astype(dtype)[:, :, None] + top[1].astype(dtype)[:, None, :]
            # Row by row and the first of equals: the order of run_squad.py's loops, starts outside.
            flat = np.where(valid, total, -np.inf).reshape(len(chunk), -1)
            at = flat.argmax(axis=1)
            rows = np.arange(len(chunk))
            width = ends.shape[1]
            spans.append(_Spans(flat[rows, at], starts[rows, at // width], ends[rows, at % width]))
    exact, single = (
        _Spans(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("score", "start", "end"))
        )
        if parts
        else _Spans(*(np.zeros(0),) * 3)
        for parts in results
    )
    return exact, single


def span_text(
    question: Question, window: Window, start: int, end: int, align: Callable[[str, Sequence[str]], str]
) -> str:
    """The text of the tokens `start` to `end` of a window; `align` is align_answer or align_answer_as_app."""
    pieces = " ".join(window.tokens[start : end + 1]).replace(" ##", "").replace("##", "")
    offset = window.doc_offset
    first, last = window.token_to_orig_map[start - offset], window.token_to_orig_map[end - offset]
    return align(" ".join(pieces.split()), split_words(question.context)[first : last + 1])


def align_answer(pieces: str, words: Sequence[str]) -> str:
    """The part of the words (joined by a space) that `pieces` is the tokenized form of: "steve smith" and
    "Steve Smith's" give "Steve Smith". All of the words where that fails: run_squad.py, get_final_text."""
    text = " ".join(words)
    tokenized = " ".join(basic_tokens(text))
    if len(text.replace(" ", "")) != len(tokenized.replace(" ", "")):
        return text
    return _project(pieces, tokenized, text)


def align_answer_as_app(pieces: str, words: Sequence[str]) -> str:
    """As `align_answer`, by the app's rules: words tokenized one by one, lengths not compared."""
    tokenized = " ".join(" ".join(basic_tokens(word)) for word in words)
    return _project(pieces, tokenized, " ".join(words))


def _project(pieces: str, tokenized: str, text: str) -> str:
    """Where `pieces` is in `tokenized`, character by character without spaces, in `text`; else `text`."""
    start = tokenized.find(pieces)
    end = start + len(pieces) - 1
    if start < 0 or end < start or tokenized[start] == " " or tokenized[end] == " ":
        return text
    positions = [position for position, character in enumerate(text) if character != " "]
    first = start - tokenized.count(" ", 0, start)
    last = end - tokenized.count(" ", 0, end)
    if last >= len(positions):
        return text
    return text[positions[first] : positions[last] + 1]
