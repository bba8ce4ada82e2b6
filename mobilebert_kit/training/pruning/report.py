"""How sparse a pruned model is, kernel by kernel, and in how many bytes it can be kept.

pruning.json    {"pattern": ..., "sparsity": 0.7993, "bytes": {...}, "kernels": {name: {...}}, ...}
sparsity.png    a square for each kernel: layers from left to right, the kinds of kernel from top to bottom
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.artifacts import write_new
from mobilebert_kit.training.pruning.plan import Plan, as_outputs_inputs, is_kernel
from mobilebert_kit.training.state import PRUNING, SPARSITY

_LAYER = re.compile(r"bert/encoder/layer_(\d+)/(.*)/kernel")


def write_report(folder: Path, plan: Plan, tensors: Mapping[str, np.ndarray]) -> None:
    """Both files in `folder`, of the pruned model's tensors (canonical name -> array)."""
    report = describe(plan, tensors)
    write_new(folder / PRUNING, (json.dumps(report, indent=2) + "\n").encode(), overwrite=True)
    write_new(folder / SPARSITY, draw(report["kernels"]), overwrite=True)


def describe(plan: Plan, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The content of pruning.json: zeros are counted in the tensors themselves, not in masks."""
    pruned = {name: as_outputs_inputs(name, tensors[name]) for name in plan.kernels}
    kernels = {name: _counts(kernel, plan) for name, kernel in pruned.items()}
    zeros, weights = (sum(row[key] for row in kernels.values()) for key in ("zeros", "weights"))
    multiplied = sum(tensor.size for name, tensor in tensors.items() if is_kernel(name))
    settings = {key: value for key, value in plan.settings().items() if key != "kernels"}
    return {
        **settings,
        "sparsity": zeros / weights,  # of what may be pruned
        "matmul_sparsity": zeros / multiplied,  # of all kernels, the head's too
        "bytes": stored_bytes(tensors),
        "kernels": kernels,
    }


def _counts(kernel: np.ndarray, plan: Plan) -> dict[str, Any]:
    """Of a kernel [out, in]."""
    zeros = kernel.size - int(np.count_nonzero(kernel))
    blocks = plan.pattern.pruned_blocks(kernel)
    return {
        "outputs_inputs": list(kernel.shape),
        "weights": kernel.size,
        "zeros": zeros,
        "sparsity": zeros / kernel.size,
        "blocks": blocks.size,
        "pruned_blocks": int(np.count_nonzero(blocks)),
    }


def stored_bytes(tensors: Mapping[str, np.ndarray]) -> dict[str, int]:
    """In how many bytes the model's tensors can be kept.

    raw      as they are, float32
    zipped   each deflated (zlib, level 6)
    sparse   of each the smaller of raw and: a bit for each weight, and the weights that are not zero
    """
    found = {"raw": 0, "zipped": 0, "sparse": 0}
    for tensor in tensors.values():
        found["raw"] += tensor.nbytes
        found["zipped"] += len(zlib.compress(np.ascontiguousarray(tensor), 6))
        encoded = -(-tensor.size // 8) + int(np.count_nonzero(tensor)) * tensor.itemsize
        found["sparse"] += min(tensor.nbytes, encoded)
    return found


def draw(kernels: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The picture, PNG: how sparse each kernel is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = {name: _place(name) for name in kernels}
    kinds = list(dict.fromkeys(kind for kind, _ in places.values()))
    layers = 1 + max(layer for _, layer in places.values())
    values = np.full((len(kinds), layers), np.nan)
    for name, (kind, layer) in places.items():
        values[kinds.index(kind), layer] = kernels[name]["sparsity"]
    figure = Figure(figsize=(6 + 0.35 * layers, 1.5 + 0.3 * len(kinds)), layout="constrained")
    FigureCanvasAgg(figure)  # pyplot would look for a screen
    axes = figure.subplots()
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xticks(range(layers))
    axes.set_xlabel("layer")
    figure.colorbar(image, label="share of zeros")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120, metadata={"Software": None})
    return data.getvalue()


def _place(name: str) -> tuple[str, int]:
    """(kind, layer) of a kernel; what is in no layer stands at layer 0, under its own name."""
    found = _LAYER.fullmatch(name)
    return (found[2], int(found[1])) if found else (name, 0)
