"""What the JVM code reads: vocabularies, JSON, bundles; and how it runs a bundle on a stub of the runtime."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mobilebert_kit.android.delegates import APP_DELEGATES
from mobilebert_kit.android.manifest import make_bundle_manifest
from mobilebert_kit.contract import CONTRACTS, Contract
from mobilebert_kit.squad.answers import extract_answers
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows
from tools.java_cases import Java, text


@pytest.fixture(scope="module")
def vocab(demo_checkpoint: Path) -> Path:
    return demo_checkpoint / "vocab.txt"


def file_case(kind: str, data: bytes) -> bytes:
    return text(kind) + len(data).to_bytes(4, "big") + data


VOCAB = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n"
VOCABULARIES = (
    (VOCAB.encode(), "4 tokens"),
    (f"{VOCAB}a\n  b\u3000\r\n".encode(), "6 tokens"),
    (VOCAB[:-1].encode(), "4 tokens"),
    (b"", "Expected a BERT vocabulary with [PAD], got none"),
    (f"{VOCAB}x\nx\n".encode(), "got 'x' on lines 5 and 6"),
    (f"{VOCAB}\nx\n".encode(), "got an empty line: line 5"),
    (b"[UNK]\n[PAD]\n[CLS]\n[SEP]\n", "got it on line 2"),
    (VOCAB.encode() + b"\xff\n", "UTF-8"),
)
JSON = (
    (' {"a": [1, -2.5e3, true, null], "b": {}} ', "{a=[1.0, -2500.0, true, null], b={}}"),
    ('"\\u00e9\\n\\/\\\\\\""', '\u00e9\n/\\"'),
    ("[]", "[]"),
    ('"' + "[" * 200 + '"', "[" * 200),
    ("[" * 70 + "]" * 70, "at most 64 levels"),
    ('{"a": 1, "a": 2}', "each name once, not 'a' again"),
    *((bad, "Expected") for bad in (
        "", " ", "{", "[1,]", "[1 2]", '{"a" 1}', "{a: 1}", "{,}", "NaN", "-Infinity", "01", "1.", ".5",
        "+1", "0x1", "1 2", "tru",
        '"\\x"', '"\\u12g4"', '"\\u12', '"\n"', '"', "[}", '{"a":}', "1e999x", "\u00a01", "\ufeff{}",
    )),
)  # fmt: skip


def test_vocabularies(java: Java) -> None:
    answers = java.answers("files", [file_case("vocab", data) for data, _ in VOCABULARIES])
    for data, expected in VOCABULARIES:
        assert expected in answers.text(), data


def test_json(java: Java) -> None:
    answers = java.answers("files", [file_case("json", data.encode()) for data, _ in JSON])
    for data, expected in JSON:
        answer = answers.text()
        assert expected in answer, data
        if expected == "Expected":  # and Python, but for the numbers that are none
            with pytest.raises(ValueError):
                json.loads(data, parse_constant=int)


def a_bundle(inputs: tuple[str, ...] = ("input_ids", "input_mask", "segment_ids")) -> dict:
    """What an app reads of a bundle.json, with short windows."""
    return {
        "schema_version": 1, "sequence_length": 64, "doc_stride": 16, "max_query_length": 12,
        "max_answer_length": 8, "n_best": 10, "vocab": {"file": "vocab.txt", "lowercase": True},
        "signature": "serving_default",
        "inputs": [{"name": name} for name in inputs],
        "outputs": [{"name": "end_logits"}, {"name": "start_logits"}],
        "models": [
            {"delegate": "nnapi", "file": "n.tflite", "min_api": 30, "max_api": 34, "fallback": "cpu"},
            {"delegate": "gpu", "file": "g.tflite", "min_api": 21, "max_api": None, "fallback": "cpu"},
            {"delegate": "cpu", "file": "c.tflite", "min_api": 21, "max_api": None, "fallback": None},
        ],
    }  # fmt: skip


def changed(path: str, value: object) -> dict:
    """`a_bundle` with another value at "a.b"; without it, where the value is ..."""
    result = copy.deepcopy(a_bundle())
    *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
    holder = result
    for key in parents:
        holder = holder[key]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return result


def written_bundle(contract: Contract) -> dict:
    """What the kit's own writer makes of an export of this contract, the scores left out."""
    targets = {
        delegate.target.name: dict.fromkeys(
            ("recipe", "f1", "exact_match", "nodes", "delegated_nodes", "partitions"), 1
        )
        | {"file": f"{delegate.name}.tflite"}
        for delegate in APP_DELEGATES
    }
    tensors = {
        key: [{"name": spec.name, "dtype": spec.dtype, "shape": spec.shape(384)} for spec in specs]
        for key, specs in (("inputs", contract.inputs), ("outputs", contract.outputs))
    }
    export = {
        "versions": {"mobilebert_kit": "0"},
        "checkpoint": {"config": {}},
        "contract": {"signature": contract.signature_key, "buckets": [128, 256], **tensors},
        "evaluation": dict.fromkeys(("source", "questions", "windows", "questions_sha256", "float")),
        "targets": targets,
    }
    files = {
        name: {"sha256": "0", "bytes": 1} for name in ("vocab.txt", *(t["file"] for t in targets.values()))
    }
    return make_bundle_manifest(export, APP_DELEGATES, 128, files)


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
@pytest.mark.parametrize("has_segments", [True, False])
def test_bundles_that_the_kit_writes(java: Java, contract: Contract, has_segments: bool) -> None:
    bundle = written_bundle(contract.for_model(has_segments=has_segments))
    answers = java.answers("files", [file_case("34", json.dumps(bundle, indent=2).encode())])
    assert answers.text() == "nnapi:nnapi.tflite gpu:gpu.tflite cpu:cpu.tflite"


