"""The ranges of a model's activations on real windows: every range in one pass of the float model.

TensorFlow's own calibrator needs 1.2-2.4 s a window of the full-size model, for a forward pass of 0.13 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.lowering.cpu import Observe

# Infinite and NaN have no scale; and beside one of 1e20, ordinary scales make the kernels abort the process.
LARGEST = 1e15

Ranges = dict[str, tuple[float, float]]
Inputs = dict[str, np.ndarray]


def calibrate(
    build: Callable[[Observe], tf.Module],
    windows: Iterable[Inputs],
    *,
    known: Callable[[str], tuple[float, float] | None] = lambda point: None,
    bounds: Callable[..., tuple[float, float]] = lambda point, low, high: (low, high),
) -> Ranges:
    """(min, max) of each observation point over all windows; `build` makes the float model with an observer.

    A point observed several times (heads that share one range) gets the union. A point whose range is `known`
    before keeps it, and is fake-quantized with the recipe's `bounds`: what comes behind it is calibrated as
    the file will compute it. Raises CheckFailed where a range is not below LARGEST.
    """
    given: Ranges = {}
    points: list[str] = []
    extremes: list[tf.Tensor] = []

    def record(tensor: tf.Tensor, point: str) -> tf.Tensor:
        pair = known(point)
        if pair is not None:
            given[point] = pair
            return tf.quantization.fake_quant_with_min_max_args(tensor, *bounds(point, *pair))
        points.append(point)
        extremes.append(tf.stack([tf.reduce_min(tensor), tf.reduce_max(tensor)]))
        return tensor

    module = build(record)

    @tf.function(input_signature=module.serve.input_signature, autograph=False)
    def observed(*inputs: tf.Tensor) -> tf.Tensor:
        points.clear()
        extremes.clear()
        module.serve.python_function(*inputs)
        return tf.stack(extremes)

    names = [spec.name for spec in module.serve.input_signature]
    low = high = None
    for window in windows:
        seen = observed(*(tf.constant(window[name]) for name in names)).numpy()
        low = seen[:, 0] if low is None else np.minimum(low, seen[:, 0])
        high = seen[:, 1] if high is None else np.maximum(high, seen[:, 1])
    _prove_sane(points, low, high)
    ranges: Ranges = {}
    for point, new_low, new_high in zip(points, low.tolist(), high.tolist(), strict=True):
        old_low, old_high = ranges.get(point, (new_low, new_high))
        ranges[point] = (min(old_low, new_low), max(old_high, new_high))
    return ranges | given


def without_padding(window: Inputs) -> Inputs:
    """`window` with its own tokens once more where its padding was, behind one [PAD]; the mask stays.

    For an additive mask, behind which nothing reads what padding becomes. LayerNorm brings its activations to
    full size: scores in a fine-tuned BERT's first layer are +-130 with padding, +-63 without, and every point
    of that layer would have half the steps. (NoNorm does not: a MobileBERT's error is the same either way.)
    """
    tokens = int(window["input_mask"].sum())
    filled = dict(window)
    for name in window.keys() - {"input_mask"}:
        filled[name] = window[name].copy()
        rest = filled[name][:, tokens + 1 :]
        rest[:] = np.resize(window[name][:, :tokens], rest.shape)
    return filled


def measured(
    build: Callable[[Observe], tf.Module],
    windows: Iterable[Inputs],
    find: Callable[[tf.Tensor, str, Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]],
) -> Iterator[dict[str, np.ndarray]]:
    """For each window what `find(tensor, point, inputs by name)` gives at a model's points, by its names."""
    found: dict[str, tf.Tensor] = {}
    given: dict[str, tf.Tensor] = {}

    def observe(tensor: tf.Tensor, point: str) -> tf.Tensor:
        found.update(find(tensor, point, given))
        return tensor

    module = build(observe)
    names = [spec.name for spec in module.serve.input_signature]

    @tf.function(input_signature=module.serve.input_signature, autograph=False)
    def run(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        given.update(zip(names, inputs, strict=True))
        module.serve.python_function(*inputs)
        return dict(found)

    for window in windows:
        outputs = run(*(tf.constant(window[name]) for name in names))
        yield {name: value.numpy() for name, value in outputs.items()}


def _prove_sane(points: list[str], low: np.ndarray, high: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        broken = np.flatnonzero(~(high - low < LARGEST))  # NaN is not less either
    if broken.size:
        first = broken[0]
        raise CheckFailed(
            f"Expected activations below {LARGEST:g} on the calibration data, got {low[first]:g} to "
            f"{high[first]:g} at {points[first]}, the first of {broken.size} such points. Nothing was "
            "written. That is the float model: is the checkpoint damaged, or its activation another "
            "(--activation)?"
        )


def fake_quantize(
    quantizes: Callable[[str], bool], bounds: Callable[..., tuple[float, float]], ranges: Ranges
) -> Observe:
    """An observer that places a fake-quant with the recipe's bounds at each quantized point."""

    def observe(tensor: tf.Tensor, point: str) -> tf.Tensor:
        if not quantizes(point):
            return tensor
        low, high = bounds(point, *ranges[point])
        return tf.quantization.fake_quant_with_min_max_args(tensor, min=low, max=high)

    return observe
