"""What the child process of accelerator.py runs: one model, on LiteRT's GPU accelerator or on the CPU.

    python -m mobilebert_kit.runtime.accelerator_process FOLDER

The folder holds request.json and inputs_0.npz, inputs_1.npz, ...; the answer is answer.json and
outputs_0.npz, outputs_1.npz, ... Arrays go by their place in the lists of names (a0, a1, ...), for a name may
be no file name. Native code may end this process at any line: no answer.json then. No other module imports
this one.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text())
    _die_with_the_parent(request["parent"])
    answer: dict[str, Any] = {"stage": "driver", "accelerated": False, "error": ""}
    try:
        (_run_gpu if request["gpu"] else _run_cpu)(folder, request, answer)
    except Exception as error:  # whatever native code has to say, in whatever class: it goes to the parent
        # LiteRT leads with its source lines; the cause comes last.
        cause = str(error).rpartition("└")[2]
        answer["error"] = f"{type(error).__name__}: {' '.join(cause.split())}"
    written = folder / "answer.json.part"
    written.write_text(json.dumps(answer))
    written.rename(folder / "answer.json")
    sys.stderr.flush()
    os._exit(0)  # not through the drivers' own clean-up, which may crash when all is done


def _die_with_the_parent(parent: int) -> None:
    """A parent that is killed cannot kill us; Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _run_gpu(folder: Path, request: dict[str, Any], answer: dict[str, Any]) -> None:
    _load_vulkan(request["loaders"])
    answer["stage"] = "compile"
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.options import GpuOptions, HardwareAccelerator, Options

    options = Options(HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=request["enforce_f32"]))
    model = CompiledModel.from_file(request["model"], options=options)
    answer["accelerated"] = model.is_fully_accelerated()
    answer["stage"] = "run"
    key = request["signature"] or next(iter(model.get_signature_list()))
    details = model.get_output_tensor_details(key)
    inputs = {name: model.create_input_buffer_by_name(key, name) for name in request["inputs"]}
    outputs = {name: model.create_output_buffer_by_name(key, name) for name in request["outputs"]}
    for index in range(request["count"]):
        for name, array in zip(request["inputs"], _read(folder, index), strict=True):
            inputs[name].write(array)
        model.run_by_name(key, inputs, outputs)
        arrays = []
        for name, buffer in outputs.items():
            shape = details[name]["shape"]
            arrays.append(buffer.read(int(np.prod(shape)), np.dtype(details[name]["dtype"])).reshape(shape))
        _write(folder, index, arrays)


def _load_vulkan(loaders: list[str]) -> None:
    """Loads the system's Vulkan loader, else one that came with a driver; Dawn then finds it by its name."""
    for name in ("libvulkan.so.1", *loaders):
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
            return
        except OSError:
            continue
    raise OSError("no Vulkan loader, libvulkan.so.1: install libvulkan1 (Debian)")


def _run_cpu(folder: Path, request: dict[str, Any], answer: dict[str, Any]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    answer["stage"] = "compile"
    interpreter = Interpreter(model_path=request["model"])
    interpreter.allocate_tensors()
    answer["stage"] = "run"
    runner = interpreter.get_signature_runner(request["signature"]) if request["signature"] else None
    for index in range(request["count"]):
        arrays = _read(folder, index)
        if runner:
            computed = runner(**dict(zip(request["inputs"], arrays, strict=True)))
            _write(folder, index, [computed[name] for name in request["outputs"]])
            continue
        for tensor, array in zip(request["input_tensors"], arrays, strict=True):
            interpreter.set_tensor(tensor, array)
        interpreter.invoke()
        _write(folder, index, [interpreter.get_tensor(tensor) for tensor in request["output_tensors"]])


def _read(folder: Path, index: int) -> list[np.ndarray]:
    with np.load(folder / f"inputs_{index}.npz", allow_pickle=False) as arrays:
        return [arrays[f"a{place}"] for place in range(len(arrays.files))]


def _write(folder: Path, index: int, arrays: list[np.ndarray]) -> None:
    np.savez(folder / f"outputs_{index}.npz", **{f"a{place}": array for place, array in enumerate(arrays)})


if __name__ == "__main__":
    main()
