"""What int8 does to each layer of a model, for an export's report: a quick look, where `sqnr` measures all.

Of each place (the embeddings, a layer, the head) two things, on a few windows, padding aside:
    the SQNR of its result in the quantized model, with all that came before it
    the tensor that its own rounding changes most: the float model's, rounded, against itself

TensorFlow runs it op by op: for so few windows, a graph would take longer to build than to run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import tensorflow as tf

from mobilebert_kit.checkpoints.names import LAYER
from mobilebert_kit.quantize.calibration import Inputs
from mobilebert_kit.quantize.groups import layer_of
from mobilebert_kit.quantize.simulation import Build, Simulation, Weights
from mobilebert_kit.quantize.sqnr import ATTENTION_MAPS, MASKS, decibels, kernel_noise

# The last observation point of a layer: MobileBERT's, BERT's.
LAYER_RESULTS = ("output/bottleneck/FakeLayerNorm", "output/LayerNorm")
LOGITS = "cls/squad"
_PLACES = {"mask/": "mask", "bert/embeddings/": "embeddings"}
WINDOWS = 2  # a few more seconds of an export each, and the layers keep their order
Sums = dict[str, np.ndarray]  # at each point, of the squares of signal and noise


@dataclass(frozen=True)
class LayerError:
    """Of one place.

    Attributes:
        place: "embeddings", "mask", "layer 0" and so on, "head".
        result_db: SQNR of its result; None where it has none to compare, or no noise.
        tensor: the one that its own rounding changes most.
        own_db: its SQNR.
    """

    place: str
    result_db: float | None
    tensor: str
    own_db: float


def layer_errors(
    build: Build, simulation: Simulation, exact: Weights, rounded: Weights, windows: Iterable[Inputs]
) -> list[LayerError]:
    """In the order of the forward pass; places where nothing is rounded are left out.

    Args:
        build, exact, rounded: what `simulation` was made of; its switches would cost more than the model.
    """
    own, after = _measure(build, simulation, exact, rounded, windows)
    ratios = {point: decibels(*sums) for point, sums in own.items()}
    kernels = kernel_noise(exact, rounded)
    ratios |= {name: decibels(noise.signal, noise.own) for name, noise in kernels.items()}
    inside: dict[str, list[str]] = {place_of(point): [] for point in own}
    for name, ratio in ratios.items():
        if ratio is not None:
            inside.setdefault(place_of(name), []).append(name)
    results = {place_of(point): decibels(*sums) for point, sums in after.items()}
    worst = {place: min(names, key=ratios.__getitem__) for place, names in inside.items() if names}
    return [LayerError(place, results.get(place), name, ratios[name]) for place, name in worst.items()]


def layer_results(points: Iterable[str], layers: int) -> list[str]:
    """Of the observation `points` of a model of so many layers, the last of each layer, in their order."""
    points = set(points)
    scopes = [LAYER.format(layer=layer) for layer in range(layers)]
    return [scope + result for scope in scopes for result in LAYER_RESULTS if scope + result in points]


def place_of(name: str) -> str:
    """Where a tensor or kernel is, for people."""
    layer = layer_of(name)
    if layer is not None:
        return f"layer {layer}"
    return next((place for start, place in _PLACES.items() if name.startswith(start)), "head")


def _measure(
    build: Build, simulation: Simulation, exact: Weights, rounded: Weights, windows: Iterable[Inputs]
) -> tuple[Sums, Sums]:
    """Of every rounded point its own rounding; of the layers' results and the logits, all that int8 does."""
    own: Sums = defaultdict(lambda: np.zeros(2))
    after: Sums = defaultdict(lambda: np.zeros(2))
    results: dict[str, tf.Tensor] = {}
    tokens = 0

    def look(tensor: tf.Tensor, point: str) -> tf.Tensor:
        if point.endswith(LAYER_RESULTS) or point == LOGITS:
            results[point] = tensor
        if simulation.rounds(point):
            own[point] += _sums(tensor, simulation.rounded(tensor, point), point, tokens)
        return tensor

    def quantize(tensor: tf.Tensor, point: str) -> tf.Tensor:
        if simulation.rounds(point):
            tensor = simulation.rounded(tensor, point)
        if point in results:
            after[point] += _sums(results[point], tensor, point, tokens)
        return tensor

    models = [build(exact, look).serve.python_function, build(rounded, quantize).serve.python_function]
    for window in windows:
        tokens = int(window["input_mask"].sum())
        for model in models:
            model(*simulation.arguments(window))
    return own, after


def _sums(exact: tf.Tensor, other: tf.Tensor, point: str, tokens: int) -> np.ndarray:
    """The sums of squares of `exact` and of the difference, tokens alone."""
    x, y = (_of_tokens(tensor, point, tokens) for tensor in (exact, other))
    return np.array([float(tf.reduce_sum(tf.square(value))) for value in (x, x - y)])


def _of_tokens(tensor: tf.Tensor, point: str, tokens: int) -> tf.Tensor:
    """Without the padding, which is behind the tokens."""
    if any(fnmatchcase(point, pattern) for pattern in MASKS):
        return tensor[..., :tokens]
    if any(fnmatchcase(point, pattern) for pattern in ATTENTION_MAPS):
        return tensor[..., :tokens, :tokens]
    return tensor[..., :tokens, :]
