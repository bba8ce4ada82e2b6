"""One bundle: an export, and beside its files all that an app, the MLPerf app and `verify` want of them.

export -> metadata and vocabulary into each .tflite
    -> host's answers, records, report, bundle.json, pages, checksums
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit import __version__
from mobilebert_kit.android import manifest, texts
from mobilebert_kit.android.checksums import NAME as CHECKSUMS
from mobilebert_kit.android.checksums import write_checksums
from mobilebert_kit.android.delegates import AppDelegate
from mobilebert_kit.android.mlperf import write_mlperf
from mobilebert_kit.android.tflite_metadata import DESCRIPTIONS, ModelText, TensorText, metadata_bytes
from mobilebert_kit.android.tflite_packing import pack
from mobilebert_kit.artifacts import MANIFEST, describe_files, staged_folder, write_manifest
from mobilebert_kit.build import Summary, export
from mobilebert_kit.contract import Contract, TensorSpec
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.inputs import Request
from mobilebert_kit.report.evidence import Evidence
from mobilebert_kit.report.page import NAME as REPORT
from mobilebert_kit.report.page import write_page
from mobilebert_kit.runtime.interpreter import load
from mobilebert_kit.squad.predictions import save_predictions
from mobilebert_kit.squad.windows import Window

LICENSE = Path(__file__).resolve().parents[2] / "LICENSE"


def bundle(
    request: Request,
    delegates: Sequence[AppDelegate],
    *,
    demo_weights: bool = False,
    demo_questions: bool = False,
) -> Summary:
    """Builds the bundle of `delegates` into the output folder of `request`, or leaves nothing there.

    Args:
        request: of an export; its targets are those of `delegates`.
        demo_weights, demo_questions: whether checkpoint and evaluation are the kit's, for LICENSES.md.
    Raises:
        InputError, CheckFailed: as `export`; also CheckFailed where packing changed a model.
    """
    if not LICENSE.is_file():
        raise InputError(f"Expected the kit's licence at {LICENSE}, got none. Run from a clone of the kit.")
    targets = [delegate.target for delegate in delegates]
    with staged_folder(request.output_dir, overwrite=request.overwrite) as folder:
        made = folder / "export"
        summary = export(replace(request, targets=targets, output_dir=made, overwrite=False))
        for path in made.iterdir():
            path.rename(folder / path.name)
        made.rmdir()
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        models = [(delegate, record["targets"][delegate.target.name]["file"]) for delegate in delegates]
        questions, windows = summary.evaluation.questions, summary.evaluation.windows
        contract = request.contract.for_model(has_segments=len(record["contract"]["inputs"]) == 3)
        for delegate, file in models:
            _pack_metadata(folder, file, contract, windows[0])
            record["targets"][delegate.target.name]["bytes"] = (folder / file).stat().st_size
        (folder / "host_predictions").mkdir()
        for delegate, result in zip(delegates, summary.results, strict=True):
            path = folder / manifest.host_predictions_file(delegate.name)
            save_predictions(path, result.score.predictions)
        write_mlperf(folder, questions, windows, models)
        shutil.copyfile(LICENSE, folder / "LICENSE")
        pages = texts.licenses(record, demo_weights=demo_weights, demo_questions=demo_questions)
        (folder / texts.LICENSES).write_text(pages, encoding="utf-8")
        _write_report(folder, record, summary.evidence)
        _write_manifests(folder, record, delegates, request.doc_stride)
    return replace(summary, output_dir=request.output_dir)


def _pack_metadata(folder: Path, file: str, contract: Contract, window: Window) -> None:
    """Writes `file` again with its metadata and the vocabulary. CheckFailed unless it is the same model."""
    path, packed = folder / file, folder / f"{file}.packed"
    text = ModelText(
        name=file.removesuffix(".tflite"),
        description="Extractive question answering: the start and the end of the answer in a context.",
        version=__version__,
        author="mobilebert_kit",
        license=f"See {texts.LICENSES} beside it.",
        vocabulary="vocab.txt",
        inputs=_texts(contract.inputs),
        outputs=_texts(contract.outputs),
    )
    vocabulary = {"vocab.txt": (folder / "vocab.txt").read_bytes()}
    packed.write_bytes(pack(path.read_bytes(), metadata_bytes(text), vocabulary))
    before, after = read_tflite(path), read_tflite(packed)
    same = before.subgraphs == after.subgraphs and before.signatures == after.signatures
    if not same or not np.array_equal(_logits(path, window), _logits(packed, window)):
        raise CheckFailed(
            f"Expected {file} with metadata to be the same model, got another. Please report it."
        )
    packed.replace(path)


def _texts(tensors: Sequence[TensorSpec]) -> list[TensorText]:
    return [TensorText(tensor.name, DESCRIPTIONS[tensor.own_name]) for tensor in tensors]


def _logits(path: Path, window: Window) -> np.ndarray:
    model = load(path)
    outputs = model.run(**{name: getattr(window, name) for name in model.inputs})
    return np.stack([outputs["start_logits"], outputs["end_logits"]])


def _write_report(folder: Path, record: Mapping[str, Any], evidence: Evidence) -> None:
    """In place of the export's, which tells of files that had no metadata."""
    files = {name: entry for name, entry in describe_files(folder).items() if name != REPORT}
    packed = {name: target["bytes"] for name, target in record["targets"].items()}
    sizes = {**evidence.sizes, **packed}
    write_page(folder, replace(evidence, manifest={**record, "files": files}, sizes=sizes))


def _write_manifests(
    folder: Path, record: dict[str, Any], delegates: Sequence[AppDelegate], doc_stride: int
) -> None:
    """The README, bundle.json, manifest.json and SHA256SUMS: each tells of those before it."""

    def describe() -> dict[str, Any]:
        return manifest.make_bundle_manifest(record, delegates, doc_stride, describe_files(folder))

    # The README tells the manifest's table, and the manifest lists the README.
    (folder / texts.README).write_text(texts.readme(describe()), encoding="utf-8")
    content = json.dumps(describe(), indent=2, ensure_ascii=False) + "\n"
    (folder / manifest.NAME).write_text(content, encoding="utf-8")
    # By this list --overwrite knows the kit's files. The checksums, which list manifest.json, can't be in it.
    record["files"] = {**describe_files(folder), CHECKSUMS: None}
    write_manifest(folder, record)
    write_checksums(folder)
