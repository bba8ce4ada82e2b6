"""A really fine-tuned BERT, dense and with most weights zero: the same EM and F1 wherever it runs?

    python tools/check_real_bert.py --checkpoint DIR --dataset dev-v1.1.json --calibration train-v1.1.json \
        --output real_bert.json

PyTorch (transformers), the SavedModel, the float .tflite and the int8 one answer the same windows; the last
three are what the export command makes. The zeros are the smallest weights of each kernel of attention and
feed-forward networks, without any training behind: a model that answers badly, but just as badly everywhere.
Lengths and strides are those of BERT (384, 128) and of the sparse BERTs that lost 23 to 54 points
of F1 between PyTorch and TensorFlow (68, 26).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from benchmark_models import DEMO_CALIBRATION
from benchmark_report import Requirement, publish
from measured_process import run_measured

from mobilebert_kit.comparison.models import open_model
from mobilebert_kit.json_files import read_json_object
from mobilebert_kit.main import run
from mobilebert_kit.runtime.scoring import score_logits
from mobilebert_kit.squad.dataset import load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows

SETTINGS = ((384, 128), (68, 26))  # tokens of a window, doc stride
MOST_DIFFERENCE = 0.01  # of EM and F1, between frameworks
MOST_DROP = 1.0  # F1, int8
WEIGHTS = "model.safetensors"
FLOATS = ("PyTorch", "SavedModel", "float")

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Hugging Face directory.", required=True)
_DATASET = flags.DEFINE_string("dataset", None, "SQuAD v1.1 file.", required=True)
_QUESTIONS = flags.DEFINE_integer("questions", 1000, "The first N of it.", lower_bound=1)
_CALIBRATION = flags.DEFINE_string("calibration", str(DEMO_CALIBRATION), "As of export: 100 questions.")
_ZEROS = flags.DEFINE_float("zeros", 0.85, "The share of weights that the sparse one lacks.", 0, 1)
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


def main() -> None:
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        sparse = Path(scratch) / "sparse"
        write_sparse(Path(_CHECKPOINT.value), sparse, _ZEROS.value)
        for name, checkpoint in (("dense", Path(_CHECKPOINT.value)), (f"{_ZEROS.value:.0%} zeros", sparse)):
            for length, stride in SETTINGS:
                folder = Path(scratch) / f"{checkpoint.name}-{length}"
                results += measure(name, checkpoint, folder, length, stride)
    publish(
        f"Accuracy wherever it runs, {_QUESTIONS.value} questions",
        ("weights", "tokens, stride", "model", "EM", "F1", "seconds"),
        [
            (
                r["weights"],
                f"{r['length']}, {r['stride']}",
                r["model"],
                f"{r['exact_match']:.2f}",
                f"{r['f1']:.2f}",
                f"{r['seconds']:.0f}",
            )
            for r in results
        ],
        requirements(results),
        {"results": results},
        _OUTPUT.value,
    )


def write_sparse(source: Path, folder: Path, share: float) -> None:
    """A copy of `source` with `share` of each kernel in its encoder zero, the smallest magnitudes."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(source, folder)
    tensors = load_file(str(folder / WEIGHTS))
    for name, kernel in tensors.items():
        if ".layer." in name and kernel.ndim == 2:
            order = np.argsort(np.abs(kernel), axis=None, kind="stable")
            kernel.reshape(-1)[order[: round(share * kernel.size)]] = 0
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})


def measure(name: str, checkpoint: Path, folder: Path, length: int, stride: int) -> list[dict[str, Any]]:
    """EM and F1 of each model; those of the kit are exported to `folder`."""
    command = [
        *(sys.executable, "-m", "mobilebert_kit.export", "--target", "float,int8", "--keep_saved_model"),
        *("--checkpoint", str(checkpoint), "--output_dir", str(folder)),
        *("--max_seq_length", str(length), "--doc_stride", str(stride)),
        *("--calibration", _CALIBRATION.value, "--eval", _DATASET.value, "--eval_questions", "20"),
        *("--max_f1_drop", "100"),  # it is measured here, on more questions
    ]
    run_measured(command, f"the export of {name}, {length} tokens")
    targets = read_json_object(folder / "manifest.json", "the manifest of an export")["targets"]
    paths = (checkpoint, folder / "saved_model", *(folder / targets[t]["file"] for t in ("float", "int8")))
    questions = load_questions(_DATASET.value, limit=_QUESTIONS.value)
    tokenizer = load_tokenizer(checkpoint / "vocab.txt")
    windows = make_windows(questions, tokenizer, max_seq_length=length, doc_stride=stride)
    rows = []
    for model, path in zip((*FLOATS, "int8"), paths, strict=True):
        began = time.monotonic()
        score = score_logits(questions, windows, *open_model(path).logits(windows))
        rows.append(
            {
                "weights": name,
                "length": length,
                "stride": stride,
                "model": model,
                "windows": len(windows),
                "exact_match": score.exact_match,
                "f1": score.f1,
                "seconds": round(time.monotonic() - began, 1),
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def requirements(results: list[dict[str, Any]]) -> list[Requirement]:
    """The float models answer alike, and int8 of the dense one at full length loses little."""
    checks = []
    for start in range(0, len(results), 1 + len(FLOATS)):
        torch, *others, int8 = results[start : start + 1 + len(FLOATS)]
        where = f"{torch['weights']}, {torch['length']}"
        for other in others:
            for key in ("exact_match", "f1"):
                difference = abs(other[key] - torch[key])
                checks.append(
                    Requirement(f"{where}, {other['model']}: {key} difference", difference, MOST_DIFFERENCE)
                )
        if torch["weights"] == "dense":
            checks.append(Requirement(f"{where}, int8: F1 lost", torch["f1"] - int8["f1"], MOST_DROP))
    return checks


if __name__ == "__main__":
    run(main)
