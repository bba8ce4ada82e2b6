"""The table as a picture: how many times as fast as the float model each peer is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobilebert_kit.artifacts import write_new


def draw_chart(path: Path, results: Sequence[dict[str, Any]], title: str) -> None:
    """Writes the PNG: a bar for each peer and number of threads; of what was not measured, the reason."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    threads = sorted({result["threads"] for result in results})
    rows = {(result["peer"], result["threads"]): result for result in results}
    # The fastest on top; what has no time below.
    names = sorted(
        dict.fromkeys(result["peer"] for result in results),
        key=lambda name: rows[name, threads[0]].get("speed", 0.0),
    )
    figure = Figure(figsize=(8, 1.2 + 0.4 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)  # pyplot would look for a screen
    axes = figure.subplots()
    height = 0.8 / len(threads)
    for place, number in enumerate(threads):
        at = [row + (len(threads) / 2 - place - 0.5) * height for row in range(len(names))]
        shown = [rows[name, number] for name in names]
        speeds = [row.get("speed", 0.0) for row in shown]
        bars = axes.barh(at, speeds, height, label=f"{number} thread{'s' if number > 1 else ''}")
        labels = [f"{row['speed']:.2f}" if "speed" in row else row["failure"][:60] for row in shown]
        axes.bar_label(bars, labels, padding=3, fontsize=7)
    axes.set_yticks(
        range(len(names)),
        [f"{rows[name, threads[0]]['engine']}: {rows[name, threads[0]]['model']}" for name in names],
    )
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.margins(x=0.1)
    axes.set_xlabel("times as fast as LiteRT float")
    axes.set_title(title, fontsize=9)
    axes.legend(loc="lower right")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120, metadata={"Software": None})
    write_new(path, data.getvalue(), overwrite=True)
