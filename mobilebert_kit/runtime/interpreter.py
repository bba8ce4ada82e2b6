"""One interpreter over two runtimes: ai_edge_litert, and tflite_runtime, which it supersedes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.errors import InputError
from mobilebert_kit.native_log import without_notices
from mobilebert_kit.runtime.binding import (
    INPUT_DTYPES,
    INPUT_NAMES,
    OUTPUT_DTYPES,
    bind_inputs,
    bind_outputs,
    check_tensor,
    plain_name,
)
from mobilebert_kit.runtime.model_file import check_model_file
from mobilebert_kit.runtime.packages import import_runtime

XNNPACK_NOTICE = r"INFO: Created TensorFlow Lite XNNPACK delegate for CPU\."
_announced = False


class Interpreter:
    """A .tflite model that answers questions, bound by the names of its tensors, never by position.

    One interpreter runs one window at a time; several threads need one each.

    Attributes:
        inputs: {the kit's name: the model's own} of all that it takes; see ALIASES. One may be missing,
            segment_ids.
        sequence_length: S, of all its tensors.
    """

    kind = "TFLite"

    def __init__(self, model_path: str | Path, *, threads: int = 1, runtime: str = "litert") -> None:
        """
        Args:
            threads: of the runtime, for one window.
            runtime: "litert" (ai_edge_litert) or "tflite_runtime".
        Raises:
            InputError: no such runtime, not a .tflite file, or a model whose tensors are not known by name or
                not of the dtypes and shapes of question answering.
        """
        if threads < 1:
            raise InputError(f"Expected 1 thread at least, got {threads}.")
        module = import_runtime(runtime)
        self.path = check_model_file(model_path)
        try:
            with _quiet_first_time():
                self._interpreter = module.Interpreter(model_path=str(self.path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"Expected a .tflite model that {runtime} runs, got {self.path}: {error}"
            ) from error
        self._fed, self._given, self._signature = self._named_tensors()
        self.inputs = bind_inputs(self._fed, self.path)
        self._outputs = bind_outputs(self._given, self.path)
        self.sequence_length = self._check()

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """{"end_logits", "start_logits"} of one window, float32 [1, S] each.

        Args:
            inputs: by the kit's names, those of `self.inputs` and no other; integers [S] or [1, S].
        Raises:
            InputError: the model cannot take these values (an id outside its vocabulary).
        """
        if set(inputs) != set(self.inputs):
            raise ValueError(f"Expected {', '.join(self.inputs)}, got {', '.join(inputs)}.")
        shape = (1, self.sequence_length)
        arrays = {
            theirs: np.asarray(inputs[own], self._fed[theirs]["dtype"]).reshape(shape)
            for own, theirs in self.inputs.items()
        }
        try:
            if self._signature is not None:
                outputs = self._signature(**arrays)
                return {own: outputs[theirs] for own, theirs in self._outputs.items()}
            for name, array in arrays.items():
                self._interpreter.set_tensor(self._fed[name]["index"], array)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"Expected a window that {self.path} can run, got {error} with values up to "
                f"{max(array.max() for array in arrays.values())}. Does the vocabulary fit the model?"
            ) from error
        return {
            own: self._interpreter.get_tensor(self._given[theirs]["index"])
            for own, theirs in self._outputs.items()
        }

    def _named_tensors(self) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """Input and output tensors by name: of the first signature that takes a question, else of the main
        graph; and the signature's runner, where it is one of several signatures."""
        signatures = self._interpreter.get_signature_list()
        for key, names in signatures.items():
            if INPUT_NAMES.intersection(names["inputs"]):
                runner = self._interpreter.get_signature_runner(key)
                inputs, outputs = runner.get_input_details(), runner.get_output_details()
                # The only signature is the main graph's: setting its tensors spares a resize check per call.
                return inputs, outputs, None if len(signatures) == 1 else runner
        inputs = {plain_name(tensor["name"]): tensor for tensor in self._interpreter.get_input_details()}
        outputs = {plain_name(tensor["name"]): tensor for tensor in self._interpreter.get_output_details()}
        return inputs, outputs, None

    def _check(self) -> int:
        """The sequence length, once every bound tensor has a dtype and shape of question answering."""
        first = self._fed[self.inputs["input_ids"]]
        length = int(first["shape"][-1]) if len(first["shape"]) == 2 else 0
        for names, tensors, dtypes in (
            (self.inputs.values(), self._fed, INPUT_DTYPES),
            (self._outputs.values(), self._given, OUTPUT_DTYPES),
        ):
            for name in names:
                dtype, sizes = np.dtype(tensors[name]["dtype"]).name, _declared_shape(tensors[name])
                check_tensor(name, dtype, sizes, length, dtypes, self.path)
        return length


def _declared_shape(tensor: dict[str, Any]) -> list[int]:
    """As the file says: -1 where a size is free, for which the runtime has put 1."""
    return [int(size) for size in tensor.get("shape_signature", tensor["shape"])]


def load(model_path: str | Path, *, threads: int = 1, runtime: str = "litert") -> Interpreter:
    """`Interpreter(model_path, ...)`, as the examples call it."""
    return Interpreter(model_path, threads=threads, runtime=runtime)


@contextlib.contextmanager
def _quiet_first_time() -> Iterator[None]:
    """Holds back what the runtime says once a process, at its first model: that XNNPACK exists.

    Once only, for standard error belongs to the whole process, and workers make their models side by side.
    """
    global _announced
    if _announced:
        yield
        return
    _announced = True
    with without_notices(XNNPACK_NOTICE):
        yield
