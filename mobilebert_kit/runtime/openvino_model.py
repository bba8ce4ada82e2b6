"""OpenVINO's runtime over a model in its own format (IR): an .xml with the graph, a .bin with the weights."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.contract import ALIASES
from mobilebert_kit.errors import InputError
from mobilebert_kit.runtime.binding import bind
from mobilebert_kit.runtime.packages import import_runtime

SUFFIX = ".xml"
_NAMES = frozenset(alias for aliases in ALIASES.values() for alias in aliases)
_DTYPES = {"i32": "int32", "i64": "int64", "f32": "float32"}
# On the way from ids to the table that they are looked up in.
_SAME_IDS = frozenset({"Convert", "Reshape", "Squeeze", "Unsqueeze"})


class OpenVinoModel:
    """A model that answers questions, on OpenVINO's CPU plugin in float32, bound by name.

    Attributes as those of `runtime.interpreter.Interpreter`.
    """

    kind = "OpenVINO"

    def __init__(self, model_path: str | Path, *, threads: int = 1) -> None:
        """
        Args:
            threads: for one window.
        Raises:
            InputError: OpenVINO is not installed, no whole IR, or a model whose tensors are not known by name
                or not of the dtypes and shapes of question answering.
        """
        if threads < 1:
            raise InputError(f"Expected 1 thread at least, got {threads}.")
        openvino = import_runtime("openvino")
        self.path = _check_files(model_path)
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # some CPUs would compute in bfloat16
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # models side by side would all be pinned to the first cores
        }
        try:
            core = openvino.Core()
            model = core.read_model(str(self.path))
            compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise InputError(f"Expected a model that OpenVINO runs, got {self.path}: {error}") from error
        fed = {_name(port): (_dtype(port), _shape(port)) for port in compiled.inputs}
        self._given = {_name(port): port for port in compiled.outputs}
        given = {name: (_dtype(port), _shape(port)) for name, port in self._given.items()}
        self._bound = bind(fed, given, self.path)
        self.inputs, self.sequence_length = self._bound.inputs, self._bound.length
        self._vocabulary = _table_rows(model, self.inputs["input_ids"])
        self._request = compiled.create_infer_request()

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """{"end_logits", "start_logits"} of one window, float32 [1, S] each.

        Args:
            inputs: by the kit's names, those of `self.inputs` and no other; integers [S] or [1, S].
        Raises:
            InputError: an id outside the model's vocabulary (which OpenVINO would take for a row of zeros).
        """
        arrays = self._bound.feed(inputs)
        ids = np.asarray(inputs["input_ids"])
        if self._vocabulary is not None and not 0 <= ids.min() <= ids.max() < self._vocabulary:
            raise InputError(
                f"Expected ids from 0 to {self._vocabulary - 1}, the vocabulary of {self.path}, got some "
                f"from {ids.min()} to {ids.max()}. Does the vocabulary fit the model?"
            )
        try:
            results = self._request.infer(arrays)
        except RuntimeError as error:
            raise InputError(f"Expected a window that {self.path} can run, got {error}") from error
        return {own: results[self._given[theirs]] for own, theirs in self._bound.outputs.items()}


def _check_files(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != SUFFIX or not path.is_file():
        got = "another kind of file" if path.is_file() else "no such file"
        raise InputError(f"Expected an OpenVINO model ({SUFFIX}), got {got}: {path}. Check the path.")
    if not path.with_suffix(".bin").is_file():
        raise InputError(f"Expected the weights of {path} beside it, got no {path.with_suffix('.bin').name}.")
    return path


def _name(port: Any) -> str:
    """A tensor may have several names, and in old files has none but its node's."""
    names: Collection[str] = port.get_names() or {port.node.friendly_name}
    return min(_NAMES.intersection(names) or names)


def _dtype(port: Any) -> str:
    """numpy's name of one that ids or logits may be of, OpenVINO's of any other."""
    name = port.element_type.to_string()
    return _DTYPES.get(name, name)


def _shape(port: Any) -> list[int]:
    """With -1 where a size is free; [] where their number is."""
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return []
    return [-1 if size.is_dynamic else size.get_length() for size in shape]


def _table_rows(model: Any, ids: str) -> int | None:
    """How many rows the table has that the input `ids` looks up; None where it goes another way."""
    readers = [reader for port in model.inputs if _name(port) == ids for reader in port.get_target_inputs()]
    while readers:
        reader = readers.pop()
        node = reader.get_node()
        if node.get_type_name() == "Gather" and reader.get_index() == 1:
            table, axis = node.input(0).get_partial_shape(), node.input_value(2).get_node()
            if axis.get_type_name() != "Constant" or table.is_dynamic:
                return None
            return table[int(axis.get_data().item())].get_length()
        if node.get_type_name() in _SAME_IDS:
            readers += node.output(0).get_target_inputs()
    return None
