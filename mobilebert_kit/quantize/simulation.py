"""A quantized model in TensorFlow, with a switch at everything that int8 rounds.

    float:      x ─────────────── next op          kernel ───────────────── CONV_2D
    simulated:  x + t * (q(x) - x) ─ next op       kernel + t * (rounded - kernel) ─ CONV_2D

A switch t is 0 (float) or 1 (int8), and one tensor has one, wherever it is read. All on, the logits are those
of the .tflite to QUANT(2), two steps of the logits' scale, on a small model. On the demo they are 37.6 dB
from those of the nnapi file, which are 34.9 dB from float's. A constant that is multiplied or added (a
residual's gamma, the positions) is int8 in the file where its result is, so it is rounded with that:

    residual * gamma ─ q     simulated: q(residual * gamma * (rounded gamma / gamma))
    x + positions ─ q        simulated: q(x + positions + (rounded positions - positions))

Not simulated: biases (int32, as fine as the sums), the rounding inside SOFTMAX, and that a layer whose input
or output is kept in float gets a float kernel.

The difference is a constant to the gradient: d logits / d t is what the tensor's rounding does to the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from mobilebert_kit.lowering.cpu import Observe
from mobilebert_kit.quantize.calibration import Inputs, Ranges
from mobilebert_kit.quantize.groups import RoundedTensor
from mobilebert_kit.quantize.recipes import Recipe

Weights = Mapping[str, np.ndarray]
Build = Callable[[Mapping[str, tf.Tensor], Observe], tf.Module]
LARGEST_INTEGER = 127  # of a kernel: symmetric and narrow


class Simulation:
    """`tensors` are what can be switched: the activations, and behind them the kernels.

    Args:
        build: makes the target's model of weights and an observer.
        activations: the tensors that `recipe` rounds.
        exact, rounded: canonical name -> array, before any rounding and as the int8 file has them.
        compiled: by XLA, for `logits`: half a minute at full size, and then twice as fast.
    """

    def __init__(
        self,
        build: Build,
        recipe: Recipe,
        ranges: Ranges,
        activations: Sequence[RoundedTensor],
        exact: Weights,
        rounded: Weights,
        *,
        compiled: bool = True,
    ):
        changed = [name for name, value in exact.items() if rounded[name] is not value]
        self.tensors = (*activations, *map(RoundedTensor, changed))
        self.ranges = ranges
        self._build, self._recipe = build, recipe
        self._switch = {point: i for i, tensor in enumerate(activations) for point in tensor.points}
        self._kernel_switch = {name: i for i, name in enumerate(changed, len(activations))}
        self._exact = {name: tf.constant(value) for name, value in exact.items()}
        self._rounded = {name: tf.constant(rounded[name]) for name in changed}
        self.input_signature = build(self._exact, lambda tensor, point: tensor).serve.input_signature
        length = self.input_signature[0].shape[1]
        self._constants = rounded_constants(filter(recipe.quantizes, ranges), rounded, length)
        signature = [tf.TensorSpec([len(self.tensors)]), *self.input_signature]
        self._run = tf.function(
            self.outputs, input_signature=signature, jit_compile=compiled, autograph=False
        )

    def switches(self, on: Collection[RoundedTensor]) -> tf.Tensor:
        """float32 [tensors]: int8 for those in `on`."""
        return tf.constant([float(tensor in on) for tensor in self.tensors], tf.float32)

    def logits(
        self, on: Collection[RoundedTensor], windows: Iterable[Inputs]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Start and end, float32 [windows, S] each, with `on` in int8 and all else in float."""
        switches = self.switches(on)
        outputs = [self._run(switches, *self.arguments(window)) for window in windows]
        start, end = (
            np.concatenate([output[name].numpy() for output in outputs])
            for name in ("start_logits", "end_logits")
        )
        return start, end

    def arguments(self, window: Inputs) -> list[tf.Tensor]:
        """A window in the order of the model's inputs."""
        return [tf.constant(window[spec.name]) for spec in self.input_signature]

    def outputs(self, switches: tf.Tensor, *inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The model's outputs with the given switches; to be traced."""
        return self.observed(switches, lambda tensor, rounded, point: None, *inputs)

    def observed(
        self,
        switches: tf.Tensor,
        look: Callable[[tf.Tensor, tf.Tensor, str], None],
        *inputs: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """As `outputs`; `look` gets each observed tensor, what goes on from there, and the point's name."""

        def observe(tensor: tf.Tensor, point: str) -> tf.Tensor:
            index = self._switch.get(point)
            after = tensor
            if index is not None:
                after = _between(tensor, self.rounded(tensor, point), switches[index])
            look(tensor, after, point)
            return after

        weights = dict(self._exact)
        for name, index in self._kernel_switch.items():
            weights[name] = _between(self._exact[name], self._rounded[name], switches[index])
        return self._build(weights, observe).serve.python_function(*inputs)

    def rounds(self, point: str) -> bool:
        """Whether the tensor at `point` can be switched."""
        return point in self._switch

    def round(self, tensor: tf.Tensor, point: str) -> tf.Tensor:
        """An observer for a model of the rounded weights: all that can be switched is on."""
        return self.rounded(tensor, point) if self.rounds(point) else tensor

    def rounded(self, tensor: tf.Tensor, point: str) -> tf.Tensor:
        """`tensor` as the recipe's int8 at `point` has it, the constant that it is made with included."""
        low, high = self._recipe.bounds(point, *self.ranges[point])
        if point in self._constants:
            factor, term = self._constants[point]
            tensor = tensor * factor + term
        return tf.quantization.fake_quant_with_min_max_args(tensor, low, high)


def rounded_kernels(tensors: Weights, trained: Collection[str], kept: Callable[[str], bool]) -> Weights:
    """`tensors` with the kernels as the converter rounds them: by output channel, symmetric, narrow range.

    NoNorm's gamma and the query's scale are folded into the kernel before it does, each a factor of a whole
    output: the rounding is the same. Those that are `trained` are on their grid already; those that are
    `kept` stay as they are.
    """
    result = dict(tensors)
    for name, value in tensors.items():
        if name in trained or kept(name):
            continue
        if name.endswith("/kernel"):
            # What equalization moved into its rows is rounded with it; a factor of an output changes nothing.
            size = tensors.get(f"{name.removesuffix('kernel')}input_size", np.ones(len(value), np.float32))
            result[name] = _round_outputs(value * size[:, None], axis=0) / size[:, None]
        elif name.endswith("/output_weights"):  # [outputs, inputs]
            result[name] = _round_outputs(value, axis=1)
    return result


def _round_outputs(kernel: np.ndarray, axis: int) -> np.ndarray:
    """Each output with a scale of its own; `axis` is that of the inputs."""
    step = np.abs(kernel).max(axis=axis, keepdims=True) / np.float32(LARGEST_INTEGER)
    return np.rint(kernel / np.where(step > 0, step, 1)) * step


def rounded_constants(
    points: Iterable[str], tensors: Weights, length: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each point whose tensor is made with a constant: (factor, term), which round that constant.

    With x the tensor made with the exact constant, x * factor + term is the one made with the rounded one.
    `points` are those that are int8; `length` is the number of positions.
    """
    found = {}
    for point in points:
        if point.endswith("/residual"):
            gamma = tensors[point.removesuffix("residual") + "gamma"]
            factor = np.divide(round_constant(gamma), gamma, out=np.ones_like(gamma), where=gamma != 0)
            found[point] = factor, np.zeros_like(gamma)
        elif point.endswith("/position_embeddings"):
            positions = tensors[point][:length]
            found[point] = np.ones_like(positions), round_constant(positions) - positions
    return found


def round_constant(value: np.ndarray) -> np.ndarray:
    """As the converter rounds a constant of ADD or MUL: by one scale, zero inside, both ends used."""
    low, high = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
    if low == high:
        return value
    return tf.quantization.fake_quant_with_min_max_args(value, low, high).numpy()


def float_kernels(recipe: Recipe, points: Collection[str]) -> Callable[[str], bool]:
    """Whether the kernel of that name stays float32: it does where the output of its layer does."""

    def kept(name: str) -> bool:
        dense = name.rpartition("/")[0]
        norm = f"{dense.rpartition('/')[0]}/FakeLayerNorm"
        outputs = [point for point in (dense, f"{norm}/dense", norm) if point in points]
        return bool(outputs) and not recipe.quantizes(outputs[0])

    return kept


def _between(exact: tf.Tensor, rounded: tf.Tensor, switch: tf.Tensor) -> tf.Tensor:
    return exact + switch * tf.stop_gradient(rounded - exact)
