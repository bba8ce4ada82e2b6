"""From a serving module to OpenVINO's format (IR): an .xml with the graph, a .bin with the weights.

By way of a SavedModel: OpenVINO's reader of TensorFlow graphs keeps the signature's names. (That of .tflite
files, as of 2026.4, adds the position table to activations in the wrong layout, and refuses the model.)
"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import tensorflow as tf

from mobilebert_kit.models.saved_model import save_graph
from mobilebert_kit.quantize.recipes import Recipe
from mobilebert_kit.runtime.packages import import_runtime


def write_ir(module: tf.Module, recipe: Recipe, file: Path) -> list[Path]:
    """Writes `module.serve` as `file` (.xml) and the .bin beside it, weights in float32; gives both.

    Inputs and outputs are named and ordered as the module's. Two runs give the same bytes. Raises ValueError
    for a recipe that rounds anything.
    """
    if recipe.weights != "float32" or recipe.quantize_activations:
        raise ValueError(f"Expected a float recipe, got {recipe.name}.")
    openvino = import_runtime("openvino")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "saved_model"
        inputs, outputs = save_graph(module.serve, folder)
        gc.collect()  # a graph is full of reference cycles, and holds all weights
        # Not convert_model: it does the same, and reports its use to the vendor.
        read = openvino.Core().read_model(str(folder))
    parameters = [read.input(name).get_node() for name in inputs]
    results = [read.output(name).get_node() for name in outputs]
    model = openvino.Model(results, parameters, file.stem)
    for index, node in enumerate(model.get_ordered_ops()):
        if node not in parameters:
            # Its own numbers go on from model to model, as long as the process lives.
            node.set_friendly_name(f"{node.get_type_name()}_{index}")
    openvino.save_model(model, str(file), compress_to_fp16=False)
    return [file, file.with_suffix(".bin")]
