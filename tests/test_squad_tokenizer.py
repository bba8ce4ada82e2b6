"""The tokenizer against Google's algorithm, written down here again, and vocabularies that are none."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
import tiny_question_model as tiny

from mobilebert_kit.errors import InputError
from mobilebert_kit.squad.tokenizer import basic_tokens, encode_words, load_tokenizer, load_vocab

CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


def google_basic(text: str) -> list[str]:
    """BasicTokenizer of google-research/mobilebert/tokenization.py (Apache-2.0), in other words."""
    cleaned = ""
    for character in text:
        category = unicodedata.category(character)
        if character in "\t\n\r" or category == "Zs":
            cleaned += " "
        elif character not in "\0\ufffd" and category not in ("Cc", "Cf"):
            cjk = any(low <= ord(character) <= high for low, high in CJK)
            cleaned += f" {character} " if cjk else character
    tokens = []
    for word in cleaned.split():
        plain = "".join(
            c for c in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(c) != "Mn"
        )
        spaced = "".join(f" {c} " if is_punctuation(c) else c for c in plain)
        tokens += spaced.split()
    return tokens


def is_punctuation(character: str) -> bool:
    symbol = character.isascii() and character.isprintable() and not character.isalnum() and character != " "
    return symbol or unicodedata.category(character).startswith("P")


def google_wordpieces(word: str, vocab: dict[str, int]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocab:
                break
        else:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces if len(word) <= 200 else ["[UNK]"]


def stable_characters() -> list[str]:
    """Characters whose category is that of Unicode 3.2: any library that has a table has these."""
    old = unicodedata.ucd_3_2_0
    return [
        chr(code)
        for code in range(0x30000)
        if unicodedata.category(chr(code)) == old.category(chr(code)) not in ("Cs", "Cn")
    ]


def test_every_character():
    different = [
        hex(ord(c))
        for c in stable_characters()
        if basic_tokens(f"Ab{c}cd {c}") != google_basic(f"Ab{c}cd {c}")
    ]
    # U+166D was punctuation in the library's Unicode, U+1734 an accent.
    assert set(different) <= {"0x166d", "0x1734"}


def test_random_texts():
    rng = np.random.default_rng(1)
    characters = [c for c in stable_characters() if c not in "\u166d\u1734"]
    common = [*"aeiouAEIOU  .,-'\"()\t\n\u00a0\u200b\u0301éÉßıİΣσ中文"]
    for _ in range(2000):
        picked = [
            rng.choice(common) if rng.random() < 0.8 else characters[rng.integers(len(characters))]
            for _ in range(rng.integers(1, 30))
        ]
        text = "".join(picked)
        assert basic_tokens(text) == google_basic(text), ascii(text)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Steve Smith's", ["steve", "smith", "'", "s"]),
        ("redcar", ["red", "##c", "##a", "##r"]),
        ("Pàrïs", ["paris"]),
        ("[SEP] [CLS]", ["[UNK]", "s", "##e", "##p", "[UNK]", "[UNK]", "c", "##l", "##s", "[UNK]"]),
        ("\u0434", ["[UNK]"]),
        ("a" * 200, ["a"] + ["##a"] * 199),
        ("a" * 201, ["[UNK]"]),
        ("\u200b", []),
        ("a\ue000b", ["[UNK]"]),  # private use: a character like others to Google
    ],
)
def test_wordpieces(tmp_path, text, pieces):
    tokenizer = load_tokenizer(tiny.write_vocab(tmp_path))
    vocab = load_vocab(tmp_path / "vocab.txt")
    ids, tokens = encode_words(tokenizer, [text])[0]
    assert tokens == pieces
    assert tokens == [piece for word in google_basic(text) for piece in google_wordpieces(word, vocab)]
    assert ids == [vocab[piece] for piece in pieces]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"without|got none of \[PAD\]"),
        (b"[PAD]\n[UNK]\n[CLS]\nx\n", r"got none of \[SEP\]"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nx\nx\n", "'x' again: line 6 of .*, and line 5"),
        (b"[PAD]\n\n[UNK]\n[CLS]\n[SEP]\n", "empty line: line 2"),
        (b"[UNK]\n[PAD]\n[CLS]\n[SEP]\n", "got it on line 2"),
        (b"[PAD]\n\xff\xfe\n", "UTF-8"),
    ],
)
def test_no_vocabulary(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_vocab(path)


def test_vocabulary_size(tmp_path):
    path = tiny.write_vocab(tmp_path)
    assert list(load_vocab(path, expected_size=len(tiny.VOCAB))) == list(tiny.VOCAB)
    with pytest.raises(InputError, match=f"30522 tokens, the model's, got {len(tiny.VOCAB)} in .*vocab.txt"):
        load_vocab(path, expected_size=30522)
    with pytest.raises(InputError, match="no such file"):
        load_vocab(tmp_path / "absent.txt")
    path.write_bytes("\r\n".join(tiny.VOCAB).encode())  # Windows line ends, no last one
    assert list(load_vocab(path)) == list(tiny.VOCAB)


def test_the_published_vocabulary(shared):
    assert len(load_vocab(shared / "data" / "vocab.txt", expected_size=30522)) == 30522
