"""The runtimes by name, and the packages that they are."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple

import numpy as np

from mobilebert_kit.errors import InputError


class Package(NamedTuple):
    """A package: its module, its name on PyPI, the extra of the kit that brings it."""

    module: str
    package: str
    extra: str


RUNTIMES = {
    "litert": Package("ai_edge_litert.interpreter", "ai-edge-litert", "runtime"),
    "tflite_runtime": Package("tflite_runtime.interpreter", "tflite-runtime", "tflite_runtime"),
    "openvino": Package("openvino", "openvino", "openvino"),
    "onnx": Package("onnxruntime", "onnxruntime", "onnx"),
}
TF2ONNX = Package("tf2onnx", "tf2onnx", "onnx_export")  # writes what "onnx" runs


def import_runtime(runtime: str) -> Any:
    """The runtime's module.

    Raises:
        InputError: an unknown name, not installed, or one that would take the process down.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"Expected a runtime among {', '.join(RUNTIMES)}, got {runtime!r}.")
    if runtime == "tflite_runtime":
        # Left alone, these two end in `vector::reserve` and `_ARRAY_API not found`, which help nobody.
        if "tensorflow" in sys.modules:
            raise InputError(
                "Expected a process without TensorFlow for tflite_runtime, got one with it: the two "
                "share symbols and fail together. Run mobilebert_kit.evaluate by itself, or use litert."
            )
        if int(np.__version__.split(".")[0]) >= 2:
            raise InputError(
                f"Expected numpy 1 for tflite_runtime, got {np.__version__}. Install numpy<2, or use litert."
            )
    return import_package(RUNTIMES[runtime])


def import_package(package: Package) -> Any:
    """The package's module. Raises InputError where it is not installed."""
    try:
        return importlib.import_module(package.module)
    except ImportError as error:
        raise InputError(
            f"Expected the package {package.package}, got: {error}. Install it: "
            f"pip install 'mobilebert_kit[{package.extra}]'."
        ) from error
