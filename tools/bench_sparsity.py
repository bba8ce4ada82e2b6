"""Which runtime computes a model faster for its zeros?

    python tools/bench_sparsity.py --output tools/results/sparsity.json

The demo checkpoint's kernels dense, with 85 % of each zero, with 2:4, and with 85 % in blocks of 4 outputs,
for which XNNPACK has sparse kernels, as float and int8. All models of a runtime take turns, with one thread,
so that whatever else the machine does falls on all of them alike. A ratio is the median over the rounds of
the dense model's time over the other's in the same round: above 1 is faster.

Needs the extras [dev] and [openvino].
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from absl import flags
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from benchmark_models import DEMO_VOCAB, exported
from benchmark_report import publish

from mobilebert_kit.delegates.tflite_file import IDENTIFIER, read_tflite
from mobilebert_kit.main import run
from mobilebert_kit.sparse_weights.kernels import dense_kernels
from mobilebert_kit.sparse_weights.sparse_file import sparse_tflite

Prune = Callable[[np.ndarray], np.ndarray]
Runner = Callable[[], object]

LENGTH = 384
RUNTIMES = ("ai-edge-litert", "openvino", "onnxruntime")
AGAIN = "none, measured again"  # the dense model twice: what its ratio lacks to 1 is noise
FASTER = 1.1  # a ratio below is no gain: on a busy machine the same model twice differs by half as much

_MODELS = flags.DEFINE_string("models", None, "A folder with float and int8 of the demo, to spare exporting.")
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Windows that each model runs.", lower_bound=3)
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


def smallest_85_percent(kernel: np.ndarray) -> np.ndarray:
    """Where a kernel [outputs, inputs] becomes zero: its smallest weights."""
    return np.abs(kernel) <= np.quantile(np.abs(kernel), 0.85)


def two_of_four(kernel: np.ndarray) -> np.ndarray:
    """The two smallest of each four inputs."""
    groups = np.abs(kernel).reshape(len(kernel), -1, 4)
    return (groups.argsort(axis=2).argsort(axis=2) < 2).reshape(kernel.shape)


def blocks_of_four(kernel: np.ndarray) -> np.ndarray:
    """85 % in blocks of four outputs of one input."""
    sizes = np.abs(kernel).reshape(-1, 4, kernel.shape[1]).sum(axis=1)
    return np.repeat(sizes <= np.quantile(sizes, 0.85), 4, axis=0)


PATTERNS: dict[str, Prune] = {
    "85 %": smallest_85_percent,
    "2:4": two_of_four,
    "85 %, 4x1 blocks": blocks_of_four,
}


def main() -> None:
    with (
        exported(DEMO_VOCAB.parent, ("float", "int8"), folder=_MODELS.value) as models,
        tempfile.TemporaryDirectory() as scratch,
    ):
        folder = Path(scratch)
        results = []
        for weights, file in models.files.items():
            files = {"none": file, AGAIN: file}
            files |= {name: pruned(file, prune, folder) for name, prune in PATTERNS.items()}
            for name in ("85 %", "85 %, 4x1 blocks"):
                files[f"{name}, sparse file"] = folder / f"sparse {weights} {name}.tflite"
                files[f"{name}, sparse file"].write_bytes(sparse_tflite(files[name]))
            results += measured("LiteRT (XNNPACK)", weights, litert, files)
        dense = to_onnx(None, folder)
        files = {"none": dense, AGAIN: dense}
        files |= {name: to_onnx(prune, folder) for name, prune in PATTERNS.items()}
        results += measured("OpenVINO", "float", openvino, files)
        results += measured("ONNX Runtime", "float", onnx_runtime, files)
        files = {name: quantized(file) for name, file in files.items()}
        results += measured("ONNX Runtime", "int8, dynamic", onnx_runtime, files)
    publish(
        f"What zeros are worth in time: demo checkpoint, {LENGTH} tokens, one thread, {_ROUNDS.value} rounds",
        ("runtime", "weights", "zeros", "median, ms", "times as fast as dense"),
        [
            (r["runtime"], r["weights"], r["zeros"], f"{r['median_ms']:.1f}", f"{r['ratio']:.2f}")
            for r in results
        ],
        [],
        {"results": results, "runtimes": {name: metadata.version(name) for name in RUNTIMES}},
        _OUTPUT.value,
    )
    faster = [r for r in results if r["ratio"] >= FASTER]
    for result in faster:
        print(f"{result['runtime']} is faster, {result['weights']}, {result['zeros']}: {result['ratio']:.2f}")
    if not faster:
        print(f"No runtime is {FASTER} times as fast, or faster, for zeros.")


def measured(
    runtime: str, weights: str, load: Callable[[Path], Runner], files: dict[str, Path]
) -> list[dict[str, Any]]:
    """A result for each of `files`, by the name of its zeros; "none" is the dense one."""
    runners = {name: load(file) for name, file in files.items()}
    for runner in runners.values():
        runner()  # the first run also packs weights and touches memory
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    order = np.random.default_rng(0)
    for _ in range(_ROUNDS.value):
        for name in order.permutation(list(runners)):
            began = time.perf_counter()
            runners[name]()
            seconds[name].append(time.perf_counter() - began)
    return [
        {
            "runtime": runtime,
            "weights": weights,
            "zeros": name,
            "median_ms": round(float(np.median(times)) * 1e3, 2),
            "ratio": round(float(np.median(np.divide(seconds["none"], times))), 3),
        }
        for name, times in seconds.items()
    ]


def pruned(file: Path, prune: Prune, folder: Path) -> Path:
    """`file` with zeros in the kernels of its encoder, stored as densely as before."""
    model = schema.ModelT.InitFromPackedBuf(file.read_bytes())
    for _, kernel in dense_kernels(read_tflite(file).main):
        if kernel.shape[0] > 2:  # not the head
            values = kernel.data().reshape(kernel.shape[0], -1)
            values = np.where(prune(values.astype(np.float32)), 0, values).astype(values.dtype)
            buffer = model.buffers[model.subgraphs[0].tensors[kernel.index].buffer]
            buffer.data = values.reshape(-1).view(np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    path = folder / f"{prune.__name__} {file.name}"
    path.write_bytes(bytes(builder.Output()))
    return path


def litert(file: Path) -> Runner:
    interpreter = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], np.ones(tensor["shape"], np.int32))
    return interpreter.invoke


def to_onnx(prune: Prune | None, folder: Path) -> Path:
    """The demo by way of PyTorch, its linear layers pruned."""
    import torch
    from transformers import AutoModelForQuestionAnswering

    model = AutoModelForQuestionAnswering.from_pretrained(
        DEMO_VOCAB.parent, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    for layer in model.modules():
        if prune and isinstance(layer, torch.nn.Linear) and layer.out_features > 2:
            layer.weight.data[torch.from_numpy(prune(layer.weight.data.numpy()))] = 0
    path = folder / f"{prune.__name__ if prune else 'dense'}.onnx"
    ids = torch.ones(1, LENGTH, dtype=torch.int64)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    torch.onnx.export(model, (dict.fromkeys(names, ids),), path, input_names=names, dynamo=False)
    return path


def quantized(file: Path) -> Path:
    """Its matrix products in int8, with ranges of the activations taken while it runs."""
    from onnxruntime.quantization import quantize_dynamic

    path = file.with_suffix(".int8.onnx")
    logging.getLogger().setLevel(logging.ERROR)  # it warns of every table that it leaves as it is
    quantize_dynamic(file, path)
    return path


def onnx_runtime(file: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options)
    ids = {given.name: np.ones((1, LENGTH), np.int64) for given in session.get_inputs()}
    return lambda: session.run(None, ids)


def openvino(file: Path) -> Runner:
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(str(file), "CPU", settings).create_infer_request()
    ids = np.ones((1, LENGTH), np.int64)
    return lambda: request.infer([ids] * len(request.input_tensors))


if __name__ == "__main__":
    run(main)
