"""Answers from logits: against the plain loops of run_squad.py, and alignments worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_question_model as tiny

from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.squad.answers import NO_ANSWER, align_answer, align_answer_as_app, extract_answers
from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.metric import score
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows, split_words

LENGTH = 48


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    tokenizer = load_tokenizer(tiny.write_vocab(tmp_path_factory.mktemp("vocab")))
    contexts = ("Steve Smith's red car was in Paris (1999), not in London. " * 4, "A river.", "x " * 90)
    questions = [Question(f"q{n}", "Who was it?", c, "", ("x",), (0,)) for n, c in enumerate(contexts)]
    return questions, make_windows(
        questions, tokenizer, max_seq_length=LENGTH, doc_stride=11, max_query_length=8
    )


def plain_loops(questions, windows, start, end, n_best, max_length):
    """write_predictions of run_squad.py for the first answer, in words of its own."""
    answers = {}
    for index, question in enumerate(questions):
        candidates = []
        for row, window in enumerate(windows):
            if window.question_index != index:
                continue
            last = len(window.tokens) - 1
            by_start = sorted(range(LENGTH), key=lambda i, row=row: start[row][i], reverse=True)[:n_best]
            by_end = sorted(range(LENGTH), key=lambda i, row=row: end[row][i], reverse=True)[:n_best]
            for s in by_start:
                for e in by_end:
                    inside = window.doc_offset <= s < last and window.doc_offset <= e < last
                    if (
                        inside
                        and s <= e < s + max_length
                        and window.token_is_max_context[s - window.doc_offset]
                    ):
                        candidates.append((float(start[row][s]) + float(end[row][e]), row, s, e))
        if not candidates:
            answers[question.id] = NO_ANSWER
            continue
        _, row, s, e = max(candidates, key=lambda candidate: candidate[0])  # the first of equals
        window = windows[row]
        pieces = " ".join(window.tokens[s : e + 1]).replace(" ##", "")
        first, last = (window.token_to_orig_map[at - window.doc_offset] for at in (s, e))
        answers[question.id] = align_answer(pieces, split_words(question.context)[first : last + 1])
    return answers


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [3, 50, None])  # few levels: many ties
def test_the_plain_loops(dataset, seed, levels):
    questions, windows = dataset
    rng = np.random.default_rng(seed)
    shape = (2, len(windows), LENGTH)
    logits = rng.normal(size=shape) if levels is None else rng.integers(0, levels, shape)
    start, end = logits.astype(np.float32)
    for n_best, max_length in ((20, 30), (3, 4), (1, 30)):
        answers = extract_answers(
            questions, windows, start, end, n_best=n_best, max_answer_length=max_length
        ).official
        assert answers == plain_loops(questions, windows, start, end, n_best, max_length)


def test_the_app_adds_in_single_precision(dataset):
    """2^24 + 0 comes first and 2^24 - 1 + 1.5 is better: by half, which a float of this size cannot hold."""
    questions, windows = dataset
    start, end = np.full((2, len(windows), LENGTH), -100, np.float32)
    row = next(row for row, window in enumerate(windows) if window.question_index == 1)
    offset = windows[row].doc_offset  # a river .
    start[row, offset : offset + 2] = 2**24 - 1, 2**24
    end[row, offset : offset + 2] = 1.5, 0
    answers = extract_answers(questions, windows, start, end)
    assert (answers.official["q1"], answers.app["q1"]) == ("A", "river")


def test_no_valid_span_and_no_window(dataset):
    questions, windows = dataset
    start, end = np.zeros((2, len(windows), LENGTH), np.float32)
    start[:, 0], end[:, 0] = 9, 9  # all at [CLS]
    answers = extract_answers(questions, windows, start, end, n_best=1)
    assert set(answers.official.values()) == {NO_ANSWER}
    none = extract_answers(questions, [], np.zeros((0, LENGTH)), np.zeros((0, LENGTH)))
    assert none.official == none.app == {"q0": NO_ANSWER, "q1": NO_ANSWER, "q2": NO_ANSWER}


def test_nan_is_a_failed_check(dataset):
    questions, windows = dataset
    start, end = np.zeros((2, len(windows), LENGTH), np.float32)
    end[-1, 5] = np.nan
    with pytest.raises(CheckFailed, match=f"NaN in 1 of {len(windows)} windows, the first of question q2"):
        extract_answers(questions, windows, start, end)


def test_logits_of_another_shape(dataset):
    questions, windows = dataset
    with pytest.raises(ValueError, match="Expected logits of shape"):
        extract_answers(questions, windows, np.zeros((1, LENGTH)), np.zeros((1, LENGTH)))


@pytest.mark.parametrize(
    ("pieces", "words", "official", "app"),
    [
        ("steve smith", "Steve Smith's", "Steve Smith", "Steve Smith"),
        ("1895", "(1895-1943).", "1895", "1895"),
        ("1895 - 1943", "(1895-1943).", "1895-1943", "1895-1943"),
        ("muller", "\u201cMüller\u201d,", "Müller", "Müller"),
        ("s", "Steve's", "S", "S"),  # the first place where it is found
        ("zzz", "Steve Smith's", "Steve Smith's", "Steve Smith's"),  # not found
        ("[UNK]", "\u4e2d\u6587.", "\u4e2d\u6587.", "\u4e2d\u6587."),  # nor this
        # A zero-width space is one character more than its tokens: run_squad.py gives up, the app counts on.
        ("smith", "\u200bSteve Smith,", "\u200bSteve Smith,", "e Smit"),
        # A character that splits in two under NFD, or an accent that stands alone, moves the app's count.
        ("paris", "e\u0301 Paris!", "e\u0301 Paris!", "\u0301 Pari"),
    ],
)
def test_alignment(pieces, words, official, app):
    assert align_answer(pieces, words.split(" ")) == official
    assert align_answer_as_app(pieces, words.split(" ")) == app


def test_logits_at_the_true_answers_give_them_back(shared):
    """A model that knows: only what WordPiece cannot cut ("Japan" in "Japanese") is lost."""
    questions = load_questions(shared / "data" / "squad" / "dev-v1.1.json", limit=600)
    windows = make_windows(questions, load_tokenizer(shared / "data" / "vocab.txt"))
    start, end = np.zeros((2, len(windows), 384), np.float32)
    for row, window in enumerate(windows):
        question = questions[window.question_index]
        words = split_words(question.context)
        first = len(split_words(question.context[: question.answer_starts[0]] + "x")) - 1
        last = first + len(split_words(question.answers[0])) - 1
        assert words[last]
        inside = (window.token_to_orig_map >= first) & (window.token_to_orig_map <= last)
        if inside.any():
            # The first word may begin, and the last end, with punctuation that is not the answer's.
            span = window.doc_offset + np.flatnonzero(inside)
            start[row, span[0]], end[row, span[-1]] = 5, 5
    metrics = score(questions, extract_answers(questions, windows, start, end).official)
    assert metrics.f1 > 95
