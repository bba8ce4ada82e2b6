"""Broken .tflite files made out of good ones: bits flipped, cut, spliced, offsets and counts gone wild.

Damage spread evenly over a file mostly hits constants, names and offsets, and a file with one wrong offset is
mostly refused at once. So a file is searched for what looks like tables and vectors, and damage is aimed: at
offsets and counts, which try the reader, and at plain numbers, which leave a readable model for the checkers.

    Mutator(corpus, seed).mutant(17)    # always the same bytes for the same corpus, seed and number
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

EXTREMES = (0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFF, 0x8000, 0x7F, 0x80, 0x10000)
# A file this large is drawn seldom: it takes long to check, and small ones hold every op.
LARGE, LARGE_SHARE = 20_000, 0.03
_SLOTS_MOST = 40  # no table of the schema has more fields


@dataclass(frozen=True)
class Places:
    """Where the structure of a file lies: offsets in bytes.

    tables: where a table starts (with the distance to its vtable). fields: of tables, those that are numbers.
    slots: the entries of vtables. offsets: words that point to a table or vector. counts: of vectors.
    elements: 32-bit elements of the shorter vectors.
    """

    tables: tuple[int, ...]
    fields: tuple[int, ...]
    slots: tuple[int, ...]
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    elements: tuple[int, ...]


def _fields(data: bytes, table: int) -> tuple[range, list[int]] | None:
    """(The vtable's entries, the fields present) where a table may start; None where none can."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable == table or not 0 <= vtable <= len(data) - 4:
        return None
    length, size = struct.unpack_from("<HH", data, vtable)
    if length % 2 or not 4 <= length <= 4 + 2 * _SLOTS_MOST or size < 4 or table + size > len(data):
        return None
    slots = range(vtable + 4, vtable + length, 2)
    if slots and slots[-1] + 2 > len(data):
        return None
    offsets = [struct.unpack_from("<H", data, slot)[0] for slot in slots]
    if any(offset and not 4 <= offset < size for offset in offsets):
        return None
    return slots, [table + offset for offset in offsets if offset]


def find_places(data: bytes) -> Places:
    """The structure of a .tflite file, as far as it shows without the schema."""
    words = range(0, len(data) - 3, 4)
    value = {at: struct.unpack_from("<I", data, at)[0] for at in words}
    tables = {at: found for at in words if (found := _fields(data, at)) is not None}
    slots = sorted({slot for found, _ in tables.values() for slot in found})
    offsets, counts, elements = [0], set(), set()
    for at in words:
        target = at + value[at]
        if value[at] == 0 or target not in value:
            continue
        count = value[target]
        if target in tables:
            offsets.append(at)
        elif count and target + 4 + count <= len(data):
            offsets.append(at)
            counts.add(target)
            if count <= 64:
                elements.update(range(target + 4, min(target + 4 + 4 * count, len(data) - 3), 4))
    fields = {field for _, present in tables.values() for field in present}
    fields = sorted(fields.difference(offsets))
    return Places(*map(tuple, (sorted(tables), fields, slots, offsets, sorted(counts), sorted(elements))))


class Mutator:
    """Damages files of `corpus`, one at a time, by number."""

    def __init__(self, corpus: Sequence[bytes], seed: int) -> None:
        self.corpus, self.seed = list(corpus), seed
        self.places = [find_places(data) for data in self.corpus]
        self.small = [n for n, data in enumerate(self.corpus) if len(data) < LARGE] or range(len(self.corpus))

    def mutant(self, number: int) -> bytes:
        """The file of this number: one to four kinds of damage in one file of the corpus."""
        rng = random.Random(f"{self.seed}/{number}")
        source = rng.randrange(len(self.corpus)) if rng.random() < LARGE_SHARE else rng.choice(self.small)
        data = bytearray(self.corpus[source])
        for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3, 4))):
            kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
            kind(rng, data, self.places[source], self.corpus[rng.choice(self.small)])
        return bytes(data)


