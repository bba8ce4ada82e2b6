"""Puts metadata and files into a .tflite.

    before:  root table -> operator codes, subgraphs, buffers, ... | weights
    after:   new root table, metadata | the old file as it was, weights and all | zip archive of the files

EXACT: no byte of the old file changes. A FlatBuffer's offsets are relative and point forward, so a new root
in front can refer to all that the old one did; the old root stays behind, unused. (tflite-support packs the
model anew by its schema, which keeps neither the order of the file nor the alignment of the weights.)
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence

from mobilebert_kit.android.tflite_metadata import METADATA_NAME
from mobilebert_kit.delegates.tflite_file import IDENTIFIER

_ALIGNMENT = 64  # of the old file in the new: each weight lies in it as aligned as before
_BUFFERS, _METADATA = 4, 6  # fields of Model in schema.fbs
_FIELDS, _LATER_FIELDS = 8, 16  # version and seven that are offsets; then those of buffers in other files
_DATA_OFFSET = 1  # field of Buffer that is set where data lie outside of the FlatBuffer


def pack(model: bytes, metadata: bytes, files: Mapping[str, bytes]) -> bytes:
    """The bytes of a .tflite that is `model` with `metadata` as its metadata and `files` {name: content}
    as its associated files. ValueError for a model that has metadata, or data beyond its FlatBuffer."""
    archive = io.BytesIO(_with_metadata(model, metadata))
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as packed:  # the Task Library maps it: no deflate
        for name, content in files.items():
            packed.writestr(zipfile.ZipInfo(name), content)  # dated 1980: the same bytes from every export
    return archive.getvalue()


def _with_metadata(model: bytes, metadata: bytes) -> bytes:
    old = _Root(model)
    buffers, entries = old.vector(_BUFFERS), old.vector(_METADATA)
    for entry in entries:
        if _text(model, _target(model, _field(model, entry, 0))) == METADATA_NAME:
            raise ValueError(f"Expected a model without {METADATA_NAME}, got one that has it.")
    later = any(old.has(number) for number in range(_FIELDS, _LATER_FIELDS))
    if later or any(_field(model, buffer, _DATA_OFFSET) for buffer in buffers):
        raise ValueError("Expected a model whose weights are in its FlatBuffer, got some beyond it.")
    # Sizes are known before offsets: lay out first, then point.
    name = METADATA_NAME.encode()
    layout = _Layout()
    layout.add("header", 8)
    layout.add("vtable", 4 + 2 * _FIELDS)
    layout.add("root", 4 + 4 * _FIELDS)
    layout.add("buffers", 4 + 4 * (len(buffers) + 1))
    layout.add("entries", 4 + 4 * (len(entries) + 1))
    layout.add("entry vtable", 8)
    layout.add("entry", 12)
    layout.add("name", 4 + len(name) + 1)
    layout.add("buffer vtable", 6)
    layout.add("buffer", 8)
    layout.add("data", 4 + len(metadata), before_content=4, alignment=16)
    body = layout.add("body", 0, alignment=_ALIGNMENT)
    at = layout.places
    head = bytearray(body)

    def put(where: int, form: str, *values: int) -> None:
        struct.pack_into("<" + form, head, where, *values)

    def point(where: int, target: int) -> None:
        put(where, "I", target - where)

    def table(name: str, vtable: str, offsets: Sequence[int]) -> None:
        """Its vtable, and the way back to it; fields of 4 bytes."""
        count = len(offsets)
        put(at[vtable], f"HH{count}H", 4 + 2 * count, 4 + 4 * max(1, sum(map(bool, offsets))), *offsets)
        put(at[name], "i", at[name] - at[vtable])

    put(0, "I", at["root"])
    head[4:8] = IDENTIFIER
    present = [number for number in range(_FIELDS) if old.has(number) or number in (_BUFFERS, _METADATA)]
    places = {number: 4 + 4 * place for place, number in enumerate(present)}
    table("root", "vtable", [places.get(number, 0) for number in range(_FIELDS)])
    put(at["root"] + places[0], "I", old.version)
    own = {_BUFFERS: at["buffers"], _METADATA: at["entries"]}
    for number in present[1:]:
        point(at["root"] + places[number], own.get(number) or body + old.target(number))
    for vector, tables, added in (("buffers", buffers, "buffer"), ("entries", entries, "entry")):
        put(at[vector], "I", len(tables) + 1)
        for place, target in enumerate([body + table_at for table_at in tables] + [at[added]]):
            point(at[vector] + 4 + 4 * place, target)
    table("entry", "entry vtable", [4, 8])
    point(at["entry"] + 4, at["name"])
    put(at["entry"] + 8, "I", len(buffers))
    put(at["name"], "I", len(name))
    head[at["name"] + 4 : at["name"] + 4 + len(name)] = name
    table("buffer", "buffer vtable", [4])
    point(at["buffer"] + 4, at["data"])
    put(at["data"], "I", len(metadata))
    head[at["data"] + 4 : at["data"] + 4 + len(metadata)] = metadata
    return bytes(head) + model


class _Layout:
    """Where the pieces of the new head lie, one behind the other."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self._end = 0

    def add(self, name: str, size: int, *, alignment: int = 4, before_content: int = 0) -> int:
        """The place of a piece of `size` bytes; that which is `before_content` bytes in is aligned."""
        start = self._end + -(self._end + before_content) % alignment
        self.places[name] = start
        self._end = start + size
        return start


class _Root:
    """The root table of a model that was checked (read_tflite) before."""

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._at = _u32(model, 0)

    @property
    def version(self) -> int:
        return _u32(self._model, _field(self._model, self._at, 0))

    def has(self, number: int) -> bool:
        return bool(_field(self._model, self._at, number))

    def target(self, number: int) -> int:
        return _target(self._model, _field(self._model, self._at, number))

    def vector(self, number: int) -> list[int]:
        """Where the tables of a vector of tables are."""
        if not self.has(number):
            return []
        start = self.target(number)
        return [_target(self._model, start + 4 + 4 * place) for place in range(_u32(self._model, start))]


def _field(model: bytes, table: int, number: int) -> int:
    """Where a field of the table at `table` is; 0 where it is left out."""
    vtable = table - struct.unpack_from("<i", model, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", model, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", model, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _target(model: bytes, at: int) -> int:
    return at + _u32(model, at)


def _text(model: bytes, at: int) -> str:
    return model[at + 4 : at + 4 + _u32(model, at)].decode("utf-8", "replace")


def _u32(model: bytes, at: int) -> int:
    return struct.unpack_from("<I", model, at)[0]
