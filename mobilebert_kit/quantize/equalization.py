"""Channels of a BERT's feed-forward brought to one size, so that one int8 scale fits them all.

A trained BERT writes numbers a hundred times larger into one or two channels than into the others. An int8
tensor has one scale: with the outliers inside it, nothing is left of the rest.

    before:  ─ QUANTIZE ─ CONV_2D kernel ─────────── int8 ─ DEQUANTIZE ─ gelu, or ADD residual and LayerNorm ─
    after:   ─ MUL 1/i ─ QUANTIZE ─ CONV_2D kernel * i / o ─ int8 ─ DEQUANTIZE ─ MUL o ─ gelu, or ADD ... ─

o [outputs] is the largest magnitude of each channel: a kernel has a scale for each output as it is, and loses
nothing by the division. i [inputs] brings down to the median channel what is larger; that makes some rows of
the kernel larger, so the others stay. Claim: ULP, and two MUL more, in float32 where gelu and LayerNorm are.
Sources: Nagel et al. 2019 (arXiv:1906.04721, section 4.1), with the sum in the place of the next layer; for
i, Xiao et al. 2022 (SmoothQuant, arXiv:2211.10438).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import tensorflow as tf

from mobilebert_kit.lowering.cpu import Observe
from mobilebert_kit.quantize.calibration import Inputs, measured

OUTPUTS = ("*/intermediate/dense", "*/output/dense")
INPUTS = ("*/intermediate/dense/input", "*/layer_*/output/dense/input")
CONTEXT = "*/attention/*/input"  # int8 already, as the product before it


def channel_sizes(
    build: Callable[[Observe], tf.Module], windows: Sequence[Inputs], weights: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """For `CpuLowering` and its kin: "<dense>/input_size" [inputs], "<dense>/output_size" [outputs], float32.

    Empty for a model without LayerNorm, which is what grows outliers.

    Args:
        build: makes the float model of `weights` in `CpuLowering`, with an observer.
        windows: calibration's inputs, int32 [1, S] by name: all of them, for what one channel has beyond its
            size the range adds to all channels.
        weights: canonical name -> array.
    """
    if not has_layer_norm(weights):
        return {}
    largest: dict[str, np.ndarray] = {}
    for found in measured(build, windows, _magnitudes):
        for name, size in found.items():
            largest[name] = np.maximum(largest.get(name, 0.0), size)
    return {name: _factors(name, size) for name, size in largest.items()}


def has_layer_norm(names: Iterable[str]) -> bool:
    """Whether weights of these names are a network's with LayerNorm: a BERT's, not a MobileBERT's."""
    return any("/LayerNorm/" in name for name in names)


def _magnitudes(tensor: tf.Tensor, point: str, _: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    inputs = _matches(point, INPUTS) and not fnmatchcase(point, CONTEXT)
    if not inputs and not _matches(point, OUTPUTS):
        return {}
    name = f"{point}_size" if inputs else f"{point}/output_size"
    return {name: tf.reduce_max(tf.abs(tensor), axis=[0, 1, 2])}


def _factors(name: str, size: np.ndarray) -> np.ndarray:
    """A channel that is always zero keeps its size."""
    if name.endswith("/input_size"):
        size = np.maximum(size / (np.median(size) or 1.0), 1.0)
    return np.where(size > 0, size, 1.0).astype(np.float32)


def _matches(point: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(point, pattern) for pattern in patterns)
