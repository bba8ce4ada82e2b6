"""The F1 loop: all windows through several interpreters, then answers and scores.

Two interpreters of one thread each in two Python threads use two cores better than one interpreter of two
threads: the runtime leaves Python's lock while it runs, and nothing waits for the slower half of a matrix.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mobilebert_kit.errors import InputError
from mobilebert_kit.runtime.engine import Engine, open_engine
from mobilebert_kit.squad.answers import extract_answers
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.metric import app_f1, score
from mobilebert_kit.squad.windows import Window

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Score:
    """Of a model on a dataset; the scores in percent."""

    exact_match: float
    f1: float
    app_f1: float  # the MLPerf app's: its answers, its formula
    questions: int
    windows: int
    seconds: float  # loading the model to the last score
    predictions: dict[str, str]  # {question id: text}, the official form
    missing: tuple[str, ...] = ()  # questions without a prediction


def default_workers() -> int:
    """The number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def score_model(
    model_path: str | Path,
    questions: Sequence[Question],
    windows: Sequence[Window],
    *,
    threads: int = 1,
    workers: int | None = None,
    runtime: str | None = None,
    progress: bool | Callable[[], object] = True,
) -> Score:
    """Run `windows` through the model and score its answers to `questions`.

    Args and errors as `run_windows`; also CheckFailed where the model gives NaN.
    """
    began = time.monotonic()
    start, end = run_windows(
        model_path, windows, threads=threads, workers=workers, runtime=runtime, progress=progress
    )
    return score_logits(questions, windows, start, end, began=began)


def score_logits(
    questions: Sequence[Question],
    windows: Sequence[Window],
    start: np.ndarray,
    end: np.ndarray,
    *,
    began: float | None = None,
) -> Score:
    """Score the answers of logits, float32 [N, S] each, row by row those of `windows`.

    Args:
        began: when the work that is to be timed began, by time.monotonic(); None: now.
    Raises:
        CheckFailed: a logit is NaN.
    """
    began = time.monotonic() if began is None else began
    answers = extract_answers(questions, windows, start, end)
    metrics = score(questions, answers.official)
    return Score(
        exact_match=metrics.exact_match,
        f1=metrics.f1,
        app_f1=app_f1(questions, answers.app),
        questions=len(questions),
        windows=len(windows),
        seconds=time.monotonic() - began,
        predictions=answers.official,
        missing=metrics.missing,
    )


def score_predictions(questions: Sequence[Question], predictions: dict[str, str]) -> Score:
    """Score answers that are there already; the app's F1 is its formula on the same texts."""
    began = time.monotonic()
    metrics = score(questions, predictions)
    return Score(
        exact_match=metrics.exact_match,
        f1=metrics.f1,
        app_f1=app_f1(questions, predictions),
        questions=len(questions),
        windows=0,
        seconds=time.monotonic() - began,
        predictions=predictions,
        missing=metrics.missing,
    )


def run_windows(
    model_path: str | Path,
    windows: Sequence[Window],
    *,
    threads: int = 1,
    workers: int | None = None,
    runtime: str | None = None,
    progress: bool | Callable[[], object] = True,
) -> tuple[np.ndarray, np.ndarray]:
    """(start logits, end logits), float32 [N, S] each, of N windows of the model's length S.

    Args:
        threads: of one interpreter.
        workers: interpreters that run at a time; None: one a CPU.
        runtime: see `open_engine`.
        progress: show a bar, where standard error is a terminal; or what to call after each window, one call
            at a time.
    Raises:
        InputError: a model that cannot be used, windows of another length or with ids it does not know.
    """
    if workers is not None and workers < 1:
        raise InputError(f"Expected 1 worker at least, got {workers}.")
    first = open_engine(model_path, threads=threads, runtime=runtime)
    lengths = {len(window.input_ids) for window in windows}
    if lengths - {first.sequence_length}:
        raise InputError(
            f"Expected windows of {first.sequence_length} tokens, the length of {first.path}, got "
            f"{sorted(lengths)}."
        )
    results = np.zeros((2, len(windows), first.sequence_length), np.float32)
    workers = max(1, min(workers or default_workers(), len(windows)))
    hidden = progress is not True or not sys.stderr.isatty()
    with tqdm(total=len(windows), unit="window", disable=hidden, file=sys.stderr) as bar:
        loop = _Loop(windows, results, progress if callable(progress) else bar.update)
        loop.run([first], lambda: open_engine(model_path, threads=threads, runtime=runtime), workers)
    return results[0], results[1]


class _Loop:
    """Threads that take the next window until none is left, one fails, or the main thread is interrupted."""

    def __init__(self, windows: Sequence[Window], results: np.ndarray, done: Callable[[], object]) -> None:
        self._windows, self._results, self._done = windows, results, done
        self._next = itertools.count()  # next() on it is atomic
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def run(self, ready: list[Engine], make: Callable[[], Engine], workers: int) -> None:
        # An interpreter is made in the thread that runs it: loading, too, is then side by side.
        pool = [
            threading.Thread(target=self._work, args=(ready.pop() if ready else None, make), daemon=True)
            for _ in range(workers)
        ]
        for thread in pool:
            thread.start()
        try:
            for thread in pool:
                while thread.is_alive():
                    thread.join(_POLL_SECONDS)
        finally:  # Ctrl-C arrives in the join: each thread ends with the window it is at
            self._stop.set()
            for thread in pool:
                thread.join()
        if self._error is not None:
            raise self._error

    def _work(self, interpreter: Engine | None, make: Callable[[], Engine]) -> None:
        try:
            interpreter = interpreter or make()
            while not self._stop.is_set():
                index = next(self._next)
                if index >= len(self._windows):
                    return
                window = self._windows[index]
                outputs = interpreter.run(**{name: getattr(window, name) for name in interpreter.inputs})
                self._results[0, index] = outputs["start_logits"][0]
                self._results[1, index] = outputs["end_logits"][0]
                with self._lock:
                    self._done()
        except BaseException as error:  # raised again in the main thread
            with self._lock:
                self._error = self._error or error
            self._stop.set()