ALL, NO_NNAPI = "nnapi:n.tflite gpu:g.tflite cpu:c.tflite", "gpu:g.tflite cpu:c.tflite"
CHOICES = {29: NO_NNAPI, 30: ALL, 34: ALL, 35: NO_NNAPI}
NO_BUNDLES = (
    (
        changed("models.2.min_api", 99),
        20,
        "Expected a model for Android API level 20, got one for nnapi, gpu, cpu",
    ),
    (changed("models", []), 33, "Expected a model"),
    (changed("schema_version", 2), 33, "Expected a bundle.json of schema version 1, got 2.0. A newer one"),
    (changed("schema_version", ...), 33, "got null"),
    (changed("n_best", ...), 33, "Expected 'n_best' in bundle.json to be a Double, got null"),
    (changed("doc_stride", 0), 33, "Expected a whole number from 1 as 'doc_stride'"),
    (changed("vocab.file", ...), 33, "Expected 'file' in bundle.json to be a String"),
    (changed("vocab.lowercase", False), 33, "Expected a vocabulary in lower case"),
    (changed("models.0.min_api", "30"), 33, "Expected 'min_api' in bundle.json to be a Double, got 30"),
    (changed("models.0.min_api", 30.5), 33, "Expected a whole number from 1 as 'min_api'"),
    (changed("models.1.file", ...), 33, "Expected 'file' in bundle.json to be a String, got null"),
    (changed("models", {}), 33, "Expected 'models' in bundle.json to be a List"),
    (changed("buckets", [64]), 33, "Expected an entry of buckets"),
    (changed("buckets", [{"length": 0}]), 33, "Expected a whole number from 1 as 'length'"),
    (changed("inputs.0", "input_ids"), 33, "Expected an entry of inputs"),
    (changed("inputs.0.name", "tokens"), 33, "Expected a tensor named"),
    ([], 33, "Expected bundle.json to be a Map"),
)


def test_which_models_a_device_may_try(java: Java) -> None:
    data = json.dumps(a_bundle()).encode()
    answers = java.answers("files", [file_case(str(api), data) for api in CHOICES])
    assert {api: answers.text() for api in CHOICES} == CHOICES


def test_no_bundles(java: Java) -> None:
    cases = [file_case(str(api), json.dumps(bundle).encode()) for bundle, api, _ in NO_BUNDLES]
    answers = java.answers("files", [*cases, file_case("33", b'{"a": "\xff"}')])
    for _, _, expected in NO_BUNDLES:
        assert expected in answers.text()
    assert "UTF-8" in answers.text()


QUESTION, CONTEXT = (
    "Where is the canal?",
    "The Suez Canal is an artificial waterway in Egypt, \u00e9t\u00e9 1869. " * 9,
)


def ask(
    java: Java, folder: Path, bundle: dict, vocab: Path, api: int, refusing: str, offered: str = "nnapi,gpu"
) -> list[str]:
    """What the runtime's stub was asked for, and the answer: see tests/java/.../AnswererCases.java."""
    (folder / "bundle.json").write_text(json.dumps(bundle), encoding="utf-8")
    shutil.copyfile(vocab, folder / "vocab.txt")
    (folder / "question").write_text(QUESTION, encoding="utf-8")
    (folder / "context").write_text(CONTEXT, encoding="utf-8")
    texts = [str(folder / name) for name in ("question", "context")]
    return java.run("AnswererCases", str(folder), str(api), refusing, offered, *texts).splitlines()


