"""An ONNX model of any batch and length, which `evaluate` would refuse: others' exports leave them free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobilebert_kit.comparison.batches import Logits, run_batches, window_shape
from mobilebert_kit.errors import InputError
from mobilebert_kit.runtime.binding import INPUT_DTYPES, bind_inputs, bind_outputs
from mobilebert_kit.runtime.onnx_model import numpy_dtype, open_session
from mobilebert_kit.runtime.scoring import default_workers
from mobilebert_kit.squad.windows import Window


class OnnxBatches:
    """Runs in onnxruntime, on the CPU, several windows at a time where the model takes them."""

    kind = "ONNX"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._session = open_session(path, threads=default_workers())
        nodes = {node.name: node for node in self._session.get_inputs()}
        self.inputs = bind_inputs(nodes, path)
        outputs = bind_outputs([node.name for node in self._session.get_outputs()], path)
        self._outputs = [outputs["start_logits"], outputs["end_logits"]]
        self._dtypes = {name: numpy_dtype(node) for name, node in nodes.items()}
        strange = next((name for name, dtype in self._dtypes.items() if dtype not in INPUT_DTYPES), None)
        if strange:
            raise InputError(
                f"Expected inputs of {', '.join(INPUT_DTYPES)}, got {strange} of {self._dtypes[strange]} in "
                f"{path}."
            )
        shapes = {name: node.shape for name, node in nodes.items()}
        self._batch, self.sequence_length = window_shape(shapes, path)

    def logits(self, windows: Sequence[Window]) -> Logits:
        return run_batches(windows, self.inputs, self._run, size=self._batch, path=self.path)

    def _run(self, feed: dict[str, np.ndarray]) -> Logits:
        cast = {name: values.astype(self._dtypes[name]) for name, values in feed.items()}
        start, end = self._session.run(self._outputs, cast)
        return start, end
