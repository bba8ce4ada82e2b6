"""Is a bundle as it was made, and does a device answer as the host did? No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilebert_kit.android.checksums import check_checksums
from mobilebert_kit.android.device_answers import read_answers, read_logits
from mobilebert_kit.android.reading import Bundle, Model
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.squad.answers import extract_answers
from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.digest import calibration_digest
from mobilebert_kit.squad.metric import Metrics, exact_match_score, f1_score, score
from mobilebert_kit.squad.records import load_records
from mobilebert_kit.squad.windows import Window

_ROUNDING = 1e-4  # the manifest's scores have four decimals


@dataclass(frozen=True)
class Difference:
    """A question that host and device answer differently.

    Attributes:
        likeness: F1 of one answer against the other, 0 to 1.
        host_f1, device_f1: of each against the true answers, 0 to 1.
    """

    question_id: str
    host: str
    device: str
    likeness: float
    host_f1: float
    device_f1: float


@dataclass(frozen=True)
class Comparison:
    """A device's answers against the host's, of the same model. Metrics in percent."""

    model: Model
    questions: int
    host: Metrics
    device: Metrics
    differences: tuple[Difference, ...]

    @property
    def agreement(self) -> float:
        """The share of questions with the same answer, to the letter: 0 to 1."""
        return 1 - len(self.differences) / self.questions

    @property
    def f1_drop(self) -> float:
        return self.host.f1 - self.device.f1


def check_files(bundle: Bundle) -> int:
    """How many files were checked. CheckFailed that names those that are missing or changed."""
    sums = check_checksums(bundle.folder)
    others = [name for name, digest in bundle.files.items() if sums.get(name) != digest]
    if others:
        raise CheckFailed(
            f"Expected the files that bundle.json tells of, got others: {', '.join(others)}. Is it another "
            "bundle's?"
        )
    return len(sums)


def load_evaluation(
    bundle: Bundle, dataset: str | None = None, limit: int | None = None
) -> tuple[list[Question], list[Window]]:
    """The questions of the bundle, and their windows.

    Args:
        dataset: where to take the true answers from; None: from the bundle's own records.
        limit: the first N questions only.
    Raises:
        InputError: other questions than the bundle's.
    """
    records = bundle.folder / bundle.records
    questions, windows = load_records(records, groundtruth=bundle.folder / bundle.groundtruth, limit=limit)
    if limit is None and len(questions) != bundle.questions:
        raise InputError(f"Expected {bundle.questions} questions, got {len(questions)} in {records}.")
    if dataset is None:
        return questions, windows
    named = load_questions(dataset)
    if calibration_digest(named[: bundle.questions]) != bundle.questions_sha256:
        raise InputError(
            f"Expected the {bundle.questions} questions that the bundle was measured on, got others in "
            f"{dataset}. Leave --dataset out: the bundle has them."
        )
    return named[: len(questions)], windows


def compare(
    bundle: Bundle,
    predictions: str | Path,
    questions: Sequence[Question],
    windows: Sequence[Window],
    delegate: str | None = None,
) -> Comparison:
    """What a device answered, against what the host did by the same model.

    Args:
        predictions: a file in the official form, or a folder of logits; see device_answers.py.
        delegate: whose model the device ran; None: as the logits say, else the first to try.
    Raises:
        InputError: unusable predictions, or such for other questions, or not for all.
        CheckFailed: logits are NaN, or the host's answers do not have the F1 that bundle.json tells.
    """
    answers, told = _device_answers(bundle, predictions, questions, windows)
    if delegate and told and delegate != told:
        raise InputError(f"Expected logits of {delegate}, got some of {told} in {predictions}.")
    model = bundle.model(delegate or told)
    _check_ids(answers, questions, predictions)
    host = read_answers(bundle.folder / model.host_predictions)
    metrics = score(questions, host)
    if len(questions) == bundle.questions and abs(metrics.f1 - model.f1) > _ROUNDING:
        raise CheckFailed(
            f"Expected the host's answers by {model.file} to have F1 {model.f1}, as bundle.json tells, got "
            f"{metrics.f1:.4f}. Were records and answers made by another version of the kit?"
        )
    return Comparison(
        model, len(questions), metrics, score(questions, answers), _differences(questions, host, answers)
    )


def _device_answers(
    bundle: Bundle, predictions: str | Path, questions: Sequence[Question], windows: Sequence[Window]
) -> tuple[dict[str, str], str | None]:
    """{question id: answer}, and the delegate that they tell of."""
    if not Path(predictions).is_dir():
        return read_answers(predictions), None
    logits = read_logits(predictions, windows, bundle.output_names)
    answers = extract_answers(
        questions,
        windows,
        logits.start,
        logits.end,
        n_best=bundle.n_best,
        max_answer_length=bundle.max_answer_length,
    )
    return answers.official, logits.delegate


def _check_ids(answers: Mapping[str, str], questions: Sequence[Question], source: str | Path) -> None:
    known = {question.id for question in questions}
    others = sorted(set(answers) - known)
    missing = [question.id for question in questions if question.id not in answers]
    for ids, what in ((others, "for other questions"), (missing, "missing")):
        if ids:
            raise InputError(
                f"Expected one answer to each of {len(questions)} questions, got {len(ids)} {what}, the "
                f"first is {ids[0]}: {source}. With answers to the first N alone, give --num_questions N."
            )


def _differences(
    questions: Sequence[Question], host: Mapping[str, str], device: Mapping[str, str]
) -> tuple[Difference, ...]:
    """The least alike first."""
    found = [
        Difference(
            question.id,
            host[question.id],
            device[question.id],
            likeness=_likeness(host[question.id], device[question.id]),
            host_f1=max(f1_score(host[question.id], answer) for answer in question.answers),
            device_f1=max(f1_score(device[question.id], answer) for answer in question.answers),
        )
        for question in questions
        if host[question.id] != device[question.id]
    ]
    return tuple(sorted(found, key=lambda difference: difference.likeness))


def _likeness(one: str, other: str) -> float:
    """F1 of two answers; 1 also where both normalize to nothing ("the", "a"): f1_score gives 0 there."""
    return max(f1_score(one, other), exact_match_score(one, other))
