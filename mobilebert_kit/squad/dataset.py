"""Questions of SQuAD v1.1: from a local JSON file, or by name from the `datasets` library."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilebert_kit.errors import InputError
from mobilebert_kit.json_files import read_json_object
from mobilebert_kit.squad import hub

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_FILE_SUFFIXES = (".json", ".tfrecord", ".txt", ".gz", ".zip", ".parquet", ".jsonl", ".csv")


@dataclass(frozen=True)
class Question:
    """One question; `answer_starts` are the offsets of `answers` in `context`, in characters."""

    id: str
    question: str
    context: str
    title: str
    answers: tuple[str, ...]
    answer_starts: tuple[int, ...]


def load_questions(
    source: str | Path, *, split: str = "validation", limit: int | None = None
) -> list[Question]:
    """The questions of a SQuAD v1.1 JSON file or of a `datasets` name ("squad"), in their order.

    Args:
        source: a path, or a name on the Hugging Face hub where no such path exists.
        split: the split of a named dataset; a file has none.
        limit: the first N questions only. The whole file is checked all the same.
    Raises:
        InputError: not such a file or dataset, or one that is not SQuAD v1.1: an answer that is not in its
            context where it says, an id twice, a text empty or missing, no question, or fewer than `limit`.
    """
    if limit is not None and limit < 1:
        raise InputError(f"Expected a number of questions of 1 at least, got {limit}.")
    path = Path(source)
    name = str(source)
    if path.exists() or name.endswith(_FILE_SUFFIXES) or not _HUB_NAME.fullmatch(name):
        questions = list(_check(_rows_of_file(path), name))
    else:
        questions = list(_check(hub.rows(name, split), f"{name} ({split})"))
    if not questions:
        raise InputError(f"Expected questions, got none in {name}.")
    if limit is not None and len(questions) < limit:
        raise InputError(
            f"Expected {limit} questions at least, got {len(questions)} in {name}. Ask for fewer."
        )
    return questions[:limit]


def _rows_of_file(path: Path) -> Iterator[dict[str, Any]]:
    """The questions of a SQuAD file in the flat form of the `datasets` library."""
    what = "a SQuAD v1.1 file"
    content = read_json_object(path, what)
    for entry in _items(content, "data", f"{what} with a list named 'data'", str(path)):
        title = entry.get("title", "")
        for paragraph in _items(
            entry, "paragraphs", f"articles with a list named 'paragraphs' in {what}", str(path)
        ):
            for qa in _items(paragraph, "qas", f"paragraphs with a list named 'qas' in {what}", str(path)):
                where = f"question {qa.get('id')!r} of {path}"
                answers = list(_items(qa, "answers", "questions with a list named 'answers'", where))
                yield {
                    "id": qa.get("id"),
                    "title": title,
                    "context": paragraph.get("context"),
                    "question": qa.get("question"),
                    "answers": {
                        "text": [answer.get("text") for answer in answers],
                        "answer_start": [answer.get("answer_start") for answer in answers],
                    },
                }


def _items(holder: dict[str, Any], key: str, expected: str, where: str) -> Iterator[dict[str, Any]]:
    values = holder.get(key)
    if not isinstance(values, list):
        raise InputError(f"Expected {expected}, got {type(values).__name__}: {where}.")
    for value in values:
        if not isinstance(value, dict):
            raise InputError(f"Expected {expected}, with objects in it, got {type(value).__name__}: {where}.")
        yield value


def _check(rows: Iterable[dict[str, Any]], source: str) -> Iterator[Question]:
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        question_id = row.get("id")
        if not isinstance(question_id, str) or not question_id:
            raise InputError(
                f"Expected an id, a text, got {question_id!r}: question number {number} of {source}."
            )
        where = f"question {question_id} of {source}"
        if question_id in seen:
            raise InputError(f"Expected each id once, got {question_id} again: {source}.")
        seen.add(question_id)
        for key in ("context", "question"):
            _check_text(row.get(key), key, where)
        answers = row.get("answers")
        if not isinstance(answers, dict):
            raise InputError(f"Expected answers with 'text' and 'answer_start', got {answers!r}: {where}.")
        texts, starts = answers.get("text") or [], answers.get("answer_start") or []
        if not texts or len(texts) != len(starts):
            raise InputError(
                f"Expected one answer at least (SQuAD v1.1; v2's unanswerable questions are not taken), "
                f"got {len(texts)} texts and {len(starts)} starts: {where}."
            )
        for text, start in zip(texts, starts, strict=True):
            _check_answer(text, start, row["context"], where)
        title = row.get("title")
        yield Question(
            id=question_id,
            question=row["question"],
            context=row["context"],
            title=title if isinstance(title, str) else "",
            answers=tuple(texts),
            answer_starts=tuple(int(start) for start in starts),
        )


def _check_text(text: object, key: str, where: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"Expected a text as '{key}', got {text!r}: {where}.")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:  # JSON can hold half a surrogate pair; no tokenizer takes it
            raise InputError(f"Expected valid Unicode as '{key}', got {error.reason}: {where}.") from error


def _check_answer(text: object, start: object, context: str, where: str) -> None:
    _check_text(text, "text of an answer", where)
    if not isinstance(start, int) or isinstance(start, bool):
        raise InputError(f"Expected a whole number as 'answer_start', got {start!r}: {where}.")
    if start < 0 or context[start : start + len(text)] != text:
        shown = context[max(start, 0) : max(start, 0) + len(text)]
        raise InputError(
            f"Expected the answer {text!r} at character {start} of its context ({len(context)} characters), "
            f"got {shown!r}: {where}."
        )
