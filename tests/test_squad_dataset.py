"""Reading SQuAD: good files, every kind of bad one, and names on a hub that is not there."""

from __future__ import annotations

import copy
import json
import os
import socket
import sys

import pytest

from mobilebert_kit.errors import InputError
from mobilebert_kit.squad import hub
from mobilebert_kit.squad.dataset import Question, load_questions

CONTEXT = "Zoë saw the red car. \U0001f697 The red car was fast."
GOOD = {
    "version": "1.1",
    "data": [
        {
            "title": "Cars",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "q1",
                            "question": "What did Zoë see?",
                            "answers": [
                                {"text": "the red car", "answer_start": 8},
                                {"text": "red car", "answer_start": 27},
                            ],
                        },
                        {"id": "q2", "question": "Who?", "answers": [{"text": "Zoë", "answer_start": 0}]},
                    ],
                }
            ],
        }
    ],
}


def first_question(content):
    return content["data"][0]["paragraphs"][0]["qas"][0]


def write(tmp_path, content):
    path = tmp_path / "squad.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_a_good_file(tmp_path):
    questions = load_questions(write(tmp_path, GOOD))
    assert questions == [
        Question("q1", "What did Zoë see?", CONTEXT, "Cars", ("the red car", "red car"), (8, 27)),
        Question("q2", "Who?", CONTEXT, "Cars", ("Zoë",), (0,)),
    ]
    assert load_questions(write(tmp_path, GOOD), limit=1) == questions[:1]


