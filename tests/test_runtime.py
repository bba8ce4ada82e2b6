"""The interpreter and the F1 loop, on a model whose logits are computed here with numpy."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_question_model as tiny

from mobilebert_kit.contract import MLPERF
from mobilebert_kit.errors import InputError
from mobilebert_kit.runtime.interpreter import load
from mobilebert_kit.runtime.model_file import check_model_file
from mobilebert_kit.runtime.scoring import run_windows, score_model
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(scope="module")
def model(folder):
    return tiny.write_model(folder / "tiny_64.tflite", 64)


@pytest.fixture(scope="module")
def dataset(folder):
    tokenizer = load_tokenizer(tiny.write_vocab(folder))
    context = "Steve Smith's red car was in Paris (1999), in London. " * 6
    questions = [
        Question(f"q{n}", question, context, "", ("red car",), (14,))
        for n, question in enumerate(("Where was the car?", "Who was in London?", "What?"))
    ]
    windows = make_windows(questions, tokenizer, max_seq_length=64, doc_stride=16, max_query_length=16)
    assert len(windows) > 6
    return questions, windows


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)


def test_contract_has_the_end_logits_first():
    assert MLPERF.output_names == ("end_logits", "start_logits")
    assert MLPERF.input_names == ("input_ids", "input_mask", "segment_ids")
    assert MLPERF.inputs[0].shape(384) == (1, 384)


@pytest.mark.parametrize("length", [64, 384])
def test_run_binds_by_name(folder, length):
    path = tiny.write_model(folder / f"named_{length}.tflite", length)
    interpreter = load(path)
    assert interpreter.sequence_length == length
    rng = np.random.default_rng(length)
    for _ in range(3):
        ids = rng.integers(0, len(tiny.VOCAB), length).astype(np.int32)
        mask, segments = rng.integers(0, 2, (2, length)).astype(np.int32)
        outputs = interpreter.run(segment_ids=segments, input_ids=ids[None], input_mask=mask)
        start, end = tiny.logits(ids, mask, segments)
        assert outputs["start_logits"].shape == outputs["end_logits"].shape == (1, length)
        np.testing.assert_array_equal(outputs["start_logits"][0], start)
        np.testing.assert_array_equal(outputs["end_logits"][0], end)


def test_one_of_two_signatures_is_found(folder):
    interpreter = load(tiny.write_model(folder / "two.tflite", 32, other_signature=True))
    ids = np.arange(32, dtype=np.int32)
    outputs = interpreter.run(input_ids=ids, input_mask=ids * 0 + 1, segment_ids=ids % 2)
    start, end = tiny.logits(ids, ids * 0 + 1, ids % 2)
    np.testing.assert_array_equal(outputs["start_logits"][0], start)
    np.testing.assert_array_equal(outputs["end_logits"][0], end)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": {"start_logits": "begin"}}, r"named start_logits or output_s, got begin, end_logits"),
        ({"names": {"input_mask": "positions"}}, r"known by name .* got positions"),
        ({"names": dict(zip(MLPERF.input_names, "abc", strict=True))}, r"known by name .* got a, b, c"),
        ({"dtype": "int16"}, r"input_ids to be int32 or int64 or float32 .* got int16 \[1, 32\]"),
    ],
)
def test_unknown_tensors_are_refused(folder, options, message):
    name = re.sub(r"\W", "", str(options))
    path = tiny.write_model(folder / f"{name}.tflite", 32, **options)
    with pytest.raises(InputError, match=f"(?s){message}"):
        load(path)


def test_other_names_and_ids_of_other_dtypes_are_the_same_model(folder):
    names = {"input_ids": "ids", "input_mask": "attention_mask", "start_logits": "output_s"}
    ids = np.arange(32, dtype=np.int32)
    for dtype in ("int64", "float32"):
        interpreter = load(tiny.write_model(folder / f"{dtype}.tflite", 32, names=names, dtype=dtype))
        assert interpreter.inputs == {
            "input_ids": "ids", "input_mask": "attention_mask", "segment_ids": "segment_ids",
        }  # fmt: skip
        outputs = interpreter.run(input_ids=ids, input_mask=ids * 0 + 1, segment_ids=ids % 2)
        start, end = tiny.logits(ids, ids * 0 + 1, ids % 2)
        np.testing.assert_array_equal(outputs["start_logits"][0], start)
        np.testing.assert_array_equal(outputs["end_logits"][0], end)


def test_every_input_is_fed_and_no_other(model):
    ids = np.zeros(64, np.int32)
    with pytest.raises(ValueError, match="Expected input_ids, input_mask, segment_ids, got input_ids"):
        load(model).run(input_ids=ids, input_mask=ids)
    with pytest.raises(ValueError, match=r"got .*position_ids"):
        load(model).run(input_ids=ids, input_mask=ids, segment_ids=ids, position_ids=ids)


def test_bad_options(model):
    with pytest.raises(InputError, match="litert, tflite_runtime, openvino, onnx, got 'pytorch'"):
        load(model, runtime="pytorch")
    with pytest.raises(InputError, match="1 thread at least, got 0"):
        load(model, threads=0)
    with pytest.raises(InputError, match="1 worker at least, got 0"):
        run_windows(model, [], workers=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "at byte 4"),
        (b"TFL3", "at byte 4"),
        (b"PK\3\4 a zip archive", "at byte 4"),
        (b"\x1c\0\0\0TFL3", "truncated or damaged"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(100), "truncated or damaged"),
    ],
)
def test_no_tflite_file(tmp_path, content, message):
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(path)
    with pytest.raises(InputError, match="no regular file"):
        load(tmp_path)


def test_every_truncation_is_noticed_before_a_runtime_sees_it(model, tmp_path):
    whole = model.read_bytes()
    check_model_file(model)
    path = tmp_path / "cut.tflite"
    for length in range(0, len(whole) - 16, 7):  # the end may be padding
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            check_model_file(path)


def test_a_damaged_model_is_an_input_error(model, tmp_path):
    whole = bytearray(model.read_bytes())
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.tflite"
    refused = 0
    for _ in range(20):
        damaged = whole.copy()
        for at in rng.integers(8, len(whole), 200):
            damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        try:
            load(path)
        except InputError:
            refused += 1
    assert refused >= 19


def test_ids_outside_the_vocabulary(model):
    ids = np.full(64, len(tiny.VOCAB), np.int32)
    with pytest.raises(InputError, match="Does the vocabulary fit"):
        load(model).run(input_ids=ids, input_mask=ids * 0, segment_ids=ids * 0)


@pytest.mark.parametrize("workers", [1, 2, 5, None])
def test_run_windows_keeps_the_order(model, dataset, workers):
    _, windows = dataset
    start, end = run_windows(model, windows, workers=workers)
    assert start.dtype == end.dtype == np.float32
    for row, window in enumerate(windows):
        expected = tiny.logits(window.input_ids, window.input_mask, window.segment_ids)
        np.testing.assert_array_equal(start[row], expected[0])
        np.testing.assert_array_equal(end[row], expected[1])


def test_run_windows_of_none(model):
    start, end = run_windows(model, [])
    assert start.shape == end.shape == (0, 64)


def test_windows_of_another_length(folder, dataset):
    with pytest.raises(InputError, match=r"Expected windows of 32 tokens.* got \[64\]"):
        run_windows(tiny.write_model(folder / "short.tflite", 32), dataset[1])


def test_an_error_in_a_worker_arrives(model, dataset):
    _, windows = dataset
    broken = make_broken(windows)
    before = threading.active_count()
    with pytest.raises(InputError, match="Does the vocabulary fit"):
        run_windows(model, broken, workers=2)
    assert threading.active_count() == before


def make_broken(windows):
    import dataclasses

    bad = dataclasses.replace(windows[3], input_ids=windows[3].input_ids + 1000)
    return [*windows[:3], bad, *windows[4:]]


def test_score_model(model, dataset):
    questions, windows = dataset
    score = score_model(model, questions, windows, workers=2)
    assert (score.questions, score.windows, score.missing) == (3, len(windows), ())
    for index, question in enumerate(questions):  # the definition, over all spans instead of the best 20
        best = (-np.inf, "")
        for window in windows:
            if window.question_index != index:
                continue
            start, end = tiny.logits(window.input_ids, window.input_mask, window.segment_ids)
            first = window.doc_offset
            for s, peak in enumerate(window.token_is_max_context, first):
                for e in range(s, min(s + 30, len(window.tokens) - 1)):
                    if peak and start[s] + end[e] > best[0]:
                        best = (start[s] + end[e], "".join(window.tokens[s : e + 1]).replace("##", ""))
        assert score.predictions[question.id].lower().replace(" ", "") == best[1]


def test_no_bar_where_nobody_looks(model, dataset, capfd):
    run_windows(model, dataset[1], workers=2)
    captured = capfd.readouterr()
    assert captured.out == "" and "window" not in captured.err


def test_ctrl_c_ends_the_workers(model, folder, dataset):
    """SIGINT in the middle of ten million windows: the loop ends at once, with KeyboardInterrupt."""
    code = """
        import signal, sys
        import numpy as np
        from types import SimpleNamespace
        from mobilebert_kit.runtime.scoring import run_windows

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

        class Endless(list):  # ten thousand windows that are one
            def __len__(self):
                return 10_000
            def __getitem__(self, index):
                print(index, flush=True)
                return window
            def __iter__(self):
                return iter([window])
        ids = np.zeros(64, np.int32)
        window = SimpleNamespace(input_ids=ids, input_mask=ids, segment_ids=ids)
        try:
            run_windows(sys.argv[1], Endless(), workers=2)
        except KeyboardInterrupt:
            sys.exit(77)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(model)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            process.stdout.read1()
        assert process.returncode == 77, process.stderr.read().decode()


