"""A SavedModel, by the names of its signature serving_default.

It is a program for TensorFlow, with all that its ops can do: run those that you trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobilebert_kit.comparison.batches import Logits, explained, run_batches, window_shape
from mobilebert_kit.contract import SIGNATURE_KEY
from mobilebert_kit.errors import InputError
from mobilebert_kit.native_log import import_tensorflow
from mobilebert_kit.runtime.binding import bind_inputs, bind_outputs
from mobilebert_kit.squad.windows import Window


class SavedModel:
    """Runs in TensorFlow, on the CPU."""

    kind = "SavedModel"

    def __init__(self, path: Path) -> None:
        import_tensorflow()
        import tensorflow as tf

        self.path, self._tf = path, tf
        with explained(f"a SavedModel that TensorFlow can load in {path}"):
            self._loaded = tf.saved_model.load(str(path))  # kept: its variables live as long as it does
            signatures = dict(self._loaded.signatures)
        if SIGNATURE_KEY not in signatures:
            raise InputError(
                f"Expected the signature {SIGNATURE_KEY}, got {', '.join(signatures) or 'none'} in {path}. "
                "Save the model with it."
            )
        self._signature = signatures[SIGNATURE_KEY]
        self._specs = self._signature.structured_input_signature[1]
        self.inputs = bind_inputs(self._specs, path)
        self._outputs = bind_outputs(self._signature.structured_outputs, path)
        # A shape of unknown rank counts as no shape, and is refused.
        shapes = {name: spec.shape.as_list() if spec.shape.rank else [] for name, spec in self._specs.items()}
        self._batch, self.sequence_length = window_shape(shapes, path)

    def logits(self, windows: Sequence[Window]) -> Logits:
        return run_batches(windows, self.inputs, self._run, size=self._batch, path=self.path)

    def _run(self, feed: dict[str, np.ndarray]) -> Logits:
        cast = {name: self._tf.cast(values, self._specs[name].dtype) for name, values in feed.items()}
        outputs = self._signature(**cast)
        return outputs[self._outputs["start_logits"]].numpy(), outputs[self._outputs["end_logits"]].numpy()