EDITS = {
    "answer elsewhere": (
        lambda c: first_question(c)["answers"][0].update(answer_start=9),
        r"'the red car' at character 9 .* got 'he red car.': question q1",
    ),
    "negative start": (
        lambda c: first_question(c)["answers"][0].update(answer_start=-11),
        "at character -11",
    ),
    "start beyond the end": (
        lambda c: first_question(c)["answers"][0].update(answer_start=10**9),
        "got '': question q1",
    ),
    "start is no number": (
        lambda c: first_question(c)["answers"][0].update(answer_start="8"),
        "whole number .* got '8': question q1",
    ),
    "start is a truth value": (
        lambda c: first_question(c)["answers"][0].update(answer_start=True),
        "whole number",
    ),
    "no start": (lambda c: first_question(c)["answers"][0].pop("answer_start"), "whole number .* got None"),
    "empty answer": (
        lambda c: first_question(c)["answers"][0].update(text=""),
        "text of an answer.*question q1",
    ),
    "no answers (v2)": (
        lambda c: first_question(c).update(answers=[], is_impossible=True),
        "unanswerable.*question q1",
    ),
    "answers no list": (
        lambda c: first_question(c).update(answers={"text": ["Zoë"]}),
        "'answers', got dict: question 'q1'",
    ),
    "duplicate id": (lambda c: first_question(c).update(id="q2"), "each id once, got q2 again"),
    "no id": (lambda c: first_question(c).pop("id"), "an id.*question number 1"),
    "empty question": (lambda c: first_question(c).update(question=" \n"), "as 'question'.*question q1"),
    "half a surrogate pair": (
        lambda c: first_question(c).update(question="\ud83d?"),
        "valid Unicode.*question q1",
    ),
    "no context": (
        lambda c: c["data"][0]["paragraphs"][0].pop("context"),
        "as 'context', got None: question q1",
    ),
    "no qas": (lambda c: c["data"][0]["paragraphs"][0].pop("qas"), "list named 'qas'"),
    "paragraph a text": (lambda c: c["data"][0]["paragraphs"].append("x"), "objects in it, got str"),
    "no paragraphs": (lambda c: c["data"][0].update(paragraphs=None), "list named 'paragraphs'"),
    "no data": (lambda c: c.pop("data"), "list named 'data', got NoneType"),
    "no question at all": (lambda c: c.update(data=[]), "Expected questions, got none"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_bad_content(tmp_path, edit):
    content = copy.deepcopy(GOOD)
    change, message = EDITS[edit]
    change(content)
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=f"(?s){message}") as caught:
        load_questions(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no json",
        json.dumps(GOOD).encode()[:-40],
        json.dumps(GOOD, ensure_ascii=False).encode("latin-1", "replace"),
        json.dumps(GOOD).encode("utf-16"),
        json.dumps([GOOD]).encode(),
        b"null",
        b"[" * 100_000,
        b'{"data": ' + b"9" * 10_000 + b"}",
        b"\x1f\x8b\x08\x00",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_no_json_or_no_squad(tmp_path, content):
    with pytest.raises(InputError, match=r"squad\.json"):
        load_questions(write(tmp_path, content))


def test_too_few_questions(tmp_path):
    path = write(tmp_path, GOOD)
    with pytest.raises(InputError, match=r"Expected 3 questions at least, got 2 in .*squad\.json"):
        load_questions(path, limit=3)
    with pytest.raises(InputError, match="1 at least, got 0"):
        load_questions(path, limit=0)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_questions(tmp_path / "absent.json")
    with pytest.raises(InputError):
        load_questions(tmp_path)
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)  # reading it would wait for ever
    with pytest.raises(InputError):
        load_questions(pipe)


def test_the_reference_files(shared):
    squad = shared / "data" / "squad"
    assert len(load_questions(squad / "dev-v1.1.json")) == 10570
    first = load_questions(squad / "train-first100.json", limit=100)
    assert [question.title for question in first[:1]] == ["University_of_Notre_Dame"]


@pytest.fixture
def named(monkeypatch):
    """A dataset of the `datasets` library's own making, where the hub's would be."""
    datasets = pytest.importorskip("datasets", reason="pip install datasets")

    def make(rows):
        def load_dataset(name, *, split):
            assert (name, split) == ("rajpurkar/squad", "train")
            return datasets.Dataset.from_list(rows)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    return make


ROW = {
    "id": "q1", "title": "Cars", "context": CONTEXT, "question": "Who?",
    "answers": {"text": ["Zoë", "red car"], "answer_start": [0, 27]},
}  # fmt: skip


def test_a_named_dataset(named):
    named([ROW, {**ROW, "id": "q2"}])
    questions = load_questions("rajpurkar/squad", split="train")
    assert questions[0] == Question("q1", "Who?", CONTEXT, "Cars", ("Zoë", "red car"), (0, 27))
    assert [question.id for question in questions] == ["q1", "q2"]


def test_a_named_dataset_of_another_form(named):
    named([{"text": "x", "label": 1}])
    with pytest.raises(InputError, match="without answers, context, id, question"):
        load_questions("rajpurkar/squad", split="train")
    named([{**ROW, "answers": {"text": ["Zoë"], "answer_start": [3]}}])
    with pytest.raises(InputError, match=r"question q1 of rajpurkar/squad \(train\)"):
        load_questions("rajpurkar/squad", split="train")


def test_a_named_dataset_offline(monkeypatch, tmp_path):
    pytest.importorskip("datasets", reason="pip install datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"dataset named 'squad-that-is-not-cached'.*offline.*local SQuAD"):
        load_questions("squad-that-is-not-cached")


def test_without_the_datasets_library(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="install datasets"):
        load_questions("squad")


def test_the_probe_of_the_hub(monkeypatch):
    for proxy in hub._PROXIES:
        monkeypatch.delenv(proxy, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert hub._reachable(f"http://127.0.0.1:{port}")
    assert not hub._reachable(f"http://127.0.0.1:{port}")  # closed now
    assert not hub._reachable("https://")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    assert hub._reachable(f"http://127.0.0.1:{port}")


def test_an_unreachable_hub_means_offline(monkeypatch):
    pytest.importorskip("datasets", reason="pip install datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(hub, "_reachable", lambda endpoint: False)
    with pytest.raises(InputError, match=r"got neither \(offline\)"):
        load_questions("squad-that-is-not-cached")
