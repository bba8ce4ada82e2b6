"""One int8 file by two sets of kernels, XNNPACK's and TFLite's own: how far does rounding alone carry them?

    python tools/compare_kernels.py --model mobilebert_int8_384.tflite --dataset dev-v1.1.json

Both compute the integers that the file describes, and differ in the last bit of what they round to int8. No
simulation of a file can be nearer to it than its own kernels are to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import flags
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from benchmark_models import DEMO_VOCAB
from benchmark_report import publish

from mobilebert_kit.comparison.agreement import agreement
from mobilebert_kit.comparison.models import open_model
from mobilebert_kit.main import run
from mobilebert_kit.squad.dataset import load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import Window, make_windows

_MODEL = flags.DEFINE_string("model", None, "A .tflite file.", required=True)
_DATASET = flags.DEFINE_string("dataset", None, "SQuAD v1.1 file.", required=True)
_QUESTIONS = flags.DEFINE_integer("questions", 1000, "The first N of it.", lower_bound=1)
_VOCAB = flags.DEFINE_string("vocab", str(DEMO_VOCAB), "The vocabulary of --model.")
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")

WORKERS = 2


class OwnKernels:
    """A file without XNNPACK; a `Model` as far as `agreement` asks."""

    kind = "TFLite's own kernels"

    def __init__(self, path: Path, inputs: dict[str, str]) -> None:
        self.path, self.inputs = path, inputs

    def logits(self, windows: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
        shares = [windows[first::WORKERS] for first in range(WORKERS)]
        start, end = (np.empty((len(windows), len(windows[0].input_ids)), np.float32) for _ in range(2))
        with ThreadPoolExecutor(WORKERS) as pool:
            for first, outputs in enumerate(pool.map(self._run, shares)):
                start[first::WORKERS], end[first::WORKERS] = outputs
        return start, end

    def _run(self, windows: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
        interpreter = Interpreter(
            str(self.path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        runner = interpreter.get_signature_runner()
        found: dict[str, list[np.ndarray]] = {"start_logits": [], "end_logits": []}
        for window in windows:
            outputs = runner(**{name: getattr(window, own)[None] for own, name in self.inputs.items()})
            for name, rows in found.items():
                rows.append(outputs[name].ravel())
        return np.stack(found["start_logits"]), np.stack(found["end_logits"])


def main() -> None:
    path = Path(_MODEL.value)
    xnnpack = open_model(path)
    questions = load_questions(_DATASET.value, limit=_QUESTIONS.value)
    tokenizer = load_tokenizer(_VOCAB.value)
    windows = make_windows(questions, tokenizer, max_seq_length=xnnpack.sequence_length)
    found = agreement([xnnpack, OwnKernels(path, xnnpack.inputs)], questions, windows)
    a, b = found.scores
    publish(
        f"One file by two sets of kernels, {len(questions)} questions",
        (
            "model",
            "F1, XNNPACK",
            "F1, own kernels",
            "equal spans, %",
            "largest difference",
            "mean difference",
        ),
        [
            (
                path.name,
                *(f"{score.f1:.2f}" for score in (a, b)),
                f"{found.same_spans:.2f}",
                f"{found.max_logit_difference:.3f}",
                f"{found.mean_logit_difference:.4f}",
            )
        ],
        [],
        {"model": path.name, "questions": len(questions), "same_spans": found.same_spans},
        _OUTPUT.value,
    )


if __name__ == "__main__":
    run(main)
