"""One interpreter over two runtimes: ai_edge_litert, and tflite_runtime, which it supersedes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.errors import InputError
from mobilebert_kit.native_log import without_notices
from mobilebert_kit.runtime.binding import INPUT_NAMES, Bound, bind, plain_name
from mobilebert_kit.runtime.model_file import check_model_file
from mobilebert_kit.runtime.packages import import_runtime

XNNPACK_NOTICE = r"INFO: Created TensorFlow Lite XNNPACK delegate for CPU\."
# Of the padding that a shorter graph does not compute: no answer begins or ends there, and two add up.
LOWEST = np.finfo(np.float32).min / 2
_announced = False


class Interpreter:
    """A .tflite model that answers questions, bound by the names of its tensors, never by position.

    Of a file with a signature for each of several sequence lengths, the shortest that holds a window's tokens
    runs it. One interpreter runs one window at a time; several threads need one each.

    Attributes:
        inputs: {the kit's name: the model's own} of all that it takes; see ALIASES. One may be missing,
            segment_ids.
        sequence_length: S, of all its tensors; of several lengths the longest.
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
        self._graphs = self._answering_graphs()
        longest = self._graphs[-1].bound
        self.inputs, self.sequence_length = longest.inputs, longest.length

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """{"end_logits", "start_logits"} of one window, float32 [1, S] each; LOWEST where a
        shorter graph has no token.

        Args:
            inputs: by the kit's names, those of `self.inputs` and no other; integers [S] or [1, S].
        Raises:
            InputError: the model cannot take these values (an id outside its vocabulary).
        """
        whole = self._graphs[-1].bound.feed(inputs)
        graph = self._graphs[-1]
        if len(self._graphs) > 1:
            mask = whole[self.inputs["input_mask"]]
            graph = self._graph_for(np.flatnonzero(mask).max(initial=0) + 1)
        length = graph.bound.length
        arrays = graph.bound.feed({own: whole[self.inputs[own]][:, :length] for own in graph.bound.inputs})
        try:
            outputs = self._invoke(graph, arrays)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"Expected a window that {self.path} can run, got {error} with values up to "
                f"{max(array.max() for array in arrays.values())}. Does the vocabulary fit the model?"
            ) from error
        beyond = ((0, 0), (0, self.sequence_length - length))
        return {
            own: np.pad(outputs[theirs], beyond, constant_values=LOWEST)
            for own, theirs in graph.bound.outputs.items()
        }

    def _graph_for(self, tokens: int) -> _Graph:
        """The shortest with more places than `tokens`: in MobileBERT's trigram the last token sees the [PAD]
        behind it, and at the end of a graph nothing."""
        return next((graph for graph in self._graphs if graph.bound.length > tokens), self._graphs[-1])

    def _invoke(self, graph: _Graph, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if graph.runner is not None:
            return graph.runner(**arrays)
        for name, array in arrays.items():
            self._interpreter.set_tensor(graph.fed[name]["index"], array)
        self._interpreter.invoke()
        return {
            name: self._interpreter.get_tensor(graph.given[name]["index"])
            for name in graph.bound.outputs.values()
        }

    def _answering_graphs(self) -> list[_Graph]:
        """Those of the signatures that take a question, one for each length, ascending; or the main graph."""
        signatures = self._interpreter.get_signature_list()
        keys = [key for key, names in signatures.items() if INPUT_NAMES.intersection(names["inputs"])]
        if not keys:
            sides = self._interpreter.get_input_details(), self._interpreter.get_output_details()
            named = ({plain_name(tensor["name"]): tensor for tensor in side} for side in sides)
            return [_graph(*named, None, self.path)]
        graphs = []
        for key in keys:
            runner = self._interpreter.get_signature_runner(key)
            details = runner.get_input_details(), runner.get_output_details()
            # The only signature is the main graph's: setting its tensors spares a resize check per call.
            graphs.append(_graph(*details, None if len(signatures) == 1 else runner, self.path))
        first = {graph.bound.length: graph for graph in reversed(graphs)}
        return [first[length] for length in sorted(first)]


@dataclass(frozen=True)
class _Graph:
    """A graph of one length, and its tensors' details by their names.

    runner: of its signature; None: the main graph, whose tensors are set and read one by one.
    """

    bound: Bound
    fed: dict[str, Any]
    given: dict[str, Any]
    runner: Any


def _graph(fed: dict[str, Any], given: dict[str, Any], runner: Any, path: Path) -> _Graph:
    """InputError unless every tensor is known by name and has a dtype and shape of question answering."""
    declared = (
        {name: (np.dtype(tensor["dtype"]).name, _declared_shape(tensor)) for name, tensor in side.items()}
        for side in (fed, given)
    )
    return _Graph(bind(*declared, path), fed, given, runner)


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
