"""The ranges of quantized training, at the tensors of the lowerings.

The published quantized model (google-research/mobilebert, modeling.py with use_quantized_training) has 66
quantizers a layer; names.QUANTIZERS lists them. The lowerings fold NoNorm into the convolution before it and
1/sqrt(size) into the query, so not every quantizer has a tensor left:

    trained:  x ─ Q ─ dense(Q kernel) ─ (+ residual) ─ Q ─ * Q(gamma) ─ Q ─ + Q(beta) ─ next x
    folded:   x ─ Q ─ dense(Q kernel * gamma, bias * gamma + beta) ─ (+ residual * gamma) ─ next x

    quantizer (of 66)                  where it goes
    15 inputs of dense layers          the tensor that the layer reads, and all other names of that tensor
     4 of attention                    QK^T: `scores`, which are scaled; `_1` kept_scores; `_2` masked_scores
                                       and clipped_scores (equal scales: the clip is then two int8 ops);
                                       `_3` context
    15 kernels                         the kernel is rounded with them, and the folded one keeps the integers:
                                       with gamma in it, the step of output c is step * |gamma_c|      EXACT
    16 gamma, beta                     both are rounded with them before they are folded               EXACT
    16 NoNorm's input and product      nowhere: between a convolution and its folded gamma is no tensor. The
                                       int32 sum of the convolution is not rounded there, which is finer

What the ranges of NoNorm's input and product might still tell, the sum product + beta, they tell badly: the
sum of two ranges is wider than the range of a sum. So training left open, and calibration finds: embeddings;
query, key, value; NoNorm's sum where only a residual reads it (bottleneck/input, and the last layer's output,
which the head reads); dense output and residual * gamma, which meet in that sum; the mask; and the head.
Probabilities need neither: their scale is 1/256. Where a recipe keeps a tensor in float32 (residual sums,
what is between scores and SOFTMAX), the range trained for it is not used.

One tensor has one range. Quantizers of the same tensor saw the same values in training and agree (but for
the context, read through its own quantizer by the next); where they do not, the tensor takes their union.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mobilebert_kit.checkpoints.names import ACTIVATION_QUANTIZER, LAYER, WEIGHT_QUANTIZER, quantized_kernel
from mobilebert_kit.lowering.fake_quantized import fake_quantize
from mobilebert_kit.models.config import MobileBertConfig
from mobilebert_kit.quantize.calibration import Ranges
from mobilebert_kit.quantize.recipes import Recipe, is_fixed

Scopes = Mapping[str, tuple[np.ndarray, np.ndarray]]  # as `Checkpoint.ranges`
LARGEST_INTEGER = 127  # of a kernel: symmetric and narrow
STEP_OF_ZERO = 1e-3 / LARGEST_INTEGER  # of a kernel whose trained range is nothing but zero
HEAD = re.compile(r"/head_[0-9]+")  # what NNAPI's lowering puts into the points of one head


class SharedTensor(NamedTuple):
    """Observation points of one tensor, and the quantizers that saw it, `scale` times larger than it is."""

    points: tuple[str, ...]
    quantizers: tuple[str, ...]
    scale: float = 1.0


@dataclass(frozen=True)
class TrainedRanges:
    """What quantized training decided for a file; all of it empty for a checkpoint without ranges.

    Attributes:
        activations: observation point -> (min, max). NNAPI's heads have those of the whole.
        tensors: the kernels, gammas and betas that are rounded to their grid, float32, by canonical name.
        kernel_steps: canonical name of a kernel -> float32 [outputs], for `CpuLowering`.
    """

    activations: Ranges = field(default_factory=dict)
    tensors: Mapping[str, np.ndarray] = field(default_factory=dict)
    kernel_steps: Mapping[str, np.ndarray] = field(default_factory=dict)

    def at(self, point: str) -> tuple[float, float] | None:
        """The range trained for the tensor at `point`; None where training left it open."""
        return self.activations.get(HEAD.sub("", point))

    def known_to(self, recipe: Recipe) -> Callable[[str], tuple[float, float] | None]:
        """`at`, of the points that `recipe` quantizes."""
        return lambda point: self.at(point) if recipe.quantizes(point) else None


@dataclass(frozen=True)
class RangeCounts:
    """Where a file's int8 tensors have their ranges from, counted in observation points.

    Attributes:
        trained, calibrated: by whom they were found.
        fixed: probabilities, whose scale is 1/256 whatever they are.
        trained_kernels: kernels that hold the integers of training; the others have the converter's.
    """

    trained: int
    calibrated: int
    fixed: int
    trained_kernels: int


def count_ranges(recipe: Recipe, trained: TrainedRanges, ranges: Ranges) -> RangeCounts:
    """Of a file made by `recipe` with `ranges`, by observation point."""
    quantized = [point for point in ranges if recipe.quantizes(point)]
    by_training = sum(trained.at(point) is not None for point in quantized)
    fixed = sum(map(is_fixed, quantized))
    return RangeCounts(by_training, len(quantized) - by_training - fixed, fixed, len(trained.kernel_steps))


def trained_ranges(
    config: MobileBertConfig, weights: Mapping[str, np.ndarray], ranges: Scopes
) -> TrainedRanges:
    """What `ranges` (of a `Checkpoint`; all of them or none) decide for the model of `weights`."""
    if not ranges:
        return TrainedRanges()
    return TrainedRanges(
        _activations(config, ranges), dict(_rounded(weights, ranges)), _kernel_steps(weights, ranges)
    )


def shared_tensors(config: MobileBertConfig) -> Iterator[SharedTensor]:
    """Every tensor of the folded model that a trained quantizer saw."""
    hidden = "bert/embeddings/FakeLayerNorm"
    for layer in range(config.num_hidden_layers):
        scope = LAYER.format(layer=layer)
        yield from _attention(config, scope + "attention/self")
        yield _read_by(hidden, *_READ_HIDDEN, scope=scope)
        yield _read_by(scope + "bottleneck/attention/FakeLayerNorm", *_READ_SHARED, scope=scope)
        networks = [f"ffn_layer_{i}/" for i in range(config.num_feedforward_networks - 1)] + [""]
        made = scope + "attention/output/FakeLayerNorm"
        for network in networks:
            yield _read_by(made, f"{network}intermediate/dense", scope=scope)
            widened = f"{scope}{network}intermediate/dense"
            yield _read_by(widened, f"{network}output/dense", scope=scope)
            made = f"{scope}{network}output/FakeLayerNorm"
        yield _read_by(made, "output/bottleneck/dense", scope=scope)
        hidden = scope + "output/bottleneck/FakeLayerNorm"


_READ_HIDDEN = ("bottleneck/input/dense", "bottleneck/attention/dense", "attention/self/value")
_READ_SHARED = ("attention/self/query", "attention/self/key")


def _read_by(point: str, *readers: str, scope: str) -> SharedTensor:
    return SharedTensor(
        (point, *(f"{scope}{reader}/input" for reader in readers)),
        tuple(f"{scope}{reader}/{ACTIVATION_QUANTIZER}" for reader in readers),
    )


def _attention(config: MobileBertConfig, scope: str) -> Iterator[SharedTensor]:
    own = f"{scope}/{ACTIVATION_QUANTIZER}"
    yield SharedTensor((f"{scope}/scores",), (own,), config.attention_head_size**-0.5)
    if config.mask_semantics == "multiplicative":  # the other mask was not trained
        yield SharedTensor((f"{scope}/kept_scores",), (f"{own}_1",))
        yield SharedTensor((f"{scope}/masked_scores", f"{scope}/clipped_scores"), (f"{own}_2",))
    output = scope.replace("/self", "/output/dense")
    yield SharedTensor(
        (f"{scope}/context", f"{output}/input"), (f"{own}_3", f"{output}/{ACTIVATION_QUANTIZER}")
    )


def _activations(config: MobileBertConfig, ranges: Scopes) -> Ranges:
    found: Ranges = {}
    for tensor in shared_tensors(config):
        low = min(float(ranges[name][0]) for name in tensor.quantizers) * tensor.scale
        high = max(float(ranges[name][1]) for name in tensor.quantizers) * tensor.scale
        found |= dict.fromkeys(tensor.points, (low, high))
    return found


def _kernel_steps(weights: Mapping[str, np.ndarray], ranges: Scopes) -> dict[str, np.ndarray]:
    steps = {}
    for name, (_, high) in ranges.items():
        if kernel := quantized_kernel(name):
            step = np.asarray(high, np.float32) / np.float32(LARGEST_INTEGER)
            step = np.where(step > 0, step, np.float32(STEP_OF_ZERO))
            steps[kernel] = np.broadcast_to(step, weights[kernel].shape[-1:])
    return steps


def _rounded(weights: Mapping[str, np.ndarray], ranges: Scopes) -> Iterator[tuple[str, np.ndarray]]:
    """Every kernel, gamma and beta that has a quantizer, as training's forward pass used it."""
    for name, value in weights.items():
        scope, _, leaf = name.rpartition("/")
        kind = {
            "kernel": WEIGHT_QUANTIZER,
            "beta": ACTIVATION_QUANTIZER,
            "gamma": f"{ACTIVATION_QUANTIZER}_1",
        }.get(leaf)
        if (pair := ranges.get(f"{scope}/{kind}")) is not None:
            yield name, fake_quantize(value, *pair, narrow_range=leaf == "kernel").numpy()
