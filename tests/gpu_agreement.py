"""The GPU checker's verdict of a model beside the accelerator's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from mobilebert_kit.delegates import Report, check_gpu, read_tflite
from mobilebert_kit.runtime.accelerator import AcceleratorRun, model_inputs, run_on_accelerator

# Of the largest number. float32 keeps 6e-8 of each; the longest sums here have 128 terms, and WebGPU allows
# exp 3 units and twice its argument in the last place.
TOLERANCE = 1e-5
WORKERS = 2


@dataclass(frozen=True)
class Agreement:
    checker: str  # "accepted", "refused" or "unknown"
    accelerator: str  # "accepted", or "refused": by its own words, by ending itself, or by wrong numbers
    because: str


def compare(paths: dict[str, Path]) -> dict[str, Agreement]:
    """Both verdicts of each model, by name. Each runs in a process of its own, two at a time."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip(paths, pool.map(_compare, paths.values()), strict=True))


def _compare(path: Path) -> Agreement:
    model = read_tflite(path)
    checker = _said(check_gpu(model))
    inputs = model_inputs(model, 1, seed=0)
    run = run_on_accelerator(path, inputs)
    if not run.fully_accelerated:
        return Agreement(checker, "refused", "; ".join(map(str, run.refusals)) or run.failure)
    wrong = _wrong_numbers(run, path, inputs[0])
    return Agreement(checker, "refused" if wrong else "accepted", wrong)


def _said(report: Report) -> str:
    if report.whole:
        return "accepted"
    return "unknown" if any(node.accepted is None for node in report.nodes) else "refused"


def _wrong_numbers(run: AcceleratorRun, path: Path, inputs: dict[str, np.ndarray]) -> str:
    """Where an output differs from TFLite's own kernels', without XNNPACK; "" if none does."""
    for name, (expected, quantized) in _on_cpu(path, inputs).items():
        largest = max((1.0, *np.abs(expected[np.isfinite(expected)])))
        got = run.outputs[0][name].astype(np.float64)
        if not np.allclose(
            got, expected, rtol=0, atol=1 if quantized else TOLERANCE * largest, equal_nan=True
        ):
            return f"{name}: {np.nanmax(np.abs(got - expected)):g} of {largest:g}"
    return ""


def _on_cpu(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, bool]]:
    """The outputs by name, as float64, and whether they are quantized."""
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    if interpreter.get_signature_list():
        runner = interpreter.get_signature_runner()
        details, values = runner.get_output_details(), runner(**inputs)
    else:
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], inputs[detail["name"]])
        interpreter.invoke()
        details = {detail["name"]: detail for detail in interpreter.get_output_details()}
        values = {name: interpreter.get_tensor(detail["index"]) for name, detail in details.items()}
    return {
        name: (values[name].astype(np.float64), detail["quantization_parameters"]["scales"].size > 0)
        for name, detail in details.items()
    }
