"""MLPerf's single stream scenario by its own LoadGen: one query after another, the next as one is answered.

The MLPerf Mobile app's run has 1,024 queries at least, 60 s at least and 600 s at most; its result is the
90th percentile of the latency. LoadGen is here, the model in its worker: the way there and back counts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peers.process import PeerFailed, Worker

PACKAGE = "mlcommons-loadgen"


@dataclass(frozen=True)
class Settings:
    """As the app's; a run ends when both minimums are reached, or at `max_seconds`."""

    min_queries: int = 1024
    min_seconds: int = 60
    max_seconds: int = 600


def single_stream(worker: Worker, windows: Sequence[np.ndarray], settings: Settings) -> dict[str, Any]:
    """LoadGen's result of a performance run over `windows`, int32 [3, S] each.

    {"queries", "p90_ms", "mean_ms", "valid"}; "valid": LoadGen found the run long enough.

    Raises PeerFailed where the worker fails on the way.
    """
    import mlperf_loadgen as loadgen

    failures: list[PeerFailed] = []
    queries = 0

    def issue(samples: Sequence[Any]) -> None:
        nonlocal queries
        for sample in samples:
            queries += 1
            try:
                if not failures:
                    worker.ask(windows[sample.index])
            except PeerFailed as error:  # LoadGen takes no exception: the run goes on, and is thrown away
                failures.append(error)
            if failures:
                time.sleep(0.05)
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0)])

    wanted = loadgen.TestSettings()
    wanted.scenario = loadgen.TestScenario.SingleStream
    wanted.mode = loadgen.TestMode.PerformanceOnly
    wanted.min_query_count = settings.min_queries
    wanted.min_duration_ms = settings.min_seconds * 1000
    wanted.max_duration_ms = settings.max_seconds * 1000
    sut = loadgen.ConstructSUT(issue, lambda: None)
    count = len(windows)
    qsl = loadgen.ConstructQSL(count, count, lambda indices: None, lambda indices: None)
    with tempfile.TemporaryDirectory() as folder:
        log = loadgen.LogSettings()
        log.log_output.outdir = folder
        log.log_output.copy_summary_to_stdout = False
        loadgen.StartTestWithLogSettings(sut, qsl, wanted, log)
        loadgen.DestroyQSL(qsl)
        loadgen.DestroySUT(sut)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    if failures:
        raise failures[0]
    said = dict([part.strip() for part in line.split(":", 1)] for line in summary.splitlines() if ":" in line)
    return {
        "queries": queries,
        "p90_ms": round(int(said["90.0th percentile latency (ns)"]) / 1e6, 2),
        "mean_ms": round(int(said["Mean latency (ns)"]) / 1e6, 2),
        "valid": said["Result is"] == "VALID",
    }
