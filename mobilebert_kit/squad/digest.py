"""Which questions calibrated a model, in one line of a manifest: a digest of their ids and texts.

Canonical form: one line for each question, in the order of use; the line is the JSON array
[id, question, context] without spaces between its items, non-ASCII characters as they are, ended by a
line feed; all of it in UTF-8. No two lists of questions share a form, and other tools can write it too:

    jq -c '.data[].paragraphs[] | .context as $c | .qas[] | [.id, .question, $c]' F.json |
        head -100 | sha256sum
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobilebert_kit.squad.dataset import Question


def calibration_digest(questions: Iterable[Question]) -> str:
    """SHA-256 of the questions' canonical form (see the module), as 64 lower-case hexadecimal digits.

    The order counts. Titles and answers do not: calibration reads neither.
    """
    digest = hashlib.sha256()
    for question in questions:
        entry = [question.id, question.question, question.context]
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"
        digest.update(line.encode("utf-8"))
    return digest.hexdigest()
