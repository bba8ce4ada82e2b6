"""How close every family's full-size float models come to PyTorch: SavedModel and .tflite, random weights.

    python tools/check_families.py --dataset dev-v1.1.json --output families.json

The export command makes both, a process for each model and length, whose time and memory are told. The logits
are compared at every position: padding answers nothing, but a difference there would be one in the mask.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from benchmark_models import DEMO_EVAL, DEMO_VOCAB
from benchmark_report import Requirement, publish
from measured_process import Cost, run_measured
from random_weights import write_random_checkpoint
from spread_windows import spread_questions
from transformers_reference import reference_logits

from mobilebert_kit.comparison.models import open_model
from mobilebert_kit.contract import MLPERF
from mobilebert_kit.errors import InputError
from mobilebert_kit.json_files import read_json_object
from mobilebert_kit.main import run
from mobilebert_kit.models.bert_config import BertConfig
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import Window, make_windows

MOST_DIFFERENCE = 1e-4
MOST_SECONDS, MOST_BYTES = 90, 3e9  # importing bert-base, to its float .tflite
KINDS = ("SavedModel", "tflite")


class Case(NamedTuple):
    """A model: what its config.json says, and the share of zeros in its encoder's kernels."""

    settings: dict[str, Any]
    sparsity: float = 0.0


MINI = {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
ZOO = {  # bert-small-uncased-whole-word-masking-squad-0001
    "embedding_size": 1024, "hidden_size": 512, "output_size": 1024, "num_attention_heads": 8,
    "intermediate_size": 1024, "max_position_embeddings": 384,
}  # fmt: skip
CASES = {
    "bert-base": Case({}),
    "bert-base-52": Case({}, 0.52),
    "bert-base-85.4": Case({}, 0.854),
    "distilbert": Case({"model_type": "distilbert"}),
    "bert-mini": Case(MINI),
    "bert-small": Case(ZOO),
}

_DATASET = flags.DEFINE_string("dataset", None, "SQuAD v1.1 file that the windows are from.", required=True)
_ONLY = flags.DEFINE_list("only", list(CASES), "Of these models.")
_LENGTHS = flags.DEFINE_list("lengths", ["68", "128", "384"], "Tokens of a window.")
_WINDOWS = flags.DEFINE_integer("windows", 20, "Of each model and length.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


def main() -> None:
    if unknown := sorted(set(_ONLY.value) - CASES.keys()):
        raise InputError(f"Expected --only of {', '.join(CASES)}, got {', '.join(unknown)}.")
    results = []
    for name in _ONLY.value:
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = Path(scratch) / "checkpoint"
            config = BertConfig.from_huggingface({"model_type": "bert", **CASES[name].settings})
            write_random_checkpoint(checkpoint, config, DEMO_VOCAB, sparsity=CASES[name].sparsity)
            for length in map(int, _LENGTHS.value):
                results.append({"model": name, **measure(checkpoint, length, Path(scratch) / str(length))})
                print(results[-1], file=sys.stderr, flush=True)
    requirements = [
        Requirement(f"{r['model']}, {r['length']}, {kind}, difference to PyTorch", r[kind], MOST_DIFFERENCE)
        for r in results
        for kind in KINDS
    ]
    for r in results:
        if r["model"].startswith("bert-base") and r["length"] == 384:
            requirements.append(
                Requirement(f"{r['model']}, peak GB", r["peak_bytes"] / 1e9, MOST_BYTES / 1e9)
            )
            # The CPU's time: the machine may do something else meanwhile.
            requirements.append(Requirement(f"{r['model']}, CPU seconds", r["cpu_seconds"], MOST_SECONDS))
    publish(
        f"Float logits against PyTorch, {_WINDOWS.value} windows each",
        ("model", "parameters, M", "zeros, %", "length", *KINDS, "seconds", "CPU seconds", "peak memory, GB"),
        [
            (
                r["model"],
                f"{r['parameters'] / 1e6:.2f}",
                f"{100 * r['zeros']:.1f}",
                r["length"],
                *(f"{r[kind]:.1e}" for kind in KINDS),
                f"{r['seconds']:.0f}",
                f"{r['cpu_seconds']:.0f}",
                f"{r['peak_bytes'] / 1e9:.2f}",
            )
            for r in results
        ],
        requirements,
        {"results": results},
        _OUTPUT.value,
    )


def measure(checkpoint: Path, length: int, folder: Path) -> dict[str, Any]:
    """Exports `checkpoint` to `folder`; its largest differences to PyTorch, and what the export cost."""
    cost = export_float(checkpoint, length, folder)
    manifest = read_json_object(folder / "manifest.json", "the manifest of an export")
    windows = first_windows(checkpoint, length)
    arrays = {name: np.stack([getattr(w, name) for w in windows]) for name in MLPERF.input_names}
    theirs = reference_logits(checkpoint, arrays)
    models = {"SavedModel": folder / "saved_model", "tflite": folder / manifest["targets"]["float"]["file"]}
    found = {}
    for kind, path in models.items():
        start, end = open_model(path).logits(windows)
        pairs = ((start, theirs["start_logits"]), (end, theirs["end_logits"]))
        found[kind] = max(float(np.abs(ours - reference).max()) for ours, reference in pairs)
    return {
        "length": length,
        "windows": len(windows),
        "parameters": manifest["checkpoint"]["parameters"],
        "zeros": share_of_zeros(checkpoint),
        **found,
        "logit_deviation": float(np.std(theirs["start_logits"])),
        "hidden_deviation": theirs["hidden_deviation"].round(3).tolist(),
        **vars(cost),
    }


def export_float(checkpoint: Path, length: int, folder: Path) -> Cost:
    """Writes the float .tflite and the SavedModel, as a user does."""
    command = [
        *(sys.executable, "-m", "mobilebert_kit.export", "--target", "float", "--keep_saved_model"),
        *("--checkpoint", str(checkpoint), "--output_dir", str(folder), "--max_seq_length", str(length)),
        *("--eval", str(DEMO_EVAL), "--eval_questions", "1"),
    ]
    return run_measured(command, f"the export of {length} tokens")


def first_windows(checkpoint: Path, length: int) -> list[Window]:
    """The first window of each of --windows questions."""
    tokenizer = load_tokenizer(checkpoint / "vocab.txt")
    questions = spread_questions(_DATASET.value, _WINDOWS.value)
    windows = make_windows(questions, tokenizer, max_seq_length=length)
    return [window for window in windows if window.span_index == 0][: _WINDOWS.value]


def share_of_zeros(checkpoint: Path) -> float:
    """In the kernels of attention and feed-forward networks, as the published tables count."""
    from mobilebert_kit.checkpoints import load_checkpoint

    tensors = load_checkpoint(checkpoint).tensors.items()
    kernels = [t for name, t in tensors if "/layer_" in name and name.endswith("/kernel")]
    return sum(int((kernel == 0).sum()) for kernel in kernels) / sum(kernel.size for kernel in kernels)


if __name__ == "__main__":
    run(main)
