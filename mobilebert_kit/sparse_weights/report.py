"""What was found of a model's zeros: as JSON, and in words."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from mobilebert_kit.progress import Steps
from mobilebert_kit.sparse_weights.encoding import encoded_bytes
from mobilebert_kit.sparse_weights.kernels import TFLITE, Kernel, Weights
from mobilebert_kit.sparse_weights.patterns import recognize

# What a sparse kernel adds to a .tflite beside its arrays: the tables of its SparsityParameters, a DENSIFY
# node and the dense tensor that it gives. 200 to 350 bytes, by blocks, alignment and the length of its name.
TABLE_BYTES = 250
# Measured by tools/bench_sparsity.py: tools/results/sparsity.json.
SPEED = "time: none gained, LiteRT (XNNPACK), ONNX Runtime and OpenVINO on x86 CPUs multiply by zeros too"


def analyze(weights: Weights) -> dict[str, Any]:
    """JSON-ready. Shares of zeros are from 0 to 1, null where there is nothing to share.

    `layers` is of all elements of the dense kernels inside encoder layers, attention and feed-forward, as the
    tables of published sparse models are; `parameters` of all weights.
    """
    with Steps(2) as steps:
        steps.next("looking at the zeros")
        rows = [_describe(kernel) for kernel in steps.each(weights.kernels, "kernels")]
        steps.next("deflating")
        raw, deflated = sum(len(part) for part in weights.data), deflated_bytes(weights.data)
    inside = [row for row in rows if row["layer"] is not None]
    saved = sum(row["bytes"] - row["sparse_bytes"] for row in rows)
    return {
        "kind": weights.kind,
        "zeros": {
            "layers": _share(inside),
            "kernels": _share(rows),
            "parameters": weights.zeros / weights.parameters if weights.parameters else None,
        },
        "elements": {
            "layers": sum(row["elements"] for row in inside),
            "kernels": sum(row["elements"] for row in rows),
            "parameters": weights.parameters,
        },
        "bytes": {"raw": raw, "deflated": deflated, "sparse": raw - saved},
        "kernels": rows,
    }


def _describe(kernel: Kernel) -> dict[str, Any]:
    zeros, pattern = kernel.zeros, recognize(kernel.zeros)
    dense = zeros.size * kernel.dtype.itemsize
    blocks = {(1, 1), pattern.block} if zeros.shape[1] == kernel.columns else {(1, 1)}
    matrix = zeros.reshape(-1, kernel.columns)
    sparse = min(encoded_bytes(matrix, kernel.dtype.itemsize, block) for block in blocks) + TABLE_BYTES
    sparse = min(sparse, dense) if kernel.densified else dense
    return {
        "layer": kernel.layer,
        "name": kernel.name,
        "outputs": zeros.shape[0],
        "inputs": zeros.shape[1],
        "elements": zeros.size,
        "dtype": kernel.dtype.name,
        "zeros": float(zeros.mean()),
        "pattern": pattern.name,
        "zero_outputs": int(zeros.all(axis=1).sum()),
        "zero_inputs": int(zeros.all(axis=0).sum()),
        "bytes": dense,
        "sparse_bytes": sparse,
    }


def _share(rows: Sequence[dict[str, Any]]) -> float | None:
    elements = sum(row["elements"] for row in rows)
    return sum(row["zeros"] * row["elements"] for row in rows) / elements if elements else None


def deflated_bytes(data: Sequence[memoryview]) -> int:
    """What a zip stores of `data`, one file, when it compresses as well as it can (deflate, level 9)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return sum(len(compressor.compress(part)) for part in data) + len(compressor.flush())


def table(found: dict[str, Any]) -> list[str]:
    """The lines that a terminal shows."""
    rows = found["kernels"]
    inside = [row for row in rows if row["layer"] is not None]
    outside = [row for row in rows if row["layer"] is None]
    lines = []
    for number, group in groupby(sorted(inside, key=lambda row: row["layer"]), key=lambda row: row["layer"]):
        lines += _group(f"layer {number}", list(group))
    lines += _group("outside the layers", outside) if outside else []
    share, size = found["zeros"], found["bytes"]
    patterns = Counter(row["pattern"] for row in inside or rows)
    counted = ", ".join(f"{name} in {count}" for name, count in patterns.most_common())
    return [
        *lines,
        "",
        f"{_percent(share['layers'])}  of attention's and feed-forward's kernels are zero"
        f" ({_million(found['elements']['layers'])})",
        f"{_percent(share['kernels'])}  of all kernels ({_million(found['elements']['kernels'])})",
        f"{_percent(share['parameters'])}  of all parameters ({_million(found['elements']['parameters'])})",
        f"patterns: {counted or 'no kernels'}",
        f"{'size' if found['kind'] == TFLITE else 'as float32'}: {size['raw'] / 1e6:.2f} MB, in an APK too "
        f"with noCompress; deflated by its zip {size['deflated'] / 1e6:.2f} MB; in TFLite's sparse encoding "
        f"{size['sparse'] / 1e6:.2f} MB",
        SPEED,
    ]


def _group(title: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    width = max(len(row["name"]) for row in rows)
    lines = [f"{title:{width + 17}}{_percent(_share(rows))}"]
    for row in rows:
        shape = f"{row['outputs']}x{row['inputs']}"
        lines.append(f"  {row['name']:{width}}  {shape:>11}  {_percent(row['zeros'])}  {row['pattern']}")
    return lines


def _million(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def _percent(share: float | None) -> str:
    return "     -" if share is None else f"{share:6.1%}"
