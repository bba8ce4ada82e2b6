"""Reading a JSON object from a file that a user names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mobilebert_kit.errors import InputError

MAX_BYTES = 64 * 2**20


def read_json_object(path: str | Path, what: str) -> dict[str, Any]:
    """The JSON object in `path` (UTF-8).

    Args:
        path: a regular file of 64 MiB at most.
        what: what the file should be, for the message ("a model configuration").
    Raises:
        InputError: no such file, unreadable, not JSON, or JSON of another kind than an object.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"Expected {what} at {path}, got no such file. Check the path.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"Expected {what} of {MAX_BYTES} bytes at most, got {size} bytes in {path}.")
    try:
        value = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {what} in {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"Expected {what} as UTF-8 JSON, got other bytes in {path}: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"Expected {what} as JSON, got something else in {path}: {error}.") from error
    if not isinstance(value, dict):
        raise InputError(f"Expected {what} as a JSON object, got a {type(value).__name__} in {path}.")
    return value
