"""What report.html tells: the manifest, and beside it what only the report has, most of it measured anew."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilebert_kit.inputs import Data
from mobilebert_kit.machine import machine
from mobilebert_kit.manifest import Result
from mobilebert_kit.quantize.layer_errors import LayerError
from mobilebert_kit.report.answers import Answers, compare_answers
from mobilebert_kit.report.latency import Latency, measure_latency
from mobilebert_kit.runtime.scoring import Score
from mobilebert_kit.squad.windows import Window
from mobilebert_kit.targets import FLOAT


@dataclass(frozen=True)
class Evidence:
    """All by the names of the targets; float's file is measured where it is no target, too.

    Attributes:
        manifest: of the export or bundle, JSON-ready; its `files` are all but the report.
        date, machine: when and on what.
        sizes: bytes, with those of files that belong to the model's.
        left_to_cpu: nodes that the delegate does not run, by op; of a target with a delegate.
        layer_errors: of a target with int8 activations.
    """

    manifest: Mapping[str, Any]
    date: str
    machine: str
    sizes: Mapping[str, int]
    latency: Latency
    left_to_cpu: Mapping[str, Mapping[str, int]]
    layer_errors: Mapping[str, Sequence[LayerError]]
    answers: Answers


@dataclass(frozen=True)
class Measured:
    """Of the files, float's among them."""

    sizes: Mapping[str, int]
    latency: Latency


def measure_files(reference: Path, results: Sequence[Result], windows: Sequence[Window]) -> Measured:
    """Times every file, a few runs each. `reference` is float's."""
    files = {FLOAT.name: reference} | {result.target.name: result.file for result in results}
    sizes = {FLOAT.name: reference.stat().st_size} | {r.target.name: r.file_bytes for r in results}
    return Measured(sizes, measure_latency(files, FLOAT.name, windows))


def gather(
    manifest: Mapping[str, Any],
    evaluation: Data,
    float_score: Score,
    results: Sequence[Result],
    layer_errors: Mapping[str, Sequence[LayerError]],
    measured: Measured,
) -> Evidence:
    """All that the page needs; nothing is run."""
    predictions = {r.target.name: r.score.predictions for r in results if r.target is not FLOAT}
    return Evidence(
        manifest=manifest,
        date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine(),
        sizes=measured.sizes,
        latency=measured.latency,
        left_to_cpu={r.target.name: _left(r) for r in results if r.report is not None},
        layer_errors=layer_errors,
        answers=compare_answers(evaluation.questions, float_score.predictions, predictions),
    )


def _left(result: Result) -> dict[str, int]:
    delegated = set(result.report.delegated)
    return dict(Counter(node.op for node in result.report.nodes if node.index not in delegated))
