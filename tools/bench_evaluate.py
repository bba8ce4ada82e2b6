"""What evaluating costs beyond running the model: seconds of score_model over many windows, two workers.

    python tools/bench_evaluate.py --dataset dev-v1.1.json --output evaluate.json
    python tools/bench_evaluate.py --dataset dev-v1.1.json --windows 10833 --model M.tflite
    python tools/bench_evaluate.py --dataset dev-v1.1.json --model BUCKETED.tflite --unbucketed M.tflite

The yardstick is windows x one-thread latency / workers: what the interpreters alone would take, if two at a
time disturbed each other in nothing. Latency is measured between blocks of windows, so that a machine that
slows down slows both. The seconds are all of score_model: loading, running, answers, F1. With --unbucketed
the latency is that file's, and the one with buckets should take half of the yardstick.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from benchmark_models import DEMO_VOCAB, checkpoint_or_random, exported
from benchmark_report import Requirement, publish

from mobilebert_kit.errors import InputError
from mobilebert_kit.main import run
from mobilebert_kit.runtime.interpreter import Interpreter
from mobilebert_kit.runtime.scoring import score_model
from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import Window, make_windows
from mobilebert_kit.targets import parse_targets

MOST_RATIO, MOST_BUCKETED_RATIO = 1.1, 0.5

_DATASET = flags.DEFINE_string("dataset", None, "SQuAD v1.1 file that the windows are from.", required=True)
_MODEL = flags.DEFINE_string("model", None, "A .tflite; default: --target of full size, random weights.")
_UNBUCKETED = flags.DEFINE_string(
    "unbucketed", None, "The same model of one length, the yardstick of a --model with buckets."
)
_VOCAB = flags.DEFINE_string("vocab", str(DEMO_VOCAB), "The vocabulary of --model.")
_TARGET = flags.DEFINE_string("target", "int8", "One target; the faster it is, the more all else weighs.")
_WINDOWS = flags.DEFINE_integer("windows", 1000, "How many; all of dev are 10833.", lower_bound=1)
_BLOCK = flags.DEFINE_integer("block", 1000, "Windows between measurements of the latency.", lower_bound=10)
_LATENCY_WINDOWS = flags.DEFINE_integer("latency_windows", 40, "Of one such measurement.", lower_bound=3)
_WORKERS = flags.DEFINE_integer("workers", 2, "As of evaluate.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


def main() -> None:
    if _UNBUCKETED.value and not _MODEL.value:
        raise InputError("Expected --model with --unbucketed, got none.")
    with model_file() as file:
        length = Interpreter(file).sequence_length
        questions = load_questions(_DATASET.value)
        windows = make_windows(questions, load_tokenizer(_VOCAB.value), max_seq_length=length)
        if len(windows) < _WINDOWS.value:
            raise InputError(
                f"Expected {_WINDOWS.value} windows at least, got {len(windows)} from {_DATASET.value}."
            )
        yardstick = Path(_UNBUCKETED.value or file)
        blocks = measure(file, yardstick, questions, windows[: _WINDOWS.value])
    most = MOST_BUCKETED_RATIO if _UNBUCKETED.value else MOST_RATIO
    seconds = sum(block["seconds"] for block in blocks)
    ideal = sum(block["ideal_seconds"] for block in blocks)
    latency = float(np.median([value for block in blocks for value in block["latency_ms"]]))
    publish(
        f"Evaluation of {_WINDOWS.value} windows of {length} tokens, {_WORKERS.value} workers of one thread",
        ("model", "seconds", "latency of one alone, ms", "windows x latency / workers, s", "ratio"),
        [(file.name, f"{seconds:.1f}", f"{latency:.1f}", f"{ideal:.1f}", f"{seconds / ideal:.3f}")],
        [Requirement("seconds over windows x latency / workers", seconds / ideal, most)],
        {"model": file.name, "windows": _WINDOWS.value, "seconds": seconds, "blocks": blocks},
        _OUTPUT.value,
    )


@contextlib.contextmanager
def model_file() -> Iterator[Path]:
    """--model, or one made for this run."""
    if _MODEL.value:
        yield Path(_MODEL.value)
        return
    targets = parse_targets(_TARGET.value)
    if len(targets) != 1:
        raise InputError(f"Expected one --target, got {_TARGET.value}.")
    name = targets[0].name
    with checkpoint_or_random(None) as checkpoint, exported(checkpoint, [name]) as models:
        yield models.files[name]


def measure(
    file: Path, yardstick: Path, questions: Sequence[Question], windows: Sequence[Window]
) -> list[dict[str, Any]]:
    """Block by block: seconds of score_model, and of the yardstick by its latency before and after it."""
    alone = Interpreter(yardstick)
    alone.run(**arrays(windows[0]))
    before = latencies(alone, windows)
    blocks = []
    for first in range(0, len(windows), _BLOCK.value):
        some_questions, some = own_questions(questions, windows[first : first + _BLOCK.value])
        score = score_model(file, some_questions, some, workers=_WORKERS.value, progress=False)
        after = latencies(alone, windows)
        latency = float(np.median(before + after))
        blocks.append(
            {
                "windows": len(some),
                "seconds": score.seconds,
                "ideal_seconds": len(some) * latency / _WORKERS.value,
                "latency_ms": [round(value * 1e3, 2) for value in before + after],
            }
        )
        before = after
    return blocks


def latencies(model: Interpreter, windows: Sequence[Window]) -> list[float]:
    """Seconds of each of --latency_windows windows, one after the other."""
    seconds = []
    for window in windows[: _LATENCY_WINDOWS.value]:
        inputs = arrays(window)
        began = time.perf_counter()
        model.run(**inputs)
        seconds.append(time.perf_counter() - began)
    return seconds


def arrays(window: Window) -> dict[str, np.ndarray]:
    """What the model takes of a window."""
    return {name: getattr(window, name) for name in ("input_ids", "input_mask", "segment_ids")}


def own_questions(
    questions: Sequence[Question], windows: Sequence[Window]
) -> tuple[list[Question], list[Window]]:
    """The windows, and the questions that they are of, numbered anew."""
    first, last = windows[0].question_index, windows[-1].question_index
    moved = [replace(window, question_index=window.question_index - first) for window in windows]
    return list(questions[first : last + 1]), moved


if __name__ == "__main__":
    run(main)
