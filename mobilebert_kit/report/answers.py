"""A few questions and what each target answers, word by word against the float model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from mobilebert_kit.squad.dataset import Question

SHOWN = 10
Predictions = Mapping[str, str]  # {question id: text}


@dataclass(frozen=True)
class Answered:
    """One question: what is right, what float says, what each target says."""

    question: str
    right: tuple[str, ...]
    reference: str
    by_target: Mapping[str, str]


@dataclass(frozen=True)
class Answers:
    """
    Attributes:
        questions: all that were asked.
        differ: of these, those that some target answers otherwise than float, to the letter.
        differ_by_target: and those that each one does.
        shown: of those that differ, evenly spread; the first others where these are too few.
    """

    questions: int
    differ: int
    differ_by_target: Mapping[str, int]
    shown: Sequence[Answered]


def compare_answers(
    questions: Sequence[Question],
    reference: Predictions,
    by_target: Mapping[str, Predictions],
    most: int = SHOWN,
) -> Answers:
    """A question that nothing was answered to (a context without words) counts as answered by nothing."""
    others = {
        target: {
            question.id for question in questions if given.get(question.id) != reference.get(question.id)
        }
        for target, given in by_target.items()
    }
    differ = [q for q in questions if any(q.id in ids for ids in others.values())]
    alike = [q for q in questions if not any(q.id in ids for ids in others.values())]
    spread = (
        [differ[number * len(differ) // most] for number in range(most)] if len(differ) > most else differ
    )
    return Answers(
        questions=len(questions),
        differ=len(differ),
        differ_by_target={target: len(ids) for target, ids in others.items()},
        shown=[
            Answered(
                question.question,
                tuple(dict.fromkeys(question.answers)),
                reference.get(question.id, ""),
                {target: given.get(question.id, "") for target, given in by_target.items()},
            )
            for question in (*spread, *alike[: most - len(spread)])
        ],
    )


def word_differences(answer: str, reference: str) -> list[tuple[str, str]]:
    """What makes `answer` of `reference`, in order: (same, added or missing; the words, a space between)."""
    ours, theirs = answer.split(), reference.split()
    pieces = []
    for kind, i, j, k, m in SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(("same", " ".join(ours[k:m])))
            continue
        pieces.append(("missing", " ".join(theirs[i:j])))
        pieces.append(("added", " ".join(ours[k:m])))
    return [(kind, words) for kind, words in pieces if words]