def host_answer(vocab: Path) -> tuple[str, int]:
    """(the host's answer to the stub's logits, number of windows)"""
    question = Question("id", QUESTION, CONTEXT, "", ("x",), (0,))
    tokenizer = load_tokenizer(vocab)
    windows = make_windows([question], tokenizer, max_seq_length=64, doc_stride=16, max_query_length=12)
    ids, mask = np.stack([(window.input_ids, window.input_mask) for window in windows], axis=1)
    slope = np.arange(64, dtype=np.float32) / 1024
    start, end = ((mask * (ids % modulus) + slope).astype(np.float32) for modulus in (97, 89))
    answers = extract_answers([question], windows, start, end, n_best=10, max_answer_length=8)
    return answers.official["id"], len(windows)


def test_the_first_model_that_works_answers_as_the_host(java: Java, tmp_path: Path, vocab: Path) -> None:
    answer, windows = host_answer(vocab)
    lines = ask(java, tmp_path, a_bundle(), vocab, 33, refusing="nnapi")
    assert windows > 2
    assert lines == [
        "created n.tflite [nnapi] 3",
        "closed nnapi",
        "created g.tflite [gpu] 3",
        "refused [nnapi: no driver]",
        *["ran serving_default [input_ids, input_mask, segment_ids]"] * windows,
        f"answered g.tflite true {answer}",
        "closed interpreter",
        "closed gpu",
    ]


def test_a_delegate_that_the_app_has_not_is_passed_over(java: Java, tmp_path: Path, vocab: Path) -> None:
    lines = ask(java, tmp_path, a_bundle(), vocab, 33, refusing="", offered="gpu")
    assert lines[0] == "created g.tflite [gpu] 3"
    assert lines[1] == "refused [nnapi: the app has no such delegate]"


def test_a_model_without_segments(java: Java, tmp_path: Path, vocab: Path) -> None:
    lines = ask(java, tmp_path, a_bundle(("input_ids", "input_mask")), vocab, 35, refusing="gpu")
    assert "ran serving_default [input_ids, input_mask]" in lines
    assert f"answered c.tflite true {host_answer(vocab)[0]}" in lines


@pytest.mark.parametrize(
    ("bundle", "refusing", "error"),
    [
        (a_bundle(), "numbers", "error Expected numbers as logits, got NaN in window 0 of"),
        (
            changed("sequence_length", 15),
            "",
            "error Expected a document stride and a query length of 1 at least",
        ),
    ],
)
def test_where_a_model_cannot_answer(
    java: Java, tmp_path: Path, vocab: Path, bundle: dict, refusing: str, error: str
) -> None:
    lines = ask(java, tmp_path, bundle, vocab, 35, refusing)
    assert lines[-3:-1] == ["closed interpreter", "closed gpu"]
    assert lines[-1].startswith(error)


def test_where_no_model_works(java: Java, tmp_path: Path, vocab: Path) -> None:
    lines = ask(java, tmp_path, a_bundle(), vocab, 33, refusing="nnapi,gpu,cpu")
    assert lines[-1].startswith(
        "error Expected one model of the bundle to work, got: nnapi: no driver; gpu: no"
    )
    assert "closed interpreter" not in lines


def test_the_first_graph_that_is_longer_than_the_window(java: Java, tmp_path: Path, vocab: Path) -> None:
    """As runtime/interpreter.py chooses: not one that the tokens fill. The last window of a text is short."""
    question = Question("id", QUESTION, CONTEXT, "", ("x",), (0,))
    *full, last = make_windows(
        [question], load_tokenizer(vocab), max_seq_length=64, doc_stride=16, max_query_length=12
    )
    tokens = len(last.tokens)
    assert all(len(window.tokens) == 64 for window in full) and tokens < 62
    lengths = (tokens - 1, tokens, tokens + 1, tokens + 2)
    buckets = [{"length": length, "signature": f"serving_default_{length}"} for length in lengths]
    lines = ask(java, tmp_path, a_bundle() | {"buckets": buckets}, vocab, 35, refusing="")
    ran = [line.split()[1] for line in lines if line.startswith("ran")]
    assert ran == ["serving_default"] * len(full) + [f"serving_default_{tokens + 1}"]
    assert f"answered g.tflite true {host_answer(vocab)[0]}" in lines
