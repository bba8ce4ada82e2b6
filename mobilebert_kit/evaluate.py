"""Score a model, or predictions, on SQuAD v1.1: exact match and F1, and the MLPerf Mobile app's F1.

    python -m mobilebert_kit.evaluate --model mobilebert_int8_384.tflite --dataset dev-v1.1.json
    python -m mobilebert_kit.evaluate --model mobilebert_int8_384.tflite --dataset squad_eval.tfrecord
    python -m mobilebert_kit.evaluate --model mobilebert_float_384.xml --dataset dev-v1.1.json
    python -m mobilebert_kit.evaluate --model mobilebert_squad11_int8_qdq.onnx --dataset dev-v1.1.json
    python -m mobilebert_kit.evaluate --predictions predictions.json --dataset dev-v1.1.json

A .tflite file, OpenVINO's .xml (extra [openvino]) or an .onnx (extra [onnx]); its tensors are known by name.
Needs numpy, tokenizers, absl-py, tqdm and what runs the file: a TFLite runtime, OpenVINO or ONNX Runtime; no
TensorFlow.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from absl import flags, logging

from mobilebert_kit.artifacts import check_new
from mobilebert_kit.errors import InputError
from mobilebert_kit.main import run
from mobilebert_kit.runtime.engine import open_engine
from mobilebert_kit.runtime.packages import RUNTIMES
from mobilebert_kit.runtime.scoring import Score, score_model, score_predictions
from mobilebert_kit.runtime.segments import require_segments
from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.predictions import load_predictions, save_predictions
from mobilebert_kit.squad.records import SUFFIX, load_records, with_length
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import DOC_STRIDE, MAX_QUERY_LENGTH, Window, make_windows

_MODEL = flags.DEFINE_string("model", None, "The model to score: a .tflite, an .xml of OpenVINO or an .onnx.")
_PREDICTIONS = flags.DEFINE_string(
    "predictions", None, "Instead of --model: a JSON file {question id: answer}."
)
_DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "A SQuAD v1.1 JSON file, the MLPerf app's windows (squad_eval.tfrecord), or a name that the datasets "
    "library knows (squad).",
    required=True,
)
_SPLIT = flags.DEFINE_string("split", "validation", "The split of a dataset that is named.")
_GROUNDTRUTH = flags.DEFINE_string(
    "groundtruth", None, "With records: their ground truth (.tfrecord or JSON); default: the one beside them."
)
_VOCAB = flags.DEFINE_string("vocab", None, "The vocabulary; default: vocab.txt beside the model.")
_NUM_QUESTIONS = flags.DEFINE_integer("num_questions", None, "The first N questions only.", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 1, "Threads of one interpreter.", lower_bound=1)
_WORKERS = flags.DEFINE_integer("workers", None, "Interpreters at a time; default: one a CPU.", lower_bound=1)
_RUNTIME = flags.DEFINE_enum(
    "runtime",
    None,
    list(RUNTIMES),
    "What runs the model; default: openvino for an .xml, onnx for an .onnx, else litert.",
)
_DOC_STRIDE = flags.DEFINE_integer("doc_stride", DOC_STRIDE, "Tokens from window to window.", lower_bound=1)
_MAX_QUERY_LENGTH = flags.DEFINE_integer(
    "max_query_length", MAX_QUERY_LENGTH, "Tokens of a question at most.", lower_bound=1
)
_OUTPUT = flags.DEFINE_string("output", None, "Write the predictions to this JSON file.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace --output if it exists.")
_JSON = flags.DEFINE_bool("json", False, "Print the result as one JSON object.")


def main() -> None:
    if (_MODEL.value is None) == (_PREDICTIONS.value is None):
        raise InputError("Expected either --model or --predictions, got both or neither.")
    if _GROUNDTRUTH.value is not None and not _is_records(_DATASET.value):
        raise InputError(
            "Expected --groundtruth with records (.tfrecord) only: other datasets have the answers."
        )
    if _OUTPUT.value is not None:
        if _MODEL.value is None:
            raise InputError("Expected --output with --model, got it with --predictions.")
        check_new(_OUTPUT.value, overwrite=_OVERWRITE.value)

    began = time.monotonic()
    score = _score_model() if _MODEL.value is not None else _score_predictions()
    if _OUTPUT.value is not None:
        save_predictions(_OUTPUT.value, score.predictions, overwrite=_OVERWRITE.value)
    if score.missing:
        logging.warning(
            "%d of %d questions have no prediction and count 0; the first is %s.",
            len(score.missing),
            score.questions,
            score.missing[0],
        )
    _report(score, time.monotonic() - began)


def _score_model() -> Score:
    model = open_engine(_MODEL.value, threads=_THREADS.value, runtime=_RUNTIME.value)
    require_segments([model])
    questions, windows = _questions_and_windows(model.sequence_length)
    del model  # the workers make their own
    return score_model(
        _MODEL.value,
        questions,
        windows,
        threads=_THREADS.value,
        workers=_WORKERS.value,
        runtime=_RUNTIME.value,
    )


def _questions_and_windows(sequence_length: int) -> tuple[list[Question], list[Window]]:
    if _is_records(_DATASET.value):
        questions, windows = load_records(
            _DATASET.value, groundtruth=_GROUNDTRUTH.value, limit=_NUM_QUESTIONS.value
        )
        return questions, with_length(windows, sequence_length, _DATASET.value)
    vocab = _VOCAB.value or Path(_MODEL.value).parent / "vocab.txt"
    tokenizer = load_tokenizer(vocab)
    questions = load_questions(_DATASET.value, split=_SPLIT.value, limit=_NUM_QUESTIONS.value)
    windows = make_windows(
        questions,
        tokenizer,
        max_seq_length=sequence_length,
        doc_stride=_DOC_STRIDE.value,
        max_query_length=_MAX_QUERY_LENGTH.value,
    )
    return questions, windows


def _score_predictions() -> Score:
    predictions = load_predictions(_PREDICTIONS.value)
    if _is_records(_DATASET.value):
        questions, _ = load_records(
            _DATASET.value, groundtruth=_GROUNDTRUTH.value, limit=_NUM_QUESTIONS.value
        )
    else:
        questions = load_questions(_DATASET.value, split=_SPLIT.value, limit=_NUM_QUESTIONS.value)
    if not any(question.id in predictions for question in questions):
        raise InputError(
            f"Expected predictions for the {len(questions)} questions of {_DATASET.value}, got "
            f"{len(predictions)} for others in {_PREDICTIONS.value}. Are they for another dataset?"
        )
    return score_predictions(questions, predictions)


def _is_records(dataset: str) -> bool:
    return Path(dataset).suffix == SUFFIX


def _report(score: Score, seconds: float) -> None:
    if _JSON.value:
        result = asdict(score) | {"seconds": seconds, "missing": len(score.missing)}
        del result["predictions"]
        print(json.dumps(result))
        return
    lines = [
        f"exact match  {score.exact_match:.4f}",
        f"F1           {score.f1:.4f}",
        f"F1 (app)     {score.app_f1:.4f}",
        f"questions    {score.questions}",
    ]
    if score.windows:
        lines.append(f"windows      {score.windows}")
    lines.append(f"seconds      {seconds:.1f}")
    if _OUTPUT.value is not None:
        lines.append(f"predictions  {_OUTPUT.value}")
    print("\n".join(lines))


if __name__ == "__main__":
    run(main)
