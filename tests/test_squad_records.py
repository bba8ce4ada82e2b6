"""The MLPerf app's records, read and written: against TensorFlow's reader and writer, and damaged ones."""

from __future__ import annotations

import gzip
import struct
import zlib

import numpy as np
import pytest
import tiny_question_model as tiny

from mobilebert_kit.errors import InputError
from mobilebert_kit.squad import tfrecord
from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.records import (
    load_records,
    read_groundtruth,
    read_windows,
    with_length,
    write_groundtruth,
    write_windows,
)
from mobilebert_kit.squad.tf_example import MalformedExample, encode_example, parse_example
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows

FIELDS = ("unique_id", "qas_id", "question_index", "span_index", "tokens")
ARRAYS = ("input_ids", "input_mask", "segment_ids", "token_to_orig_map", "token_is_max_context")


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow", reason="the reference reader of TFRecords")


@pytest.fixture
def questions():
    context = "Steve Smith\u2019s  red\tcar was in Paris. " * 5
    return [
        Question("q1", "Who was in Paris?", context, "t", ("Steve Smith", "Smith"), (0, 6)),
        Question("q2", "What?", "A river, an \u00c9t\u00e9.", "t", ("river",), (2,)),
    ]


@pytest.fixture
def windows(questions, tmp_path):
    tokenizer = load_tokenizer(tiny.write_vocab(tmp_path))
    return make_windows(questions, tokenizer, max_seq_length=32, doc_stride=8, max_query_length=8)


@pytest.fixture
def files(questions, windows, tmp_path):
    write_windows(tmp_path / "squad_eval.tfrecord", windows)
    write_groundtruth(tmp_path / "squad_groundtruth.tfrecord", questions)
    return tmp_path / "squad_eval.tfrecord"


def assert_same(window, other):
    for field in FIELDS:
        assert getattr(window, field) == getattr(other, field)
    for field in ARRAYS:
        np.testing.assert_array_equal(getattr(window, field), getattr(other, field))
        assert getattr(window, field).dtype == getattr(other, field).dtype


@pytest.mark.parametrize(
    ("data", "crc"),  # RFC 3720, B.4, and the check value of the CRC catalogue
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_crc32c(data, crc):
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    assert tfrecord.masked_crc32c([data])[0] == masked
    others = [bytes([7]) * length for length in (0, 1, 2, 3, 4, 5, 40)]
    assert tfrecord.masked_crc32c([*others, data, *others])[len(others)] == masked


def test_tensorflow_reads_what_is_written(tf, files, windows, questions):
    records = list(tf.data.TFRecordDataset(str(files), compression_type="ZLIB").as_numpy_iterator())
    assert len(records) == len(windows)
    for record, window in zip(records, windows, strict=True):
        example = tf.train.Example.FromString(record)
        feature = example.features.feature
        assert list(feature["input_ids"].int64_list.value) == window.input_ids.tolist()
        assert list(feature["token_is_max_context"].int64_list.value) == window.token_is_max_context.tolist()
        assert list(feature["unique_ids"].int64_list.value) == [window.unique_id]
        assert [t.decode() for t in feature["tokens"].bytes_list.value] == list(window.tokens)
        assert example.SerializeToString(deterministic=True) == record
    path = str(files.with_name("squad_groundtruth.tfrecord"))
    truth = [
        tf.train.Example.FromString(r).features.feature
        for r in tf.data.TFRecordDataset(path, compression_type="ZLIB").as_numpy_iterator()
    ]
    assert [f["qas_id"].bytes_list.value[0] for f in truth] == [b"q1", b"q2"]
    assert list(truth[0]["answers"].bytes_list.value) == [b"Steve Smith", b"Smith"]
    assert [w.decode() for w in truth[1]["words"].bytes_list.value] == ["A", "river,", "an", "\u00c9t\u00e9."]
    assert [w.decode() for w in truth[1]["tokens"].bytes_list.value] == ["a", "river ,", "an", "ete ."]


def test_what_tensorflow_writes_is_read(tf, tmp_path):
    numbers = [0, 1, 127, 128, 300, 2**31, 2**62, 2**63 - 1, -1, -(2**63)]
    example = tf.train.Example()
    example.features.feature["numbers"].int64_list.value.extend(numbers)
    example.features.feature["flags"].int64_list.value.extend([0, 1, 1])
    example.features.feature["floats"].float_list.value.extend([0.5, -2.0])
    example.features.feature["texts"].bytes_list.value.extend([b"", "\u00e9".encode(), b"x" * 1000])
    example.features.feature["none"].int64_list.SetInParent()
    example.features.feature["unset"].SetInParent()
    path = tmp_path / "x.tfrecord"
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions("ZLIB")) as writer:
        for size in (0, 1, 3000):
            writer.write(bytes(size))
        writer.write(example.SerializeToString())
    *others, last = tfrecord.read_tfrecord(path)
    assert others == [b"", bytes(1), bytes(3000)]
    features = parse_example(last)
    assert features["numbers"].tolist() == numbers
    assert features["flags"].tolist() == [0, 1, 1]
    assert features["floats"].tolist() == [0.5, -2.0]
    assert features["texts"] == [b"", "\u00e9".encode(), b"x" * 1000]
    assert len(features["none"]) == len(features["unset"]) == 0
    whole_numbers = {"numbers": numbers, "flags": [0, 1, 1], "texts": [b"", b"y" * 200]}
    reference = tf.train.Example()
    reference.features.feature["numbers"].int64_list.value.extend(numbers)
    reference.features.feature["flags"].int64_list.value.extend([0, 1, 1])
    reference.features.feature["texts"].bytes_list.value.extend([b"", b"y" * 200])
    assert encode_example(whole_numbers) == reference.SerializeToString(deterministic=True)


