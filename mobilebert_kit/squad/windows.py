"""Windows: a question and a stretch of its context, as the model takes them.

    [CLS] question [SEP] context from a multiple of doc_stride on [SEP] [PAD] ...
    segment 0             segment 1                              segment 0

Exactly convert_examples_to_features of Google's run_squad.py (google-research/google-research,
mobilebert/run_squad.py), so that scores compare with the published ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from mobilebert_kit.errors import InputError
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.tokenizer import CLS, SEP, encode_words

MAX_SEQ_LENGTH = 384
DOC_STRIDE = 128
MAX_QUERY_LENGTH = 64
FIRST_UNIQUE_ID = 1000000000  # run_squad.py, convert_examples_to_features

# run_squad.py, read_squad_examples, is_whitespace: not str.split(), which knows more white space.
_WHITESPACE = re.compile("[ \t\r\n\u202f]+")


@dataclass(frozen=True, eq=False)
class Window:
    """One input of the model, and where its tokens come from.

    `token_to_orig_map` and `token_is_max_context` start at token `doc_offset` (the first of the context)
    and end before the last [SEP]: entry k is for token doc_offset + k.
    """

    unique_id: int
    qas_id: str
    question_index: int  # into the list of questions
    span_index: int  # which window of its question, from 0
    input_ids: np.ndarray  # int32 [S]
    input_mask: np.ndarray  # int32 [S], 1 for a token, 0 for padding
    segment_ids: np.ndarray  # int32 [S], 1 for the context
    tokens: tuple[str, ...]  # without padding
    token_to_orig_map: np.ndarray  # int32 [n]: the word of the context (see split_words) it is a piece of
    token_is_max_context: np.ndarray  # bool [n]: no other window has more context on both sides

    @property
    def doc_offset(self) -> int:
        """The position of the first context token: question tokens + 2."""
        return len(self.tokens) - len(self.token_to_orig_map) - 1


@dataclass(frozen=True)
class _Document:
    ids: np.ndarray  # int32 [n]
    tokens: tuple[str, ...]
    word_of_token: np.ndarray  # int32 [n]


def split_words(context: str) -> list[str]:
    """The words of a context, as run_squad.py's read_squad_examples splits it."""
    return [word for word in _WHITESPACE.split(context) if word]


def span_starts(length: int, room: int, stride: int) -> list[tuple[int, int]]:
    """(start, length) of each window over `length` tokens, `room` of them at most in one."""
    spans = []
    start = 0
    while start < length:
        taken = min(length - start, room)
        spans.append((start, taken))
        if start + taken == length:
            break
        start += min(taken, stride)
    return spans


def max_context(spans: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """For each span, bool [its length]: is it, for this token, the span with the most context?

    run_squad.py, _check_is_max_context: the score is min(left, right) + 0.01 * length, the first best wins.
    """
    if not spans:
        return []
    total = spans[-1][0] + spans[-1][1]
    best_score = np.full(total, -np.inf)
    best_span = np.full(total, -1)
    for index, (start, length) in enumerate(spans):
        left = np.arange(length)
        score = np.minimum(left, length - 1 - left) + 0.01 * length
        here = slice(start, start + length)
        better = score > best_score[here]
        best_score[here] = np.where(better, score, best_score[here])
        best_span[here] = np.where(better, index, best_span[here])
    return [best_span[start : start + length] == index for index, (start, length) in enumerate(spans)]


def make_windows(
    questions: Sequence[Question],
    tokenizer: Tokenizer,
    *,
    max_seq_length: int = MAX_SEQ_LENGTH,
    doc_stride: int = DOC_STRIDE,
    max_query_length: int = MAX_QUERY_LENGTH,
) -> list[Window]:
    """All windows of `questions`, in their order; `unique_id` counts from 1000000000.

    A context without a single token (only control characters) gives no window.

    Raises:
        InputError: lengths that leave no room for the context.
    """
    if doc_stride < 1 or max_query_length < 1 or max_seq_length <= max_query_length + 3:
        raise InputError(
            "Expected a document stride and a query length of 1 at least, and a sequence length of more than "
            f"the query length + 3, got {doc_stride}, {max_query_length} and {max_seq_length}."
        )
    queries = encode_words(tokenizer, [question.question for question in questions])
    documents = _encode_documents(tokenizer, {question.context for question in questions})

    plan = []  # (question index, span index, start, length, max context)
    for index, question in enumerate(questions):
        query_length = min(len(queries[index][0]), max_query_length)
        room = max_seq_length - query_length - 3  # [CLS], [SEP], [SEP]
        spans = span_starts(len(documents[question.context].tokens), room, doc_stride)
        for span_index, ((start, length), best) in enumerate(zip(spans, max_context(spans), strict=True)):
            plan.append((index, span_index, start, length, best))

    cls_id, sep_id = tokenizer.token_to_id(CLS), tokenizer.token_to_id(SEP)
    # One block each, so that a window's arrays are views and 10,833 windows cost three allocations.
    ids, mask, segments = np.zeros((3, len(plan), max_seq_length), np.int32)
    windows = []
    for row, (index, span_index, start, length, best) in enumerate(plan):
        question = questions[index]
        document = documents[question.context]
        query_ids, query_tokens = queries[index]
        query_ids, query_tokens = query_ids[:max_query_length], query_tokens[:max_query_length]
        offset, end = len(query_ids) + 2, start + length
        ids[row, 0] = cls_id
        ids[row, 1 : offset - 1] = query_ids
        ids[row, offset - 1] = sep_id
        ids[row, offset : offset + length] = document.ids[start:end]
        ids[row, offset + length] = sep_id
        mask[row, : offset + length + 1] = 1
        segments[row, offset : offset + length + 1] = 1
        windows.append(
            Window(
                unique_id=FIRST_UNIQUE_ID + row,
                qas_id=question.id,
                question_index=index,
                span_index=span_index,
                input_ids=ids[row],
                input_mask=mask[row],
                segment_ids=segments[row],
                tokens=(CLS, *query_tokens, SEP, *document.tokens[start:end], SEP),
                token_to_orig_map=document.word_of_token[start:end],
                token_is_max_context=best,
            )
        )
    return windows


def _encode_documents(tokenizer: Tokenizer, contexts: set[str]) -> dict[str, _Document]:
    """Each context in wordpieces. run_squad.py tokenizes word by word, so each different word goes once."""
    words_of = {context: split_words(context) for context in contexts}
    vocabulary = sorted({word for words in words_of.values() for word in words})
    pieces = dict(zip(vocabulary, encode_words(tokenizer, vocabulary), strict=True))
    documents = {}
    for context, words in words_of.items():
        encoded = [pieces[word] for word in words]
        counts = [len(word_ids) for word_ids, _ in encoded]
        documents[context] = _Document(
            ids=np.array([token_id for word_ids, _ in encoded for token_id in word_ids], np.int32),
            tokens=tuple(token for _, tokens in encoded for token in tokens),
            word_of_token=np.repeat(np.arange(len(words), dtype=np.int32), counts),
        )
    return documents
