"""Exact match, F1 and the MLPerf app's F1, against values worked out by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.metric import (
    app_f1,
    app_f1_score,
    exact_match_score,
    f1_score,
    normalize_answer,
    score,
)


def question(question_id: str, *answers: str) -> Question:
    return Question(question_id, "?", " ".join(answers), "", answers, tuple(0 for _ in answers))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat, sat!", "cat sat"),
        ("an A the THE", ""),
        ("theatre of a banana", "theatre of banana"),  # articles only as whole words
        ("re-elected", "reelected"),  # punctuation goes before words are split
        ("the-end", "theend"),  # ... and before articles are looked for
        ("\u201cquoted\u201d", "\u201cquoted\u201d"),  # string.punctuation is ASCII
        ("one\u00a0two\tthree\n", "one two three"),
        ("a\u00a0b", "b"),
        ("É", "é"),
    ],
)
def test_normalize_answer(text, normal):
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "truth", "exact", "f1"),
    [
        ("Denver Broncos", "Denver Broncos", 1, Fraction(1)),
        ("the Denver Broncos!", "denver broncos", 1, Fraction(1)),
        ("Broncos", "Denver Broncos", 0, Fraction(2, 3)),  # precision 1, recall 1/2
        ("Denver Broncos of Denver", "Denver Broncos", 0, Fraction(2, 3)),  # precision 2/4, recall 1
        ("x y z", "z q", 0, Fraction(2, 5)),  # 1/3 and 1/2
        ("a b b", "b b b", 0, Fraction(4, 5)),  # "a" is an article: b b; 2/2 and 2/3
        ("Panthers", "Denver", 0, Fraction(0)),
        ("", "Denver", 0, Fraction(0)),
        ("the", "a", 1, Fraction(0)),  # both empty: equal, and yet without a common word
    ],
)
def test_official_pair(prediction, truth, exact, f1):
    assert exact_match_score(prediction, truth) == exact
    assert f1_score(prediction, truth) == pytest.approx(float(f1), abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "truth", "f1"),
    [
        ("Denver Broncos", "Denver Broncos", Fraction(1)),
        ("the Broncos", "Broncos", Fraction(2, 3)),  # the article is a word: 1/2 and 1
        ("the Broncos", "a Broncos", Fraction(1)),  # both articles are the same, empty word
        ("The Broncos", ". broncos", Fraction(1)),  # and so is bare punctuation
        ("THE Broncos", "Broncos", Fraction(2, 3)),  # "THE" is no article to the app, but a word all the same
        ("THE Broncos", "the Broncos", Fraction(1, 2)),  # "the" here is empty, "THE" becomes "the"
        ("one  two", "one two", Fraction(4, 5)),  # split at each space: an empty word between; 2/3 and 1
        ("one\ttwo", "one two", Fraction(0)),  # a tab is no space
        ("10–20", "1020", Fraction(0)),  # only ASCII punctuation goes
        ("10-20", "1020", Fraction(1)),
        ("É", "é", Fraction(0)),  # and only ASCII letters change case
        ("", "x", Fraction(0)),
    ],
)
def test_app_pair(prediction, truth, f1):
    assert app_f1_score(prediction, truth) == pytest.approx(float(f1), abs=1e-12)


def test_scores_are_the_best_answer_averaged_over_all_questions():
    questions = [
        question("1", "Denver", "Denver Broncos"),
        question("2", "x y", "the x"),
        question("3", "never asked"),
        question("4", "gone"),
    ]
    predictions = {"1": "Broncos of Denver", "2": "x", "3": "", "other": "ignored"}
    metrics = score(questions, predictions)
    # 1: "broncos of denver" / "denver broncos": 2/3, 1 -> 4/5; 2: "x" / "x" -> 1, exact; 3 and 4: 0
    assert metrics.exact_match == pytest.approx(25.0)
    assert metrics.f1 == pytest.approx(100 * (0.8 + 1) / 4)
    assert metrics.missing == ("4",)
    # 2, the app's: "x" / "x y" -> 2/3, "x" / "the x" -> 2/3
    assert app_f1(questions, predictions) == pytest.approx(100 * (0.8 + 2 / 3) / 4)
