"""manifest.json: where the files of an export come from, and what was measured of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf

from mobilebert_kit import __version__
from mobilebert_kit.checkpoints import content_digest
from mobilebert_kit.delegates.model_card import model_card
from mobilebert_kit.delegates.report import Report
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.inputs import Inputs
from mobilebert_kit.quantize.half_precision import HalfPrecision
from mobilebert_kit.quantize.trained_ranges import RangeCounts
from mobilebert_kit.runtime.packages import RUNTIMES
from mobilebert_kit.runtime.scoring import Score
from mobilebert_kit.targets import Target

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Result:
    """One target, built. `score`, and `report`, the verdict of its delegate if it has one, are of its file;
    `half` is of a simulation, where a GPU is to run it; `ranges`, where activations are int8."""

    target: Target
    file: Path
    mask_value: float
    score: Score
    report: Report | None
    file_bytes: int
    half: HalfPrecision | None = None
    ranges: RangeCounts | None = None


def make_manifest(
    inputs: Inputs, float_score: Score, results: Sequence[Result], files: dict[str, Any]
) -> dict[str, Any]:
    """The manifest, JSON-ready; README describes its keys. `files` is of `describe_files`."""
    request, checkpoint, contract = inputs.request, inputs.checkpoint, inputs.contract
    runtimes = sorted({RUNTIMES[target.runtime].package for target in request.targets})

    def tensors(specs: Sequence) -> list[dict[str, Any]]:
        shape = [list(spec.shape(request.sequence_length)) for spec in specs]
        return [{"name": s.name, "dtype": s.dtype, "shape": d} for s, d in zip(specs, shape, strict=True)]

    return {
        "schema_version": SCHEMA_VERSION,
        "command": request.command,
        "checkpoint": {
            "format": checkpoint.format,
            "sha256_of_tensors": checkpoint.digest,
            "config": inputs.config.to_dict(),
            "parameters": inputs.config.parameter_count,
            "quantized_training_ranges": list(checkpoint.range_variables),
            "sha256_of_ranges": content_digest(checkpoint.range_variables) if checkpoint.quantized else None,
            "unused_variables": list(checkpoint.unused_names),
        },
        "contract": {
            "name": contract.name,
            "signature": contract.signature_key,
            "buckets": list(request.lengths[:-1]),
            "inputs": tensors(contract.inputs),
            "outputs": tensors(contract.outputs),
        },
        "calibration": inputs.calibration.describe() if request.calibrates else None,
        "evaluation": {
            **inputs.evaluation.describe(),
            "float": _scores(float_score),
            "max_f1_drop": request.max_f1_drop,
        },
        "targets": {result.target.name: _describe(result, float_score) for result in results},
        "files": files,
        "versions": {
            "mobilebert_kit": __version__,
            "tensorflow": tf.__version__,
            **{name: metadata.version(name) for name in ("ai-edge-litert", "numpy", "tokenizers", *runtimes)},
        },
    }


def _describe(result: Result, float_score: Score) -> dict[str, Any]:
    return {
        "file": result.file.name,
        "recipe": result.target.recipe.name,
        "status": result.target.status,
        **({} if result.report is None else _describe_graph(result, result.report)),
        "mask_value": result.mask_value,
        **_scores(result.score),
        "f1_drop": _drop(float_score, result.score),
        **({} if result.ranges is None else {"ranges": asdict(result.ranges)}),
        **({} if result.half is None else _describe_half(result.half, float_score)),
    }


def _describe_graph(result: Result, report: Report) -> dict[str, Any]:
    """Of a .tflite."""
    return {
        "delegate": str(result.target.delegate),
        "nodes": len(report.nodes),
        "delegated_nodes": len(report.delegated),
        "partitions": report.partitions,
        **asdict(model_card(read_tflite(result.file))),
    }


def _describe_half(half: HalfPrecision, float_score: Score) -> dict[str, Any]:
    room = half.headroom
    by_size = sorted(room.magnitudes.items(), key=lambda item: -item[1])  # of equals the earlier first
    return {
        "simulated_fp16": {
            **_scores(half.score),
            "f1_drop": _drop(float_score, half.score),
            "logit_difference": half.logit_difference and _short(half.logit_difference),
            "overflow": half.overflow,
            "windows_lost": half.windows_lost,
        },
        "fp16_headroom": {
            "largest": _short(room.largest),
            "tensor": room.tensor,
            "headroom": _short(room.factor) if room.largest else None,
            "tensors": {point: _short(size) for point, size in by_size},
        },
    }


def _short(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def _drop(float_score: Score, score: Score) -> float:
    return round(float_score.f1 - score.f1, 4)


def _scores(score: Score) -> dict[str, float]:
    return {"exact_match": round(score.exact_match, 4), "f1": round(score.f1, 4)}
