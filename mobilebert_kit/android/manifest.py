"""bundle.json as `bundle` writes it, for an app to read; docs/android.md lists its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_kit.android.delegates import AppDelegate, fallback
from mobilebert_kit.contract import shorter_signature
from mobilebert_kit.squad.answers import MAX_ANSWER_LENGTH, N_BEST
from mobilebert_kit.squad.windows import MAX_QUERY_LENGTH

NAME = "bundle.json"
SCHEMA_VERSION = 1
RECORDS = "mlperf/squad_eval.tfrecord"
GROUNDTRUTH = "mlperf/squad_groundtruth.tfrecord"


def host_predictions_file(delegate: str) -> str:
    """Where the host's answers by the model of `delegate` are, in the bundle."""
    return f"host_predictions/{delegate}.json"


def make_bundle_manifest(
    export: Mapping[str, Any],
    delegates: Sequence[AppDelegate],
    doc_stride: int,
    files: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The manifest, JSON-ready.

    Args:
        export: the export's manifest; see mobilebert_kit/manifest.py.
        delegates: in the order to try them.
        files: of the bundle, by name: {"sha256", "bytes"}.
    """
    contract, evaluation = export["contract"], export["evaluation"]
    return {
        "schema_version": SCHEMA_VERSION,
        "kit_version": export["versions"]["mobilebert_kit"],
        "family": export["checkpoint"]["config"].get("model_type", "mobilebert"),
        "sequence_length": contract["inputs"][0]["shape"][-1],
        "doc_stride": doc_stride,
        "max_query_length": MAX_QUERY_LENGTH,
        "max_answer_length": MAX_ANSWER_LENGTH,
        "n_best": N_BEST,
        "vocab": {"file": "vocab.txt", "sha256": files["vocab.txt"]["sha256"], "lowercase": True},
        "signature": contract["signature"],
        "buckets": [
            {"length": length, "signature": shorter_signature(contract["signature"], length)}
            for length in contract["buckets"]
        ],
        "inputs": contract["inputs"],
        "outputs": contract["outputs"],
        "models": [_model(delegate, delegates, export["targets"], files) for delegate in delegates],
        "evaluation": {
            **{key: evaluation[key] for key in ("source", "questions", "windows", "questions_sha256")},
            "records": RECORDS,
            "groundtruth": GROUNDTRUTH,
            "float": evaluation["float"],
        },
        "host_predictions": {delegate.name: host_predictions_file(delegate.name) for delegate in delegates},
        "files": dict(files),
    }


def _model(
    delegate: AppDelegate,
    bundled: Sequence[AppDelegate],
    targets: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    target = targets[delegate.target.name]
    return {
        "delegate": delegate.name,
        "file": target["file"],
        **files[target["file"]],
        "recipe": target["recipe"],
        "min_api": delegate.min_api,
        "max_api": delegate.max_api,
        "f1": target["f1"],
        "exact_match": target["exact_match"],
        "nodes": target["nodes"],
        "delegated_nodes": target["delegated_nodes"],
        "partitions": target["partitions"],
        "fallback": fallback(delegate, bundled),
    }
