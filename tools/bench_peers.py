"""How fast MobileBERT is on every engine that people compare: LiteRT, ONNX Runtime, OpenVINO, PyTorch.

    python tools/bench_peers.py --checkpoint build/full --models build/full_models --dataset dev-v1.1.json \\
        --output_dir build/peers --output peers.json --chart peers.png

The same weights and windows for all. Each peer is a process of its own; they take turns, window by window,
in another order each round, so that whatever else the machine does falls on all of them alike. In its turn a
peer runs the window twice and the second run counts: the first brings its weights back into the caches, and
by then the threads of the one before are at rest. A ratio is the median over the rounds of the ratios of the
times in a round.

A peer that is not installed, or fails, is a row that says so. Extra [bench]; docs/speed.md tells more.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags
from benchmark_models import DEMO_CALIBRATION, DEMO_EVAL, checkpoint_or_random, exported
from benchmark_report import Requirement, publish
from peers.chart import draw_chart
from peers.files import cannot_export, file_for, installed, targets_for, versions
from peers.goals import requirements
from peers.models import Request
from peers.process import PeerFailed
from peers.rounds import arrays, open_workers, summarize, take_turns
from peers.single_stream import PACKAGE, Settings, single_stream
from peers.table import REFERENCE, Peer, parse_peers
from spread_windows import spread_windows

from mobilebert_kit.artifacts import check_new
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.main import run
from mobilebert_kit.squad.windows import Window

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A Hugging Face directory. Default: full size, random weights."
)
_MODELS = flags.DEFINE_string(
    "models", None, "A folder made by export of --checkpoint, to spare exporting again."
)
_PEERS = flags.DEFINE_list("peers", ["all"], "Names, or all; litert_float is always measured.")
_PEER_PYTHON = flags.DEFINE_multi_string(
    "peer_python", [], "ENGINE=PATH, several times: the Python that has this engine's packages."
)
_DATASET = flags.DEFINE_string("dataset", str(DEMO_EVAL), "SQuAD v1.1 file that the windows are from.")
_WINDOWS = flags.DEFINE_integer("windows", 20, "How many, spread over it: a round each.", lower_bound=3)
_THREADS = flags.DEFINE_list("threads", ["1", "2"], "Numbers of threads of an engine.")
_CALIBRATION = flags.DEFINE_string(
    "calibration", str(DEMO_CALIBRATION), "As of export, and what NNCF calibrates with."
)
_CALIBRATION_QUESTIONS = flags.DEFINE_integer("calibration_questions", 100, "As of export.", lower_bound=1)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Keep the files that are made for peers here, for the next time."
)
_SINGLE_STREAM = flags.DEFINE_boolean(
    "single_stream", False, "Then MLPerf's single stream, peer by peer: minutes each."
)
_MIN_QUERIES = flags.DEFINE_integer("min_queries", Settings.min_queries, "Of a single stream.", lower_bound=1)
_MIN_SECONDS = flags.DEFINE_integer("min_seconds", Settings.min_seconds, "Of a single stream.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")
_CHART = flags.DEFINE_string("chart", None, "Draw this PNG too.")


@dataclass(frozen=True)
class Bench:
    """What is measured, on which windows.

    packages: versions of what a peer needs; files: of the peers that have that; failures: of the others, why.
    """

    peers: Mapping[str, Peer]
    pythons: Mapping[str, str]
    packages: Mapping[str, Mapping[str, str]]
    files: Mapping[str, Path]
    failures: Mapping[str, str]
    windows: Sequence[Window]


def main() -> None:
    peers = parse_peers(_PEERS.value)
    if not all(number.isdigit() and int(number) > 0 for number in _THREADS.value):
        raise InputError(f"Expected --threads to be whole numbers like 1,2, got {','.join(_THREADS.value)}.")
    if _MODELS.value and not _CHECKPOINT.value:
        raise InputError("Expected --models with the --checkpoint that it was made of, got no checkpoint.")
    if _SINGLE_STREAM.value and PACKAGE not in installed(sys.executable):
        raise InputError(f"Expected {PACKAGE} for --single_stream, got none. Install '.[bench]'.")
    for path in filter(None, (_OUTPUT.value, _CHART.value)):
        check_new(path, overwrite=True)
    pythons = parse_pythons({peer.engine for peer in peers.values()})
    with ExitStack() as stack:
        bench = prepare(stack, peers, {name: pythons[peer.engine] for name, peer in peers.items()})
        results, goals = [], []
        for threads in map(int, _THREADS.value):
            rows, wanted = measure(bench, threads)
            results += rows
            goals += wanted
    title = f"Latency of one window of {len(bench.windows[0].input_ids)} tokens, {len(bench.windows)} rounds"
    if _CHART.value:
        draw_chart(Path(_CHART.value), results, title)
    report(title, results, goals)


def parse_pythons(engines: set[str]) -> dict[str, str]:
    """The interpreter of each engine."""
    pythons = dict.fromkeys(engines, sys.executable)
    for text in _PEER_PYTHON.value:
        engine, _, python = text.partition("=")
        if engine not in engines or not python:
            known = ", ".join(sorted(engines))
            raise InputError(f"Expected --peer_python ENGINE=PATH with an engine of {known}, got {text!r}.")
        pythons[engine] = python
    return pythons


def prepare(stack: ExitStack, peers: Mapping[str, Peer], pythons: Mapping[str, str]) -> Bench:
    """Exports, makes and finds all files. What is temporary of them goes with `stack`."""
    packages, files, failures = {}, {}, {}
    for name, peer in peers.items():
        try:
            packages[name] = versions(peer, pythons[name])
            for target in targets_for([peer]) if _MODELS.value is None else []:
                if package := cannot_export(target, sys.executable):
                    raise PeerFailed(f"missing: {package} is not installed, to export {target}")
        except PeerFailed as error:
            failures[name] = str(error)
    if REFERENCE in failures:
        raise InputError(f"Expected {REFERENCE}, which all are compared with, got {failures[REFERENCE]}.")
    able = {name: peer for name, peer in peers.items() if name not in failures}
    checkpoint = stack.enter_context(checkpoint_or_random(_CHECKPOINT.value))
    models = stack.enter_context(
        exported(
            checkpoint,
            targets_for(able.values()),
            folder=_MODELS.value,
            calibration=_CALIBRATION.value,
            calibration_questions=_CALIBRATION_QUESTIONS.value,
        )
    )
    folder = Path(_OUTPUT_DIR.value or stack.enter_context(tempfile.TemporaryDirectory()))
    folder.mkdir(parents=True, exist_ok=True)
    paths = (str(path.resolve()) for path in (checkpoint, models.vocab, Path(_CALIBRATION.value)))
    request = Request(*paths, _CALIBRATION_QUESTIONS.value, models.sequence_length)
    for name, peer in able.items():
        try:
            files[name] = file_for(peer, models.files, request, pythons[name], folder)
        except PeerFailed as error:
            failures[name] = str(error)
    windows = spread_windows(_DATASET.value, models.vocab, models.sequence_length, _WINDOWS.value)
    return Bench(peers, pythons, packages, files, failures, windows)


def measure(bench: Bench, threads: int) -> tuple[list[dict[str, Any]], list[Requirement]]:
    """A result for each peer, and the goals that could be measured."""
    failures = dict(bench.failures)
    requests = {
        name: {
            "opens": bench.peers[name].opens,
            "options": dict(bench.peers[name].options),
            "file": str(file.resolve()),
            "threads": threads,
            "length": len(bench.windows[0].input_ids),
        }
        for name, file in bench.files.items()
    }
    workers = open_workers(requests, bench.pythons, failures)
    try:
        turns = take_turns(workers, arrays(bench.windows), failures)
        if REFERENCE in failures:
            raise CheckFailed(f"Expected {REFERENCE} to run, got: {failures[REFERENCE]}.")
        measured = {name: summarize(turns, name, bench.windows) for name in workers}
        settings = Settings(_MIN_QUERIES.value, _MIN_SECONDS.value)
        for name, worker in workers.items() if _SINGLE_STREAM.value else []:
            try:
                measured[name]["single_stream"] = single_stream(worker, arrays(bench.windows), settings)
            except PeerFailed as error:
                measured[name]["single_stream_failure"] = str(error)
    finally:
        for worker in workers.values():
            worker.close()
    results = [
        {
            "peer": name,
            "engine": peer.engine,
            "model": peer.model,
            "packages": bench.packages.get(name, {}),
            "threads": threads,
            **(measured[name] if name in measured else {"failure": failures[name]}),
        }
        for name, peer in bench.peers.items()
    ]
    return results, requirements(measured, turns.seconds, threads)


def report(title: str, results: Sequence[dict[str, Any]], goals: Sequence[Requirement]) -> None:
    """The table, JSON, and the goals. CheckFailed where one is not reached."""
    header = ["threads", "engine", "model", "median, ms", "quartiles, ms", "times as fast as float"]
    header += ["correlation", "equal spans"]
    header += ["single stream, 90th percentile, ms"] if _SINGLE_STREAM.value else []
    publish(
        title,
        header,
        [cells(result)[: len(header)] for result in results],
        goals,
        {"results": list(results)},
        _OUTPUT.value,
    )


def cells(result: dict[str, Any]) -> list[object]:
    """A row of the table."""
    version = next(iter(result["packages"].values()), "")  # the engine's own package is the first
    first = [result["threads"], f"{result['engine']} {version}".strip(), result["model"]]
    if "failure" in result:
        return [*first, result["failure"], "", "", "", "", ""]
    return [
        *first,
        f"{result['median_ms']:.1f}",
        f"{result['lower_quartile_ms']:.1f} - {result['upper_quartile_ms']:.1f}",
        f"{result['speed']:.2f}",
        f"{result['correlation']:.4f}",
        f"{result['equal_spans']:.0%}",
        f"{result['single_stream']['p90_ms']:.1f}" if "single_stream" in result else "",
    ]


if __name__ == "__main__":
    run(main)
