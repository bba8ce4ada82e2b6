"""What the keys of a model's configuration may hold, whatever the family."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mobilebert_kit.errors import InputError


def check_size(key: str, value: Any, largest: int, *, least: int = 1) -> None:
    """InputError unless `value` is a whole number from `least` to `largest`."""
    if type(value) is not int or not least <= value <= largest:
        raise InputError(f"Expected {key} to be a whole number from {least} to {largest}, got {value!r:.80}.")


def check_word(key: str, value: Any, words: tuple[str, ...]) -> None:
    """InputError unless `value` is one of `words`."""
    if value not in words:
        raise InputError(f"Expected {key} to be {' or '.join(words)}, got {value!r:.80}.")


def check_divides(key: str, count: int, whole: str, size: int) -> None:
    """InputError unless `count` parts of equal size make up `size`."""
    if size % count:
        raise InputError(f"Expected {whole} to be a multiple of {key}, got {size} and {count}.")


def check_variant(
    raw: Mapping[str, Any], built: Mapping[str, Any], defaults: Mapping[str, Any], what: str
) -> None:
    """InputError, which lists every key of `built` that `raw` (or its default) sets to something else.

    Args:
        raw: the configuration as it was read.
        built: key -> the only value that this kit builds.
        defaults: key -> what the configuration means where the key is absent.
        what: the model and the file, for the message: "a BERT ... in config.json".
    """
    wrong = [
        f"{key}: expected {json.dumps(value)}, got {json.dumps(raw.get(key, defaults[key]))[:80]}"
        + ("" if key in raw else " (the default, as the key is absent)")
        for key, value in built.items()
        if raw.get(key, defaults[key]) != value
    ]
    if wrong:
        lines = "".join(f"\n    {line}" for line in wrong)
        raise InputError(f"Expected {what}, got another variant:{lines}")
