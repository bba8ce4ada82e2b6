"""Texts that try the tokenizer and the scorer of the JVM code: random ones, and every code point there is."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np

TABLE_UNICODE = "14.0.0"  # Python's that characters.txt was written with: 3.11
CHANGED = "\u1734"  # the one character of Python 3.10's Unicode whose properties are others in 3.11

# What random texts draw from; any plane has a pool of its own.
RANGES = (
    [(0x20, 0x7F)], [(0x61, 0x7B)],
    [(0x00, 0x20), (0x7F, 0xA1), (0x2000, 0x2070), (0xFE00, 0xFE10), (0xFEFF, 0xFF00), (0xE0000, 0xE0080)],
    [(0x300, 0x370), (0x483, 0x488), (0x591, 0x5C8), (0x64B, 0x660), (0x900, 0x963), (0xF71, 0xF85)],
    [(0x1DC0, 0x1E00), (0x20D0, 0x20F1), (0x302A, 0x3030), (0x1D165, 0x1D174), (0x16FF0, 0x16FF2)],
    [(0xC0, 0x250), (0x370, 0x530), (0x1E00, 0x2000), (0x10A0, 0x1100), (0x2C00, 0x2E00), (0xA640, 0xA800)],
    [(0x1100, 0x1200), (0xAC00, 0xD7A4)],
    [(0x3000, 0xA000), (0xF900, 0xFB00)],
    [(0x20000, 0x20100), (0x2A6D0, 0x2A710), (0x2B730, 0x2B930), (0x2CEA0, 0x2CEC0), (0x2F800, 0x2FA30)],
    *([(plane << 16, (plane + 1) << 16)] for plane in range(17)),
)  # fmt: skip
TRICKY = (
    "\u03a3\u03c3\u0130\u0131\u212a\u1e9e\u00df\ufb01\u1fbc\u01c5'\u2019.,-_"  # letters and punctuation
    "\u00ad\u0085\u2028\u1680\u202f\ufffd\0"  # controls and spaces
)
WORDS = (
    *("a", "an", "the", "The", "AN", "a\u0301", "the_", "of", "1st", "x", "", " ", "--"),
    *("\u00e9t\u00e9", "\u0391\u03a3", "\u4e2d\u6587"),
)


def random_texts(count: int, seed: int) -> Iterator[str]:
    """Texts of 1 to 40 characters, each of a few of the pools; every 20th has half a surrogate pair in it."""
    rng = np.random.default_rng(seed)
    # Planes without an assigned character are empty where `characters` leaves those out.
    pools = [pool for pool in (*(list(characters(ranges)) for ranges in RANGES), list(TRICKY)) if pool]
    for number in range(count):
        weights = rng.dirichlet(np.full(len(pools), 0.1))
        chosen = rng.choice(len(pools), rng.integers(1, 41), p=weights)
        text = [pools[pool][rng.integers(len(pools[pool]))] for pool in chosen]
        if number % 20 == 0:
            text.insert(rng.integers(len(text) + 1), chr(rng.integers(0xD800, 0xE000)))
        yield "".join(text)


def random_pairs(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """(prediction, right answer): words of both, in part the same, between all kinds of white space."""
    rng = np.random.default_rng(seed)
    texts = list(random_texts(count, seed))
    for number in range(count):
        words = [WORDS[word] for word in rng.integers(len(WORDS), size=rng.integers(1, 9))]
        odd = texts[number]
        spaces = [" ", odd[:1], "\t", "\u3000", odd]
        yield tuple(
            "".join(
                part
                for word in rng.permutation(words)[rng.integers(2) :]
                for part in (str(word), spaces[rng.choice(5, p=(0.7, 0.1, 0.08, 0.08, 0.04))])
            )
            for _ in range(2)
        )


def every_character(ranges: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Each character between letters, after a sigma, and between two marks that want to change places."""
    codes = list(characters(ranges))
    for first in range(0, len(codes), 8):
        yield " ".join(
            f"a{c}b a\u03a3{c} a\u03a3{c}b {c}\u03a3 \U0001d16d{c}\U0001d165"
            for c in codes[first : first + 8]
        )


def characters(ranges: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Those of the ranges (first, end), but half surrogate pairs. Where Python has another Unicode than the
    table, only those that are assigned, and the same in both."""
    same = unicodedata.unidata_version == TABLE_UNICODE
    for first, end in ranges:
        for character in map(chr, range(first, end)):
            category = unicodedata.category(character)
            if category != "Cs" and (same or (category != "Cn" and character not in CHANGED)):
                yield character
