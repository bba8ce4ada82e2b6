"""One int8 file by two sets of kernels, XNNPACK's and TFLite's own: how far does rounding alone carry them?

    python tools/compare_kernels.py --model mobilebert_int8_384.tflite --dataset dev-v1.1.json

Both compute the integers that the file describes, and may round a sum to int8 differently in the last bit. A
simulation in float32, which does so too, is measured by how near these two are to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from benchmark_models import DEMO_VOCAB
from benchmark_report import publish

from mobilebert_kit.comparison.agreement import agreement
from mobilebert_kit.comparison.batches import Logits, run_batches
from mobilebert_kit.comparison.models import open_model
from mobilebert_kit.main import run
from mobilebert_kit.runtime.binding import bind_outputs
from mobilebert_kit.squad.dataset import load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import Window, make_windows

_MODEL = flags.DEFINE_string("model", None, "A .tflite file.", required=True)
_DATASET = flags.DEFINE_string("dataset", None, "SQuAD v1.1 file.", required=True)
_QUESTIONS = flags.DEFINE_integer("questions", 1000, "The first N of it.", lower_bound=1)
_VOCAB = flags.DEFINE_string("vocab", str(DEMO_VOCAB), "The vocabulary of --model.")
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


class OwnKernels:
    """A file without XNNPACK; a `Model` as far as `agreement` asks."""

    kind = "TFLite's own kernels"

    def __init__(self, path: Path, inputs: dict[str, str]) -> None:
        self.path, self.inputs = path, inputs
        interpreter = Interpreter(
            str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        self._run = interpreter.get_signature_runner()
        self._outputs = bind_outputs(self._run.get_output_details(), path)

    def logits(self, windows: Sequence[Window]) -> Logits:
        return run_batches(windows, self.inputs, self._start_and_end, size=1, path=self.path)

    def _start_and_end(self, feed: dict[str, np.ndarray]) -> Logits:
        outputs = self._run(**feed)
        return outputs[self._outputs["start_logits"]], outputs[self._outputs["end_logits"]]


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
