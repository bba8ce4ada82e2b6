"""The course of a training: metrics.jsonl, a line for each step and each scored epoch, and its picture.

{"kind": "step", "step": 1, "epoch": 0.01, "loss": 5.9, "rate": 4e-06, "gradient_norm": 8.1, ...}
{"kind": "epoch", "step": 90, "epoch": 1, "exact_match": 71.2, "f1": 79.9, "questions": 100, ...}
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.artifacts import write_new

_POINTS = 200  # of the smoothed loss, at most


class Metrics:
    """The lines of a run, in memory and in the file at `path` (with `writes` false: in memory alone)."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self._path, self._writes = path, writes
        self.rows: list[dict[str, Any]] = []

    def resume(self, step: int) -> None:
        """Keeps the file's lines up to `step`: what a killed run wrote after its checkpoint comes again."""
        self.rows = []
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, TypeError, KeyError):  # the last may be half a line
                    row = json.loads(line)
                    if row["step"] <= step:
                        self.rows.append(row)
        if not self._writes:
            return
        text = "".join(json.dumps(row) + "\n" for row in self.rows)
        write_new(self._path, text.encode(), overwrite=True)

    def add(self, row: dict[str, Any]) -> None:
        """Appends a line: at once, so that others can follow the run."""
        self.rows.append(row)
        if not self._writes:
            return
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The rows of that kind, in their order."""
        return [row for row in self.rows if row["kind"] == kind]


def draw_curve(path: Path, steps: Sequence[dict[str, Any]], epochs: Sequence[dict[str, Any]]) -> None:
    """Writes the PNG: loss of each step and its running mean, the rate, and the scores of the epochs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)  # pyplot would look for a screen
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    number = np.array([row["step"] for row in steps])
    loss = np.array([row["loss"] for row in steps], float)
    above.plot(number, loss, color="tab:blue", alpha=0.25, linewidth=0.8, label="loss of a step")
    if len(loss):
        width = max(1, len(loss) // _POINTS * 4, min(len(loss) // 4, 20))
        means = np.convolve(loss, np.ones(width) / width, mode="valid")
        above.plot(number[width - 1 :], means, color="tab:blue", label=f"mean of {width} steps")
    above.set_ylabel("loss")
    handles, labels = above.get_legend_handles_labels()
    if epochs:
        scores = above.twinx()
        at = [row["step"] for row in epochs]
        for key, label, color in (("f1", "F1", "tab:orange"), ("exact_match", "exact match", "tab:red")):
            scores.plot(at, [row[key] for row in epochs], marker="o", color=color, label=label)
        scores.set_ylabel("F1, exact match (%)")
        scores.set_ylim(0, 100)
        more = scores.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    above.legend(handles, labels, loc="best")
    below.plot(number, [row["rate"] for row in steps], color="tab:green")
    below.set_ylabel("learning rate")
    below.set_xlabel("step")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120, metadata={"Software": None})
    write_new(path, data.getvalue(), overwrite=True)
