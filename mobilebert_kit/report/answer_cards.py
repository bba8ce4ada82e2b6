"""The section of report.html with a few questions and every target's answers."""

from __future__ import annotations

from html import escape

from mobilebert_kit.html_page import section
from mobilebert_kit.report.answers import Answered, word_differences
from mobilebert_kit.report.evidence import Evidence

STYLE = """
.question { border-top: 1px solid #edf1f4; padding: 8px 0 }
.question p { margin: 0; color: #1c2733; overflow-wrap: anywhere }
.question p span { color: #66747f; font-size: 12.5px; margin-right: 6px }
mark { background: #ffe3a3; padding: 0 2px }
del { color: #a3341f }
"""
# An answer to a question is the context's words; these tell how it differs from float's.
_TAGS = {"same": "{}", "added": "<mark>{}</mark>", "missing": "<del>{}</del>"}


def answers(evidence: Evidence) -> str:
    """The section; it tells, too, what the few are chosen from."""
    found = evidence.answers
    counts = ", ".join(f"{target} {count}" for target, count in found.differ_by_target.items())
    if not found.differ_by_target:
        told = "Float alone was exported: there is nothing to compare its answers with."
    else:
        told = (
            f"Of {found.questions} questions {found.differ} are answered otherwise by some target than by "
            f"float, to the letter ({counts}). Here are {len(found.shown)}: of those, evenly spread, and "
            "others where these are fewer. Marked: words that float's answer does not have; struck through: "
            "words that it has."
        )
    return section("Answers", told, "".join(map(_question, found.shown)))


def _question(answered: Answered) -> str:
    lines = [
        f"<p><b>{_text(answered.question)}</b></p>",
        f"<p><span>right</span>{' <span>or</span> '.join(map(_text, answered.right))}</p>",
        f"<p><span>float</span>{_text(answered.reference)}</p>",
    ]
    # Targets that answer alike share a line.
    alike: dict[str, list[str]] = {}
    for target, answer in answered.by_target.items():
        alike.setdefault(answer, []).append(target)
    for answer, targets in alike.items():
        same = answer == answered.reference
        told = "the same" if same else _marked(answer, answered.reference)
        lines.append(f"<p><span>{escape(', '.join(targets))}</span>{told}</p>")
    return f'<div class="question">{"".join(lines)}</div>'


def _marked(answer: str, reference: str) -> str:
    pieces = (_TAGS[kind].format(escape(words)) for kind, words in word_differences(answer, reference))
    return f"<bdi>{' '.join(pieces) or 'no answer'}</bdi>"


def _text(value: str) -> str:
    """Whatever direction it is written in, it turns nothing around it."""
    return f"<bdi>{escape(value)}</bdi>" if value.strip() else "no answer"
