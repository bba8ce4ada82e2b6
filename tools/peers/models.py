"""The files that `export` does not write: makers of (request, source, output), which write `output`.

    python -m peers.models peers.models:plain '{"checkpoint": ..., "vocab": ..., ...}' SOURCE OUTPUT

A process of the Python that will run the peer, for it may have packages that this one has not.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

import numpy as np

from mobilebert_kit.contract import MLPERF


@dataclass(frozen=True)
class Request:
    """Paths of the checkpoint, its vocabulary and the calibration's SQuAD file; tokens of a window."""

    checkpoint: str
    vocab: str
    calibration: str
    calibration_questions: int
    length: int


def plain(request: Request, source: Path, output: Path) -> None:
    """What TensorFlow's converter makes of a MobileBERT written plainly (plain_mobilebert.py)."""
    from plain_mobilebert import convert_plain

    from mobilebert_kit.checkpoints import load_checkpoint
    from mobilebert_kit.models.config import resolve_config

    loaded = load_checkpoint(Path(request.checkpoint))
    config = resolve_config(loaded.settings, loaded.tensors, loaded.format)
    model = convert_plain(config, loaded.tensors, MLPERF, request.length)
    output.write_bytes(model)


def onnx_dynamic(request: Request, source: Path, output: Path) -> None:
    """ONNX Runtime's own dynamic quantization of the float ONNX file, by its defaults."""
    from onnxruntime.quantization import quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it warns of every table that it leaves as it is
    quantize_dynamic(source, output)


def openvino_int8(request: Request, source: Path, output: Path) -> None:
    """NNCF's post-training quantization of the IR, as OpenVINO's guide has it for transformers.

    preset mixed: weights symmetric, activations not. The same calibration windows as `export`'s.
    """
    import nncf
    import openvino

    from mobilebert_kit.runtime.binding import bind_inputs

    model = openvino.Core().read_model(str(source))
    names = bind_inputs([port.get_any_name() for port in model.inputs], source)
    windows = [
        {theirs: window[own][None] for own, theirs in names.items()} for window in _calibration(request)
    ]
    quantized = nncf.quantize(
        model,
        nncf.Dataset(windows),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(windows),
    )
    openvino.save_model(quantized, str(output), compress_to_fp16=False)


def _calibration(request: Request) -> list[dict[str, np.ndarray]]:
    """By the kit's names, int32 [S] each, window by window."""
    from mobilebert_kit.squad.dataset import load_questions
    from mobilebert_kit.squad.tokenizer import load_tokenizer
    from mobilebert_kit.squad.windows import make_windows

    questions = load_questions(request.calibration, split="train", limit=request.calibration_questions)
    windows = make_windows(questions, load_tokenizer(request.vocab), max_seq_length=request.length)
    return [{name: getattr(window, name) for name in MLPERF.input_names} for window in windows]


if __name__ == "__main__":
    maker, text, source, output = sys.argv[1:]
    resolve_name(maker)(Request(**json.loads(text)), Path(source), Path(output))