def test_numbers_that_are_not_packed():
    """proto2 writers put one key before each number."""
    body = b"\x08\x05\x08\xac\x02"
    entry = b"\x0a\x01n\x12" + bytes([len(body) + 2]) + b"\x1a" + bytes([len(body)]) + body
    features = b"\x0a" + bytes([len(entry)]) + entry
    assert parse_example(b"\x0a" + bytes([len(features)]) + features)["n"].tolist() == [5, 300]


def test_damaged_examples_are_noticed_or_parsed(windows):
    """Truncated and random bytes: an error of the one kind, or a value; never anything else."""
    whole = encode_example({"input_ids": windows[0].input_ids, "qas_id": [b"q"] * 3})
    rng = np.random.default_rng(0)
    refused = 0
    for length in range(len(whole)):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            damaged[at] = rng.integers(256)
        for data in (whole[:length], bytes(damaged)):
            try:
                parse_example(data)
            except MalformedExample:
                refused += 1
    assert refused > len(whole) / 2


def test_round_trip(files, windows, questions):
    read, again = load_records(files)
    for window, other in zip(windows, again, strict=True):
        assert_same(window, other)
    assert [q.id for q in read] == ["q1", "q2"]
    assert [q.answers for q in read] == [q.answers for q in questions]
    assert read[0].context == " ".join(questions[0].context.split())


def test_the_published_groundtruth(shared, tmp_path):
    """Our own, from dev-v1.1.json, has the same features as the published one, record by record."""
    published = shared / "data" / "mlperf" / "squad_groundtruth.tfrecord"
    write_groundtruth(tmp_path / "g.tfrecord", load_questions(shared / "data" / "squad" / "dev-v1.1.json"))
    ours, theirs = tfrecord.read_tfrecord(tmp_path / "g.tfrecord"), tfrecord.read_tfrecord(published)
    assert len(ours) == 10570
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == other or parse_example(mine) == parse_example(other)


def test_limit_and_mini(shared):
    mlperf = shared / "data" / "mlperf"
    questions, windows = load_records(mlperf / "squad_eval_mini.tfrecord", limit=7)
    assert [w.question_index for w in windows] == sorted(w.question_index for w in windows)
    assert len(questions) == 7 and {w.qas_id for w in windows} == {q.id for q in questions}
    dev = shared / "data" / "squad" / "dev-v1.1.json"
    same, _ = load_records(mlperf / "squad_eval_tiny.tfrecord", groundtruth=dev)
    assert len(same) == 10 and same[0].title == "Super_Bowl_50"
    with pytest.raises(InputError, match="Expected 11 questions, 1 at least, got 10"):
        load_records(mlperf / "squad_eval_tiny.tfrecord", limit=11)


