"""Input files read whole, and result files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
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


def check_new(path: str | Path, *, overwrite: bool) -> Path:
    """`path`, checked before long work starts: its folder exists, and nothing is there unless `overwrite`.

    Raises:
        InputError: it exists and `overwrite` is false, it is no regular file, or its folder is missing or
            not writable.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise InputError(f"Expected a file name to write to, got {path}, which is no regular file.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists. Name another file, or allow it to be replaced with --overwrite.")
    if not path.parent.is_dir():
        raise InputError(f"Expected the folder of {path} to exist, got no such folder. Create {path.parent}.")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"Cannot write {path}: no permission to write in {path.parent}.")
    return path


def write_new(path: str | Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write `data` to `path` by way of a temporary file beside it: a reader never sees half of it.

    Raises:
        InputError: as `check_new`, or the file system refuses (no space left, read-only).
    """
    path = check_new(path, overwrite=overwrite)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's 0600 would hide the result from other users
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise InputError(
            f"Cannot write {path}: {error.strerror}. Free some space or name another file."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
