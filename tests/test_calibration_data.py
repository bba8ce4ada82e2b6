"""The data in calibration/: well-formed, disjoint, the project's own, and the published ids as recorded."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.digest import calibration_digest

FOLDER = Path(__file__).resolve().parent.parent / "calibration"
HALVES = ("demo_calibration.json", "demo_eval.json")
MAX_SEQ_LENGTH = 384
SHINGLE = 10  # words; "received the Nobel Prize in Physiology or Medicine" is 8, and nobody's


def _read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def _paragraphs(*names: str) -> list[dict[str, Any]]:
    return [paragraph for name in names for entry in _read(name)["data"] for paragraph in entry["paragraphs"]]


def _questions(*names: str) -> list[dict[str, Any]]:
    return [qa for paragraph in _paragraphs(*names) for qa in paragraph["qas"]]


def _plain(path: Path) -> list[Question]:
    """The questions of a SQuAD file by its definition, without the kit's loader."""
    return [
        Question(qa["id"], qa["question"], paragraph["context"], entry["title"], (), ())
        for entry in json.loads(path.read_text(encoding="utf-8"))["data"]
        for paragraph in entry["paragraphs"]
        for qa in paragraph["qas"]
    ]


def _shingles(text: str) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)}


@pytest.mark.parametrize("name", HALVES)
def test_half_has_the_form_of_squad(name: str) -> None:
    content = _read(name)
    assert content["version"] == "1.1"
    assert set(content) == {"version", "data"}
    for entry in content["data"]:
        assert set(entry) == {"title", "paragraphs"}
        assert entry["title"].strip()
        for paragraph in entry["paragraphs"]:
            assert set(paragraph) == {"context", "qas"}
            assert len(paragraph["qas"]) >= 4
            for qa in paragraph["qas"]:
                assert set(qa) == {"id", "question", "answers"}
                assert re.fullmatch("[0-9a-f]{24}", qa["id"])
                assert qa["question"].endswith("?")


@pytest.mark.parametrize("name", HALVES)
def test_half_is_large_enough(name: str) -> None:
    assert len(_paragraphs(name)) >= 22
    assert len(_questions(name)) >= 132


@pytest.mark.parametrize("name", HALVES)
def test_kit_loads_what_plain_reading_gives(name: str) -> None:
    loaded = load_questions(FOLDER / name)
    assert [(q.id, q.question, q.context, q.title) for q in loaded] == [
        (q.id, q.question, q.context, q.title) for q in _plain(FOLDER / name)
    ]


@pytest.mark.parametrize("name", HALVES)
def test_answers_are_whole_words_where_they_say(name: str) -> None:
    for paragraph in _paragraphs(name):
        context = paragraph["context"]
        for qa in paragraph["qas"]:
            texts = [answer["text"] for answer in qa["answers"]]
            assert 1 <= len(texts) <= 3, qa
            assert len(set(texts)) == len(texts), qa
            for answer in qa["answers"]:
                text, start = answer["text"], answer["answer_start"]
                end = start + len(text)
                assert set(answer) == {"answer_start", "text"}
                assert context[start:end] == text, qa
                assert text == text.strip() and len(text.split()) <= 10, qa
                # An answer that starts or ends inside a word can't be told by a model of word pieces.
                before, after = context[:start][-1:], context[end:][:1]
                assert not (before.isalnum() and text[0].isalnum()), qa
                assert not (after.isalnum() and text[-1].isalnum()), qa


@pytest.mark.parametrize("name", HALVES)
def test_text_is_clean(name: str) -> None:
    raw = (FOLDER / name).read_text(encoding="utf-8")
    assert unicodedata.is_normalized("NFC", raw)
    assert raw.endswith("}\n")
    texts = [(p["context"], *(qa["question"] for qa in p["qas"])) for p in _paragraphs(name)]
    for text in chain.from_iterable(texts):
        assert text == " ".join(text.split())
        assert all(unicodedata.category(character)[0] != "C" for character in text)


