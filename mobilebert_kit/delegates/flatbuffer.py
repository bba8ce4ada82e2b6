"""A FlatBuffers reader in which every offset, size and count is checked before it is followed.

Why not the `flatbuffers` package with a generated schema (ai-edge-litert ships one): it has no verifier in
Python. Offsets are followed unchecked, a negative one reads from the end of the file, a vector may claim four
billion elements, and a thousand tables may share one large vector. A .tflite comes from strangers, and the
checker must also run where `tflite_runtime`, which ships no schema, is the runtime.

Format: https://flatbuffers.dev/internals/ (little endian; a table starts with the signed distance back to its
vtable; offsets are unsigned and forward only).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

# Above any model of this family (full-size MobileBERT in int8: 12,000 tables, 460,000 vector elements; with
# buckets that many for each of eight lengths), and low enough that what is built from a hostile file stays
# under 300 MB.
MAX_TABLES = 100_000
MAX_ELEMENTS = 5_000_000

_SIZES = {"b": 1, "B": 1, "?": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8}


class BrokenBuffer(ValueError):
    """The bytes are no valid FlatBuffer; the text says what was expected where."""


class FlatBuffer:
    """The bytes of a file, and how much may still be read out of them."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data)
        self.size = len(self.data)
        self._tables = MAX_TABLES
        # No element of a well-formed file is read twice, so it cannot give more elements than it has bytes.
        self._elements = min(MAX_ELEMENTS, self.size)

    def scalar(self, kind: str, at: int) -> int | float | bool:
        self.check(at, _SIZES[kind], "a number")
        return struct.unpack_from("<" + kind, self.data, at)[0]

    def check(self, at: int, length: int, what: str) -> None:
        if at < 0 or length < 0 or at + length > self.size:
            raise BrokenBuffer(f"{what} of {length} bytes at offset {at}, but the file has {self.size} bytes")

    def charge(self, elements: int) -> None:
        self._elements -= elements
        if self._elements < 0:
            raise BrokenBuffer(f"more than {min(MAX_ELEMENTS, self.size)} vector elements in all")

    def table(self, at: int) -> Table:
        self._tables -= 1
        if self._tables < 0:
            raise BrokenBuffer(f"more than {MAX_TABLES} tables")
        return Table(self, at)

    def root(self, identifier: bytes) -> Table:
        """The root table of a file with this four-byte identifier (at offset 4)."""
        self.check(0, 8, "the header")
        found = bytes(self.data[4:8])
        if found != identifier:
            raise BrokenBuffer(f"expected the identifier {identifier!r} at offset 4, got {found!r}")
        return self.table(int(self.scalar("I", 0)))


class Table:
    """One table; fields are addressed by their slot: their position in the schema, from 0."""

    __slots__ = ("_at", "_buffer", "_fields", "_size")

    def __init__(self, buffer: FlatBuffer, at: int) -> None:
        vtable = at - int(buffer.scalar("i", at))
        length = int(buffer.scalar("H", vtable))
        self._size = int(buffer.scalar("H", vtable + 2))
        if length < 4 or length % 2:
            raise BrokenBuffer(
                f"a vtable of {length} bytes at offset {vtable}: expected an even number from 4"
            )
        buffer.check(vtable, length, "a vtable")
        buffer.check(at, self._size, "a table")
        self._buffer, self._at = buffer, at
        self._fields = struct.unpack_from(f"<{length // 2 - 2}H", buffer.data, vtable + 4)

    def _field(self, slot: int, size: int) -> int | None:
        """Absolute offset of a field, None where the file leaves it at its default."""
        offset = self._fields[slot] if slot < len(self._fields) else 0
        if offset == 0:
            return None
        if offset < 4 or offset + size > self._size:
            raise BrokenBuffer(f"field {slot} lies outside its table at offset {self._at}")
        return self._at + offset

    def has(self, slot: int) -> bool:
        return slot < len(self._fields) and self._fields[slot] != 0

    def number(self, slot: int, kind: str, default: int | float | bool) -> int | float | bool:
        at = self._field(slot, _SIZES[kind])
        return default if at is None else self._buffer.scalar(kind, at)

    def _target(self, slot: int) -> int | None:
        at = self._field(slot, 4)
        return None if at is None else at + int(self._buffer.scalar("I", at))

    def _vector(self, slot: int, element_size: int) -> tuple[int, int] | None:
        """(offset of the first element, count), checked to lie inside the file."""
        at = self._target(slot)
        if at is None:
            return None
        count = int(self._buffer.scalar("I", at))
        self._buffer.check(at + 4, count * element_size, f"a vector of {count} elements")
        return at + 4, count

    def table(self, slot: int) -> Table | None:
        at = self._target(slot)
        return None if at is None else self._buffer.table(at)

    def numbers(self, slot: int, kind: str) -> tuple:
        """A vector of numbers; () where absent."""
        vector = self._vector(slot, _SIZES[kind])
        if vector is None:
            return ()
        at, count = vector
        self._buffer.charge(count)
        return struct.unpack_from(f"<{count}{kind}", self._buffer.data, at)

    def data(self, slot: int) -> memoryview | None:
        """A vector of bytes, not copied; None where absent."""
        vector = self._vector(slot, 1)
        return None if vector is None else self._buffer.data[vector[0] : vector[0] + vector[1]]

    def text(self, slot: int) -> str:
        """A string; "" where absent, U+FFFD for what is no UTF-8."""
        data = self.data(slot)
        if data is None:
            return ""
        self._buffer.charge(len(data))
        return str(data, "utf-8", "replace")

    def each(self, slot: int, make: Callable[[int, Table], object]) -> tuple:
        """`make(index, table)` of every table in a vector of tables; () where absent."""
        vector = self._vector(slot, 4)
        if vector is None:
            return ()
        at, count = vector
        self._buffer.charge(count)
        made = []
        for index in range(count):
            place = at + 4 * index
            made.append(make(index, self._buffer.table(place + int(self._buffer.scalar("I", place)))))
        return tuple(made)
