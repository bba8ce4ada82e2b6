"""BERT's uncased WordPiece tokenizer, made of the `tokenizers` library's parts.

It follows Google's tokenization.py (google-research/google-research, mobilebert/tokenization.py:
BasicTokenizer, WordpieceTokenizer). Three things differ from `tokenizers.BertWordPieceTokenizer`:
- text that reads "[SEP]" is tokenized like any other: no special token is ever found in a text;
- control characters are removed here, not by the library, which also removes private-use ones;
- lower-casing is Python's, which knows the final sigma, and words of up to 200 characters are looked up.
What stays different: the library's Unicode tables for accents and punctuation are older (Unicode 8), and
it does not put spaces around U+2B820..U+2B91F.
"""

from __future__ import annotations

import functools
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from mobilebert_kit.errors import InputError
from mobilebert_kit.squad.files import read_bytes

PAD, UNKNOWN, CLS, SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SPECIAL_TOKENS = (PAD, UNKNOWN, CLS, SEP)

_MAX_VOCAB_BYTES = 64 * 2**20
_MAX_WORD_LENGTH = 200  # characters; a longer word is [UNK]: tokenization.py, WordpieceTokenizer

_NORMALIZER = normalizers.BertNormalizer(
    clean_text=False, handle_chinese_chars=True, strip_accents=True, lowercase=True
)
_PRE_TOKENIZER = pre_tokenizers.BertPreTokenizer()


def load_vocab(path: str | Path, *, expected_size: int | None = None) -> dict[str, int]:
    """The vocabulary of a vocab.txt (UTF-8, one token a line): {token: line number from 0}.

    Args:
        expected_size: the number of rows of the model's word embedding, if known.
    Raises:
        InputError: not a vocabulary: other bytes, an empty line, a token twice, a special token missing,
            [PAD] not on the first line (windows are padded with id 0), or another size than the model's.
    """
    try:
        text = read_bytes(path, "a vocabulary (vocab.txt)", max_bytes=_MAX_VOCAB_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"Expected a vocabulary as UTF-8 text, got other bytes in {path}: {error}."
        ) from error
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    vocab: dict[str, int] = {}
    for number, line in enumerate(lines):
        token = line.strip()
        where = f"line {number + 1} of {path}"
        if not token:
            raise InputError(f"Expected one token a line, got an empty line: {where}.")
        if token in vocab:
            raise InputError(
                f"Expected each token once, got {token!r} again: {where}, and line {vocab[token] + 1}."
            )
        vocab[token] = number
    missing = [token for token in SPECIAL_TOKENS if token not in vocab]
    if missing:
        raise InputError(
            f"Expected a BERT vocabulary with {', '.join(SPECIAL_TOKENS)}, got none of "
            f"{', '.join(missing)} in {path} ({len(vocab)} tokens). Take the checkpoint's vocab.txt."
        )
    if vocab[PAD] != 0:
        raise InputError(f"Expected {PAD} on the first line, got it on line {vocab[PAD] + 1} of {path}.")
    if expected_size is not None and len(vocab) != expected_size:
        raise InputError(
            f"Expected a vocabulary of {expected_size} tokens, the model's, got {len(vocab)} in {path}. "
            "Take the vocab.txt that the checkpoint was trained with."
        )
    return vocab


def make_tokenizer(vocab: dict[str, int]) -> Tokenizer:
    """The tokenizer over a checked vocabulary. Give it `clean_text(text)`; it adds no special tokens."""
    tokenizer = Tokenizer(
        models.WordPiece(vocab, unk_token=UNKNOWN, max_input_chars_per_word=_MAX_WORD_LENGTH)
    )
    tokenizer.normalizer = _NORMALIZER
    tokenizer.pre_tokenizer = _PRE_TOKENIZER
    return tokenizer


def load_tokenizer(path: str | Path, *, expected_size: int | None = None) -> Tokenizer:
    """`make_tokenizer(load_vocab(path))`; raises InputError as `load_vocab` does."""
    return make_tokenizer(load_vocab(path, expected_size=expected_size))


@functools.lru_cache(maxsize=1)
def _cleaning_table() -> dict[int, str | None]:
    """For str.translate: drop NUL, U+FFFD and categories Cc and Cf; any space of category Zs becomes " "."""
    table: dict[int, str | None] = {}
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category in ("Cc", "Cf"):
            table[code] = None
        elif category == "Zs":
            table[code] = " "
    table.update({0: None, 0xFFFD: None, ord("\t"): " ", ord("\n"): " ", ord("\r"): " "})
    return table


def clean_text(text: str) -> str:
    """`text` without control characters and in lower case: what goes into the tokenizer."""
    if text.isascii() and text.isprintable():  # nothing to remove, and the table costs 0.2 s once
        return text.lower()
    return text.translate(_cleaning_table()).lower()


def basic_tokens(text: str) -> list[str]:
    """Google's BasicTokenizer: lower case, no accents, split at spaces and around punctuation and CJK."""
    normal = _NORMALIZER.normalize_str(clean_text(text))
    return [token for token, _ in _PRE_TOKENIZER.pre_tokenize_str(normal)]


def encode_words(tokenizer: Tokenizer, words: Sequence[str]) -> list[tuple[list[int], list[str]]]:
    """(ids, wordpieces) of each text, in one call of the library (which spreads it over the cores)."""
    encodings = tokenizer.encode_batch([clean_text(word) for word in words], add_special_tokens=False)
    return [(encoding.ids, encoding.tokens) for encoding in encodings]
