"""The table of characters of the JVM code: what the host's tokenizer and scorer do with each code point.

    python tools/java_characters.py android_assets/java/src/main/resources/ai/mobilebertkit/characters.txt

Nothing here knows Unicode: the host's own functions are asked about every code point, so that a phone whose
Java has another version of Unicode gives the same tokens all the same. Python 3.11 (Unicode 14) writes it.

One entry a line, numbers in hex:
    NAME FIRST LAST             a range of a set
    lower|normal CODE TEXT...   the code points that this one becomes
    order CODE CLASS            its canonical combining class, where it survives the removal of accents

    removed, space              what clean_text drops, and turns into U+0020
    lower, cased, ignorable     str.lower(), and the two sets that decide which sigma is a final one
    ideograph                   stands alone: the normalizer puts spaces around it
    normal                      the normalizer's text, without those spaces; Hangul syllables are left out
    accent, blocking            what the normalizer drops; those of them that no mark is sorted past
    separator, punctuation      where the pre-tokenizer splits: the character is dropped, is a token
    whitespace, word            str.split() and \\w of re, as the scorer uses them
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator

import tokenizers
from tokenizers import normalizers

from mobilebert_kit.artifacts import write_new
from mobilebert_kit.main import run
from mobilebert_kit.squad.tokenizer import UNKNOWN, clean_text, make_tokenizer

CODES = [code for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
HANGUL = range(0xAC00, 0xD7A4)  # decomposed by arithmetic: Unicode, chapter 3.12
# Two marks that are no accents (category Mc), of classes 226 and 216: sorted, the second comes first.
LATER, EARLIER = "\U0001d16d", "\U0001d165"

_TOKENIZER = make_tokenizer({UNKNOWN: 0})
_DECOMPOSER = normalizers.NFD()


def main(path: str) -> None:
    write_new(path, table().encode("ascii"), overwrite=True)


def table() -> str:
    """The whole file."""
    lines = [
        f"# Written by tools/java_characters.py with Unicode {unicodedata.unidata_version} of Python"
        f" and tokenizers {tokenizers.__version__}. Not to be edited."
    ]
    for name, belongs in SETS.items():
        members = [code for code in CODES if belongs(chr(code))]
        lines += [f"{name} {first:X} {last:X}" for first, last in ranges(members)]
    for name, change in MAPS.items():
        for code in CODES:
            text = change(chr(code))
            if text and text != chr(code) and (name == "lower" or code not in HANGUL):
                lines.append(" ".join([name, f"{code:X}", *(f"{ord(character):X}" for character in text)]))
    lines += [f"order {code:X} {order:X}" for code, order in orders()]
    return "".join(f"{line}\n" for line in lines)


def ranges(codes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of consecutive numbers; `codes` ascend."""
    first = last = None
    for code in codes:
        if last is not None and code != last + 1:
            yield first, last
            first = None
        first, last = code if first is None else first, code
    if last is not None:
        yield first, last


def normal(character: str) -> str:
    return _TOKENIZER.normalizer.normalize_str(character)


def pieces(character: str) -> int:
    return len(_TOKENIZER.pre_tokenizer.pre_tokenize_str(f"a{character}a"))


def orders() -> Iterator[tuple[int, int]]:
    """(code point, canonical combining class) of the marks that the normalizer keeps.

    A mark is sorted past those of larger classes, so the largest class that it is not sorted past is its own.
    """
    probes: dict[int, str] = {}  # one mark of each class
    for code in CODES:
        probes.setdefault(unicodedata.combining(chr(code)), chr(code))
    last = probes[max(probes)]
    for code in CODES:
        mark = chr(code)
        if normal(mark) == mark and _DECOMPOSER.normalize_str(last + mark) == mark + last:
            larger = [
                order
                for order, probe in probes.items()
                if _DECOMPOSER.normalize_str(probe + mark) != probe + mark
            ]
            yield code, max(order for order in probes if order < min(larger))


def is_ignorable(character: str) -> bool:
    """str.lower() looks past it for the letter that makes a sigma a final one, or not."""
    return f"a\u03a3{character}b".lower()[1] == "\u03c3" and f"a\u03a3{character}".lower()[1] == "\u03c2"


SETS: dict[str, Callable[[str], bool]] = {
    "removed": lambda c: clean_text(f"a{c}b") == "ab",
    "space": lambda c: clean_text(f"a{c}b") == "a b",
    "cased": lambda c: f"a\u03a3{c}".lower()[1] == "\u03c3",
    "ignorable": is_ignorable,
    "ideograph": lambda c: normal(c).startswith(" ") and c != " ",
    "accent": lambda c: not normal(c),
    "blocking": lambda c: not normal(c) and normal(LATER + c + EARLIER) == LATER + EARLIER,
    "separator": lambda c: pieces(c) == 2,
    "punctuation": lambda c: pieces(c) == 3,
    "whitespace": str.isspace,
    "word": lambda c: re.fullmatch(r"\w", c) is not None,
}
MAPS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "normal": lambda c: normal(c).strip(" "),
}

if __name__ == "__main__":
    run(main, arguments=["PATH"])
