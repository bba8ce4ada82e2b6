"""The engines that MobileBERT is timed on beside LiteRT, one line each: what runs which file.

All of them hold the same weights, so all are compared with the same float model, litert_float. A file is a
target of `export`, one of MADE, or the checkpoint itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mobilebert_kit.errors import InputError

REFERENCE = "litert_float"
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Made:
    """A file that `export` does not write.

    Attributes:
        maker: module:function of peers.models, which writes it.
        source: the target that it is made of, or that is made of the same checkpoint.
        suffix: of the file.
        packages: on PyPI, that the maker needs.
    """

    maker: str
    source: str
    suffix: str
    packages: tuple[str, ...]


MADE = {
    "plain": Made("peers.models:plain", "float", ".tflite", ("tensorflow",)),
    "onnx_dynamic": Made("peers.models:onnx_dynamic", "onnx", ".onnx", ("onnxruntime", "onnx")),
    "openvino_int8": Made("peers.models:openvino_int8", "openvino", ".xml", ("openvino", "nncf")),
}


@dataclass(frozen=True)
class Peer:
    """A row of the table.

    Attributes:
        engine, model: what runs what, in words.
        package: the engine's, on PyPI.
        file: a target's name, one of MADE, or CHECKPOINT.
        opens: module:class; opens(path, threads=n, **options) is a mobilebert_kit.runtime.engine.Engine.
    """

    engine: str
    model: str
    package: str
    file: str
    opens: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def packages(self) -> tuple[str, ...]:
        """All that must be installed to run it, and to make its file where `export` does not."""
        made = MADE.get(self.file)
        return tuple(dict.fromkeys((self.package, *(made.packages if made else ()))))


INTERPRETER = "mobilebert_kit.runtime.interpreter:Interpreter"
ONNX_DEFAULT = "peers.engines:OnnxRuntime"
OPENVINO = "mobilebert_kit.runtime.openvino_model:OpenVinoModel"


def _litert(model: str, file: str) -> Peer:
    return Peer("LiteRT", model, "ai-edge-litert", file, INTERPRETER, {"runtime": "litert"})


def _tflite_runtime(model: str) -> Peer:
    return Peer("tflite-runtime", model, "tflite-runtime", model, INTERPRETER, {"runtime": "tflite_runtime"})


PEERS = {
    "litert_float": _litert("float", "float"),
    "litert_fp16": _litert("fp16", "fp16"),
    "litert_dynamic": _litert("dynamic", "dynamic"),
    "litert_int8": _litert("int8", "int8"),
    "litert_gpu": _litert("gpu, on the CPU", "gpu"),
    "litert_gpu_fp16": _litert("gpu_fp16, on the CPU", "gpu_fp16"),
    "litert_nnapi": _litert("nnapi, on the CPU", "nnapi"),
    "litert_plain": _litert("plain, as converted", "plain"),
    "tflite_runtime_float": _tflite_runtime("float"),
    "tflite_runtime_int8": _tflite_runtime("int8"),
    "onnxruntime_float": Peer("ONNX Runtime", "float", "onnxruntime", "onnx", ONNX_DEFAULT),
    "onnxruntime_dynamic": Peer("ONNX Runtime", "int8, dynamic", "onnxruntime", "onnx_dynamic", ONNX_DEFAULT),
    "onnxruntime_qdq": Peer("ONNX Runtime", "int8 QDQ", "onnxruntime", "onnx_qdq", ONNX_DEFAULT),
    "onnxruntime_qdq_exact": Peer(
        "ONNX Runtime",
        "int8 QDQ, exact kernels",
        "onnxruntime",
        "onnx_qdq",
        "mobilebert_kit.runtime.onnx_model:OnnxModel",
    ),
    "openvino_float": Peer("OpenVINO", "float", "openvino", "openvino", OPENVINO),
    "openvino_int8": Peer("OpenVINO", "int8 (NNCF)", "openvino", "openvino_int8", OPENVINO),
    "pytorch_float": Peer("PyTorch", "float, transformers", "torch", CHECKPOINT, "peers.engines:PyTorch"),
}


def parse_peers(names: Sequence[str]) -> dict[str, Peer]:
    """The peers of these names, the reference first; all for ["all"].

    Raises InputError that lists the names where one is unknown.
    """
    asked = list(PEERS) if list(names) == ["all"] else list(names)
    unknown = [name for name in asked if name not in PEERS]
    if unknown:
        raise InputError(f"Expected --peers to be of {', '.join(PEERS)}, or all, got {unknown[0]!r}.")
    return {name: PEERS[name] for name in dict.fromkeys((REFERENCE, *asked))}
