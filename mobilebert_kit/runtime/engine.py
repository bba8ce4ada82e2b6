"""The runtime that runs a file: by name, or by what the file's suffix says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from mobilebert_kit.runtime import onnx_model, openvino_model
from mobilebert_kit.runtime.interpreter import Interpreter


class Engine(Protocol):
    """A model that runs one window at a time; it is loaded when it is made."""

    kind: str  # for people
    path: Path
    inputs: dict[str, str]  # {the kit's name: the model's own} of all that it takes
    sequence_length: int

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """By the kit's names: integers [S] or [1, S] -> {"end_logits", "start_logits"}, float32 [1, S]."""
        ...


# Of any other suffix, the file itself says whether it is a .tflite.
_BY_SUFFIX = {openvino_model.SUFFIX: "openvino", onnx_model.SUFFIX: "onnx"}
_OTHERS: dict[str, Callable[..., Engine]] = {  # that run no .tflite
    "openvino": openvino_model.OpenVinoModel,
    "onnx": onnx_model.OnnxModel,
}


def open_engine(path: str | Path, *, threads: int = 1, runtime: str | None = None) -> Engine:
    """The model at `path`, loaded.

    Args:
        threads: of the runtime, for one window.
        runtime: of packages.RUNTIMES; None: openvino for an .xml, onnx for an .onnx, else litert.
    Raises:
        InputError: no such runtime, or a model that it cannot use.
    """
    name = runtime or _BY_SUFFIX.get(Path(path).suffix, "litert")
    return _OTHERS.get(name, partial(Interpreter, runtime=name))(path, threads=threads)