def test_ids_questions_titles_and_passages_occur_once() -> None:
    columns = {
        "ids": [qa["id"] for qa in _questions(*HALVES)],
        "questions": [qa["question"].lower() for qa in _questions(*HALVES)],
        "passages": [paragraph["context"] for paragraph in _paragraphs(*HALVES)],
        "titles": [entry["title"] for name in HALVES for entry in _read(name)["data"]],
    }
    for what, values in columns.items():
        assert sorted(set(values)) == sorted(values), what


def test_halves_share_no_text() -> None:
    first, second = (
        set().union(*(_shingles(paragraph["context"]) for paragraph in _paragraphs(name))) for name in HALVES
    )
    assert not first & second


@pytest.mark.parametrize("name", HALVES)
def test_some_passages_need_two_windows(name: str) -> None:
    # A word is one token at least; beside the passage a window holds [CLS], [SEP] twice, and the question.
    two_windows = [p for p in _paragraphs(name) if len(p["context"].split()) > MAX_SEQ_LENGTH - 4]
    assert len(two_windows) >= 2


def test_lengths_and_alphabets_vary() -> None:
    lengths = [len(paragraph["context"].split()) for paragraph in _paragraphs(*HALVES)]
    assert min(lengths) < 60
    assert max(lengths) > 400
    answers = [answer["text"] for qa in _questions(*HALVES) for answer in qa["answers"]]
    kinds = (r"\d{4}", r"\$|dollar", "per cent", "kilometres", " and ", r"[^\x00-\x7f]", "-", "^[A-Z]{3,}$")
    for pattern in kinds:
        assert sum(bool(re.search(pattern, answer)) for answer in answers) >= 3, pattern


@pytest.mark.parametrize("squad_file", ["dev-v1.1.json", "train-v1.1.json"])
def test_nothing_is_taken_from_squad(shared: Path, squad_file: str) -> None:
    squad = _plain(shared / "data" / "squad" / squad_file)
    ours = set().union(*(_shingles(paragraph["context"]) for paragraph in _paragraphs(*HALVES)))
    for context in {question.context for question in squad}:
        assert ours.isdisjoint(_shingles(context)), ours & _shingles(context)
    assert not {qa["id"] for qa in _questions(*HALVES)} & {question.id for question in squad}
    ours = {qa["question"].lower() for qa in _questions(*HALVES)}
    assert not ours & {question.question.strip().lower() for question in squad}


@pytest.mark.parametrize("squad_file", ["train-first100.json", "train-v1.1.json"])
def test_published_ids_and_digest(shared: Path, squad_file: str) -> None:
    published = _read("published_100.json")
    questions = _plain(shared / "data" / "squad" / squad_file)[:100]
    assert published["count"] == len(published["ids"]) == 100
    assert published["ids"] == [question.id for question in questions]
    assert published["digest"]["value"] == calibration_digest(questions)


def test_published_digest_in_readme() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert _read("published_100.json")["digest"]["value"] in readme


def test_digest_of_a_written_out_form() -> None:
    # printf '["1","Où?","A \\"b\\"\\nc"]\n["2","q","x"]\n' | sha256sum
    questions = [Question("1", "Où?", 'A "b"\nc', "t", ("A",), (0,)), Question("2", "q", "x", "t", (), ())]
    expected = "03fbd2a2849541a05a6907b8c5f02e4098bde6c71ab46091c0f75982b1e551d1"
    assert calibration_digest(questions) == expected
    assert calibration_digest(iter(questions)) == expected


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"id": "2"}, False),
        ({"question": "q "}, False),
        ({"context": "C"}, False),
        ({"title": "another"}, True),
        ({"answers": ("c",), "answer_starts": (0,)}, True),
    ],
)
def test_digest_sees_what_calibration_reads(change: dict[str, Any], same: bool) -> None:
    question = Question("1", "q", "c", "t", (), ())
    assert (calibration_digest([question]) == calibration_digest([replace(question, **change)])) is same


def test_digest_depends_on_order_and_boundaries() -> None:
    first, second = Question("1", "q", "c", "t", (), ()), Question("2", "q", "c", "t", (), ())
    assert calibration_digest([first, second]) != calibration_digest([second, first])
    assert calibration_digest([Question("1", "q\nc", "d", "", (), ())]) != calibration_digest(
        [Question("1", "q", "c\nd", "", (), ())]
    )