TFLITE_RUNTIME = """
    import sys
    import numpy as np
    from mobilebert_kit.errors import InputError
    from mobilebert_kit.runtime.interpreter import load
    {before}
    try:
        interpreter = load(sys.argv[1], runtime="tflite_runtime")
    except InputError as error:
        sys.exit(str(error))
    ids = np.arange(64, dtype=np.int32)
    outputs = interpreter.run(input_ids=ids, input_mask=ids * 0 + 1, segment_ids=ids % 2)
    np.save(sys.argv[2], np.concatenate([outputs["start_logits"], outputs["end_logits"]]))
"""


def test_tflite_runtime_gives_the_same(model, tmp_path):
    pytest.importorskip("tflite_runtime", reason="pip install tflite-runtime")
    done = python(TFLITE_RUNTIME.format(before=""), model, tmp_path / "out.npy")
    assert done.returncode == 0, done.stderr
    ids = np.arange(64, dtype=np.int32)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), tiny.logits(ids, ids * 0 + 1, ids % 2))


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("sys.modules['tensorflow'] = object()", "without TensorFlow"),
        ("np.__version__ = '2.1.0'", "numpy 1 for tflite_runtime, got 2.1.0"),
        ("sys.modules['tflite_runtime.interpreter'] = None", "mobilebert_kit[tflite_runtime]"),
    ],
)
def test_tflite_runtime_is_refused_where_it_would_crash(model, tmp_path, before, message):
    done = python(TFLITE_RUNTIME.format(before=before), model, tmp_path / "out.npy")
    assert done.returncode == 1 and message in done.stderr
