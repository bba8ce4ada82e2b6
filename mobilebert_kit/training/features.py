"""What training reads of SQuAD: windows with the positions of the first answer.

Positions are those of Google's run_squad.py (google-research/google-research, mobilebert/run_squad.py:
read_squad_examples, convert_examples_to_features, _improve_answer_span), so that a training compares with
the published one:

    answer in characters -> words that it touches -> their wordpieces -> the answer's own wordpieces, if there
    a window that does not hold all of them -> 0, the position of [CLS]
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

from mobilebert_kit.errors import InputError
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.tokenizer import encode_words
from mobilebert_kit.squad.windows import (
    DOC_STRIDE,
    MAX_QUERY_LENGTH,
    MAX_SEQ_LENGTH,
    Window,
    make_windows,
    split_words,
)

_CHUNK = 2048  # questions tokenized at a time: their padded windows take 10 MB


@dataclass(frozen=True, eq=False)
class Features:
    """N training windows, without padding: window i has the tokens ids[offsets[i] : offsets[i + 1]]."""

    ids: np.ndarray  # int32 [tokens of all windows]
    offsets: np.ndarray  # int64 [N + 1]
    contexts: np.ndarray  # int32 [N]: position of the first context token, from which on segment_ids are 1
    starts: np.ndarray  # int32 [N]: position of the answer's first token; 0 where it is not in the window
    ends: np.ndarray  # int32 [N]: of its last token
    question_ids: tuple[str, ...]  # [N]
    left_out: tuple[str, ...] = ()  # questions whose answer is not in the words that it touches

    def __len__(self) -> int:
        return len(self.contexts)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each window, int64 [N]."""
        return np.diff(self.offsets)

    @property
    def digest(self) -> str:
        """sha256 (hex) over everything that a training reads of them."""
        digest = hashlib.sha256()
        for name, value in sorted(vars(self).items()):
            digest.update(f"{name}\0".encode())
            array = isinstance(value, np.ndarray)
            digest.update(np.ascontiguousarray(value).data if array else repr(value).encode())
        return digest.hexdigest()

    @property
    def answered(self) -> int:
        """How many windows hold their answer."""
        return int(np.count_nonzero(self.ends))


def make_features(
    questions: Sequence[Question],
    tokenizer: Tokenizer,
    *,
    max_seq_length: int = MAX_SEQ_LENGTH,
    doc_stride: int = DOC_STRIDE,
    max_query_length: int = MAX_QUERY_LENGTH,
) -> Features:
    """All windows of `questions` with the positions of their first answers, in the order of the questions.

    Raises:
        InputError: no window holds an answer, or lengths that leave no room for the context.
    """
    ids, contexts, positions, question_ids, left_out = [], [], [], [], []
    chunks = range(0, len(questions), _CHUNK)
    for first in tqdm(chunks, desc="windows", unit="chunk", leave=False, disable=None):
        chunk = questions[first : first + _CHUNK]
        windows = make_windows(
            chunk,
            tokenizer,
            max_seq_length=max_seq_length,
            doc_stride=doc_stride,
            max_query_length=max_query_length,
        )
        answers = encode_words(tokenizer, [question.answers[0] for question in chunk])
        for own in _by_question(windows):
            question = chunk[own[0].question_index]
            words = _answer_words(question)
            if words is None:
                left_out.append(question.id)
                continue
            starts = _window_starts(own, max_seq_length, doc_stride)
            span = _answer_tokens(_document(own, starts), words, answers[own[0].question_index][1])
            for window, start in zip(own, starts, strict=True):
                ids.append(window.input_ids[: len(window.tokens)].copy())  # not a view of the padded block
                contexts.append(window.doc_offset)
                positions.append(_in_window(window, start, span))
                question_ids.append(question.id)
    if not any(end for _, end in positions):
        raise InputError(
            f"Expected a window that holds its answer, to learn from, got none among {len(positions)} "
            f"windows of {len(questions)} questions (windows of {max_seq_length} tokens). Use other "
            "questions, or allow longer windows with --max_seq_length."
        )
    return Features(
        ids=np.concatenate(ids),
        offsets=np.cumsum([0, *(len(each) for each in ids)], dtype=np.int64),
        contexts=np.array(contexts, np.int32),
        starts=np.array([start for start, _ in positions], np.int32),
        ends=np.array([end for _, end in positions], np.int32),
        question_ids=tuple(question_ids),
        left_out=tuple(left_out),
    )


def _by_question(windows: Sequence[Window]) -> Iterator[list[Window]]:
    own: list[Window] = []
    for window in windows:
        if own and own[0].question_index != window.question_index:
            yield own
            own = []
        own.append(window)
    if own:
        yield own


def _answer_words(question: Question) -> tuple[int, int] | None:
    """First and last word that the first answer touches; None where run_squad.py leaves the question out:
    its words, joined by single spaces, do not hold the answer's."""
    text, start = question.answers[0], question.answer_starts[0]
    first, last = (_word_at(question.context, at) for at in (start, start + len(text) - 1))
    touched = " ".join(split_words(question.context)[first : last + 1])
    return (first, last) if " ".join(text.split()) in touched else None


def _word_at(context: str, character: int) -> int:
    """The word that a character belongs to; of a space, the word before it, as run_squad.py has it."""
    before = context[: character + 1]
    return max(len(split_words(before)) - 1, 0)


def _window_starts(own: Sequence[Window], max_seq_length: int, doc_stride: int) -> list[int]:
    """Where each window of one question begins in the document's tokens: see windows.span_starts."""
    room = max_seq_length - own[0].doc_offset - 1
    return [window.span_index * min(doc_stride, room) for window in own]


@dataclass(frozen=True)
class _Document:
    tokens: list[str]
    word_of_token: np.ndarray  # int32 [n]


def _document(own: Sequence[Window], starts: Sequence[int]) -> _Document:
    """The whole context of one question, put together from its windows."""
    tokens: list[str] = []
    words: list[np.ndarray] = []
    for window, start in zip(own, starts, strict=True):
        known = len(tokens) - start  # what the window before has of it too
        tokens += window.tokens[window.doc_offset + known : -1]
        words.append(window.token_to_orig_map[known:])
    return _Document(tokens, np.concatenate(words))


def _answer_tokens(document: _Document, words: tuple[int, int], wanted: Sequence[str]) -> tuple[int, int]:
    """The document's tokens of the words, narrowed to the first place where the answer's own tokens stand:
    of "(1895-1943)" only "1895"."""
    first, after = np.searchsorted(document.word_of_token, [words[0], words[1] + 1])
    for start in range(first, after - len(wanted) + 1):
        if wanted and document.tokens[start : start + len(wanted)] == list(wanted):
            return start, start + len(wanted) - 1
    return int(first), int(after) - 1


def _in_window(window: Window, window_start: int, span: tuple[int, int]) -> tuple[int, int]:
    """The span as positions in the window, or (0, 0) where the window does not hold it whole."""
    first, last = span[0] - window_start, span[1] - window_start
    if first < 0 or last < first or last >= len(window.token_to_orig_map):
        return 0, 0
    return first + window.doc_offset, last + window.doc_offset
