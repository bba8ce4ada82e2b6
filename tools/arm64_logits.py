"""What a model gives on the machine that runs this: tokens, logits, answers, the nodes that XNNPACK takes.

    python tools/arm64_logits.py --model M.tflite --model N.tflite --dataset D --windows 20 --folder OUT

Writes OUT/0.npz for the first model, OUT/1.npz for the second. tools/check_arm64.py runs it here and on an
emulated machine: everything from the question's text to the answer's is computed on either. No TensorFlow.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from mobilebert_kit.errors import InputError
from mobilebert_kit.main import run
from mobilebert_kit.runtime.interpreter import Interpreter
from mobilebert_kit.runtime.packages import import_runtime
from mobilebert_kit.squad.answers import extract_answers
from mobilebert_kit.squad.dataset import load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows


@dataclass(frozen=True)
class Outcome:
    """Of one model on one machine; N windows of S tokens."""

    machine: np.ndarray  # str []: x86_64, aarch64
    input_ids: np.ndarray  # int32 [N, S]
    start: np.ndarray  # float32 [N, S], the logits
    end: np.ndarray
    answers: np.ndarray  # str [N]: of each window by itself, by SQuAD's rules
    partitions: np.ndarray  # int [P]: how many nodes XNNPACK takes, partition by partition
    seconds: np.ndarray  # float64 [N]

    def save(self, path: Path) -> None:
        np.savez(path, **vars(self))


def load_outcome(path: Path) -> Outcome:
    with np.load(path) as arrays:
        return Outcome(**{field.name: arrays[field.name] for field in fields(Outcome)})


def measure(model: Path, dataset: str, count: int) -> Outcome:
    """The model on `count` windows of questions spread over the dataset; one thread.

    Raises:
        InputError: a model or dataset that cannot be used; fewer windows in it. The vocabulary is vocab.txt
            beside the model.
        CheckFailed: a logit is NaN.
    """
    interpreter = Interpreter(model)
    questions = load_questions(dataset)
    questions = questions[:: max(1, len(questions) // count)]
    tokenizer = load_tokenizer(model.parent / "vocab.txt")
    windows = make_windows(questions, tokenizer, max_seq_length=interpreter.sequence_length)[:count]
    if len(windows) < count:
        raise InputError(f"Expected {count} windows in {dataset}, got {len(windows)}. Give fewer --windows.")
    logits, answers, seconds = [], [], []
    for window in windows:
        began = time.perf_counter()
        outputs = interpreter.run(**{name: getattr(window, name) for name in interpreter.inputs})
        seconds.append(time.perf_counter() - began)
        start, end = outputs["start_logits"], outputs["end_logits"]
        logits.append((start[0], end[0]))
        question = questions[window.question_index]
        alone = extract_answers([question], [replace(window, question_index=0)], start, end)
        answers.append(alone.official[question.id])
    starts, ends = map(np.array, zip(*logits, strict=True))
    runtime = import_runtime("litert")
    partitions = delegated_partitions(runtime.Interpreter(model_path=str(model), num_threads=1))
    return Outcome(
        np.array(platform.machine()),
        np.array([window.input_ids for window in windows]),
        starts,
        ends,
        np.array(answers),
        np.array([len(partition) for partition in partitions]),
        np.array(seconds),
    )


def delegated_partitions(interpreter: Any) -> list[list[int]]:
    """The nodes of each partition of the main graph that LiteRT gives to XNNPACK. Allocates its tensors.

    A DELEGATE node stands behind the file's own nodes, and its operands are those of the partition: its nodes
    are all that lead from its inputs to its outputs.
    """
    count = len(interpreter._get_ops_details())
    interpreter.allocate_tensors()
    nodes: list[dict[str, Any]] = interpreter._get_ops_details()
    maker = {int(tensor): node["index"] for node in nodes[:count] for tensor in node["outputs"]}
    partitions = []
    for delegate in nodes[count:]:
        found: set[int] = set()
        given, waiting = set(map(int, delegate["inputs"])), list(map(int, delegate["outputs"]))
        while waiting:
            tensor = waiting.pop()
            if tensor not in given and tensor in maker and maker[tensor] not in found:
                found.add(maker[tensor])
                waiting += map(int, nodes[maker[tensor]]["inputs"])
        partitions.append(sorted(found))
    return partitions


if __name__ == "__main__":
    _MODELS = flags.DEFINE_multi_string("model", None, "A .tflite file; several times.", required=True)
    _DATASET = flags.DEFINE_string("dataset", None, "A SQuAD v1.1 file.", required=True)
    _WINDOWS = flags.DEFINE_integer("windows", 20, "How many of it.", lower_bound=1)
    _FOLDER = flags.DEFINE_string("folder", None, "Where the .npz files go.", required=True)

    def main() -> None:
        for number, model in enumerate(_MODELS.value):
            outcome = measure(Path(model), _DATASET.value, _WINDOWS.value)
            outcome.save(Path(_FOLDER.value) / f"{number}.npz")

    run(main)
