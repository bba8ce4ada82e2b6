"""The JVM code of android_assets/java against the host: tokens, windows, answers, scores, bundles.

A sample; tools/check_java.py compares on a whole dataset.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import REPOSITORY

from mobilebert_kit.squad.dataset import Question, load_questions
from tools.java_cases import (
    LOGITS,
    Java,
    compare_candidates,
    compare_metrics,
    compare_questions,
    compare_texts,
)
from tools.java_texts import every_character, random_pairs, random_texts

# All of Unicode but what repeats: ideographs, Hangul, Tangut, planes without a character.
BLOCKS = (
    *((0, 0x3410), (0x4DB0, 0x4E10), (0x9FF0, 0xAC40), (0xD780, 0x17010), (0x187F0, 0x20010)),
    *((0x2A6D0, 0x2A710), (0x2B730, 0x2B930), (0x2CEA0, 0x2CEC0), (0x2F800, 0x2FA20)),
    *((0xE0000, 0xE0200), (0x10FFF0, 0x110000)),
)


@pytest.fixture(scope="module")
def vocab(demo_checkpoint: Path) -> Path:
    return demo_checkpoint / "vocab.txt"


def sample() -> list[Question]:
    """300 questions: the kit's own, some on passages of several windows, and two odd ones."""
    files = (REPOSITORY / "calibration" / f"demo_{name}.json" for name in ("calibration", "eval"))
    questions = [question for file in files for question in load_questions(file)][50:348]
    odd = (
        "\U0001d400\U00020000 the \u00c5ngstr\u00f6m\u00b2 U.S.A. 5\u00a0km \ufb01nal \u0391\u03a3\u202fx "
        * 60
    )
    truth = "the \u00c5ngstr\u00f6m"
    long = Question("long", "what " * 90, odd, "", (truth, truth), (4, 4))
    nothing = Question("nothing", "who?", "\u200b \ufeff", "", ("x",), (0,))
    return [*questions, long, nothing]


def test_random_texts_give_the_same_tokens(java: Java, vocab: Path) -> None:
    outcome = compare_texts(java, vocab, list(random_texts(20_000, seed=0)))
    assert outcome.compared == {"texts": 20_000}
    assert outcome.differences == []


def test_every_character_gives_the_same_tokens(java: Java, vocab: Path) -> None:
    assert compare_texts(java, vocab, list(every_character(BLOCKS))).differences == []


def test_words_that_no_vocabulary_has(java: Java, vocab: Path) -> None:
    long = [letter * count for letter in "a\U0001d400" for count in (200, 201)]
    odd = ["", " ", "[SEP] [UNK] ##s", "\ud83d", "\ude00\ud83d", "\U0001f600"]
    assert compare_texts(java, vocab, [*long, *odd]).differences == []


def test_questions_give_the_same_windows_answers_and_scores(java: Java, vocab: Path) -> None:
    outcome = compare_questions(java, vocab, sample(), LOGITS, seed=0)
    assert outcome.compared["questions"] == 300
    assert outcome.compared["windows"] > 400
    assert outcome.differences == []


def test_the_n_best_candidates(java: Java, vocab: Path) -> None:
    outcome = compare_candidates(java, vocab, sample()[::7][-20:] + sample()[-2:], LOGITS, seed=0)
    assert outcome.compared["candidates"] > 1000
    assert outcome.differences == []


def test_scores_of_odd_answers(java: Java) -> None:
    assert compare_metrics(java, random_pairs(3000, seed=0)).differences == []


def test_a_difference_would_be_seen(java: Java, vocab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself: a host that answers otherwise is told from Java."""
    monkeypatch.setattr("tools.java_cases.basic_tokens", lambda text: text.split())
    assert len(compare_texts(java, vocab, ["plain", "two words", "comma,"]).differences) == 1


def test_nothing_newer_than_android_7(java: Java, tmp_path: Path) -> None:
    """API 24 has the classes of Java 8; newer ones of Java 11 would want desugaring."""
    Java(tmp_path).compile(release=8)
