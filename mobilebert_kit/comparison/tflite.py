"""A .tflite model, by the names of its signature or, without one, of its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mobilebert_kit.comparison.binding import Logits, bind_inputs, bind_outputs, run_batches
from mobilebert_kit.contract import ALIASES, MLPERF, Contract, TensorSpec
from mobilebert_kit.delegates.tflite_file import Model, Tensor, read_tflite
from mobilebert_kit.runtime.interpreter import Interpreter
from mobilebert_kit.runtime.scoring import default_workers, run_windows
from mobilebert_kit.squad.windows import Window

_DTYPES = ("int32", "int64", "float32")  # that ids may be of
_INPUTS = {alias for name in MLPERF.input_names for alias in ALIASES[name]}


class TfliteModel:
    """Runs in LiteRT, as `evaluate` runs it."""

    kind = "TFLite"

    def __init__(self, path: Path) -> None:
        self.path = path
        inputs, outputs = _named_tensors(read_tflite(path))
        self.inputs, self._outputs = bind_inputs(inputs, path), bind_outputs(outputs, path)
        dtypes = {  # the interpreter refuses one that is not what the contract says
            name: tensor.dtype if tensor.dtype in _DTYPES else _DTYPES[0] for name, tensor in inputs.items()
        }
        self._contract = Contract(
            name="that its names tell",
            inputs=tuple(TensorSpec(theirs, dtypes[theirs]) for theirs in self.inputs.values()),
            outputs=tuple(TensorSpec(name, "float32") for name in outputs),
        )
        self._interpreter = Interpreter(path, threads=default_workers(), contract=self._contract)
        self.sequence_length = self._interpreter.sequence_length

    def logits(self, windows: Sequence[Window]) -> Logits:
        ours = (set(MLPERF.inputs), set(MLPERF.outputs))
        if (set(self._contract.inputs), set(self._contract.outputs)) == ours:
            return run_windows(self.path, windows)  # faster: several interpreters side by side
        return run_batches(windows, self.inputs, self._run, size=1, path=self.path)

    def _run(self, feed: dict[str, np.ndarray]) -> Logits:
        outputs = self._interpreter.run(**feed)
        return outputs[self._outputs["start_logits"]], outputs[self._outputs["end_logits"]]


def _named_tensors(model: Model) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Inputs and outputs by name: of the first signature that takes a question, else of the main graph."""
    for signature in model.signatures:
        if _INPUTS & set(signature.inputs):
            tensors = model.subgraphs[signature.subgraph].tensors
            return tuple(
                {name: tensors[index] for name, index in names.items()}
                for names in (signature.inputs, signature.outputs)
            )
    main = model.main
    return tuple(
        {_plain_name(main.tensors[index].name): main.tensors[index] for index in indices}
        for indices in (main.inputs, main.outputs)
    )


def _plain_name(tensor_name: str) -> str:
    """As the interpreter calls it: "serving_default_input_ids:0" -> "input_ids"."""
    return tensor_name.removeprefix("serving_default_").split(":")[0]
