"""One export: a checkpoint in, a folder of verified model files out.

checkpoint -> config, weights -> float .tflite -> F1 --+
    each target: calibrate, convert, delegate takes it, F1 drops at most N, also in a GPU's float16
    -> report, manifest -> in place
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from mobilebert_kit.acceptance import check_delegate, check_drop, check_half_drop
from mobilebert_kit.artifacts import describe_files, staged_folder, write_manifest
from mobilebert_kit.contract import Contract
from mobilebert_kit.inputs import Data, Inputs, Request
from mobilebert_kit.lowering.cpu import Observe, unobserved
from mobilebert_kit.manifest import Result, make_manifest
from mobilebert_kit.memory import give_back_freed_blocks
from mobilebert_kit.models.saved_model import save_graph, write_saved_model
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.progress import Steps
from mobilebert_kit.quantize.calibration import Ranges, calibrate, fake_quantize, without_padding
from mobilebert_kit.quantize.centering import center_values
from mobilebert_kit.quantize.conversion import convert, write_buckets
from mobilebert_kit.quantize.equalization import channel_sizes, has_layer_norm
from mobilebert_kit.quantize.groups import rounded_tensors
from mobilebert_kit.quantize.half_precision import (
    HalfPrecision,
    headroom,
    round_to_half,
    without_numbers,
)
from mobilebert_kit.quantize.layer_errors import WINDOWS, LayerError, layer_errors
from mobilebert_kit.quantize.mask import clamp_mask
from mobilebert_kit.quantize.recipes import W16_A32, Recipe
from mobilebert_kit.quantize.row_floors import row_floors
from mobilebert_kit.quantize.simulation import Build, Simulation, float_kernels, rounded_kernels
from mobilebert_kit.quantize.trained_ranges import RangeCounts, TrainedRanges, count_ranges, trained_ranges
from mobilebert_kit.report.evidence import Evidence, gather, measure_files
from mobilebert_kit.report.page import write_page
from mobilebert_kit.runtime.packages import import_package, import_runtime
from mobilebert_kit.runtime.scoring import Score, run_windows, score_logits
from mobilebert_kit.squad.answers import extract_answers
from mobilebert_kit.targets import FLOAT, Target

Logits = tuple[np.ndarray, np.ndarray]  # start and end, float32 [windows, S] each


@dataclass(frozen=True)
class Summary:
    """What `export` prints, and what a bundle makes its own report of."""

    output_dir: Path
    float_score: Score
    results: list[Result]
    evaluation: Data
    evidence: Evidence
    seconds: float


def export(request: Request) -> Summary:
    """Builds every target of `request` into its output folder, or leaves nothing there.

    Raises InputError for a bad input, CheckFailed for a target that its delegate refuses or that lost more
    than `max_f1_drop` F1, as it is or in the float16 that it will be computed in.
    """
    began = time.monotonic()
    give_back_freed_blocks()
    for target in request.targets:
        import_runtime(target.runtime)
        for package in target.needs:
            import_package(package)
    # The destination first: a folder that can't be written should not cost minutes.
    with (
        staged_folder(request.output_dir, overwrite=request.overwrite) as folder,
        Steps(count_steps(request.targets)) as steps,
    ):
        steps.next("reading the checkpoint")
        inputs = Inputs(request)
        inputs.validate()
        builder = Builder(inputs, steps)
        # In the staging folder, so that a killed export leaves it nowhere else.
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            steps.next("float: converting")
            reference = builder.write(FLOAT, Path(scratch))
            steps.next("float: F1")
            float_logits = builder.run(reference.file)
            float_score = builder.score(float_logits)
            results, errors = [], {}
            for target in request.targets:
                if target is FLOAT:
                    built = replace(reference, files=[Path(shutil.copy(reference.file, folder))])
                    score = float_score
                else:
                    prepared = builder.prepare(target)
                    built = builder.convert(target, prepared, folder)
                    steps.next(f"{target.name}: F1")
                    score = builder.score(builder.run(built.file))
                report = check_delegate(target, built.file)
                check_drop(target, float_score, score, request.max_f1_drop)
                half = None
                if target.half_precision:
                    half = builder.half_precision(target, Path(scratch), float_logits)
                    check_half_drop(target, float_score, half, request.max_f1_drop)
                if target.recipe.quantize_activations:
                    errors[target.name] = builder.layer_errors(target, prepared)
                    if request.keep_saved_model:
                        builder.save_simulated(target, prepared, folder / f"saved_model_{target.name}")
                size = sum(file.stat().st_size for file in built.files)
                results.append(
                    Result(target, built.file, built.mask_value, score, report, size, half, built.ranges)
                )
            steps.next("latency")
            measured = measure_files(reference.file, results, inputs.evaluation.windows)
        shutil.copyfile(inputs.vocab, folder / "vocab.txt")
        if request.keep_saved_model:
            steps.next("SavedModel")
            write_saved_model(
                folder / "saved_model",
                inputs.config,
                inputs.checkpoint,
                contract=inputs.contract,
                sequence_length=request.sequence_length,
                vocab=inputs.vocab,
            )
        manifest = make_manifest(inputs, float_score, results, describe_files(folder))
        evidence = gather(manifest, inputs.evaluation, float_score, results, errors, measured)
        write_page(folder, evidence)
        write_manifest(folder, manifest | {"files": describe_files(folder)})
    seconds = time.monotonic() - began
    return Summary(request.output_dir, float_score, results, inputs.evaluation, evidence, seconds)


@dataclass(frozen=True)
class Built:
    """A model file, with those that belong to it (weights of an .xml) behind it, and what went into it: the
    mask value, and where its ranges come from."""

    files: Sequence[Path]
    mask_value: float
    ranges: RangeCounts | None = None

    @property
    def file(self) -> Path:
        return self.files[0]


@dataclass(frozen=True)
class Prepared:
    """What a file is converted from: mask value, weights, its kernels' grids, its activations' ranges.

    `exact` are the weights of the same network before any rounding: they differ from `tensors` where training
    rounded. `counts` tells where the ranges come from; it and they are there for int8 activations only.
    """

    mask_value: float
    tensors: Mapping[str, np.ndarray]
    exact: Mapping[str, np.ndarray]
    kernel_steps: Mapping[str, np.ndarray] | None = None
    ranges: Ranges = field(default_factory=dict)
    counts: RangeCounts | None = None

    def rounded(self, recipe: Recipe) -> dict[str, np.ndarray]:
        """As `tensors`, with the kernels as the int8 file has them."""
        return rounded_kernels(self.tensors, self.kernel_steps, float_kernels(recipe, self.ranges))


class Builder:
    """The steps from a request's inputs to a scored file."""

    def __init__(self, inputs: Inputs, steps: Steps):
        self.inputs = inputs
        self._steps = steps
        self._half: dict[str, HalfPrecision] = {}

    def write(self, target: Target, folder: Path) -> Built:
        """Calibrates what the recipe needs and training left open, and converts."""
        return self.convert(target, self.prepare(target), folder)

    def prepare(self, target: Target) -> Prepared:
        """What goes into the file of `target`; for a recipe that quantizes activations, its ranges."""
        recipe, config, tensors = target.recipe, self.inputs.config, self.inputs.checkpoint.tensors
        if not recipe.quantize_activations:
            return Prepared(config.mask_value, tensors, tensors)
        trained, mask_value = self._trained, config.mask_value
        if config.mask_semantics == "additive" and recipe.quantizes("mask/fill"):
            self._steps.next(f"{target.name}: mask")
            mask_value = self._clamped_mask
        self._steps.next(f"{target.name}: calibrating")
        windows = self._steps.each(self._calibration_windows, "windows")
        steps = trained.kernel_steps
        # Trained ranges are of the values as they were.
        rewritten = {**self._channel_sizes, **row_floors(tensors)}
        if recipe.center_values and not steps:
            rewritten |= self._centered
        changed = {**rewritten, **trained.tensors}
        captured = {**self._captured_weights, **_constants(changed)}
        build = partial(self.module, target, captured, mask_value, kernel_steps=steps)
        ranges = calibrate(build, windows, known=trained.known_to(recipe), bounds=recipe.bounds)
        counts = count_ranges(recipe, trained, ranges)
        exact = {**tensors, **rewritten}
        return Prepared(mask_value, {**tensors, **changed}, exact, steps, ranges, counts)

    def convert(self, target: Target, prepared: Prepared, folder: Path) -> Built:
        """The file of `target` in `folder`, of what `prepare` gave for it."""
        recipe, observe = target.recipe, unobserved
        if recipe.quantize_activations:
            observe = fake_quantize(recipe.quantizes, recipe.bounds, prepared.ranges)
        if target is not FLOAT:
            self._steps.next(f"{target.name}: converting")
        inputs = self.inputs
        lengths = inputs.request.lengths
        file = folder / target.file_for("_".join(map(str, lengths)), inputs.config.family)
        modules = {
            length: self.module(
                target,
                prepared.tensors,
                prepared.mask_value,
                observe,
                prepared.kernel_steps,
                contract=inputs.contract,
                length=length,
            )
            for length in lengths
        }
        if len(modules) > 1:
            files = write_buckets(modules, recipe, file)
        else:
            files = target.write(modules[lengths[0]], file)
        return Built(files, prepared.mask_value, prepared.counts)

    def run(self, file: Path) -> Logits:
        """A file's logits on the evaluation's windows."""
        windows = self.inputs.evaluation.windows
        return run_windows(file, windows, progress=self._steps.counter(len(windows), "windows"))

    def score(self, logits: Logits) -> Score:
        """F1 and EM of a file's logits on the evaluation's questions."""
        return score_logits(self.inputs.evaluation.questions, self.inputs.evaluation.windows, *logits)

    def simulation(self, target: Target, prepared: Prepared, rounded: Mapping[str, np.ndarray]) -> Simulation:
        """Of the file of `target`, made of what `prepare` gave for it; `rounded` is `prepared`'s."""
        recipe, ranges = target.recipe, prepared.ranges
        tensors = rounded_tensors(self.inputs.config, recipe, ranges)
        build = self._builds(target, prepared)
        return Simulation(build, recipe, ranges, tensors, prepared.exact, rounded)

    def save_simulated(self, target: Target, prepared: Prepared, folder: Path) -> None:
        """The file of `target` as a SavedModel in float32: what it rounds is rounded, by fake-quants."""
        rounded = prepared.rounded(target.recipe)
        observe = self.simulation(target, prepared, rounded).round
        module = self.module(target, rounded, prepared.mask_value, observe, contract=self.inputs.contract)
        save_graph(module.serve, folder)

    def layer_errors(self, target: Target, prepared: Prepared) -> list[LayerError]:
        """What int8 does to each layer, on a few of the evaluation's windows, evenly spread."""
        self._steps.next(f"{target.name}: errors by layer")
        windows = self.inputs.evaluation.windows
        chosen = windows[:: -(-len(windows) // WINDOWS)]
        rounded = prepared.rounded(target.recipe)
        simulation = self.simulation(target, prepared, rounded)
        arrays = map(self.inputs.arrays, chosen)
        return layer_errors(self._builds(target, prepared), simulation, prepared.exact, rounded, arrays)

    def half_precision(self, target: Target, folder: Path, reference: Logits) -> HalfPrecision:
        """What float16 does to the model of `target`; a simulated one goes into `folder`.

        Once a lowering: whether the file holds its weights as float32 or float16, what a GPU computes is the
        same.
        """
        if target.lowering not in self._half:
            self._half[target.lowering] = self._simulate_half(target, folder, reference)
        return self._half[target.lowering]

    def _simulate_half(self, target: Target, folder: Path, reference: Logits) -> HalfPrecision:
        inputs = self.inputs
        mask_value = inputs.config.mask_value
        build = partial(self.module, target, self._captured_weights, mask_value)
        self._steps.next(f"{target.name}: headroom in float16")
        windows = self._steps.each(inputs.calibration_arrays, "windows")
        room = headroom(calibrate(build, windows))
        self._steps.next(f"{target.name}: converting as float16")
        file = folder / "simulated_float16.tflite"
        module = self.module(target, inputs.checkpoint.tensors, mask_value, round_to_half())
        file.write_bytes(convert(module, W16_A32))
        self._steps.next(f"{target.name}: F1 in float16")
        start, end = self.run(file)
        lost = without_numbers(start, end)
        overflow = room.overflow
        if overflow is None and lost.any():  # in a question unlike the calibration's
            first = inputs.arrays(inputs.evaluation.windows[lost.argmax()])
            there = headroom(calibrate(build, [first]))
            overflow = there.overflow or there.tensor
        differences = [np.abs(one - other)[~lost] for one, other in zip((start, end), reference, strict=True)]
        nothing = np.float32(-np.inf)  # the score of no span: such a window answers nothing
        answered = [np.where(lost[:, None], nothing, logits) for logits in (start, end)]
        return HalfPrecision(
            headroom=room,
            overflow=overflow,
            score=self.score((answered[0], answered[1])),
            logit_difference=None if lost.all() else float(np.max(differences)),
            windows_lost=int(lost.sum()),
        )

    def _builds(self, target: Target, prepared: Prepared) -> Build:
        return lambda weights, observe: self.module(target, weights, prepared.mask_value, observe)

    @cached_property
    def _captured_weights(self) -> dict[str, tf.Tensor]:
        """For functions that are run: arrays would be embedded in each, a dozen copies of them all told."""
        return _constants(self.inputs.checkpoint.tensors)

    @cached_property
    def _trained(self) -> TrainedRanges:
        checkpoint = self.inputs.checkpoint
        return trained_ranges(self.inputs.config, checkpoint.tensors, checkpoint.ranges)

    @cached_property
    def _centered(self) -> dict[str, np.ndarray]:
        checkpoint, mask_value = self.inputs.checkpoint, self.inputs.config.mask_value
        build = partial(self.module, FLOAT, self._captured_weights, mask_value)
        return center_values(build, self.inputs.calibration_arrays, checkpoint.tensors)

    @cached_property
    def _channel_sizes(self) -> dict[str, np.ndarray]:
        checkpoint, mask_value = self.inputs.checkpoint, self.inputs.config.mask_value
        build = partial(self.module, FLOAT, self._captured_weights, mask_value)
        return channel_sizes(build, self._calibration_windows, checkpoint.tensors)

    @cached_property
    def _calibration_windows(self) -> list[dict[str, np.ndarray]]:
        """What tells the ranges of int8 activations."""
        windows = self.inputs.calibration_arrays
        if has_layer_norm(self.inputs.checkpoint.tensors):
            return [without_padding(window) for window in windows]
        return windows

    def module(
        self,
        target: Target,
        weights: Mapping[str, tf.Tensor],
        mask_value: float | tf.Variable,
        observe: Observe = unobserved,
        kernel_steps: Mapping[str, np.ndarray] | None = None,
        contract: Contract | None = None,
        length: int | None = None,
    ) -> tf.Module:
        """The model of `target` with these weights, its tensors with the kit's own names or `contract`'s.

        `length`: of its windows; None: that of the request's.
        """
        return serving_module(
            self.inputs.config,
            weights,
            lowering=target.lowering_class(),
            contract=contract or self.inputs.own_contract,
            sequence_length=length or self.inputs.request.sequence_length,
            observe=observe,
            mask_value=mask_value,
            kernel_steps=kernel_steps,
        )

    @cached_property
    def _clamped_mask(self) -> float:
        windows, questions = self.inputs.calibration.windows, self.inputs.calibration.questions

        def answer(index: int, start: np.ndarray, end: np.ndarray) -> str:
            window = windows[index]
            question = questions[window.question_index]
            alone = [replace(window, question_index=0)]
            return extract_answers([question], alone, start[None], end[None]).official[question.id]

        return clamp_mask(
            partial(self.module, FLOAT, self._captured_weights),
            self.inputs.calibration_arrays,
            answer,
            self.inputs.config.mask_value,
        )


def _constants(tensors: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(tensor) for name, tensor in tensors.items()}


def count_steps(targets: Sequence[Target]) -> int:
    """Of an export of `targets`: how often its bar moves on."""
    others = [target for target in targets if target is not FLOAT]
    simulated = {target.lowering for target in others if target.half_precision}
    quantized = [target for target in others if target.recipe.quantize_activations]
    return 4 + 3 * len(simulated) + 2 * len(others) + 3 * len(quantized)
