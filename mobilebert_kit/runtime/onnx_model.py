"""ONNX Runtime over an .onnx file, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.errors import InputError
from mobilebert_kit.runtime.binding import bind
from mobilebert_kit.runtime.packages import import_runtime

SUFFIX = ".onnx"
_DTYPES = {"tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(float)": "float32"}
_FATAL_ONLY = 4  # of its severities; errors are raised, and told by who catches them


class OnnxModel:
    """A model that answers questions, bound by name.

    Attributes as those of `runtime.interpreter.Interpreter`.
    """

    kind = "ONNX"

    def __init__(self, model_path: str | Path, *, threads: int = 1) -> None:
        """
        Args:
            threads: for one window.
        Raises:
            InputError: onnxruntime is not installed, not a model that it can load, or one whose tensors are
                not known by name or not of the dtypes and shapes of question answering.
        """
        self.path = Path(model_path)
        self._session = open_session(self.path, threads=threads)
        fed, given = (
            {node.name: (numpy_dtype(node), _shape(node)) for node in nodes}
            for nodes in (self._session.get_inputs(), self._session.get_outputs())
        )
        self._bound = bind(fed, given, self.path)
        self.inputs, self.sequence_length = self._bound.inputs, self._bound.length

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """{"end_logits", "start_logits"} of one window, float32 [1, S] each.

        Args:
            inputs: by the kit's names, those of `self.inputs` and no other; integers [S] or [1, S].
        Raises:
            InputError: an id outside the model's vocabulary.
        """
        arrays = self._bound.feed(inputs)
        ids = arrays[self.inputs["input_ids"]]
        if ids.min() < 0:  # Gather would count from the table's end
            raise InputError(
                f"Expected ids of 0 or more, got {ids.min()}. Does the vocabulary fit the model?"
            )
        try:
            logits = self._session.run(list(self._bound.outputs.values()), arrays)
        except Exception as error:  # onnxruntime's are of classes of its own, which share no other
            raise InputError(
                f"Expected a window that {self.path} can run, got {_first_line(error)} with ids up to "
                f"{ids.max()}. Does the vocabulary fit the model?"
            ) from error
        return dict(zip(self._bound.outputs, logits, strict=True))


def open_session(path: Path, *, threads: int = 1) -> Any:
    """An onnxruntime.InferenceSession of `path`.

    On x86 without VNNI its default int8 kernels add two products in 16 bits, and saturate; here it takes
    others, that do not. Raises InputError where onnxruntime is not installed or cannot load the file.
    """
    if threads < 1:
        raise InputError(f"Expected 1 thread at least, got {threads}.")
    onnxruntime = import_runtime("onnx")
    if not path.is_file():
        raise InputError(f"Expected an ONNX model ({SUFFIX}), got no such file: {path}. Check the path.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as in OnnxModel.run
        raise InputError(
            f"Expected a model that onnxruntime can load, got {path}: {_first_line(error)}"
        ) from error


def numpy_dtype(node: Any) -> str:
    """numpy's name of one that ids or logits may be of, onnxruntime's of any other."""
    return _DTYPES.get(node.type, node.type)


def _shape(node: Any) -> list[int]:
    """With -1 where a size is free."""
    return [size if isinstance(size, int) else -1 for size in node.shape]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
