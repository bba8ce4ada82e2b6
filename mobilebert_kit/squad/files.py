"""Input files, read whole."""

from __future__ import annotations

from pathlib import Path

from mobilebert_kit.errors import InputError


def read_bytes(path: str | Path, what: str, *, max_bytes: int = 2**30) -> bytes:
    """The bytes of a regular file (a pipe or a device, which could hang, is refused).

    Args:
        what: what the file should be, for the message ("a vocabulary").
    Raises:
        InputError: no such file, not a regular one, unreadable, or of more than `max_bytes` bytes.
    """
    path = Path(path)
    if not path.is_file():
        got = "something that is no regular file" if path.exists() else "no such file"
        raise InputError(f"Expected {what} at {path}, got {got}. Check the path.")
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(f"Expected {what} of {max_bytes} bytes at most, got {size} bytes in {path}.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {what} in {path}: {error.strerror}.") from error
