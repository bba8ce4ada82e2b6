"""tools/bench_peers.py: what it says of each engine is true; a peer that is missing or dies is a row too."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_export as small
from conftest import REPOSITORY

from mobilebert_kit.build import export
from mobilebert_kit.delegates import read_tflite
from mobilebert_kit.errors import InputError
from mobilebert_kit.runtime.interpreter import Interpreter
from mobilebert_kit.squad.answers import MAX_ANSWER_LENGTH
from mobilebert_kit.squad.windows import Window
from mobilebert_kit.targets import FLOAT, INT8, ONNX, OPENVINO
from tools.peers.process import PeerFailed, Worker
from tools.peers.table import PEERS, parse_peers

WINDOWS = small.windows()[:5]  # as many as are run
OPENED = {"opens": PEERS["litert_float"].opens, "options": {"runtime": "litert"}, "threads": 1}
MEASURED = ["litert_float", "litert_int8", "tflite_runtime_float", "onnxruntime_dynamic", "openvino_int8"]
if importlib.util.find_spec("transformers"):  # not with Python 3.10
    MEASURED.append("pytorch_float")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MobileBERT's export in `out`."""
    folder = tmp_path_factory.mktemp("peers")
    small.write_checkpoint(folder / "checkpoint")
    small.write_squad(folder / "questions.json")
    export(small.request(folder, targets=[FLOAT, INT8, ONNX, OPENVINO]))
    return folder


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "tools" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def bench(folder: Path, output: Path, *arguments: object) -> tuple[dict[str, Any], str]:
    """Its JSON, and what it printed."""
    questions = folder / "questions.json"
    done = tool(
        "bench_peers.py",
        *("--checkpoint", folder / "checkpoint", "--models", folder / "out", "--dataset", questions),
        *("--calibration", questions, "--calibration_questions", 9, "--windows", len(WINDOWS)),
        *("--threads", 1, "--output", output, *arguments),
    )
    assert done.returncode in (0, 3), done.stderr
    found = json.loads(output.read_text(encoding="utf-8"))
    assert done.returncode == (0 if all(goal["reached"] for goal in found["requirements"]) else 3)
    return found, done.stdout


@pytest.fixture(scope="module")
def measured(folder: Path) -> tuple[dict[str, Any], str]:
    for package in ("nncf", "mlperf_loadgen"):
        if importlib.util.find_spec(package) is None and os.environ.get("CI") != "true":
            pytest.skip(f"no {package}: install the extra [bench]")
    single_stream = ("--single_stream", "--min_queries", 64, "--min_seconds", 0)  # fewer are invalid
    chart = ("--chart", folder / "chart.png", "--output_dir", folder / "made")
    return bench(folder, folder / "found.json", "--peers", ",".join(MEASURED), *single_stream, *chart)


def logits(path: Path) -> np.ndarray:
    """[N, 2, S]: start, end."""
    model = Interpreter(path)
    outputs = [model.run(**{name: getattr(window, name) for name in model.inputs}) for window in WINDOWS]
    return np.stack([np.concatenate([out["start_logits"], out["end_logits"]]) for out in outputs])


def best_span(window: Window, start: np.ndarray, end: np.ndarray) -> tuple[int, int]:
    """Written again, span by span; the shortest of equals."""
    last = len(window.tokens) - 1  # a [SEP]
    spans = [
        (first, first + more)
        for more in range(MAX_ANSWER_LENGTH)
        for first in range(window.doc_offset, last - more)
    ]
    return max(spans, key=lambda span: float(start[span[0]]) + float(end[span[1]]))


def test_agreement_and_ratios_are_right(folder: Path, measured: tuple[dict[str, Any], str]) -> None:
    results = {row["peer"]: row for row in measured[0]["results"]}
    assert list(results) == MEASURED
    assert not any("failure" in row for row in results.values())
    float_logits, int8_logits = (
        logits(folder / "out" / target.file_for(small.LENGTH)) for target in (FLOAT, INT8)
    )
    correlations = []
    for side in (0, 1):
        ours, theirs = (
            np.concatenate([row[side, : len(w.tokens)] for row, w in zip(values, WINDOWS, strict=True)])
            for values in (int8_logits, float_logits)
        )
        ours, theirs = (
            values.astype(np.float64) - values.mean(dtype=np.float64) for values in (ours, theirs)
        )
        correlations.append(ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs)))
    same = [
        best_span(window, *ours) == best_span(window, *theirs)
        for window, ours, theirs in zip(WINDOWS, int8_logits, float_logits, strict=True)
    ]
    row = results["litert_int8"]
    assert row["correlation"] == pytest.approx(min(correlations), abs=2e-6)  # rounded to six places
    assert row["equal_spans"] == np.mean(same)
    ratios = [
        a / b for a, b in zip(results["litert_float"]["milliseconds"], row["milliseconds"], strict=True)
    ]
    # The milliseconds of the file have two places, those of so small a model are about one.
    assert row["speed"] == pytest.approx(np.median(ratios), rel=0.1)
    assert row["median_ms"] == pytest.approx(np.median(row["milliseconds"]), abs=0.02)


@pytest.mark.parametrize("name", ["tflite_runtime_float", "pytorch_float"])
def test_floats_are_the_same_model(name: str, measured: tuple[dict[str, Any], str]) -> None:
    """The same weights and windows reach all of them: another mask or order of inputs would not do this."""
    rows = {row["peer"]: row for row in measured[0]["results"]}
    if name not in rows:
        pytest.skip("no transformers for this Python")
    assert rows[name]["correlation"] > 0.999999


