"""Predictions in the form that the official SQuAD v1.1 script takes: {question id: answer text}."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mobilebert_kit.artifacts import write_new
from mobilebert_kit.errors import InputError
from mobilebert_kit.json_files import read_json_object


def load_predictions(path: str | Path) -> dict[str, str]:
    """The predictions in a JSON file. Raises InputError where it is none, or holds other values."""
    predictions = read_json_object(path, "predictions {question id: answer}")
    for question_id, text in predictions.items():
        if not isinstance(text, str):
            raise InputError(
                f"Expected a text as the prediction of question {question_id}, got {text!r} in {path}. "
                "An n-best file is another one: take predictions.json."
            )
    return predictions


def save_predictions(path: str | Path, predictions: Mapping[str, str], *, overwrite: bool = False) -> None:
    """Write predictions as JSON (UTF-8, in the order given). Raises InputError as `write_new` does."""
    text = json.dumps(predictions, ensure_ascii=False, indent=1) + "\n"
    write_new(path, text.encode("utf-8"), overwrite=overwrite)
