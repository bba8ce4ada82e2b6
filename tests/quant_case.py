"""The small model's int8 targets as quant_report sees them, and one with a planted fault."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path

import numpy as np
import small_export
import tensorflow as tf

from mobilebert_kit.contract import MLPERF
from mobilebert_kit.lowering.cpu import unobserved
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.quantize.calibration import calibrate, fake_quantize
from mobilebert_kit.quantize.conversion import convert
from mobilebert_kit.quantize.groups import rounded_tensors
from mobilebert_kit.quantize.simulation import Simulation, float_kernels, rounded_kernels
from mobilebert_kit.runtime.scoring import run_windows
from mobilebert_kit.targets import Target

MASK = -20.0  # small enough for int8, large enough for the small model
LAST = "bert/encoder/layer_1/output/bottleneck/FakeLayerNorm"
PLANTED = {LAST, f"{LAST}/dense"}  # what the head reads, and the term of its sum that has the fault


class Case:
    """One target of the small model, on the windows of `small_export`."""

    def __init__(self, target: Target, weights: dict[str, np.ndarray] | None = None):
        self.target, self.weights = target, weights or uneven_weights()
        self.windows, self.arrays = small_export.windows(), small_export.arrays()
        self.tokens = np.stack([window.input_mask for window in self.windows]) == 1

    def build(self, weights, observe=unobserved) -> tf.Module:
        return serving_module(
            small_export.CONFIG,
            weights,
            lowering=self.target.lowering_class(),
            contract=MLPERF,
            sequence_length=small_export.LENGTH,
            observe=observe,
            mask_value=MASK,
        )

    @cached_property
    def ranges(self):
        return calibrate(partial(self.build, self.weights), self.arrays)

    @cached_property
    def rounded(self):
        return rounded_kernels(self.weights, (), float_kernels(self.target.recipe, self.ranges))

    @cached_property
    def simulation(self) -> Simulation:
        recipe = self.target.recipe
        tensors = rounded_tensors(small_export.CONFIG, recipe, self.ranges)
        return Simulation(
            self.build, recipe, self.ranges, tensors, self.weights, self.rounded, compiled=False
        )

    def convert(self, path: Path) -> None:
        """Writes the .tflite that export would."""
        recipe = self.target.recipe
        observe = fake_quantize(recipe.quantizes, recipe.bounds, self.ranges)
        path.write_bytes(convert(self.build(self.weights, observe), recipe))

    def logits(self, on) -> np.ndarray:
        """Of tokens, start and end, by the simulation."""
        return np.stack(self.simulation.logits(on, self.arrays))[:, self.tokens]

    def file_logits(self, path: Path) -> np.ndarray:
        return np.stack(run_windows(path, self.windows, progress=False))[:, self.tokens]


def uneven_weights() -> dict[str, np.ndarray]:
    """Those of `small_export`, which are multiples of 1/64 and tie wherever they are rounded, stretched."""
    random = np.random.default_rng(1)
    return {
        name: value * random.uniform(0.9, 1.1, value.shape).astype(np.float32)
        for name, value in small_export.weights().items()
    }


def planted_weights() -> dict[str, np.ndarray]:
    """One channel of PLANTED is 3,000, and nothing reads it: float is as before, one int8 step is 12."""
    weights = uneven_weights()
    weights[f"{LAST}/beta"][0] = 3000.0
    weights["cls/squad/output_weights"][:, 0] = 0.0
    return weights
