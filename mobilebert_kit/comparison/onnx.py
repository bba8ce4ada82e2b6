"""An ONNX model, by the names of its graph's inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobilebert_kit.comparison.batches import Logits, explained, run_batches, window_shape
from mobilebert_kit.errors import InputError
from mobilebert_kit.runtime.binding import bind_inputs, bind_outputs
from mobilebert_kit.squad.windows import Window

_DTYPES = {"tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(float)": "float32"}
_ERRORS_ONLY = 3  # of onnxruntime's severities


class OnnxModel:
    """Runs in onnxruntime, on the CPU."""

    kind = "ONNX"

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(
                f"Expected onnxruntime to be installed, to run {path}, got: {error}. Install: "
                "pip install 'mobilebert_kit[onnx]'."
            ) from error
        self.path = path
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        with explained(f"a model that onnxruntime can load in {path}"):
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        nodes = {node.name: node for node in self._session.get_inputs()}
        self.inputs = bind_inputs(nodes, path)
        outputs = bind_outputs([node.name for node in self._session.get_outputs()], path)
        self._outputs = [outputs["start_logits"], outputs["end_logits"]]
        strange = next((node for node in nodes.values() if node.type not in _DTYPES), None)
        if strange:
            raise InputError(
                f"Expected inputs of {', '.join(_DTYPES)}, got {strange.name} of {strange.type} in {path}."
            )
        self._dtypes = {name: _DTYPES[node.type] for name, node in nodes.items()}
        shapes = {name: node.shape for name, node in nodes.items()}
        self._batch, self.sequence_length = window_shape(shapes, path)

    def logits(self, windows: Sequence[Window]) -> Logits:
        return run_batches(windows, self.inputs, self._run, size=self._batch, path=self.path)

    def _run(self, feed: dict[str, np.ndarray]) -> Logits:
        cast = {name: values.astype(self._dtypes[name]) for name, values in feed.items()}
        start, end = self._session.run(self._outputs, cast)
        return start, end
