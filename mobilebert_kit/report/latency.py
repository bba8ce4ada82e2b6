"""How long one window takes in each file, on this machine.

Measured is the process's CPU time. Of one thread that is what a run takes on an idle machine; on a busy one
the clock on the wall tells more of the others. All files run in turn: what is left of these slows them alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mobilebert_kit.runtime.engine import open_engine
from mobilebert_kit.squad.windows import Window

RUNS = 7  # of each file, the first one aside: then XNNPACK packs the weights


@dataclass(frozen=True)
class Timing:
    """Of one file; the times in milliseconds.

    `ratio`: the median of the times, each by the reference's of the same turn.
    """

    median: float
    fastest: float
    slowest: float
    ratio: float


@dataclass(frozen=True)
class Latency:
    """`load` is the system's load average of the last minute; None where it tells none."""

    runs: int
    load: float | None
    timings: Mapping[str, Timing]


def measure_latency(
    files: Mapping[str, Path], reference: str, windows: Sequence[Window], runs: int = RUNS
) -> Latency:
    """One thread; each turn is another of `windows`, the same for all files.

    Args:
        files: by name; `reference` is one of the names.
        windows: of the files' length.
    """
    engines = {name: open_engine(path, threads=1) for name, path in files.items()}
    seconds: dict[str, list[float]] = {name: [] for name in files}
    for turn in range(runs + 1):
        window = windows[turn % len(windows)]
        for name, engine in engines.items():
            inputs = {own: getattr(window, own) for own in engine.inputs}
            began = time.process_time()
            engine.run(**inputs)
            seconds[name].append(time.process_time() - began)
    counted = {name: values[1:] for name, values in seconds.items()}
    return Latency(
        runs=runs,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        timings={name: _timing(values, counted[reference]) for name, values in counted.items()},
    )


def _timing(seconds: Sequence[float], reference: Sequence[float]) -> Timing:
    times = [1e3 * value for value in seconds]
    ratio = median(one / other for one, other in zip(seconds, reference, strict=True))
    return Timing(median(times), min(times), max(times), ratio)
