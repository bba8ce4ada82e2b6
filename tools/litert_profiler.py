"""LiteRT's own profiler, by the C interface of ai-edge-litert's libLiteRt.so: its Python interface has none.

    runs = litert_profiles(Path("model.tflite"), {"input_ids": ids, ...}, threads=1, runs=10)
    runs[0][8] == ("Delegate/Fully Connected (NC, QS8, QC8W) GEMM", 0.505)

Sources: litert/c/*.h of LiteRT 2.3, and litert/c/litert_profiler_test.cc for the order of the calls.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Mapping
from ctypes import byref, c_char_p, c_size_t, c_void_p
from pathlib import Path

import numpy as np

from mobilebert_kit.errors import InputError

_CPU = 1  # kLiteRtHwAcceleratorCpu
_WRITE = 1  # kLiteRtTensorBufferLockModeWrite
_TENSOR_TYPE_BYTES = 256  # more than a LiteRtRankedTensorType has; it is only handed on
# A node's row in the summary: kind of op, start, first ms, average ms, two shares, KB, times called, name.
_ROW = re.compile(r"^ *(\S.*?) +[\d.]+ +[\d.]+ +([\d.]+) +[\d.]+% +[\d.]+% +[\d.]+ +1 +\[", re.MULTILINE)


def litert_profiles(
    path: Path, inputs: Mapping[str, np.ndarray], *, threads: int, runs: int
) -> list[list[tuple[str, float]]]:
    """(kind of op, milliseconds) of each node, in their order, of each run of a model's first signature.

    XNNPACK's kinds begin with "Delegate/"; they say its datatypes and kernel.

    Args:
        inputs: int32, by the signature's names.
    Raises InputError where the library is not there, or a call of it fails.
    """
    return [_profile(path, inputs, threads) for _ in range(runs)]


def _profile(path: Path, inputs: Mapping[str, np.ndarray], threads: int) -> list[tuple[str, float]]:
    """Of one run; with a model of its own, for the summary of a model is of all its runs."""
    model = _Model(path, threads)
    model.feed(inputs)
    model.run()  # the first one packs weights
    profiler, summary = c_void_p(), c_char_p()
    model.call("LiteRtCompiledModelGetProfiler", model.compiled, byref(profiler))
    model.call("LiteRtStartProfiler", profiler)
    model.run()
    model.call("LiteRtStopProfiler", profiler)
    model.call("LiteRtGetProfileSummary", profiler, model.compiled, byref(summary))
    rows = summary.value.decode().partition("Top by Computation Time")[0]
    model.close()
    return [(kind, float(milliseconds)) for kind, milliseconds in _ROW.findall(rows)]


class _Model:
    """A compiled model with its buffers."""

    def __init__(self, path: Path, threads: int) -> None:
        package = importlib.util.find_spec("ai_edge_litert")
        if package is None:
            raise InputError("Expected ai-edge-litert to be installed, got none. Install '.[runtime]'.")
        self._library = ctypes.CDLL(str(Path(package.origin).with_name("libLiteRt.so")))
        self._environment, model, options, self._signature = (c_void_p() for _ in range(4))
        self.compiled = c_void_p()
        self.call("LiteRtCreateEnvironment", 0, None, byref(self._environment))
        self.call("LiteRtCreateModelFromFile", self._environment, str(path).encode(), byref(model))
        self.call("LiteRtCreateOptions", byref(options))
        self.call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
        self._add(options, "runtime_options_string", "enable_profiling = true\n")
        self._add(options, "xnnpack", f"num_threads = {threads}\n")
        self.call("LiteRtCreateCompiledModel", self._environment, model, options, byref(self.compiled))
        self.call("LiteRtGetModelSignature", model, c_size_t(0), byref(self._signature))
        self._inputs, self._outputs = self._buffers("Input"), self._buffers("Output")

    def feed(self, inputs: Mapping[str, np.ndarray]) -> None:
        for index, buffer in enumerate(self._inputs):
            name, memory = c_char_p(), c_void_p()
            self.call("LiteRtGetSignatureInputName", self._signature, c_size_t(index), byref(name))
            values = np.ascontiguousarray(inputs[name.value.decode()], np.int32)
            self.call("LiteRtLockTensorBuffer", c_void_p(buffer), byref(memory), _WRITE)
            ctypes.memmove(memory, values.ctypes.data, values.nbytes)
            self.call("LiteRtUnlockTensorBuffer", c_void_p(buffer))

    def run(self) -> None:
        counts = c_size_t(len(self._inputs)), c_size_t(len(self._outputs))
        self.call(
            "LiteRtRunCompiledModel",
            *(self.compiled, c_size_t(0), counts[0], self._inputs, counts[1], self._outputs),
        )

    def close(self) -> None:
        """Frees the model, which has the weights; the rest is small, and the process ends soon."""
        self._library.LiteRtDestroyCompiledModel(self.compiled)

    def call(self, name: str, *arguments: object) -> None:
        """A function of the library that returns a LiteRtStatus. Raises InputError where that is not 0."""
        status = getattr(self._library, name)(*arguments)
        if status:
            raise InputError(f"Expected {name} of ai-edge-litert 2.3 to succeed, got status {status}.")

    def _add(self, options: c_void_p, identifier: str, toml: str) -> None:
        """Options of one part of the runtime, which it reads as TOML and frees."""
        libc = ctypes.CDLL(None)
        libc.strdup.restype = c_void_p
        text, free, opaque = (
            c_void_p(libc.strdup(toml.encode())),
            ctypes.cast(libc.free, c_void_p),
            c_void_p(),
        )
        self.call("LiteRtCreateOpaqueOptions", identifier.encode(), text, free, byref(opaque))
        self.call("LiteRtAddOpaqueOptions", options, opaque)

    def _buffers(self, side: str) -> ctypes.Array[c_void_p]:
        """A buffer for each input or output of the signature."""
        count = c_size_t()
        self.call(f"LiteRtGetNumSignature{side}s", self._signature, byref(count))
        buffers = (c_void_p * count.value)()
        for index in range(count.value):
            tensor, needs, buffer = c_void_p(), c_void_p(), c_void_p()
            kind = (ctypes.c_byte * _TENSOR_TYPE_BYTES)()
            place = c_size_t(index)
            self.call(f"LiteRtGetSignature{side}TensorByIndex", self._signature, place, byref(tensor))
            self.call("LiteRtGetRankedTensorType", tensor, byref(kind))
            getter = f"LiteRtGetCompiledModel{side}BufferRequirements"
            self.call(getter, self.compiled, c_size_t(0), place, byref(needs))
            creator = "LiteRtCreateManagedTensorBufferFromRequirements"
            self.call(creator, self._environment, byref(kind), needs, byref(buffer))
            buffers[index] = buffer.value
        return buffers