def _put(data: bytearray, at: int, value: int, size: int = 4) -> None:
    # What was cut before may have taken the place with it.
    if 0 <= at <= len(data) - size:
        data[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def _pick(rng: random.Random, places: Sequence[int], data: bytearray) -> int:
    return rng.choice(places) if places else rng.randrange(max(len(data), 1))


def _number(rng: random.Random, data: bytearray) -> int:
    """One that is an index, a size or a code in most places, or a wild one."""
    wild = (rng.choice(EXTREMES), rng.randrange(len(data) + 8), 1 << rng.randrange(32))
    return rng.randint(-3, 12) if rng.random() < 0.6 else rng.choice(wild)


def _flip(rng: random.Random, data: bytearray, places: Places, _: bytes) -> None:
    wanted = rng.choice((places.fields, places.slots, places.tables, places.elements, ()))
    for _ in range(rng.randint(1, 3)):
        at = _pick(rng, wanted, data)
        if at < len(data):
            data[at] ^= 1 << rng.randrange(8)


def _set_field(rng: random.Random, data: bytearray, places: Places, _: bytes) -> None:
    """Codes, types, indices, options: a byte or a word."""
    _put(data, _pick(rng, places.fields, data), _number(rng, data), rng.choice((1, 1, 4)))


def _set_element(rng: random.Random, data: bytearray, places: Places, _: bytes) -> None:
    """Shapes, operands, scales, and constants of int32: axes, permutations, sizes."""
    _put(data, _pick(rng, places.elements, data), _number(rng, data))


def _exchange(rng: random.Random, data: bytearray, places: Places, _: bytes) -> None:
    """Two numbers change places: operands, sizes, codes."""
    kind = rng.choice((places.fields, places.elements))
    first, second = _pick(rng, kind, data), _pick(rng, kind, data)
    size = rng.choice((1, 4))
    a, b = data[first : first + size], data[second : second + size]
    _put(data, first, int.from_bytes(b, "little"), size)
    _put(data, second, int.from_bytes(a, "little"), size)


def _drop_field(rng: random.Random, data: bytearray, places: Places, _: bytes) -> None:
    """A field at its default, or in another's place. Tables share vtables: many of a kind change at once."""
    _put(data, _pick(rng, places.slots, data), rng.choice((0, 0, 0, 4, 8, 12, rng.randrange(64), 0xFFFF)), 2)


def _set_count(rng: random.Random, data: bytearray, places: Places, _: bytes) -> None:
    at = _pick(rng, places.counts, data)
    if at + 4 <= len(data):
        count = struct.unpack_from("<I", data, at)[0]
        _put(data, at, rng.choice((0, count - 1, count + 1, 2 * count, len(data) // 4, rng.choice(EXTREMES))))


def _redirect(rng: random.Random, data: bytearray, places: Places, _: bytes) -> None:
    """An offset that leads to another table or vector, so that two overlap, or backwards, into a cycle."""
    at = _pick(rng, places.offsets, data)
    onward = [target for target in rng.choice((places.tables, places.counts)) if target > at]
    target = rng.choice(onward) if onward and rng.random() < 0.8 else rng.randrange(len(data) + 1)
    _put(data, at, target - at)


def _redirect_vtable(rng: random.Random, data: bytearray, places: Places, _: bytes) -> None:
    at, slots = _pick(rng, places.tables, data), places.slots
    other = rng.choice(slots) - 4 if slots else rng.randrange(len(data) + 1)
    _put(data, at, rng.choice((at - other, at - other, _number(rng, data))))


def _overwrite(rng: random.Random, data: bytearray, places: Places, _: bytes) -> None:
    """A run of one extreme integer."""
    at, value = _pick(rng, rng.choice((places.fields, places.elements)), data), rng.choice(EXTREMES)
    for n in range(rng.choice((1, 2, 4, 16, 64))):
        _put(data, at + 4 * n, value)


def _cut(rng: random.Random, data: bytearray, _: Places, __: bytes) -> None:
    """The end is missing, or something in between."""
    at = rng.randrange(len(data) + 1) & ~3
    del data[at : None if rng.random() < 0.5 else at + 4 * rng.randint(1, 16)]


def _splice(rng: random.Random, data: bytearray, _: Places, other: bytes) -> None:
    """Begins as this file and ends as the other, or has a piece of it."""
    at, begin = rng.randrange(len(data) + 1) & ~3, rng.randrange(len(other)) & ~3
    if rng.random() < 0.5:
        data[at:] = other[at:] if rng.random() < 0.5 else other[begin:]
    else:
        piece = other[begin : begin + 4 * rng.randint(1, 32)]
        data[at : at + len(piece)] = piece


def _duplicate(rng: random.Random, data: bytearray, _: Places, __: bytes) -> None:
    """A region once more: inserted, or over another."""
    begin, at = rng.randrange(len(data) + 1) & ~3, rng.randrange(len(data) + 1) & ~3
    piece = data[begin : begin + 4 * rng.choice((1, 4, 16, 64))]
    data[at : at if rng.random() < 0.3 else at + len(piece)] = piece


_KINDS: dict[Callable[[random.Random, bytearray, Places, bytes], None], int] = {
    # numbers
    _flip: 5,
    _set_field: 12,
    _set_element: 14,
    _exchange: 8,
    _drop_field: 4,
    _overwrite: 3,
    # structure
    _set_count: 4,
    _redirect: 5,
    _redirect_vtable: 2,
    _cut: 2,
    _splice: 3,
    _duplicate: 2,
}
