"""From a serving module to the bytes of a .tflite file: the only user of TFLiteConverter."""

from __future__ import annotations

import gc
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.lite.python import schema_py_generated
from tensorflow.lite.python.lite import TFLiteSavedModelConverterV2

from mobilebert_kit.contract import SIGNATURE_KEY
from mobilebert_kit.models.saved_model import save_graph
from mobilebert_kit.quantize.buckets import merge_buckets
from mobilebert_kit.quantize.half_tables import gather_half_tables
from mobilebert_kit.quantize.recipes import Recipe


def write_tflite(module: tf.Module, recipe: Recipe, file: Path) -> list[Path]:
    """Writes `module.serve` as a .tflite; gives the one file that it is."""
    file.write_bytes(convert(module, recipe))
    return [file]


def write_buckets(modules: Mapping[int, tf.Module], recipe: Recipe, file: Path) -> list[Path]:
    """Writes modules of several sequence lengths as one .tflite with a signature for each (buckets.py)."""
    file.write_bytes(merge_buckets({length: convert(module, recipe) for length, module in modules.items()}))
    return [file]


def convert(module: tf.Module, recipe: Recipe) -> bytes:
    """The .tflite of `module.serve`, which holds the recipe's fake-quants if it quantizes activations.

    Fake-quants at every quantized activation and no representative dataset: the converter then only
    executes the recipe, and two runs give the same bytes.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "saved_model"
        inputs, outputs = save_graph(module.serve, folder)
        gc.collect()  # a graph is full of reference cycles, and holds all weights
        # What TFLiteConverter.from_saved_model makes, after loading the graph, which convert() loads again.
        converter = TFLiteSavedModelConverterV2(str(folder), {tf.saved_model.SERVING}, [SIGNATURE_KEY])
        # Behind the conversion it would read the file into objects and write it anew, once to merge equal
        # constants, of which there are none, and once to note its version, which the manifest has.
        converter._optimize_tflite_model = lambda model, *_, **__: model
        converter.exclude_conversion_metadata = True
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
    _order_tensors(model, inputs, outputs)
    return bytes(model)


def _order_tensors(model: bytearray, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Puts the inputs and outputs of `model` into the order of these names, in place.

    The converter has an order of its own (here the reverse, and the alphabet's), and the MLPerf app goes by
    position.
    """
    root = schema_py_generated.Model.GetRootAs(model)
    signature, graph = root.SignatureDefs(0), root.Subgraphs(0)
    for names, length, entry, positions in (
        (inputs, signature.InputsLength(), signature.Inputs, graph.InputsAsNumpy()),
        (outputs, signature.OutputsLength(), signature.Outputs, graph.OutputsAsNumpy()),
    ):
        maps = [entry(index) for index in range(length)]
        tensor = {one.Name().decode(): one.TensorIndex() for one in maps}
        positions[:] = [tensor[name] for name in names]
