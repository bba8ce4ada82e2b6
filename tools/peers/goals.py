"""How fast a peer is to be beside another, and how near the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark_report import Requirement
from peers.rounds import times_as_fast
from peers.table import REFERENCE


@dataclass(frozen=True)
class Goal:
    """`peer` is to be at least `least` times as fast as `than`, with that many threads."""

    peer: str
    than: str
    threads: int
    least: float


GOALS = (
    Goal("litert_int8", "openvino_int8", 1, 1.1),
    Goal("litert_int8", "openvino_int8", 2, 1.0),
    Goal("litert_int8", REFERENCE, 1, 2.6),
    Goal(REFERENCE, "litert_plain", 1, 1.1),
    Goal("onnxruntime_qdq_exact", "onnxruntime_float", 1, 1.2),
)
LEAST_CORRELATION = {"litert_int8": 0.99}  # with the reference


def requirements(
    measured: Mapping[str, Mapping[str, Any]], seconds: Mapping[str, Sequence[float]], threads: int
) -> list[Requirement]:
    """Those of which both peers were measured, with this number of threads.

    Args:
        measured: `rounds.summarize` of each peer.
        seconds: of each peer, round by round.
    """
    speeds = [
        Requirement(
            f"{goal.peer}, times as fast as {goal.than}, threads: {threads}",
            times_as_fast(seconds, goal.peer, goal.than),
            goal.least,
            at_least=True,
        )
        for goal in GOALS
        if goal.threads == threads and {goal.peer, goal.than} <= set(measured)
    ]
    return speeds + [
        Requirement(
            f"{name}, correlation with {REFERENCE}, threads: {threads}",
            measured[name]["correlation"],
            least,
            at_least=True,
        )
        for name, least in LEAST_CORRELATION.items()
        if name in measured
    ]
