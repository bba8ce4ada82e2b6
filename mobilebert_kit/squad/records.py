"""The MLPerf Mobile app's records: windows in one TFRecord file, the ground truth in another.

    squad_eval.tfrecord         a window: input_ids, input_mask, segment_ids [S], unique_ids [1], qas_id [1],
                                tokens [t], token_to_orig_map [n], token_is_max_context [n]
    squad_groundtruth.tfrecord  a question: qas_id [1], answers, words and tokens (a word's basic tokens)

Written by mlcommons/mobile_app_open, flutter/cpp/datasets/squad_utils/generate_tfrecords.py. The records hold
the words of a context, not its white space, so a context read from them is its words joined by one space.
That loses nothing: run_squad.py's answers are words joined by one space, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mobilebert_kit.artifacts import write_new
from mobilebert_kit.errors import InputError
from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.tf_example import Feature, MalformedExample, encode_example, parse_example
from mobilebert_kit.squad.tfrecord import read_tfrecord, tfrecord_bytes
from mobilebert_kit.squad.tokenizer import basic_tokens
from mobilebert_kit.squad.windows import Window, split_words

SUFFIX = ".tfrecord"
GROUNDTRUTH_NAMES = ("squad_groundtruth.tfrecord", "groundtruth.tfrecord")  # beside the windows

_INPUTS = ("input_ids", "input_mask", "segment_ids")
_WINDOW_FORM = dict.fromkeys(
    (*_INPUTS, "unique_ids", "token_to_orig_map", "token_is_max_context"), np.ndarray
)
_WINDOW_FORM |= dict.fromkeys(("qas_id", "tokens"), list)
_QUESTION_FORM = dict.fromkeys(("qas_id", "words", "tokens", "answers"), list)
_INT32_MAX = 2**31 - 1


def read_windows(path: str | Path) -> list[Window]:
    """The windows of an eval file; `question_index` counts its different questions in file order.

    Raises:
        InputError: not such a file, no records, or fields of another form or contradicting each other.
    """
    windows: list[Window] = []
    index_of: dict[str, int] = {}
    spans_of: dict[str, int] = {}
    for number, features in enumerate(_examples(path, _WINDOW_FORM)):
        where = f"record {number} of {path}"
        qas_id = _single_text(features["qas_id"], "qas_id", where)
        index_of.setdefault(qas_id, len(index_of))
        window = _window(features, qas_id, index_of[qas_id], spans_of.get(qas_id, 0), where)
        spans_of[qas_id] = window.span_index + 1
        if windows and len(windows[0].input_ids) != len(window.input_ids):
            raise InputError(
                f"Expected windows of one length, got {len(windows[0].input_ids)} and "
                f"{len(window.input_ids)}: {where}."
            )
        windows.append(window)
    return windows


def read_groundtruth(path: str | Path) -> list[Question]:
    """The questions of a ground truth file: `context` is the words joined by a space, `question` is empty.

    Raises:
        InputError: not such a file, no records, fields of another form, or an id twice.
    """
    questions: dict[str, Question] = {}
    for number, features in enumerate(_examples(path, _QUESTION_FORM)):
        where = f"record {number} of {path}"
        qas_id = _single_text(features["qas_id"], "qas_id", where)
        words, answers = (_texts(features[name], name, where) for name in ("words", "answers"))
        context = " ".join(words)
        if not words or not answers or split_words(context) != words:
            raise InputError(f"Expected words without white space, and answers, got none or others: {where}.")
        if qas_id in questions:
            raise InputError(f"Expected each question once, got {qas_id} again: {where}.")
        questions[qas_id] = Question(qas_id, "", context, "", tuple(answers), ())
    return list(questions.values())


def load_records(
    path: str | Path, *, groundtruth: str | Path | None = None, limit: int | None = None
) -> tuple[list[Question], list[Window]]:
    """The windows of an eval file and the questions they ask, `question_index` into these.

    Args:
        groundtruth: a ground truth file, or a SQuAD v1.1 JSON; None: the one beside `path`.
        limit: the first N questions only, with all their windows.
    Raises:
        InputError: as the readers; no ground truth, or one that does not fit; fewer than `limit` questions.
    """
    path = Path(path)
    windows = read_windows(path)
    ids = list(dict.fromkeys(window.qas_id for window in windows))
    if limit is not None and not 1 <= limit <= len(ids):
        raise InputError(f"Expected {limit} questions, 1 at least, got {len(ids)} in {path}. Ask for fewer.")
    ids = ids[:limit]
    source = Path(groundtruth) if groundtruth is not None else _sibling(path)
    truth = read_groundtruth(source) if source.suffix == SUFFIX else load_questions(source)
    by_id = {question.id: question for question in truth}
    missing = [qas_id for qas_id in ids if qas_id not in by_id]
    if missing:
        raise InputError(
            f"Expected the ground truth of {len(ids)} questions of {path}, got {source} without "
            f"{len(missing)} of them, the first is {missing[0]}. Name the right one with --groundtruth."
        )
    questions = [by_id[qas_id] for qas_id in ids]
    windows = [window for window in windows if window.question_index < len(ids)]
    word_counts = [len(split_words(question.context)) for question in questions]
    for window in windows:
        if window.token_to_orig_map.max() >= word_counts[window.question_index]:
            raise InputError(
                f"Expected tokens of the {word_counts[window.question_index]} words of the context, got word "
                f"{window.token_to_orig_map.max()}: question {window.qas_id} of {path}, with {source}."
            )
    return questions, windows


def write_windows(path: str | Path, windows: Sequence[Window], *, overwrite: bool = False) -> None:
    """Write an eval file that the app reads. Raises InputError as `write_new` does."""
    records = [
        encode_example(
            {name: getattr(window, name) for name in _INPUTS}
            | {
                "qas_id": [window.qas_id.encode("utf-8")],
                "token_is_max_context": window.token_is_max_context,
                "token_to_orig_map": window.token_to_orig_map,
                "tokens": [token.encode("utf-8") for token in window.tokens],
                "unique_ids": [window.unique_id],
            }
        )
        for window in windows
    ]
    write_new(path, tfrecord_bytes(records), overwrite=overwrite)


def write_groundtruth(path: str | Path, questions: Iterable[Question], *, overwrite: bool = False) -> None:
    """Write a ground truth file that the app reads. Raises InputError as `write_new` does."""
    tokens_of: dict[str, bytes] = {}
    records = []
    for question in questions:
        words = split_words(question.context)
        for word in words:
            if word not in tokens_of:
                tokens_of[word] = " ".join(basic_tokens(word)).encode("utf-8")
        records.append(
            encode_example(
                {
                    "answers": [answer.encode("utf-8") for answer in question.answers],
                    "qas_id": [question.id.encode("utf-8")],
                    "tokens": [tokens_of[word] for word in words],
                    "words": [word.encode("utf-8") for word in words],
                }
            )
        )
    write_new(path, tfrecord_bytes(records), overwrite=overwrite)


def with_length(windows: Sequence[Window], sequence_length: int, source: str | Path) -> list[Window]:
    """The windows, if they are of the model's length or can be padded to it with zeros.

    Raises:
        InputError: they are longer than the model's input.
    """
    longest = max((len(window.input_ids) for window in windows), default=0)
    if longest > sequence_length:
        raise InputError(
            f"Expected windows of {sequence_length} tokens, the model's length, got {longest} in {source}. "
            "Give the SQuAD JSON file instead: its windows are made to measure."
        )
    return [
        replace(
            window,
            **{
                name: np.pad(getattr(window, name), (0, sequence_length - len(window.input_ids)))
                for name in _INPUTS
            },
        )
        if len(window.input_ids) < sequence_length
        else window
        for window in windows
    ]


def _sibling(path: Path) -> Path:
    for name in GROUNDTRUTH_NAMES:
        if (path.parent / name).is_file():
            return path.parent / name
    raise InputError(
        f"Expected the ground truth of {path} beside it ({' or '.join(GROUNDTRUTH_NAMES)}), got none. "
        "Name it with --groundtruth."
    )


def _examples(path: str | Path, form: dict[str, type]) -> Iterable[dict[str, Feature]]:
    records = read_tfrecord(path)
    if not records:
        raise InputError(f"Expected records, got none in {path}.")
    for number, record in enumerate(records):
        try:
            features = parse_example(record)
        except MalformedExample as error:
            raise InputError(
                f"Expected a tf.train.Example, got {error}: record {number} of {path}."
            ) from error
        for name, kind in form.items():
            if not isinstance(features.get(name), kind):
                wanted = "whole numbers" if kind is np.ndarray else "texts"
                got = sorted(features) if name not in features else "another type"
                raise InputError(
                    f"Expected the feature {name}, {wanted}, got {got}: record {number} of {path}. "
                    "Is it the other one of the two files, windows and ground truth?"
                )
        yield features


def _texts(values: list[bytes], name: str, where: str) -> list[str]:
    try:
        return [value.decode("utf-8") for value in values]
    except UnicodeDecodeError as error:
        raise InputError(f"Expected {name} as UTF-8, got other bytes ({error.reason}): {where}.") from error


def _single_text(values: list[bytes], name: str, where: str) -> str:
    texts = _texts(values, name, where)
    if len(texts) != 1 or not texts[0]:
        raise InputError(f"Expected one {name}, got {texts!r}: {where}.")
    return texts[0]


def _window(features: dict[str, Feature], qas_id: str, index: int, span_index: int, where: str) -> Window:
    ids, mask, segments = (features[name] for name in _INPUTS)
    tokens = _texts(features["tokens"], "tokens", where)
    words, best, unique = (features[k] for k in ("token_to_orig_map", "token_is_max_context", "unique_ids"))
    used = len(tokens)
    faults = [
        message
        for message, wrong in (
            ("inputs of one length", not len(ids) == len(mask) == len(segments)),
            ("ids of 32 bits, not negative", len(ids) and not 0 <= ids.min() <= ids.max() <= _INT32_MAX),
            (
                "a mask of ones for the tokens, then zeros",
                not np.array_equal(mask, np.arange(len(mask)) < used),
            ),
            ("segments of 0 and 1", not np.isin(segments, (0, 1)).all()),
            ("one unique id", len(unique) != 1),
            ("[CLS] and [SEP] around a question, and context tokens", not 1 <= len(words) <= used - 3),
            ("no more tokens than ids", used > len(ids)),
            (
                "a max-context flag, 0 or 1, a context token",
                len(best) != len(words) or not np.isin(best, (0, 1)).all(),
            ),
            ("words in rising order", len(words) and (words[0] < 0 or (np.diff(words) < 0).any())),
        )
        if wrong
    ]
    if faults:
        raise InputError(f"Expected {faults[0]}, got something else: {where}.")
    return Window(
        unique_id=int(unique[0]),
        qas_id=qas_id,
        question_index=index,
        span_index=span_index,
        input_ids=ids.astype(np.int32),
        input_mask=mask.astype(np.int32),
        segment_ids=segments.astype(np.int32),
        tokens=tuple(tokens),
        token_to_orig_map=words.astype(np.int32),
        token_is_max_context=best.astype(bool),
    )
