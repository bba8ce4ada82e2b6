"""One export: a checkpoint in, a folder of verified .tflite files out.

    checkpoint -> config, weights -> float .tflite -> F1 ┐
                     each target: calibrate, convert, check the delegate, F1 ┴ drop at most N -> manifest -> in place
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mobilebert_kit import __version__
from mobilebert_kit.artifacts import describe_files, staged_folder, write_manifest
from mobilebert_kit.checkpoints import Checkpoint, load_checkpoint, prove_complete
from mobilebert_kit.contract import Contract
from mobilebert_kit.delegates.nnapi import check_nnapi
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.models.config import MobileBertConfig, resolve_config
from mobilebert_kit.models.saved_model import write_saved_model
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.quantize.calibration import Ranges, calibrate, fake_quantize
from mobilebert_kit.quantize.conversion import convert
from mobilebert_kit.quantize.mask import clamp_mask
from mobilebert_kit.runtime.scoring import Score, score_model
from mobilebert_kit.squad.answers import extract_answers
from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.digest import calibration_digest
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import Window, make_windows
from mobilebert_kit.targets import FLOAT, Target

SCHEMA_VERSION = 1
VERSIONED = ("tensorflow", "ai-edge-litert", "numpy", "tokenizers")


@dataclass(frozen=True)
class Request:
    """What the flags of `export` ask for."""

    targets: Sequence[Target]
    checkpoint: Path
    output_dir: Path
    calibration: str
    evaluation: str
    calibration_questions: int = 100
    eval_questions: int | None = None
    config: str | None = None
    vocab: str | None = None
    activation: str | None = None
    mask: str | None = None
    sequence_length: int = 384
    max_f1_drop: float = 2.0
    keep_saved_model: bool = False
    overwrite: bool = False
    command: str = ""


@dataclass(frozen=True)
class Data:
    """Questions with their windows."""

    source: str
    questions: list[Question]
    windows: list[Window]

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "source": Path(self.source).name,
            "questions": len(self.questions),
            "windows": len(self.windows),
            "ids_digest": calibration_digest(self.questions),
        }


@dataclass
class Result:
    """One target, built: `score` is of its file."""

    target: Target
    file: Path
    mask_value: float
    score: Score
    nodes: int
    file_bytes: int


@dataclass(frozen=True)
class Summary:
    """What `export` prints."""

    output_dir: Path
    float_score: Score
    results: list[Result]
    seconds: float


def export(request: Request) -> Summary:
    """Builds every target of `request` into its output folder, or leaves nothing there.

    Raises InputError for a bad input, CheckFailed for a target that its delegate refuses or that lost more
    than `max_f1_drop` F1.
    """
    began = time.monotonic()
    # Scratch and destination first: a folder that can't be written should not cost minutes.
    with staged_folder(request.output_dir, overwrite=request.overwrite) as folder, _Steps(request) as steps:
        steps.next("reading the checkpoint")
        builder = Builder(request)
        builder.validate()
        with tempfile.TemporaryDirectory() as scratch:
            steps.next("float: converting")
            reference = builder.write_float(Path(scratch))
            steps.next("float: F1")
            float_score = builder.score(reference)
            results = []
            for target in request.targets:
                file = folder / target.file_for(request.sequence_length)
                mask_value = builder.config.mask_value
                if target is FLOAT:
                    shutil.copyfile(reference, file)
                    score = float_score
                else:
                    mask_value = builder.write(target, file, steps)
                    steps.next(f"{target.name}: F1")
                    score = builder.score(file)
                nodes = _check_delegate(target, file)
                _check_drop(target, float_score, score, request.max_f1_drop)
                results.append(Result(target, file, mask_value, score, nodes, file.stat().st_size))
        shutil.copyfile(builder.vocab, folder / "vocab.txt")
        if request.keep_saved_model:
            steps.next("SavedModel")
            write_saved_model(
                folder / "saved_model",
                builder.config,
                builder.checkpoint.tensors,
                contract=builder.contract,
                sequence_length=request.sequence_length,
            )
        files = describe_files(folder)
        write_manifest(folder, builder.manifest(float_score, results, files))
    return Summary(request.output_dir, float_score, results, time.monotonic() - began)


@dataclass
class Builder:
    """The inputs of a request, each read once, and the steps over them."""

    request: Request
    checkpoint: Checkpoint = field(init=False)
    config: MobileBertConfig = field(init=False)

    def __post_init__(self) -> None:
        request = self.request
        self.checkpoint = load_checkpoint(request.checkpoint)
        self.config = resolve_config(
            self.checkpoint.settings,
            self.checkpoint.tensors,
            self.checkpoint.format,
            request.config,
            request.activation,
            request.mask,
            quantized=self.checkpoint.quantized,
            hints=self.checkpoint.hints,
        )

    def validate(self) -> None:
        """Reads everything that a later step needs, so that a bad input is told before the long work."""
        prove_complete(self.checkpoint.tensors, self.config.variable_shapes())
        if self.request.sequence_length > self.config.max_position_embeddings:
            raise InputError(
                f"Expected --max_seq_length of {self.config.max_position_embeddings} at most, the model's number "
                f"of positions, got {self.request.sequence_length}."
            )
        _ = self.evaluation
        if any(target.recipe.quantize_activations for target in self.request.targets):
            _ = self.calibration

    @cached_property
    def contract(self) -> Contract:
        return self.request.targets[0].contract

    @cached_property
    def vocab(self) -> Path:
        if self.request.vocab:
            return Path(self.request.vocab)
        if self.checkpoint.vocab_path:
            return self.checkpoint.vocab_path
        raise InputError(
            f"Expected a vocab.txt beside the checkpoint {self.request.checkpoint}, got none. Name one with --vocab."
        )

    @cached_property
    def calibration(self) -> Data:
        return self._load(self.request.calibration, self.request.calibration_questions, split="train")

    @cached_property
    def evaluation(self) -> Data:
        return self._load(self.request.evaluation, self.request.eval_questions, split="validation")

    def _load(self, source: str, limit: int | None, *, split: str) -> Data:
        tokenizer = load_tokenizer(self.vocab, expected_size=self.config.vocab_size)
        questions = load_questions(source, split=split, limit=limit)
        return Data(
            source, questions, make_windows(questions, tokenizer, max_seq_length=self.request.sequence_length)
        )

    def _module(self, target: Target, observe=None, mask_value=None):
        options = {} if observe is None else {"observe": observe}
        return serving_module(
            self.config,
            self.checkpoint.tensors,
            lowering=target.lowering_class(),
            contract=target.contract,
            sequence_length=self.request.sequence_length,
            mask_value=mask_value,
            **options,
        )

    def write_float(self, folder: Path) -> Path:
        """The float .tflite that every target is held against."""
        file = folder / FLOAT.file_for(self.request.sequence_length)
        file.write_bytes(convert(self._module(FLOAT), FLOAT.recipe))
        return file

    def write(self, target: Target, file: Path, steps: _Steps) -> float:
        """Calibrates where the recipe needs it, converts; returns the mask value that went in."""
        recipe = target.recipe
        mask_value = self.config.mask_value
        observe = None
        if recipe.quantize_activations:
            if self.config.mask_semantics == "additive" and recipe.quantizes("mask/fill"):
                steps.next(f"{target.name}: mask")
                mask_value = self._clamped_mask
            steps.next(f"{target.name}: calibrating")
            ranges = self._ranges(target, mask_value)
            observe = fake_quantize(recipe.quantizes, recipe.bounds, ranges)
        steps.next(f"{target.name}: converting")
        file.write_bytes(convert(self._module(target, observe, mask_value), recipe))
        return mask_value

    @cached_property
    def _calibration_inputs(self) -> list[dict[str, np.ndarray]]:
        return [
            {name: getattr(window, name)[None] for name in self.contract.input_names}
            for window in self.calibration.windows
        ]

    def _ranges(self, target: Target, mask_value: float) -> Ranges:
        build = partial(self._module, target, mask_value=mask_value)
        return calibrate(build, self._calibration_inputs)

    @cached_property
    def _clamped_mask(self) -> float:
        windows, questions = self.calibration.windows, self.calibration.questions

        def answer(index: int, start: np.ndarray, end: np.ndarray) -> str:
            window = windows[index]
            question = questions[window.question_index]
            alone = [replace(window, question_index=0)]
            return extract_answers([question], alone, start[None], end[None]).official[question.id]

        return clamp_mask(
            lambda value: self._module(FLOAT, mask_value=value),
            self._calibration_inputs,
            answer,
            self.config.mask_value,
        )

    def score(self, file: Path) -> Score:
        return score_model(file, self.evaluation.questions, self.evaluation.windows, progress=False)

    def manifest(self, float_score: Score, results: list[Result], files: dict[str, Any]) -> dict[str, Any]:
        """Where the files come from and what was measured of them; README describes the keys."""
        calibrated = any(result.target.recipe.quantize_activations for result in results)
        checkpoint = self.checkpoint
        return {
            "schema_version": SCHEMA_VERSION,
            "command": self.request.command,
            "checkpoint": {
                "format": checkpoint.format,
                "sha256_of_tensors": checkpoint.digest,
                "config": self.config.to_dict(),
                "parameters": self.config.parameter_count,
                "quantized_training_ranges": list(checkpoint.quant_range_names),
                "unused_variables": list(checkpoint.unused_names),
            },
            "contract": {
                "name": self.contract.name,
                "signature": self.contract.signature_key,
                **{
                    side: [
                        {"name": s.name, "dtype": s.dtype, "shape": list(s.shape(self.request.sequence_length))}
                        for s in specs
                    ]
                    for side, specs in (("inputs", self.contract.inputs), ("outputs", self.contract.outputs))
                },
            },
            "calibration": self.calibration.describe() if calibrated else None,
            "evaluation": {
                **self.evaluation.describe(),
                "float": _scores(float_score),
                "max_f1_drop": self.request.max_f1_drop,
            },
            "targets": {
                result.target.name: {
                    "file": result.file.name,
                    "recipe": result.target.recipe.name,
                    "delegate": result.target.delegate,
                    "status": result.target.status,
                    "nodes": result.nodes,
                    "mask_value": result.mask_value,
                    **_scores(result.score),
                    "f1_drop": round(float_score.f1 - result.score.f1, 4),
                }
                for result in results
            },
            "files": files,
            "versions": {"mobilebert_kit": __version__, **{name: metadata.version(name) for name in VERSIONED}},
        }


class _Steps:
    """One progress bar over the steps of an export; silent where standard error is no terminal."""

    def __init__(self, request: Request):
        self._total = 3 + sum(4 if t.recipe.quantize_activations else 2 for t in request.targets if t is not FLOAT)

    def __enter__(self) -> _Steps:
        self._bar = tqdm(total=self._total, unit="step", disable=None, leave=False)
        self._started = False
        return self

    def next(self, step: str) -> None:
        """The step before is done; `step` begins."""
        if self._started:
            self._bar.update()
        self._started = True
        self._bar.set_description(step)

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _scores(score: Score) -> dict[str, float]:
    return {"exact_match": round(score.exact_match, 4), "f1": round(score.f1, 4)}


def _check_delegate(target: Target, file: Path) -> int:
    """Number of nodes of `file`; CheckFailed where the target's delegate would not take all of them."""
    model = read_tflite(file)
    if target.nnapi_api is not None:
        report = check_nnapi(model, api_level=target.nnapi_api)
        if not report.whole:
            lines = "".join(
                f"\n    node {node.index} {node.op}: {'; '.join((*node.reasons, *node.runtime_refusals))}"
                for node in report.refused[:10]
            )
            raise CheckFailed(
                f"Expected NNAPI at API {target.nnapi_api} to take {target.name} whole, got {len(report.refused)} of "
                f"{len(report.nodes)} nodes refused, {report.partitions} partitions:{lines}\nNothing was written. "
                "This is a defect of the lowering for this configuration: please report it."
            )
    return len(model.main.nodes)


def _check_drop(target: Target, reference: Score, score: Score, most: float) -> None:
    drop = reference.f1 - score.f1
    if drop > most:
        raise CheckFailed(
            f"Expected {target.name} to lose {most:g} F1 at most against float, got {reference.f1:.2f} -> "
            f"{score.f1:.2f}, {drop:.2f} lost on {score.questions} questions. Nothing was written. Calibrate on "
            "questions closer to the evaluation's (--calibration), or allow it with --max_f1_drop."
        )
