"""Completeness, and the digest of what a checkpoint says."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from checkpoint_files import SMALL, random_tensors

from mobilebert_kit.checkpoints import content_digest, prove_complete
from mobilebert_kit.errors import InputError

SHAPES = SMALL.variable_shapes()
TABLE = "bert/embeddings/word_embeddings"


def test_whole():
    prove_complete(random_tensors(), SHAPES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(TABLE), rf"1 missing:\s+{TABLE}"),
        (lambda t: t.update(more=np.zeros(1)), r"1 extra:\s+more"),
        (
            lambda t: t.update({TABLE: t[TABLE].T}),
            rf"1 misshapen:\s+{TABLE}: expected \[50, 8\], got \[8, 50\]",
        ),
        (lambda t: t[TABLE].__setitem__((3, 1), np.nan), "1 not finite:\n.*1 NaN, 0 infinite of 400 values"),
        (lambda t: t[TABLE].__setitem__((3, 1), -np.inf), "1 not finite:\n.*0 NaN, 1 infinite of 400 values"),
        (lambda t: t.clear(), r"89 missing:(\n    bert/.*){10}\n    \.\.\. and 79 more"),
    ],
)
def test_what_is_wrong_is_listed(change, message):
    tensors = random_tensors()
    change(tensors)
    with pytest.raises(InputError, match=message):
        prove_complete(tensors, SHAPES)


def test_digest_is_of_the_content():
    tensors = {"b": np.array([[1, 2]], np.float32), "a": np.float32(3)}
    plain = b"a\0\n" + struct.pack("<f", 3) + b"b\x001,2\n" + struct.pack("<ff", 1, 2)
    assert content_digest(tensors) == hashlib.sha256(plain).hexdigest()
    assert content_digest({"b": np.asfortranarray(tensors["b"]), "a": np.float64(3)}) == content_digest(
        tensors
    )
    assert content_digest({**tensors, "b": tensors["b"].T}) != content_digest(tensors)
