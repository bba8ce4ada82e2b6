"""Where a window's time goes, by kind of op: LiteRT's profiler beside OpenVINO's counters.

    python tools/profile_engines.py --models int8.tflite,openvino_int8.xml --dataset dev-v1.1.json

Both time every node, which slows them a little. Of each node the fastest of the runs counts, which other work
on the machine disturbs least; so the sums are below the latency.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from absl import flags
from benchmark_models import DEMO_EVAL, DEMO_VOCAB
from benchmark_report import publish
from litert_profiler import litert_profiles

from mobilebert_kit.errors import InputError
from mobilebert_kit.main import run
from mobilebert_kit.native_log import without_notices
from mobilebert_kit.runtime.engine import open_engine
from mobilebert_kit.runtime.packages import import_runtime
from mobilebert_kit.squad.dataset import load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows

_MODELS = flags.DEFINE_list("models", None, "Files: .tflite or OpenVINO's .xml.", required=True)
_DATASET = flags.DEFINE_string("dataset", str(DEMO_EVAL), "SQuAD v1.1 file; its first window is run.")
_VOCAB = flags.DEFINE_string("vocab", str(DEMO_VOCAB), "The models' vocabulary.")
_THREADS = flags.DEFINE_integer("threads", 1, "Of an engine.", lower_bound=1)
_RUNS = flags.DEFINE_integer("runs", 10, "Of each model.", lower_bound=1)
_LEAST = flags.DEFINE_float("least_ms", 0.05, "Kinds that take less are summed up.")
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")

Run = list[tuple[str, float]]  # kind of op and milliseconds of each node
Profile = dict[str, tuple[int, float]]  # kind of op: nodes, milliseconds of all of them


def main() -> None:
    profiles: dict[str, Profile] = {}
    for model in map(Path, _MODELS.value):
        engine = open_engine(model)  # InputError where it is no model that answers questions
        profilers = {"TFLite": litert, "OpenVINO": openvino}
        if engine.kind not in profilers:
            raise InputError(f"Expected a .tflite or .xml file, got one of {engine.kind}: {model}.")
        inputs = window(engine.sequence_length, engine.inputs)
        profiles[model.name] = by_kind(profilers[engine.kind](model, inputs))
    rows = []
    for name, profile in profiles.items():
        total = sum(milliseconds for _, milliseconds in profile.values())
        rows.append((name, "all", sum(nodes for nodes, _ in profile.values()), f"{total:.1f}", "100%"))
        large = {kind: value for kind, value in profile.items() if value[1] >= _LEAST.value}
        for kind, (nodes, milliseconds) in sorted(large.items(), key=lambda item: -item[1][1]):
            rows.append(("", kind, nodes, f"{milliseconds:.2f}", f"{milliseconds / total:.1%}"))
    publish(
        f"Time by kind of op, {_THREADS.value} threads, each node's fastest of {_RUNS.value} runs",
        ("model", "kind of op", "nodes", "ms", "share"),
        rows,
        [],
        {"profiles": profiles},
        _OUTPUT.value,
    )


def window(length: int, names: dict[str, str]) -> dict[str, np.ndarray]:
    """The first window of the dataset, int32 [1, length], by the model's names."""
    questions = load_questions(_DATASET.value, limit=1)
    first = make_windows(questions, load_tokenizer(_VOCAB.value), max_seq_length=length)[0]
    return {theirs: getattr(first, own)[None] for own, theirs in names.items()}


def by_kind(runs: list[Run]) -> Profile:
    """The fastest of several runs, node by node, summed up by kind."""
    fastest: dict[str, list[float]] = defaultdict(list)
    for node in zip(*runs, strict=True):
        fastest[node[0][0]].append(min(milliseconds for _, milliseconds in node))
    return {kind: (len(times), sum(times)) for kind, times in fastest.items()}


def litert(model: Path, inputs: dict[str, np.ndarray]) -> list[Run]:
    with without_notices(r".*"):  # which accelerators LiteRT looks for
        return litert_profiles(model, inputs, threads=_THREADS.value, runs=_RUNS.value)


def openvino(model: Path, inputs: dict[str, np.ndarray]) -> list[Run]:
    """OpenVINO's kinds: of node, and of the kernel that computes it."""
    core = import_runtime("openvino").Core()
    read = core.read_model(str(model))
    options = {
        "PERF_COUNT": True,
        "INFERENCE_NUM_THREADS": _THREADS.value,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    runs = []
    for _ in range(_RUNS.value):
        request = core.compile_model(read, "CPU", options).create_infer_request()
        means = []  # a counter is the mean of all runs since it was compiled; the first is not to count
        for _ in range(2):
            request.infer(inputs)
            means.append([node.real_time.total_seconds() * 1e3 for node in request.profiling_info])
        kinds = [f"{node.node_type} ({node.exec_type})" for node in request.profiling_info]
        times = [max(0.0, 2 * both - first) for first, both in zip(*means, strict=True)]
        runs.append(list(zip(kinds, times, strict=True)))
    return runs


if __name__ == "__main__":
    run(main)
