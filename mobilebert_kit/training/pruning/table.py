"""What pruning cost, in the columns of the published results, over the runs of several seeds.

neural-compressor, .../question-answering/pruning/eager/README.md: sparsity pattern, element-wise ratio over
all matrix products, dense F1 (mean/max), sparse F1 (mean/max), relative drop. The drop is from maximum to
maximum there: bert-mini's 0.7687 and 0.7627 are its -0.78 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilebert_kit.json_files import read_json_object
from mobilebert_kit.training.state import PRUNING

if TYPE_CHECKING:
    from mobilebert_kit.training.trainer import Summary

_HEADER = (
    "| pattern | element-wise ratio | dense F1 (mean/max) | sparse F1 (mean/max) | relative drop |",
    "|---|---|---|---|---|",
)


def told_cost(folders: Sequence[Path], summaries: Sequence[Summary]) -> list[str]:
    """Lines to print: of pruned runs, how sparse they are, in how many bytes they can be kept, and the table;
    of dense ones the scores."""
    scores = [[row["f1"] for row in summary.scores] for summary in summaries]
    reports = [
        read_json_object(folder / PRUNING, "what was pruned")
        for folder in folders
        if (folder / PRUNING).is_file()
    ]
    if not reports:
        last = [rows[-1] for rows in scores if rows]
        return [f"dense F1 (mean/max) {_mean_max(last)}"] if last else []
    sizes = reports[0]["bytes"]
    return [
        f"{reports[0]['pattern']}: {reports[0]['sparsity']:.4f} of what may be pruned is zero",
        "MB: " + ", ".join(f"{name} {size / 1e6:.1f}" for name, size in sizes.items()),
        "speed: not measured here, none claimed",
        *_HEADER,
        row(reports[0]["pattern"], [report["matmul_sparsity"] for report in reports], scores),
    ]


def row(pattern: str, ratios: Sequence[float], scores: Sequence[Sequence[float]]) -> str:
    """One line of the table.

    Args:
        ratios: of each run, the share of zeros among all weights that are multiplied.
        scores: of each run, F1 in percent before the first step and after each epoch; empty without --eval.
    """
    dense, sparse = ([rows[place] for rows in scores if rows] for place in (0, -1))
    drop = f"{(max(sparse) / max(dense) - 1) * 100:+.2f}%" if sparse and max(dense) else ""
    cells: list[Any] = [pattern, f"{np.mean(ratios):.4f}", _mean_max(dense), _mean_max(sparse), drop]
    return "| " + " | ".join(cells) + " |"


def _mean_max(values: Sequence[float]) -> str:
    return f"{np.mean(values) / 100:.4f}/{max(values) / 100:.4f}" if values else ""
