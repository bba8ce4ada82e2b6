"""From a serving module to the bytes of a .tflite file: the only user of TFLiteConverter."""

from __future__ import annotations

import gc
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.lite.python import schema_py_generated

from mobilebert_kit.models.saved_model import save_signature
from mobilebert_kit.quantize.half_tables import gather_half_tables
from mobilebert_kit.quantize.recipes import Recipe


def convert(module: tf.Module, recipe: Recipe) -> bytes:
    """The .tflite of `module.serve`, which holds the recipe's fake-quants if it quantizes activations.

    Fake-quants at every quantized activation and no representative dataset: the converter then only
    executes the recipe, and two runs give the same bytes.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "saved_model"
        _save_graph(module.serve, folder)
        gc.collect()  # a graph is full of reference cycles, and holds all weights
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        gc.collect()  # it has loaded the graph, and will load it again
        if recipe.weights != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if recipe.weights == "float16":
            converter.target_spec.supported_types = [tf.float16]
        with warnings.catch_warnings():
            # It expects statistics of the inputs, for they might be uint8; the contract's are int32.
            warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected", UserWarning)
            model = bytearray(converter.convert())
    if recipe.weights == "float16":
        model = bytearray(gather_half_tables(bytes(model)))
    names = [spec.name for spec in module.serve.input_signature]
    if all(names):
        _order_inputs(model, names)
    return bytes(model)


def _order_inputs(model: bytearray, names: Sequence[str]) -> None:
    """Puts the inputs of `model` into the order of `names`, in place.

    The converter has an order of its own (here the reverse), and the MLPerf app feeds inputs by position.
    """
    root = schema_py_generated.Model.GetRootAs(model)
    signature = root.SignatureDefs(0)
    maps = [signature.Inputs(index) for index in range(signature.InputsLength())]
    tensor = {entry.Name().decode(): entry.TensorIndex() for entry in maps}
    root.Subgraphs(0).InputsAsNumpy()[:] = [tensor[name] for name in names]


def _save_graph(function: tf.types.experimental.PolymorphicFunction, folder: Path) -> None:
    """`function` as the graph of a SavedModel, without variables.

    TensorFlow 1's builder: by way of a concrete function, the converter holds the weights some ten times over
    (full size: 5.5 GB at most, 2.3 GB so) and traces everything twice.
    """
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = {
            spec.name or f"input_{index}": v1.placeholder(spec.dtype, spec.shape, name=spec.name)
            for index, spec in enumerate(function.input_signature)
        }
        outputs = function.python_function(*inputs.values())
        if not isinstance(outputs, dict):
            outputs = {f"output_{index}": output for index, output in enumerate(tf.nest.flatten(outputs))}
        save_signature(session, folder, inputs, outputs)