def test_integers_are_near_the_model(measured: tuple[dict[str, Any], str]) -> None:
    """NNCF's as near as ours; ONNX Runtime's own kernels saturate without VNNI, and are not promised."""
    rows = {row["peer"]: row for row in measured[0]["results"]}
    for name in ("litert_int8", "openvino_int8"):
        assert 0.99 < rows[name]["correlation"] < 1.0
    assert 0.5 < rows["onnxruntime_dynamic"]["correlation"] < 1.0


def test_single_stream_is_loadgens(measured: tuple[dict[str, Any], str]) -> None:
    for row in measured[0]["results"]:
        run = row["single_stream"]
        assert run["queries"] >= 64 and run["valid"]
        assert 0 < run["mean_ms"] <= 3 * run["p90_ms"]  # its mean cannot be that far above


def test_table_and_chart_show_every_peer(folder: Path, measured: tuple[dict[str, Any], str]) -> None:
    for name in MEASURED:
        assert f"| {PEERS[name].model} " in measured[1]
    assert (folder / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_made_files_are_kept_whole(folder: Path, measured: tuple[dict[str, Any], str]) -> None:
    names = sorted(path.name.split("_96_")[0] + path.suffix for path in (folder / "made").iterdir())
    assert names == ["onnx_dynamic.onnx", "openvino_int8.bin", "openvino_int8.xml"]


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_missing_and_dying_peers_are_told(folder: Path, tmp_path: Path) -> None:
    """One whose Python has no packages, one that crashes with its model open, beside one that runs."""
    bare = script(tmp_path / "bare", f'exec {sys.executable} -S -E -I "$@"')
    dying = script(
        tmp_path / "dying",
        f'case "$*" in *peers.worker*) kill -SEGV $$;; *) exec {sys.executable} "$@";; esac',
    )
    found, printed = bench(
        folder,
        tmp_path / "found.json",
        *("--peers", "openvino_float,onnxruntime_float", "--chart", tmp_path / "chart.png"),
        *("--peer_python", f"OpenVINO={bare}", "--peer_python", f"ONNX Runtime={dying}"),
    )
    rows = {row["peer"]: row for row in found["results"]}
    assert "failure" not in rows["litert_float"]
    assert rows["openvino_float"]["failure"] == "missing: openvino is not installed"
    assert rows["onnxruntime_float"]["failure"] == "died of SIGSEGV"
    for name in ("openvino_float", "onnxruntime_float"):
        assert set(rows[name]) == {"peer", "engine", "model", "packages", "threads", "failure"}
        assert f"| {rows[name]['failure']} " in printed
    assert found["requirements"] == []


def test_a_worker_says_why_it_ended(tmp_path: Path) -> None:
    request = {**OPENED, "file": str(tmp_path / "absent.tflite"), "length": 96}
    with pytest.raises(PeerFailed, match=r"exit code 1: .*no such file"):
        Worker(sys.executable, request)
    with pytest.raises(PeerFailed, match=r"no answer within 0 s"):
        Worker(str(script(tmp_path / "slow", "exec sleep 60")), request, timeout=0.2)
    with pytest.raises(PeerFailed, match="No such file"):
        Worker(str(tmp_path / "no_python"), request)


def test_a_worker_that_dies_between_windows_is_told(folder: Path) -> None:
    file = folder / "out" / FLOAT.file_for(small.LENGTH)
    worker = Worker(sys.executable, {**OPENED, "file": str(file), "length": small.LENGTH})
    window = np.stack([WINDOWS[0].input_ids, WINDOWS[0].input_mask, WINDOWS[0].segment_ids])
    seconds, answer = worker.ask(window)
    assert seconds > 0
    np.testing.assert_array_equal(answer, logits(file)[0])
    beyond = np.full_like(window, 10**6)  # no such row in the vocabulary
    with pytest.raises(PeerFailed, match="vocabulary"):
        worker.ask(beyond)


def test_unknown_names_are_refused() -> None:
    assert list(parse_peers(["openvino_int8"])) == ["litert_float", "openvino_int8"]
    with pytest.raises(InputError, match=r"litert_float, .* got 'onnx'"):
        parse_peers(["onnx"])
    for flag, value in (("--peer_python", "Keras=python"), ("--threads", "two")):
        done = tool("bench_peers.py", flag, value)
        assert done.returncode == 2 and value in done.stderr


def test_the_profile_counts_every_node(folder: Path, tmp_path: Path) -> None:
    model, graph = (folder / "out" / target.file_for(small.LENGTH) for target in (INT8, OPENVINO))
    done = tool(
        "profile_engines.py",
        *("--models", f"{model},{graph}", "--dataset", folder / "questions.json", "--runs", 2),
        *("--vocab", folder / "out" / "vocab.txt", "--output", tmp_path / "profile.json"),
    )
    assert done.returncode == 0, done.stderr
    profiles = json.loads((tmp_path / "profile.json").read_text(encoding="utf-8"))["profiles"]
    ours, theirs = profiles[model.name], profiles[graph.name]
    assert sum(nodes for nodes, _ in ours.values()) == len(read_tflite(model).main.nodes)
    assert any("QS8" in kind for kind in ours) and any("f32" in kind for kind in theirs)
    assert sum(milliseconds for _, milliseconds in ours.values()) > 0
    assert sum(milliseconds for _, milliseconds in theirs.values()) > 0
