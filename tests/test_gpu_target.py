"""The gpu targets on the GPU accelerator of LiteRT: the demo and a full-size model, whole, exact as float."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.contract import MLPERF
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.models.config import SIZES, MobileBertConfig, resolve_config
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.quantize.conversion import convert
from mobilebert_kit.runtime.accelerator import run_on_accelerator
from mobilebert_kit.runtime.interpreter import Interpreter
from mobilebert_kit.squad.dataset import load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows
from mobilebert_kit.targets import FLOAT, FP16, GPU, GPU_FP16, Target
from tools.random_weights import write_random_checkpoint

LENGTH = 384
ON_THE_CPU = 1e-5  # the same sums in another order
ON_A_GPU = 1e-4  # the same, by other kernels, through 24 layers without normalization
CALIBRATION = Path(__file__).resolve().parent.parent / "calibration" / "demo_eval.json"


def write(target: Target, config: MobileBertConfig, tensors: dict[str, np.ndarray], folder: Path) -> Path:
    module = serving_module(
        config, tensors, lowering=target.lowering_class(), contract=MLPERF, sequence_length=LENGTH
    )
    path = folder / target.file_for(LENGTH)
    path.write_bytes(convert(module, target.recipe))
    return path


def real_windows(vocab: Path, count: int) -> list[dict[str, np.ndarray]]:
    windows = make_windows(load_questions(CALIBRATION), load_tokenizer(vocab), max_seq_length=LENGTH)
    spread = windows[:: len(windows) // count][:count]
    return [{name: getattr(window, name)[None] for name in MLPERF.input_names} for window in spread]


def largest_difference(ones: list[dict[str, np.ndarray]], others: list[dict[str, np.ndarray]]) -> float:
    return max(
        float(np.abs(one[name] - other[name]).max())
        for one, other in zip(ones, others, strict=True)
        for name in MLPERF.output_names
    )


def check_on_accelerator(
    checkpoint: Path, windows: int, pairs: list[tuple[Target, Target]], folder: Path
) -> None:
    """Each (gpu target, its counterpart on the CPU): the same logits on the CPU, and on the accelerator."""
    loaded = load_checkpoint(checkpoint)
    config = resolve_config(loaded.settings, loaded.tensors, loaded.format)
    inputs = real_windows(checkpoint / "vocab.txt", windows)
    for target, counterpart in pairs:
        file, reference = (write(t, config, loaded.tensors, folder) for t in (target, counterpart))
        assert target.delegate.check(read_tflite(file)).whole
        on_cpu, expected = (
            [Interpreter(path, threads=2).run(**window) for window in inputs] for path in (file, reference)
        )
        assert largest_difference(on_cpu, expected) <= ON_THE_CPU
        run = run_on_accelerator(file, inputs)
        assert (run.fully_accelerated, run.refusals, run.failure) == (True, (), "")
        assert largest_difference(run.outputs, expected) <= ON_A_GPU
        assert np.std(expected[0]["start_logits"]) > 0.1  # no logits that are all alike


def test_demo(accelerator: object, demo_checkpoint: Path, tmp_path: Path) -> None:
    check_on_accelerator(demo_checkpoint, 4, [(GPU, FLOAT), (GPU_FP16, FP16)], tmp_path)


def test_full_size(accelerator: object, demo_checkpoint: Path, tmp_path: Path) -> None:
    """24 layers, 24.58 M parameters; two windows, at several seconds each by software."""
    config = MobileBertConfig(**{key: default for key, (_, default) in SIZES.items()})
    assert (config.num_hidden_layers, config.parameter_count) == (24, 24_582_914)
    write_random_checkpoint(tmp_path / "random", config, demo_checkpoint / "vocab.txt")
    check_on_accelerator(tmp_path / "random", 2, [(GPU, FLOAT)], tmp_path)
