"""The rounds of a benchmark with some number of threads, and what they say of each peer."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from peers.process import PeerFailed, Worker
from peers.table import REFERENCE
from tqdm import tqdm

from mobilebert_kit.comparison.agreement import best_spans
from mobilebert_kit.contract import MLPERF
from mobilebert_kit.squad.windows import Window


@dataclass
class Turns:
    """Of each peer that got through all rounds: seconds a round, logits float32 [N, 2, S] (start, end)."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    logits: dict[str, np.ndarray] = field(default_factory=dict)


def arrays(windows: Sequence[Window]) -> list[np.ndarray]:
    """Each window as int32 [3, S]: ids, mask, segments."""
    return [np.stack([getattr(window, name) for name in MLPERF.input_names]) for window in windows]


def open_workers(
    requests: Mapping[str, Mapping[str, Any]], pythons: Mapping[str, str], failures: dict[str, str]
) -> dict[str, Worker]:
    """A worker of each request; why one does not open goes to `failures`."""
    workers = {}
    for name, request in requests.items():
        try:
            workers[name] = Worker(pythons[name], dict(request))
        except PeerFailed as error:
            failures[name] = str(error)
    return workers


def take_turns(workers: dict[str, Worker], windows: Sequence[np.ndarray], failures: dict[str, str]) -> Turns:
    """A round for each window, in another order each; who fails leaves `workers` for `failures`."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    logits: dict[str, list[np.ndarray]] = {name: [] for name in workers}
    order = np.random.default_rng(0)
    with tqdm(total=len(windows) * len(workers), unit="turn", disable=None, leave=False) as bar:
        for window in windows:
            for name in order.permutation(list(workers)):
                try:
                    workers[name].ask(window)
                    took, answer = workers[name].ask(window)
                except PeerFailed as error:
                    failures[name] = str(error)
                    workers.pop(name)
                    print(f"{name}: {error}", file=sys.stderr)
                    continue
                seconds[name].append(took)
                logits[name].append(answer)
                bar.update()
    return Turns(
        {name: seconds[name] for name in workers}, {name: np.stack(logits[name]) for name in workers}
    )


def summarize(turns: Turns, name: str, windows: Sequence[Window]) -> dict[str, Any]:
    """Times of one peer, and how far it agrees with the reference.

    "correlation": Pearson's, over the logits of tokens, of start and of end: the smaller. "equal_spans": the
    share of windows whose best span is the same.
    """
    seconds, logits, reference = turns.seconds[name], turns.logits[name], turns.logits[REFERENCE]
    lower, median, upper = np.percentile(seconds, (25, 50, 75)) * 1e3
    tokens = np.stack([window.input_mask for window in windows]) == 1
    correlations = [np.corrcoef(logits[:, side][tokens], reference[:, side][tokens])[0, 1] for side in (0, 1)]
    spans, wanted = (np.stack(best_spans(windows, *side.swapaxes(0, 1))) for side in (logits, reference))
    return {
        "median_ms": round(float(median), 2),
        "lower_quartile_ms": round(float(lower), 2),
        "upper_quartile_ms": round(float(upper), 2),
        "speed": round(times_as_fast(turns.seconds, name, REFERENCE), 3),
        "correlation": round(float(min(correlations)), 6),
        "equal_spans": float((spans == wanted).all(axis=0).mean()),
        "milliseconds": [round(value * 1e3, 2) for value in seconds],
    }


def times_as_fast(seconds: Mapping[str, Sequence[float]], name: str, than: str) -> float:
    """The median over the rounds of the ratio of their times in the same round."""
    return float(np.median(np.divide(seconds[than], seconds[name])))
