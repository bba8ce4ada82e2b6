"""Is this a whole .tflite file? Asked before a runtime maps it: tflite_runtime 2.14 does not look, and a
truncated file ends the process with a segmentation fault. (ai_edge_litert verifies what it loads.)

A FlatBuffer is written from its end: what a truncation takes away is what was written first, the buffers with
the weights. So those are followed to their ends. Format: tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from mobilebert_kit.errors import InputError

IDENTIFIER = b"TFL3"
_MODEL_FIELDS = {"operator_codes": 1, "subgraphs": 2, "buffers": 4}  # fields of Model: vectors of tables


def check_model_file(path: str | Path) -> Path:
    """`path`, if it holds a .tflite model to its end.

    Raises:
        InputError: no such file, unreadable, not a .tflite file, or a truncated one.
    """
    path = Path(path)
    if not path.is_file():
        got = "something that is no regular file" if path.exists() else "no such file"
        raise InputError(f"Expected a .tflite model at {path}, got {got}. Check the path.")
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if head[4:] != IDENTIFIER:
                raise InputError(
                    f"Expected a .tflite model ({IDENTIFIER!r} at byte 4), got {head!r}: {path}."
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _follow(data)
    except OSError as error:
        raise InputError(f"Cannot read the model {path}: {error.strerror}.") from error
    except (struct.error, _OutOfBoundsError) as error:
        raise InputError(
            f"Expected a whole .tflite model, got a truncated or damaged file: {path}."
        ) from error
    return path


class _OutOfBoundsError(Exception):
    """A place in the file lies outside of it."""


def _follow(data: mmap.mmap) -> None:
    root = _u32(data, 0)
    for name, number in _MODEL_FIELDS.items():
        vector = _field(data, root, number)
        if vector is None:
            raise _OutOfBoundsError(name)
        vector += _u32(data, vector)
        count = _u32(data, vector)
        _inside(data, vector + 4, 4 * count)
        for index in range(count):
            table = vector + 4 + 4 * index
            table += _u32(data, table)
            if name != "buffers":
                _field(data, table, 0)
                continue
            content = _field(data, table, 0)
            if content is not None:
                content += _u32(data, content)
                _inside(data, content + 4, _u32(data, content))
            offset, size = (_field(data, table, number) for number in (1, 2))  # of files beyond 2 GB
            if offset is not None and size is not None:
                start, length = (struct.unpack_from("<Q", data, at)[0] for at in (offset, size))
                _inside(data, start, length)


def _field(data: mmap.mmap, table: int, number: int) -> int | None:
    """Where field `number` of the table at `table` is, None where it is not set."""
    vtable = table - struct.unpack_from("<i", data, _inside(data, table, 4))[0]
    size, table_size = struct.unpack_from("<HH", data, _inside(data, vtable, 4))
    _inside(data, vtable, size)
    _inside(data, table, table_size)
    if 4 + 2 * number + 2 > size:
        return None
    offset = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]
    return table + offset if offset else None


def _u32(data: mmap.mmap, at: int) -> int:
    return struct.unpack_from("<I", data, _inside(data, at, 4))[0]


def _inside(data: mmap.mmap, at: int, length: int) -> int:
    if at < 0 or at + length > len(data):
        raise _OutOfBoundsError(at)
    return at