def replaced(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


DAMAGE = {
    "empty": (lambda data: b"", "empty file"),
    "truncated": (lambda data: zlib.compress(data)[:-20], "truncated"),
    "gzip": (lambda data: gzip.compress(data), "got gzip"),
    "uncompressed": (lambda data: data, "uncompressed TFRecord"),
    "text": (lambda data: b"not compressed at all", "something else or a damaged file"),
    "trailing": (lambda data: zlib.compress(data) + b"more", "4 more bytes after its end"),
    "nothing": (lambda data: zlib.compress(b""), "Expected records, got none"),
    "no record": (lambda data: zlib.compress(data[:11]), "truncated file: record 0"),
    "half a record": (lambda data: zlib.compress(data[:100]), "truncated file: record 0"),
    "no last checksum": (lambda data: zlib.compress(data[:-1]), "truncated file: record"),
    "a bit of a record": (
        lambda data: zlib.compress(replaced(data, 50, b"\xff")),
        "1 with a wrong checksum.*record 0",
    ),
    "a checksum": (lambda data: zlib.compress(replaced(data, len(data) - 4, b"\0\0\0\0")), "wrong checksum"),
    "a length": (
        lambda data: zlib.compress(replaced(data, 0, b"\0" * 4)),
        "truncated|wrong checksum|at most",
    ),
    "a huge length": (
        lambda data: zlib.compress(replaced(data, 0, b"\xff" * 8)),
        "at most, got a length of 18446",
    ),
    "a large length": (
        lambda data: zlib.compress(struct.pack("<Q", 2**21) + data[8:]),
        "at most, got a length of 2097152",
    ),
    "no example": (lambda data: tfrecord.tfrecord_bytes([b"hello"]), "tf.train.Example.*record 0"),
    "other features": (
        lambda data: tfrecord.tfrecord_bytes([encode_example({"image": [b"x"]})]),
        r"feature input_ids.*\['image'\]",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files(files, kind):
    damage, message = DAMAGE[kind]
    files.write_bytes(damage(zlib.decompress(files.read_bytes())))
    with pytest.raises(InputError, match=f"(?s){message}") as caught:
        read_windows(files)
    assert str(files) in str(caught.value)


def test_a_bomb_is_not_unpacked(files, monkeypatch):
    monkeypatch.setattr(tfrecord, "MAX_FILE_BYTES", 10_000)
    files.write_bytes(zlib.compress(bytes(10_000_000)))
    with pytest.raises(InputError, match="10000 bytes at most"):
        read_windows(files)


FEATURES = {
    "mask of another length": {"input_mask": [1] * 31},
    "mask with a hole": {"input_mask": [1, 0] * 16},
    "negative id": {"input_ids": [-1] * 32},
    "id of 33 bits": {"input_ids": [2**32] * 32},
    "segment 2": {"segment_ids": [2] * 32},
    "two ids": {"unique_ids": [1, 2]},
    "no flags": {"token_is_max_context": [1]},
    "falling words": {"token_to_orig_map": list(range(20, 0, -1))},
    "texts for numbers": {"input_ids": [b"101"]},
    "numbers for texts": {"tokens": [1, 2]},
    "no UTF-8": {"tokens": [b"\xff"] * 32},
    "two questions": {"qas_id": [b"a", b"b"]},
    "no question": {"qas_id": [b""]},
    "too many tokens": {"tokens": [b"x"] * 33},
}


@pytest.mark.parametrize("kind", FEATURES)
def test_contradictory_windows(files, kind):
    features = parse_example(tfrecord.read_tfrecord(files)[0])
    record = encode_example(features | FEATURES[kind])
    files.write_bytes(tfrecord.tfrecord_bytes([record]))
    with pytest.raises(InputError, match="record 0 of"):
        read_windows(files)


def test_groundtruth_that_does_not_fit(files, questions, windows, tmp_path):
    truth = tmp_path / "squad_groundtruth.tfrecord"
    with pytest.raises(InputError, match="the other one of the two files"):
        load_records(files, groundtruth=files)
    write_groundtruth(truth, questions[:1], overwrite=True)
    with pytest.raises(InputError, match="without 1 of them, the first is q2"):
        load_records(files)
    write_groundtruth(truth, [questions[0], questions[0]], overwrite=True)
    with pytest.raises(InputError, match="each question once, got q1 again"):
        read_groundtruth(truth)
    short = Question("q1", "?", "Steve", "", ("Steve",), (0,))
    write_groundtruth(truth, [short, questions[1]], overwrite=True)
    with pytest.raises(InputError, match=r"1 words of the context, got word .*question q1"):
        load_records(files)
    truth.unlink()
    with pytest.raises(InputError, match="Name it with --groundtruth"):
        load_records(files)


def test_padding_to_a_longer_model(windows):
    longer = with_length(windows, 40, "x")
    assert [len(w.input_ids) for w in longer] == [40] * len(windows)
    assert longer[0].input_ids.tolist() == windows[0].input_ids.tolist() + [0] * 8
    assert with_length(windows, 32, "x")[0] is windows[0]
    with pytest.raises(InputError, match=r"Expected windows of 16 tokens.* got 32 in x"):
        with_length(windows, 16, "x")


def test_nothing_is_replaced_unasked(files, windows):
    before = files.read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        write_windows(files, windows[:1])
    assert files.read_bytes() == before
    write_windows(files, windows[:1], overwrite=True)
    assert len(read_windows(files)) == 1
    with pytest.raises(InputError, match="no such folder"):
        write_windows(files.parent / "absent" / "x.tfrecord", windows)
    assert sorted(p.name for p in files.parent.iterdir()) == [
        "squad_eval.tfrecord", "squad_groundtruth.tfrecord", "vocab.txt",
    ]  # fmt: skip
