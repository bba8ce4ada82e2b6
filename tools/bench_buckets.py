"""What a file with buckets saves: mean latency on real windows, size, and whether it answers alike.

    python tools/bench_buckets.py --model int8_384.tflite --bucketed int8_96_128_192_256_384.tflite \\
        --dataset dev-v1.1.json --output buckets.json

Windows spread evenly over the dataset; both files run each in turn, one thread. The ratio is of the means: a
dataset costs the sum of its windows.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from absl import flags
from benchmark_report import Requirement, publish

from mobilebert_kit.errors import InputError
from mobilebert_kit.main import run
from mobilebert_kit.runtime.interpreter import Interpreter
from mobilebert_kit.squad.answers import extract_answers
from mobilebert_kit.squad.dataset import load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows

MOST_TIME = 0.5  # of the mean latency of the file of one length
MOST_SIZE = 1.05

_MODEL = flags.DEFINE_string("model", None, "A .tflite of one length.", required=True)
_BUCKETED = flags.DEFINE_string("bucketed", None, "The same with --buckets.", required=True)
_DATASET = flags.DEFINE_string("dataset", None, "SQuAD v1.1 file.", required=True)
_WINDOWS = flags.DEFINE_integer("windows", 200, "How many of its windows.", lower_bound=10)
_THREADS = flags.DEFINE_integer("threads", 1, "Of an interpreter.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


def main() -> None:
    files = {"one length": Path(_MODEL.value), "buckets": Path(_BUCKETED.value)}
    models = {name: Interpreter(file, threads=_THREADS.value) for name, file in files.items()}
    if len({model.sequence_length for model in models.values()}) > 1:
        raise InputError("Expected two files of the same longest length, got different ones.")
    questions = load_questions(_DATASET.value)
    length = models["buckets"].sequence_length
    every = make_windows(
        questions, load_tokenizer(files["buckets"].parent / "vocab.txt"), max_seq_length=length
    )
    windows = every[:: max(1, len(every) // _WINDOWS.value)][: _WINDOWS.value]
    seconds: dict[str, list[float]] = {name: [] for name in models}
    logits: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for model in models.values():  # each graph of a file packs its weights when it first runs
        for tokens in range(1, length + 1, 16):
            model.run(**{name: np.arange(length) < tokens for name in model.inputs})
    for window in windows:
        for name, model in models.items():
            began = time.perf_counter()
            outputs = model.run(**{own: getattr(window, own) for own in model.inputs})
            seconds[name].append(time.perf_counter() - began)
            logits[name].append(np.stack([outputs["start_logits"][0], outputs["end_logits"][0]]))
    tokens = [int(window.input_mask.sum()) for window in windows]
    stacked = {name: np.stack(values, axis=1) for name, values in logits.items()}
    answers = [extract_answers(questions, windows, *pair).official for pair in stacked.values()]
    asked = {window.qas_id for window in windows}
    same = np.mean([answers[0][name] == answers[1][name] for name in asked])
    differences = [
        np.abs(one - other)[:, :count].max()
        for one, other, count in zip(*(stacked[name].swapaxes(0, 1) for name in models), tokens, strict=True)
    ]
    means = {name: float(np.mean(values)) for name, values in seconds.items()}
    sizes = {name: file.stat().st_size for name, file in files.items()}
    publish(
        f"{len(windows)} windows of {np.mean(tokens):.0f} tokens on average, {_THREADS.value} threads",
        ("file", "MB", "mean latency, ms"),
        [(file.name, f"{sizes[name] / 1e6:.1f}", f"{means[name] * 1e3:.1f}") for name, file in files.items()],
        [
            Requirement(
                "mean latency with buckets, of that without",
                means["buckets"] / means["one length"],
                MOST_TIME,
            ),
            Requirement(
                "size with buckets, of that without", sizes["buckets"] / sizes["one length"], MOST_SIZE
            ),
            Requirement("share of equal answers", float(same), 1.0, at_least=True),
        ],
        {
            "largest_logit_difference": float(max(differences)),
            "tokens": tokens,
            "seconds": seconds,
        },
        _OUTPUT.value,
    )


if __name__ == "__main__":
    run(main)
