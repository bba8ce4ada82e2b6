"""One interpreter over two runtimes: ai_edge_litert, and tflite_runtime, which it supersedes."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.contract import MLPERF, Contract, TensorSpec
from mobilebert_kit.errors import InputError
from mobilebert_kit.native_log import without_notices
from mobilebert_kit.runtime.model_file import check_model_file

XNNPACK_NOTICE = r"INFO: Created TensorFlow Lite XNNPACK delegate for CPU\."
_announced = False

RUNTIMES = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite_runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}


class Interpreter:
    """A .tflite model that answers questions, bound to a contract by name, never by position.

    One interpreter runs one window at a time; several threads need one each.
    """

    def __init__(
        self,
        model_path: str | Path,
        *,
        threads: int = 1,
        runtime: str = "litert",
        contract: Contract = MLPERF,
    ) -> None:
        """
        Args:
            threads: of the runtime, for one window.
            runtime: "litert" (ai_edge_litert) or "tflite_runtime".
            contract: the names, dtypes and shapes that the model must have.
        Raises:
            InputError: no such runtime, not a .tflite file, or a model of another contract.
        """
        if threads < 1:
            raise InputError(f"Expected 1 thread at least, got {threads}.")
        module = import_runtime(runtime)
        self.path = check_model_file(model_path)
        self.contract = contract
        try:
            with _quiet_first_time():
                self._interpreter = module.Interpreter(model_path=str(self.path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"Expected a .tflite model that {runtime} runs, got {self.path}: {error}"
            ) from error
        self._inputs, self._outputs, self._signature = self._bind()
        self.sequence_length = self._check()

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs of one window by name, float32 [1, S]; the inputs by name, int32 [S] or [1, S].

        Raises:
            InputError: the model cannot take these values (an id outside its vocabulary).
        """
        if set(inputs) != set(self.contract.input_names):
            raise ValueError(f"Expected {', '.join(self.contract.input_names)}, got {', '.join(inputs)}.")
        shape = (1, self.sequence_length)
        arrays = {
            spec.name: np.asarray(inputs[spec.name], spec.dtype).reshape(shape)
            for spec in self.contract.inputs
        }
        try:
            if self._signature is not None:
                return self._signature(**arrays)
            for name, array in arrays.items():
                self._interpreter.set_tensor(self._inputs[name]["index"], array)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"Expected a window that {self.path} can run, got {error} with values up to "
                f"{max(array.max() for array in arrays.values())}. Does the vocabulary fit the model?"
            ) from error
        return {name: self._interpreter.get_tensor(tensor["index"]) for name, tensor in self._outputs.items()}

    def _bind(self) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """Input and output tensors by name; a signature's runner, where it is one of several signatures."""
        wanted_in, wanted_out = set(self.contract.input_names), set(self.contract.output_names)
        signatures = self._interpreter.get_signature_list()
        for key, names in signatures.items():
            if set(names["inputs"]) == wanted_in and set(names["outputs"]) == wanted_out:
                runner = self._interpreter.get_signature_runner(key)
                inputs, outputs = runner.get_input_details(), runner.get_output_details()
                # The only signature is the main graph's: setting its tensors spares a resize check per call.
                return inputs, outputs, None if len(signatures) == 1 else runner
        inputs = {_plain_name(tensor["name"]): tensor for tensor in self._interpreter.get_input_details()}
        outputs = {_plain_name(tensor["name"]): tensor for tensor in self._interpreter.get_output_details()}
        if set(inputs) != wanted_in or set(outputs) != wanted_out:
            raise InputError(
                f"Expected a model of the contract {self.contract.name}, inputs "
                f"{', '.join(sorted(wanted_in))}, outputs {', '.join(sorted(wanted_out))}, got in "
                f"{self.path} the tensors "
                f"{', '.join(inputs) or 'none'}; {', '.join(outputs) or 'none'}; and the signatures "
                f"{signatures or 'none'}."
            )
        return inputs, outputs, None

    def _check(self) -> int:
        """The sequence length, once every tensor has the contract's dtype and shape."""
        first = self._inputs[self.contract.inputs[0].name]
        length = int(first["shape"][-1]) if len(first["shape"]) == 2 else 0
        for specs, tensors in ((self.contract.inputs, self._inputs), (self.contract.outputs, self._outputs)):
            for spec in specs:
                self._check_tensor(spec, tensors[spec.name], length)
        return length

    def _check_tensor(self, spec: TensorSpec, tensor: dict[str, Any], length: int) -> None:
        dtype = np.dtype(tensor["dtype"]).name
        shape = tuple(int(size) for size in tensor["shape"])
        declared = tuple(int(size) for size in tensor.get("shape_signature", shape))
        if dtype != spec.dtype or shape != spec.shape(length) or -1 in declared:
            raise InputError(
                f"Expected {spec.name} to be {spec.dtype} [1, S] with one fixed sequence length S for all "
                f"tensors, got {dtype} {list(declared)} in {self.path}."
            )


def load(model_path: str | Path, *, threads: int = 1, runtime: str = "litert") -> Interpreter:
    """`Interpreter(model_path, ...)` of the mlperf contract."""
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


def import_runtime(runtime: str) -> Any:
    """The runtime's module.

    Raises:
        InputError: an unknown name, not installed, or one that would take the process down.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"Expected a runtime among {', '.join(RUNTIMES)}, got {runtime!r}.")
    module_name, package = RUNTIMES[runtime]
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
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(
            f"Expected the runtime {package}, got {error}. Install it: pip install {package}."
        ) from error


def _plain_name(tensor_name: str) -> str:
    """The signature's name in a converter's tensor name: "serving_default_input_ids:0" -> "input_ids"."""
    return tensor_name.removeprefix("serving_default_").split(":")[0]
