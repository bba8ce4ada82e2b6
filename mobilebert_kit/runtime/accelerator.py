"""A .tflite model on LiteRT's own GPU accelerator, compared with the CPU: the real thing beside the rules.

    inputs = model_inputs(read_tflite("model.tflite"), count=2, seed=0)
    run = run_on_accelerator("model.tflite", inputs)
    run.fully_accelerated, run.refusals, largest_difference(run, "model.tflite", inputs)

The accelerator is ai-edge-litert's for WebGPU, on Vulkan. Where there is no GPU, SwiftShader computes, a
software driver. All of it happens in a child process, for the accelerator may end its process: a BATCH_MATMUL
that takes one tensor twice does that.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilebert_kit.delegates import Node, read_tflite
from mobilebert_kit.errors import InputError
from mobilebert_kit.runtime.accelerator_child import Child, run_child
from mobilebert_kit.runtime.accelerator_inputs import check_inputs, endpoints, model_inputs
from mobilebert_kit.runtime.accelerator_log import AcceleratorLog, Refusal, parse_log
from mobilebert_kit.runtime.vulkan import (
    find_vulkan_driver,
    loaders_beside,
    require_vulkan_drivers,
    vulkan_environment,
)

__all__ = [
    "AcceleratorRun",
    "Refusal",
    "find_vulkan_driver",
    "largest_difference",
    "model_inputs",
    "run_on_accelerator",
]

_INVALID = "Validation error"  # WebGPU's words for a command that it does not carry out


@dataclass(frozen=True)
class AcceleratorRun:
    """What the accelerator did with a model.

    device: the driver's own name for it, with "software" where the CPU computes.
    fully_accelerated: it took every op, and nothing failed.
    refusals: the kinds of op that it did not take, and why.
    failure: "" or why it did not finish.
    outputs: for each of the inputs, the outputs by name; () when it did not finish.
    messages: its warnings and errors, each once.
    precision: what it computes in; see `run_on_accelerator`.
    on_gpu, on_cpu: how many operations would run where, as it counts them when it refuses some; else None.
    seconds: wall time: starting the process, compiling, and all runs.
    """

    device: str
    fully_accelerated: bool
    refusals: tuple[Refusal, ...] = ()
    failure: str = ""
    outputs: tuple[Mapping[str, np.ndarray], ...] = ()
    messages: tuple[str, ...] = ()
    precision: str = ""
    on_gpu: int | None = None
    on_cpu: int | None = None
    seconds: float = 0.0


def run_on_accelerator(
    path: str | Path,
    inputs: Sequence[Mapping[str, np.ndarray]] = (),
    *,
    timeout: float = 600.0,
    enforce_f32: bool = True,
) -> AcceleratorRun:
    """Compiles a model for LiteRT's GPU accelerator alone, without the CPU as its fallback, and runs it.

    A compiled model may compute wrong numbers all the same: `largest_difference` tells. (Seen: an output that
    is one of the inputs.)

    Args:
        inputs: for each run a mapping of names to arrays; none to compile only. The names are those of the
            first signature of the main graph, or the tensors' own where it has none.
        timeout: seconds, for everything together.
        enforce_f32: compute in float32. Without it a GPU that has float16 uses that, as a phone's does.
            SwiftShader has none: measured, it gives the same bits either way, and holds 1e5 and 1 + 2**-12.
    Raises:
        InputError: no model, other inputs than the model's, no GPU accelerator, or no Vulkan device.
    """
    model = read_tflite(path)
    ends = endpoints(model)
    check_inputs(ends, inputs)
    _require_accelerator()
    drivers = require_vulkan_drivers()
    if not ends.graph.nodes:  # LiteRT calls it fully accelerated, and returns memory that nobody wrote
        return AcceleratorRun("", False, failure="nothing to accelerate: the model has no operations")
    child = run_child(
        model.path,
        ends,
        inputs,
        timeout=timeout,
        request={"gpu": True, "enforce_f32": enforce_f32, "loaders": list(map(str, loaders_beside(drivers)))},
        environment=vulkan_environment(drivers),
    )
    log = parse_log(child.log)
    if child.stage == "driver" or any("No adapters found" in error for error in log.errors):
        raise InputError(
            f"Expected a device from the Vulkan driver {', '.join(map(str, drivers))}, got none: "
            f"{_said(log) or child.error}. Install chromium (Debian), which carries SwiftShader and a Vulkan "
            "loader, or libvulkan1; or name another driver's .json file in VK_DRIVER_FILES."
        )
    failure = _failure(child, log)
    return AcceleratorRun(
        device=f"{log.device}{', software' if log.software else ''}",
        fully_accelerated=child.accelerated and not failure and not log.refusals,
        refusals=_counted(log, ends.graph.nodes),
        failure=failure,
        outputs=() if failure else child.outputs,
        messages=log.messages,
        precision=_precision(log, enforce_f32),
        on_gpu=log.on_gpu,
        on_cpu=log.on_cpu,
        seconds=child.seconds,
    )


def largest_difference(
    run: AcceleratorRun,
    path: str | Path,
    inputs: Sequence[Mapping[str, np.ndarray]],
    *,
    timeout: float = 600.0,
) -> float:
    """The largest absolute difference between a run's outputs and those of ai_edge_litert on the CPU.

    NaN at the same place, and the same infinity, differ by 0; a number and one of these by infinity.

    Args:
        inputs: those of the run, in its order.
        timeout: seconds, for the CPU, which runs in a child process too.
    Raises:
        InputError: no model, other inputs than the model's, or one that the CPU cannot run.
        ValueError: the run has no outputs, or not as many as there are inputs.
    """
    if not run.outputs or len(run.outputs) != len(inputs):
        raise ValueError(f"Expected a run with outputs for {len(inputs)} inputs, got {len(run.outputs)}.")
    model = read_tflite(path)
    ends = endpoints(model)
    check_inputs(ends, inputs)
    child = run_child(model.path, ends, inputs, timeout=timeout, request={"gpu": False}, environment={})
    if child.ended or child.error:
        raise InputError(f"Expected a model that the CPU runs, got {child.ended or child.error}: {path}.")
    pairs = zip(run.outputs, child.outputs, strict=True)
    return max(_difference(ours[name], theirs[name]) for ours, theirs in pairs for name in theirs)


def _difference(left: np.ndarray, right: np.ndarray) -> float:
    if left.shape != right.shape:
        return float("inf")
    wide = np.complex128 if np.iscomplexobj(left) else np.float64
    left, right = left.astype(wide), right.astype(wide)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(left - right))
    return float(np.where(np.isnan(difference), np.inf, difference).max(initial=0.0))


def _require_accelerator() -> None:
    found = importlib.util.find_spec("ai_edge_litert")
    folders = (found.submodule_search_locations if found else None) or ()
    if not any(list(Path(folder).glob("libLiteRt*GpuAccelerator.*")) for folder in folders):
        raise InputError(
            "Expected ai_edge_litert with its GPU accelerator (libLiteRtWebGpuAccelerator.so), got "
            f"{'one without' if found else 'no such package'}. Install it: pip install ai-edge-litert==2.3.0."
        )


def _counted(log: AcceleratorLog, nodes: Sequence[Node]) -> tuple[Refusal, ...]:
    """The refusals with their numbers of nodes, at most; see Refusal."""
    if len(log.refusals) != 1 or log.on_cpu is None:
        return log.refusals
    refusal = log.refusals[0]
    present = sum(node.op == refusal.op for node in nodes) or log.on_cpu
    return (dataclasses.replace(refusal, nodes=min(present, log.on_cpu)),)


def _precision(log: AcceleratorLog, enforce_f32: bool) -> str:
    if enforce_f32 or log.device.startswith("SwiftShader"):
        return "float32"
    return "float16 where the device has it"


def _said(log: AcceleratorLog) -> str:
    """The one line of the log that comes nearest to a cause: what follows from it is printed after it."""
    plain = [error for error in log.errors if _INVALID not in error]
    return next(iter((*log.fatal, *plain, *log.errors)), "")


def _failure(child: Child, log: AcceleratorLog) -> str:
    """Why the run did not finish, in one line; "" where it did."""
    said = _said(log)
    if child.ended:
        return f"{child.ended}: {said}" if said else child.ended
    if child.error and log.refusals:
        return f"compiled in part only: {log.on_cpu} of its operations would run on the CPU"
    if child.error:
        return f"failed to {child.stage}: {said or child.error}"
    invalid = next((error for error in log.errors if _INVALID in error), "")
    return f"the device did not carry out a command: {invalid}" if invalid else ""
