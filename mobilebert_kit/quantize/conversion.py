"""From a serving module to the bytes of a .tflite file: the only user of TFLiteConverter."""

from __future__ import annotations

import tensorflow as tf

from mobilebert_kit.quantize.recipes import Recipe


def convert(module: tf.Module, recipe: Recipe) -> bytes:
    """The .tflite of `module.serve`, which holds the recipe's fake-quants if it quantizes activations.

    Fake-quants at every quantized activation and no representative dataset: the converter then only
    executes the recipe, and two runs give the same bytes.
    """
    function = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    if recipe.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if recipe.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()
