"""python -m mobilebert_kit.ask, and the n-best list that it shows."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import tiny_question_model as tiny
from without_tensorflow import run_light

from mobilebert_kit.ask import mark_answer
from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.runtime.scoring import run_windows
from mobilebert_kit.squad.answers import extract_answers
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.n_best import Candidate, n_best_answers
from mobilebert_kit.squad.tokenizer import load_tokenizer, make_tokenizer
from mobilebert_kit.squad.windows import Window, make_windows

LENGTH = 128
SENTENCE = "Steve Smith's red car was in Paris (1999), not in London. Was the river red? "
CONTEXT = SENTENCE * 12  # several windows
VOCAB = {token: number for number, token in enumerate(tiny.VOCAB)}


def asked(question: str, context: str = CONTEXT) -> tuple[Question, list[Window]]:
    entry = Question("ask", question, context, "", (), ())
    return entry, make_windows([entry], make_tokenizer(VOCAB), max_seq_length=LENGTH, doc_stride=40)


def random_logits(windows: list[Window], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of few values, so that there are equal sums."""
    values = np.random.default_rng(seed).integers(-20, 20, (2, len(windows), LENGTH)) / 4
    return values[0].astype(np.float32), values[1].astype(np.float32)


@pytest.mark.parametrize("seed", range(10))
def test_the_first_is_the_answer(seed: int) -> None:
    question, windows = asked("Who was in Paris?")
    assert len(windows) > 3
    logits = random_logits(windows, seed)
    candidates = n_best_answers(question, windows, *logits)
    assert candidates[0].text == extract_answers([question], windows, *logits).official["ask"]


@pytest.mark.parametrize("seed", range(3))
def test_scores_and_probabilities(seed: int) -> None:
    """Against all pairs of tokens, one by one."""
    question, windows = asked("What was red?")
    start, end = random_logits(windows, seed)
    sums = []
    for row, window in enumerate(windows):
        first, last = window.doc_offset, len(window.tokens) - 1
        best = [set(np.argsort(-side[row], kind="stable")[:20].tolist()) for side in (start, end)]
        for s, e in itertools.product(range(first, last), range(first, last)):
            if s in best[0] and e in best[1] and 0 <= e - s < 30 and window.token_is_max_context[s - first]:
                sums.append(float(start[row, s]) + float(end[row, e]))
    candidates = n_best_answers(question, windows, start, end)
    texts = [candidate.text for candidate in candidates]
    assert 1 < len(texts) <= 20 and len(set(texts)) == len(texts)
    scores = [candidate.score for candidate in candidates]
    assert scores == sorted(scores, reverse=True) and scores[0] == max(sums) and set(scores) <= set(sums)
    total = sum(math.exp(score) for score in scores)
    expected = [math.exp(score) / total for score in scores]
    assert [candidate.probability for candidate in candidates] == pytest.approx(expected, rel=1e-12)


def test_no_valid_span() -> None:
    question, windows = asked("Who?", "In Paris.")
    start, end = np.zeros((2, 1, LENGTH), np.float32)
    start[:, -20:] = 1.0  # the 20 best starts are padding
    assert n_best_answers(question, windows, start, end) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers(value: float) -> None:
    question, windows = asked("Who?", "In Paris.")
    start, end = np.zeros((2, 1, LENGTH), np.float32)
    end[0, 5] = value
    with pytest.raises(CheckFailed, match="finite"):
        n_best_answers(question, windows, start, end)


@pytest.mark.parametrize(
    ("text", "first", "last", "marked"),
    [
        ("Paris", 4, 4, "He was in **Paris** (1999)."),
        ("in Paris (1999", 3, 5, "He was **in Paris (1999**)."),
        ("One", 0, 0, "**One**."),
        ("He left", 7, 8, "**He left**."),
        ("He", 7, 7, "**He** left."),  # not the first He
    ],
)
def test_marking(text: str, first: int, last: int, marked: str) -> None:
    words = ["One.", "He", "was", "in", "Paris", "(1999).", "Then?", "He", "left."]
    assert mark_answer(words, Candidate(text, 0.0, 1.0, first, last)) == marked


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ask")
    tiny.write_vocab(folder)
    tiny.write_model(folder / "model.tflite", LENGTH)
    (folder / "context.txt").write_text(CONTEXT, encoding="utf-8")
    (folder / "empty.txt").write_text(" \n", encoding="utf-8")
    (folder / "latin1.txt").write_bytes("Café".encode("latin-1"))
    return folder


def ask(folder: Path, *arguments: object, text: str | None = None):
    return run_light("mobilebert_kit.ask", "--model", folder / "model.tflite", *arguments, text=text)


def test_the_command_gives_evaluates_answer(folder: Path) -> None:
    question = Question("ask", "Who was in London?", CONTEXT, "", (), ())
    windows = make_windows([question], load_tokenizer(folder / "vocab.txt"), max_seq_length=LENGTH)
    logits = run_windows(folder / "model.tflite", windows, workers=1, progress=False)
    expected = extract_answers([question], windows, *logits).official["ask"]

    common = ("--question", question.question)
    done = ask(folder, "--context", "-", *common, "--n_best", 3, "--json", text=CONTEXT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["answer"], found["windows"], len(found["n_best"])) == (expected, len(windows), 3)
    assert all(f"**{entry['text']}**" in entry["sentence"] for entry in found["n_best"])

    printed = ask(folder, "--context", folder / "context.txt", *common).stdout.splitlines()
    assert printed[0] == expected and printed[1].startswith("    probability 0.") and len(printed) == 3


@pytest.mark.parametrize(
    ("context", "more", "message"),
    [
        ("no.txt", (), "no such file"),
        ("empty.txt", (), "Expected words in the context"),
        ("latin1.txt", (), "UTF-8"),
        ("context.txt", ("--question", " "), "--question"),
        ("context.txt", ("--n_best", "21"), "n_best"),
        ("context.txt", ("--vocab", "no.txt"), "vocabulary"),
    ],
)
def test_bad_input(folder: Path, context: str, more: tuple[str, ...], message: str) -> None:
    done = ask(folder, "--context", folder / context, "--question", "Who?", *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and "Traceback" not in done.stderr
