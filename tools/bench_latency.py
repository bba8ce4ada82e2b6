"""How fast the targets are: float against every other, and against a plainly written MobileBERT.

    python tools/bench_latency.py --output latency.json

All models of one full-size checkpoint with random weights take turns, window by window, so that whatever else
the machine does falls on all of them alike. A ratio is the median over the rounds of float's time over the
other's in the same round.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from benchmark_models import DEMO_EVAL, checkpoint_or_random, exported
from benchmark_report import Requirement, publish

from mobilebert_kit.contract import MLPERF
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.main import run
from mobilebert_kit.runtime.interpreter import Interpreter
from mobilebert_kit.squad.dataset import load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows
from mobilebert_kit.targets import parse_targets

LEAST_INT8_SPEED = 2.0  # times float, one thread
MOST_FLOAT_TIME = 1.05  # times the plain model's, one thread
MOST_GPU_TIME = 1.05  # the gpu file on the CPU, times float's, one thread
PLAIN_TOLERANCE = 1e-4  # logits: the two must be the same model
PLAIN = "plain"

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Default: full size, random weights.")
_TARGET = flags.DEFINE_string("target", "all", "Targets, comma-separated, or all; float is always measured.")
_MODELS = flags.DEFINE_string(
    "models", None, "A folder made by export with --target all of --checkpoint, to spare exporting again."
)
_THREADS = flags.DEFINE_list("threads", ["1", "2"], "Numbers of threads of an interpreter.")
_ROUNDS = flags.DEFINE_integer(
    "rounds", 40, "Windows that each model runs, per number of threads.", lower_bound=3
)
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


def main() -> None:
    if not all(number.isdigit() and int(number) > 0 for number in _THREADS.value):
        raise InputError(f"Expected --threads to be whole numbers like 1,2, got {','.join(_THREADS.value)}.")
    if _MODELS.value and not _CHECKPOINT.value:
        raise InputError("Expected --models with the --checkpoint that it was made of, got no checkpoint.")
    names = list(dict.fromkeys(["float", *(target.name for target in parse_targets(_TARGET.value))]))
    with (
        checkpoint_or_random(_CHECKPOINT.value) as checkpoint,
        exported(checkpoint, names, folder=_MODELS.value) as models,
        tempfile.TemporaryDirectory() as scratch,
    ):
        length = models.sequence_length
        files = {**models.files, PLAIN: write_plain(checkpoint, length, Path(scratch))}
        windows = real_windows(models.vocab, length)
        difference = largest_difference(files["float"], files[PLAIN], windows[:3])
        if difference > PLAIN_TOLERANCE:
            raise CheckFailed(
                f"Expected the plain model to be the same model within {PLAIN_TOLERANCE:g}, got logits that "
                f"are {difference:.2g} apart. Is --models of another checkpoint?"
            )
        times = {
            threads: take_turns(files, windows, threads, _ROUNDS.value)
            for threads in map(int, _THREADS.value)
        }
    results = [
        summarize(name, threads, of_threads[name], of_threads["float"])
        for threads, of_threads in times.items()
        for name in of_threads
    ]
    publish(
        f"Latency of one window of {length} tokens, {_ROUNDS.value} rounds",
        ("threads", "model", "median, ms", "quartiles, ms", "times as fast as float"),
        [
            (
                result["threads"],
                result["model"],
                f"{result['median_ms']:.1f}",
                f"{result['lower_quartile_ms']:.1f} - {result['upper_quartile_ms']:.1f}",
                f"{result['speed']:.2f}",
            )
            for result in results
        ],
        requirements(results),
        {"results": results, "plain_difference": difference},
        _OUTPUT.value,
    )


def write_plain(checkpoint: Path, length: int, scratch: Path) -> Path:
    """The plain model's .tflite, from the same checkpoint."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from plain_mobilebert import convert_plain  # TensorFlow takes seconds: after the flags are known good

    from mobilebert_kit.checkpoints import load_checkpoint
    from mobilebert_kit.models.config import resolve_config

    loaded = load_checkpoint(checkpoint)
    config = resolve_config(loaded.settings, loaded.tensors, loaded.format)
    file = scratch / "plain.tflite"
    file.write_bytes(convert_plain(config, loaded.tensors, MLPERF, length))
    return file


def real_windows(vocab: Path, length: int) -> list[dict[str, np.ndarray]]:
    """Windows of the demo's questions. A window's time does not depend on what is in it."""
    windows = make_windows(load_questions(DEMO_EVAL, limit=10), load_tokenizer(vocab), max_seq_length=length)
    return [{name: getattr(window, name) for name in MLPERF.input_names} for window in windows]


def largest_difference(one: Path, other: Path, windows: list[dict[str, np.ndarray]]) -> float:
    """Between two models' logits, over all positions."""
    models = [Interpreter(file) for file in (one, other)]
    pairs = [tuple(model.run(**window) for model in models) for window in windows]
    return max(float(np.abs(a[name] - b[name]).max()) for a, b in pairs for name in MLPERF.output_names)


def take_turns(
    files: dict[str, Path], windows: list[dict[str, np.ndarray]], threads: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each model's window, round by round, in another order each round."""
    models = {name: Interpreter(file, threads=threads) for name, file in files.items()}
    for model in models.values():
        model.run(**windows[0])  # the first run also packs weights and touches memory
    times: dict[str, list[float]] = {name: [] for name in models}
    order = np.random.default_rng(0)
    for number in range(rounds):
        window = windows[number % len(windows)]
        for name in order.permutation(list(models)):
            began = time.perf_counter()
            models[name].run(**window)
            times[name].append(time.perf_counter() - began)
    return times


def summarize(name: str, threads: int, seconds: list[float], reference: list[float]) -> dict[str, Any]:
    """Median, quartiles, and the speed relative to the reference's."""
    lower, median, upper = np.percentile(seconds, (25, 50, 75)) * 1e3
    return {
        "model": name,
        "threads": threads,
        "median_ms": round(float(median), 2),
        "lower_quartile_ms": round(float(lower), 2),
        "upper_quartile_ms": round(float(upper), 2),
        "speed": round(float(np.median(np.divide(reference, seconds))), 3),
        "milliseconds": [round(value * 1e3, 2) for value in seconds],
    }


def requirements(results: list[dict[str, Any]]) -> list[Requirement]:
    """Of the runs with one thread."""
    speed = {result["model"]: result["speed"] for result in results if result["threads"] == 1}
    wanted = []
    if "int8" in speed:
        wanted.append(
            Requirement("int8, times as fast as float", speed["int8"], LEAST_INT8_SPEED, at_least=True)
        )
    if "gpu" in speed:
        wanted.append(Requirement("gpu's time over float's", 1 / speed["gpu"], MOST_GPU_TIME))
    if PLAIN in speed:
        wanted.append(Requirement("float's time over the plain model's", speed[PLAIN], MOST_FLOAT_TIME))
    return wanted


if __name__ == "__main__":
    run(main)
