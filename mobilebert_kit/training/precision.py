"""In which number format activations are computed: what --mixed_precision means on this machine."""

from __future__ import annotations

import tensorflow as tf

# NVIDIA compute capability from which a format is faster than float32: Ampere's and Volta's tensor cores.
_CAPABILITY = {"bfloat16": (8, 0), "float16": (7, 0)}


def activation_dtype(precision: str, *, quantized: bool) -> tf.DType:
    """float32, bfloat16 or float16; variables, softmax and logits stay float32.

    "auto" is the fastest that every GPU here has, and float32 on a CPU and for quantized training.
    """
    if precision != "auto":
        return tf.float32 if precision == "none" else tf.as_dtype(precision)
    capabilities = [
        tf.config.experimental.get_device_details(device).get("compute_capability", (0, 0))
        for device in tf.config.list_physical_devices("GPU")
    ]
    if quantized or not capabilities:
        return tf.float32
    found = (name for name, least in _CAPABILITY.items() if min(capabilities) >= least)
    return tf.as_dtype(next(found, "float32"))
