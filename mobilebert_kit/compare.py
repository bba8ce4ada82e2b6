"""Do two models answer alike? The same windows through both: logits, spans, answers, exact match and F1.

    python -m mobilebert_kit.compare CHECKPOINT mobilebert_int8_384.tflite --dataset dev-v1.1.json
    python -m mobilebert_kit.compare bert/ bert.onnx --dataset squad --questions 200 --max_logit_diff 1e-3

A model is a .tflite, .xml (OpenVINO's) or .onnx file, a SavedModel directory, or a Hugging Face directory.
Every input is fed by name; a model that would have to go without one is refused. Ends with 3 where a limit is
passed. TensorFlow, transformers (extra [distill]), OpenVINO (extra [openvino]) and onnxruntime (extra [onnx])
are needed only for the models that they run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from textwrap import shorten
from typing import Any

from absl import flags

from mobilebert_kit.artifacts import check_new, write_new
from mobilebert_kit.comparison.agreement import Agreement, agreement
from mobilebert_kit.comparison.models import Model, common_length, common_vocab, open_model
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.main import run
from mobilebert_kit.runtime.segments import require_segments
from mobilebert_kit.squad.dataset import load_questions
from mobilebert_kit.squad.tokenizer import make_tokenizer
from mobilebert_kit.squad.windows import DOC_STRIDE, MAX_SEQ_LENGTH, make_windows

_DATASET = flags.DEFINE_string(
    "dataset", None, "A SQuAD v1.1 JSON file, or a name that the datasets library knows.", required=True
)
_QUESTIONS = flags.DEFINE_integer("questions", None, "The first N questions only.", lower_bound=1)
_VOCAB = flags.DEFINE_string("vocab", None, "The vocabulary; default: the vocab.txt beside the models.")
_MAX_SEQ_LENGTH = flags.DEFINE_integer(
    "max_seq_length", None, f"Tokens of a window; default: what a model is fixed to, else {MAX_SEQ_LENGTH}."
)
_DOC_STRIDE = flags.DEFINE_integer("doc_stride", DOC_STRIDE, "Tokens from window to window.", lower_bound=1)
_MAX_LOGIT_DIFF = flags.DEFINE_float("max_logit_diff", None, "End with 3 where a logit differs by more.")
_MAX_F1_DIFF = flags.DEFINE_float("max_f1_diff", None, "End with 3 where F1 (0 to 100) differs by more.")
_MIN_SAME_SPANS = flags.DEFINE_float(
    "min_same_spans", None, "End with 3 where the best span is the same in fewer percent of the windows."
)
_OUTPUT = flags.DEFINE_string("output", None, "Write the result to this JSON file too.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace --output if it exists.")

_SHOWN = 40  # characters of an answer on the terminal
_LIMITS = (_MAX_LOGIT_DIFF, _MAX_F1_DIFF, _MIN_SAME_SPANS)


def main(path_a: str, path_b: str) -> None:
    for limit in _LIMITS:
        if limit.value is not None and not 0 <= limit.value < math.inf:  # nothing is beyond NaN
            raise InputError(f"Expected --{limit.name} to be a number of 0 at least, got {limit.value}.")
    if _OUTPUT.value is not None:
        check_new(_OUTPUT.value, overwrite=_OVERWRITE.value)
    questions = load_questions(_DATASET.value, limit=_QUESTIONS.value)
    models = [open_model(path) for path in (path_a, path_b)]
    require_segments(models)
    length = common_length(models, _MAX_SEQ_LENGTH.value)
    windows = make_windows(
        questions,
        make_tokenizer(common_vocab(models, _VOCAB.value)),
        max_seq_length=length,
        doc_stride=_DOC_STRIDE.value,
    )
    if not windows:
        raise InputError(f"Expected contexts with words in {_DATASET.value}, got none.")
    found = agreement(models, questions, windows)
    result = _result(models, found, length)
    print("\n".join(_table(result)))
    if _OUTPUT.value is not None:
        write_new(
            _OUTPUT.value,
            (json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8"),
            overwrite=_OVERWRITE.value,
        )
    if result["failed"]:
        raise CheckFailed(
            f"Expected two models that agree within the limits, got {'; '.join(result['failed'])}."
        )


def _result(models: Sequence[Model], found: Agreement, length: int) -> dict[str, Any]:
    """What --output holds and the terminal shows."""
    a, b = found.scores
    f1_difference = abs(a.f1 - b.f1)
    return {
        "models": [
            {
                "path": str(model.path),
                "kind": model.kind,
                "inputs": model.inputs,
                "exact_match": score.exact_match,
                "f1": score.f1,
            }
            for model, score in zip(models, found.scores, strict=True)
        ],
        "dataset": _DATASET.value,
        "questions": a.questions,
        "windows": a.windows,
        "max_seq_length": length,
        "doc_stride": _DOC_STRIDE.value,
        "max_logit_difference": found.max_logit_difference,
        "mean_logit_difference": found.mean_logit_difference,
        "logits": found.logits,
        "f1_difference": f1_difference,
        "same_spans": found.same_spans,
        "same_answers": found.same_answers,
        "first_differing": [asdict(window) for window in found.first_differing],
        "limits": {limit.name: limit.value for limit in _LIMITS},
        "failed": [
            f"{what} {value:.6g} ({'under' if sign < 0 else 'over'} --{limit.name} {limit.value:g})"
            for what, value, limit, sign in (
                ("a logit difference of", found.max_logit_difference, _MAX_LOGIT_DIFF, 1),
                ("an F1 difference of", f1_difference, _MAX_F1_DIFF, 1),
                ("equal spans in percent of", found.same_spans, _MIN_SAME_SPANS, -1),
            )
            if limit.value is not None and sign * value > sign * limit.value
        ],
    }


def _table(result: dict[str, Any]) -> list[str]:
    lines = [f"   {'EM':>6} {'F1':>6}  model"]
    for name, model in zip("AB", result["models"], strict=True):
        fed = ", ".join(model["inputs"].values())
        scores = f"{model['exact_match']:6.2f} {model['f1']:6.2f}"
        lines.append(f"{name}  {scores}  {model['path']} ({model['kind']}; fed {fed})")
    lines += [
        f"logit difference  max {result['max_logit_difference']:.3g}, "
        f"mean {result['mean_logit_difference']:.3g}, over {result['logits']} start and end logits",
        f"equal best spans  {result['same_spans']:.2f}% of {result['windows']} windows",
        f"equal answers     {result['same_answers']:.2f}% of {result['questions']} questions",
    ]
    if result["first_differing"]:
        lines.append("the first windows whose best spans differ:")
    for window in result["first_differing"]:
        a, b = (shorten(answer, _SHOWN, placeholder="...") for answer in window["answers"])
        lines.append(f"  {window['question_id']}, window {window['window']}: A {a!r}, B {b!r}")
    return lines


if __name__ == "__main__":
    run(main, arguments=("A", "B"))
