"""Where the accuracy of an int8 target goes: from a request to a report's folder.

inputs -> float file, target's file -> F1 --+
    simulation: SQNR of every tensor, its share of the logits' noise, each group alone and left out
    -> a few tensors kept in float: converted, checked, scored -> .json, .html
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit import __version__
from mobilebert_kit.acceptance import is_refused
from mobilebert_kit.artifacts import describe_files, staged_folder, write_manifest
from mobilebert_kit.build import Builder, Logits
from mobilebert_kit.delegates.summary import refusals
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.inputs import Inputs, Request
from mobilebert_kit.progress import Steps
from mobilebert_kit.quant_page import page
from mobilebert_kit.quantize.groups import GROUPS, RoundedTensor, layer_of
from mobilebert_kit.quantize.keep import MOST_KEPT, best, does, keep_in_float
from mobilebert_kit.quantize.layer_errors import layer_results
from mobilebert_kit.quantize.sensitivity import compare_logits, logit_noise
from mobilebert_kit.quantize.simulation import Simulation
from mobilebert_kit.quantize.sqnr import Noise, decibels, kernel_noise, measure_noise
from mobilebert_kit.targets import FLOAT, Target

JSON, HTML = "quant_report.json", "quant_report.html"
SCHEMA_VERSION = 1
Findings = dict[str, Any]  # JSON-ready


def write_report(request: Request, windows: int) -> Findings:
    """Analyses the one target of `request` into its output folder; returns what is in the JSON file.

    `windows`: of the evaluation, the first; on them noise is measured. Raises InputError for a bad input.
    That no set of tensors meets `max_f1_drop` raises nothing: `keep` tells.
    """
    began = time.monotonic()
    with staged_folder(request.output_dir, overwrite=request.overwrite) as folder, Steps(_STEPS) as steps:
        steps.next("reading the checkpoint")
        inputs = Inputs(request)
        inputs.validate()
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            findings = Analysis(inputs, steps, Path(scratch)).findings(windows)
        findings = {**_provenance(inputs), **findings, "seconds": round(time.monotonic() - began)}
        text = json.dumps(findings, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / JSON).write_text(text + "\n", encoding="utf-8")
        (folder / HTML).write_text(page(findings), encoding="utf-8")
        told = {key: findings[key] for key in ("schema_version", "command", "versions")}
        write_manifest(folder, {**told, "files": describe_files(folder)})
    return findings


# Checkpoint; float: converting, F1; mask; calibrating; converting; F1; SQNR; logits; groups; and of each
# trial of what to keep: converting, F1.
_STEPS = 10 + 2 * MOST_KEPT.bit_length()


class Analysis:
    """The measurements of one target; files go into `scratch`."""

    def __init__(self, inputs: Inputs, steps: Steps, scratch: Path):
        self._inputs, self._steps, self._scratch = inputs, steps, scratch
        [self._target] = inputs.request.targets
        self._builder = builder = Builder(inputs, steps)
        windows = inputs.evaluation.windows
        self._arrays = [inputs.arrays(window) for window in windows]
        self._tokens = np.stack([window.input_mask for window in windows]) == 1
        steps.next("float: converting")
        file = builder.write(FLOAT, scratch).file
        steps.next("float: F1")
        self._reference = builder.run(file)
        self._float_f1 = builder.score(self._reference).f1
        self._prepared = builder.prepare(self._target)

    def findings(self, windows: int) -> Findings:
        """All that the report says, its provenance aside."""
        file, logits = self._converted(self._target)
        measured = self._scored(logits)
        arrays = self._arrays[:windows]
        self._steps.next("SQNR")
        noise = measure_noise(self._simulation, self._steps.each(arrays, "windows"))
        weights = kernel_noise(self._prepared.exact, self._rounded)
        self._steps.next("noise of the logits")
        shares = logit_noise(self._simulation, self._steps.each(arrays, "windows"))
        self._steps.next("groups")
        simulated = self._run(self._simulation.tensors)
        groups = self._groups()
        ranked = sorted(
            (
                self._tensor(tensor, noise | weights, share)
                for tensor, share in zip(
                    self._simulation.tensors, (shares / shares.sum()).tolist(), strict=True
                )
            ),
            key=lambda row: -row["logit_noise_share"],
        )
        return {
            "windows_measured": len(arrays),
            "float": {"f1": round(self._float_f1, 4)},
            "file": {**measured, "bytes": file.stat().st_size, "mask_value": self._prepared.mask_value},
            "simulation": {
                **self._scored(simulated),
                "against_file": asdict(compare_logits(logits, simulated, self._tokens)),
            },
            "keep": self._keep(ranked, measured["f1_drop"]),
            "groups": groups,
            "layers": self._layers(noise),
            "tensors": ranked,
        }

    @cached_property
    def _rounded(self) -> dict[str, np.ndarray]:
        return self._prepared.rounded(self._target.recipe)

    @cached_property
    def _simulation(self) -> Simulation:
        return self._builder.simulation(self._target, self._prepared, self._rounded)

    def _converted(self, target: Target) -> tuple[Path, Logits]:
        """The file of `target`, which may be the analysed one with another recipe, and its logits."""
        file = self._builder.convert(target, self._prepared, self._scratch).file
        self._steps.next(f"{target.name}: F1")
        return file, self._builder.run(file)

    def _run(self, on: Collection[RoundedTensor]) -> Logits:
        return self._simulation.logits(on, self._steps.each(self._arrays, "windows"))

    def _scored(self, logits: Logits) -> Findings:
        f1 = self._builder.score(logits).f1
        difference = compare_logits(self._reference, logits, self._tokens)
        return {"f1": round(f1, 4), "f1_drop": round(self._float_f1 - f1, 4), **asdict(difference)}

    def _tensor(self, tensor: RoundedTensor, noise: dict[str, Noise], share: float) -> Findings:
        seen = noise[tensor.points[0] if tensor.points else tensor.name]
        return {
            "tensor": tensor.name,
            "group": tensor.group.name,
            "layer": layer_of(tensor.name),
            "points": list(tensor.points),
            "sqnr_own_db": decibels(seen.signal, seen.own),
            "sqnr_before_db": decibels(seen.signal, seen.before),
            "sqnr_after_db": decibels(seen.signal, seen.after),
            "noise_added": seen.added,
            "logit_noise_share": share,
        }

    def _groups(self) -> list[Findings]:
        rows = []
        everything = self._simulation.tensors
        for group in GROUPS:
            inside = [tensor for tensor in everything if tensor.group is group]
            if inside:
                outside = [tensor for tensor in everything if tensor.group is not group]
                row = {"group": group.name, "meaning": group.meaning, "tensors": len(inside)}
                row |= {
                    "alone": self._scored(self._run(inside)),
                    "left_out": self._scored(self._run(outside)),
                }
                rows.append(row)
        if self._prepared.mask_value != self._inputs.config.mask_value:
            meaning = f"nothing rounded, but masked scores get {self._prepared.mask_value:g}"
            clamped = self._scored(self._run(()))
            rows.append({"group": "mask value", "meaning": meaning, "tensors": 0, "alone": clamped})
        return rows

    def _layers(self, noise: dict[str, Noise]) -> list[Findings]:
        return [
            {"layer": layer, "sqnr_db": decibels(noise[name].signal, noise[name].after)}
            for layer, name in enumerate(layer_results(noise, self._inputs.config.num_hidden_layers))
        ]

    def _keep(self, ranked: list[Findings], drop: float) -> Findings:
        """The noisiest tensors, 1, 2, 4 ... of them, that in float keep the drop within the limit."""
        limit = self._inputs.request.max_f1_drop
        found: Findings = {"max_f1_drop": limit, "met": drop <= limit, "tensors": [], "float_points": []}
        if not found["met"]:
            by_name = {tensor.name: tensor for tensor in self._simulation.tensors}
            candidates = [by_name[row["tensor"]] for row in ranked if row["points"]]
            trials = keep_in_float(candidates, limit, self._verified)
            chosen = best(trials)
            found |= {"met": does(chosen, limit), "trials": trials, "verified": chosen}
            found["tensors"] = [tensor.name for tensor in candidates[: chosen["kept"]]]
            found["float_points"] = _points(candidates[: chosen["kept"]])
        return found

    def _verified(self, kept: Sequence[RoundedTensor]) -> Findings:
        """What the file with `kept` in float scores, and which nodes the delegate then refuses."""
        recipe = self._target.recipe
        recipe = replace(recipe, float_points=(*recipe.float_points, *_points(kept)))
        target = replace(self._target, recipe=recipe)
        file, logits = self._converted(target)
        report = target.delegate.check(read_tflite(file))
        refused = is_refused(target, report)
        return {
            **self._scored(logits),
            "bytes": file.stat().st_size,
            "nodes": len(report.nodes),
            "partitions": report.partitions,
            "refused": refused,
            "refused_nodes": len(report.refused) if refused else 0,
            "refusals": refusals(report) if refused else "",
        }


def _points(tensors: Sequence[RoundedTensor]) -> list[str]:
    return [point for tensor in tensors for point in tensor.points]


def _provenance(inputs: Inputs) -> Findings:
    """As in an export's manifest."""
    [target] = inputs.request.targets
    names = ("tensorflow", "ai-edge-litert", "numpy", "tokenizers")
    return {
        "schema_version": SCHEMA_VERSION,
        "command": inputs.request.command,
        "target": target.name,
        "recipe": target.recipe.name,
        "delegate": str(target.delegate),
        "checkpoint": {
            "name": Path(inputs.request.checkpoint).name,
            "format": inputs.checkpoint.format,
            "sha256_of_tensors": inputs.checkpoint.digest,
            "parameters": inputs.config.parameter_count,
        },
        "calibration": inputs.calibration.describe(),
        "evaluation": inputs.evaluation.describe(),
        "versions": {"mobilebert_kit": __version__, **{name: metadata.version(name) for name in names}},
    }
