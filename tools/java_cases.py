"""The Java code against the host: cases that the host writes, answers that Java gives, and what differs.

tests/java/ai/mobilebertkit/HostCases.java has the other side, and describes the files between them.
"""

from __future__ import annotations

import itertools
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.squad.answers import MAX_ANSWER_LENGTH, N_BEST, extract_answers
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.metric import app_f1, score
from mobilebert_kit.squad.n_best import n_best_answers
from mobilebert_kit.squad.tokenizer import basic_tokens, encode_words, load_tokenizer
from mobilebert_kit.squad.windows import (
    DOC_STRIDE,
    MAX_QUERY_LENGTH,
    MAX_SEQ_LENGTH,
    make_windows,
    split_words,
)

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (ROOT / "android_assets/java/src/main/java", ROOT / "tests/java")
RESOURCES = ROOT / "android_assets/java/src/main/resources"
LENGTHS = (MAX_SEQ_LENGTH, DOC_STRIDE, MAX_QUERY_LENGTH, N_BEST, MAX_ANSWER_LENGTH)

LOGITS = ("random", "tied", "peaked", "rounded", "infinite")  # see make_logits
Logits = tuple[np.ndarray, np.ndarray]  # start, end: float32 [windows, tokens]


@dataclass(frozen=True)
class Outcome:
    """How many things were compared, and a line on each that differs."""

    compared: dict[str, int]
    differences: list[str]


class Java:
    """The compiled classes, and a folder for cases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.classes = folder / "classes"

    def compile(self, release: int = 11) -> None:
        """CheckFailed where the compiler complains, be it a warning; InputError where there is none."""
        if shutil.which("javac") is None:
            raise InputError("Expected a JDK, got no javac. Install openjdk-17-jdk-headless or another one.")
        files = [str(path) for folder in SOURCES for path in sorted(folder.rglob("*.java"))]
        # Newer compilers warn that Java 8 is obsolete.
        lint = "-Xlint:all" if release >= 11 else "-Xlint:all,-options"
        command = ["javac", "--release", str(release), lint, "-Werror", "-d", str(self.classes)]
        done = subprocess.run([*command, *files], capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise CheckFailed(f"Expected Java {release} without a warning, got:\n{done.stderr}")

    @staticmethod
    def version() -> str:
        """What the virtual machine calls itself, in one line."""
        done = subprocess.run(["java", "--version"], capture_output=True, text=True, check=True)
        return done.stdout.partition("\n")[0]

    def run(self, main: str, *arguments: str) -> str:
        """Runs a class of the tests; CheckFailed with its stack trace where it throws."""
        options = ["-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8"]
        command = ["java", *options, "-cp", f"{self.classes}:{RESOURCES}", f"ai.mobilebertkit.{main}"]
        done = subprocess.run([*command, *arguments], capture_output=True, encoding="utf-8", timeout=900)
        if done.returncode:
            raise CheckFailed(f"Expected {main} {' '.join(arguments)} to end well, got:\n{done.stderr}")
        return done.stdout

    def answers(self, kind: str, cases: Sequence[bytes], vocab: Path | None = None) -> Reader:
        """What HostCases answers to cases of a kind."""
        if vocab is not None:
            shutil.copyfile(vocab, self.folder / "vocab.txt")
        with (self.folder / f"{kind}.in").open("wb") as file:
            file.write(ints([len(cases)])[4:])
            file.writelines(cases)
        self.run("HostCases", kind, str(self.folder))
        return Reader((self.folder / f"{kind}.out").read_bytes())


class Reader:
    """The answers, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def count(self) -> int:
        return int(self._take(">i4", 1)[0])

    def ints(self) -> np.ndarray:
        return self._take(">i4", self.count())

    def text(self) -> str:
        return self._take("u1", 2 * self.count()).tobytes().decode("utf-16-be", "surrogatepass")

    def longs(self, count: int) -> list[int]:
        return self._take(">i8", count).tolist()

    def doubles(self, count: int) -> list[float]:
        return self._take(">f8", count).tolist()

    @property
    def finished(self) -> bool:
        return self._at == len(self._data)

    def _take(self, dtype: str, count: int) -> np.ndarray:
        values = np.frombuffer(self._data, dtype, count, self._at)
        self._at += values.nbytes
        return values


def text(value: str) -> bytes:
    """A text as HostCases reads it, half surrogate pairs too."""
    units = value.encode("utf-16-be", "surrogatepass")
    return struct.pack(">i", len(units) // 2) + units


def ints(values: Sequence[int]) -> bytes:
    return struct.pack(">i", len(values)) + np.asarray(values, ">i4").tobytes()


def texts(values: Sequence[str]) -> bytes:
    return struct.pack(">i", len(values)) + b"".join(map(text, values))


def compare_texts(java: Java, vocab: Path, cases: Sequence[str]) -> Outcome:
    """Basic tokens and ids of each text; both sides must refuse the same ones."""
    tokenizer = load_tokenizer(vocab)
    valid = [case if _is_unicode(case) else "" for case in cases]
    encoded = encode_words(tokenizer, valid)
    answers = java.answers("texts", [text(case) for case in cases], vocab)
    differences = []
    for case, known, (ids, _) in zip(cases, valid, encoded, strict=True):
        expected = ("\n".join(basic_tokens(known)), ids) if known == case else ("refused", [])
        got = (answers.text(), answers.ints().tolist())
        if got != expected:
            differences.append(f"{case!a}: {expected!a} on the host, {got!a} in Java")
    _check_finished(answers)
    return Outcome({"texts": len(cases)}, differences)


def compare_questions(
    java: Java, vocab: Path, questions: Sequence[Question], kinds: Sequence[str], seed: int
) -> Outcome:
    """Every window of every question, the answers to logits of each kind, and the metrics over all."""
    windows = make_windows(questions, load_tokenizer(vocab))
    rows = np.searchsorted([window.question_index for window in windows], range(len(questions) + 1))
    logits = [make_logits(kind, len(windows), seed) for kind in kinds]
    cases = []
    for index, question in enumerate(questions):
        here = slice(rows[index], rows[index + 1])
        numbers = b"".join(part[here].astype(">f4").tobytes() for pair in logits for part in pair)
        cases.append(
            ints(LENGTHS) + text(question.question) + text(question.context) + texts(question.answers)
            + struct.pack(">i", len(logits)) + numbers
        )  # fmt: skip
    answers = java.answers("questions", cases, vocab)
    with np.errstate(all="ignore"):  # infinite logits are among them
        host = [extract_answers(questions, windows, *pair) for pair in logits]
    predictions = [by_rule for both in host for by_rule in (both.official, both.app)]
    differences = []
    for index, question in enumerate(questions):
        expected = windows[rows[index] : rows[index + 1]]
        if answers.count() != len(expected):
            raise CheckFailed(
                f"Expected {len(expected)} windows of question {question.id}, got another count."
            )
        for window in expected:
            for name in (
                "input_ids", "input_mask", "segment_ids", "token_to_orig_map", "token_is_max_context",
            ):  # fmt: skip
                if not np.array_equal(answers.ints(), getattr(window, name)):
                    differences.append(f"question {question.id}, window {window.span_index}: {name}")
        for by_id in predictions:
            got = answers.text()
            if got != by_id[question.id]:
                differences.append(
                    f"question {question.id}: {by_id[question.id]!r} on the host, {got!r} in Java"
                )
    for by_id in predictions:
        metrics = score(questions, by_id)
        expected = [metrics.exact_match, metrics.f1, app_f1(questions, by_id)]
        got = answers.doubles(3)
        if got != expected:
            differences.append(f"metrics: {expected} on the host, {got} in Java")
    _check_finished(answers)
    compared = {
        "questions": len(questions),
        "windows": len(windows),
        "answers": len(questions) * len(predictions),
    }
    return Outcome({**compared, "metrics": 3 * len(predictions)}, differences)


def compare_candidates(
    java: Java, vocab: Path, questions: Sequence[Question], kinds: Sequence[str], seed: int
) -> Outcome:
    """The n best answers of every question, and the stretch of the context that each is from."""
    tokenizer = load_tokenizer(vocab)
    cases, expected = [], []
    for number, (question, kind) in enumerate(itertools.product(questions, kinds)):
        windows = make_windows([question], tokenizer)
        logits = make_logits(kind, len(windows), seed + number)
        numbers = b"".join(part.astype(">f4").tobytes() for part in logits)
        cases.append(ints(LENGTHS) + text(question.question) + text(question.context) + numbers)
        try:
            expected.append((question, n_best_answers(question, windows, *logits)))
        except CheckFailed:
            expected.append((question, None))
    answers = java.answers("candidates", cases, vocab)
    differences, compared = [], 0
    for question, candidates in expected:
        count = answers.count()
        got = [(answers.text(), *answers.doubles(2), answers.text()) for _ in range(count)]
        if count != (-1 if candidates is None else len(candidates)):
            differences.append(f"question {question.id}: {count} candidates in Java")
            continue
        words = split_words(question.context)
        for candidate, (answer, score_, probability, stretch) in zip(candidates or (), got, strict=True):
            compared += 1
            place = words[candidate.first_word : candidate.last_word + 1]
            # exp() is good to a unit in the last place, and 20 of them are added: 21 * 2.2e-16.
            if (answer, score_, split_words(stretch)) != (candidate.text, candidate.score, place) or abs(
                probability - candidate.probability
            ) > 5e-15:
                differences.append(f"question {question.id}: {candidate} on the host, {got} in Java")
    _check_finished(answers)
    return Outcome({"questions": len(cases), "candidates": compared}, differences)


def compare_metrics(java: Java, pairs: Iterable[tuple[str, str]]) -> Outcome:
    """Exact match, F1 and the app's F1 of a prediction and a right answer."""
    pairs = list(pairs)
    answers = java.answers("pairs", [text(prediction) + texts([truth]) for prediction, truth in pairs])
    differences = []
    for prediction, truth in pairs:
        question = Question("id", "", "", "", (truth,), (0,))
        metrics = score([question], {"id": prediction})
        expected = [metrics.exact_match, metrics.f1, app_f1([question], {"id": prediction})]
        got = answers.doubles(3)
        if got != expected:
            differences.append(f"{prediction!a}, {truth!a}: {expected} on the host, {got} in Java")
    _check_finished(answers)
    return Outcome({"pairs": len(pairs)}, differences)


def words_a_second(java: Java, vocab: Path, contexts: Sequence[str]) -> tuple[float, int]:
    """(words that Java tokenizes in a second of one thread's CPU time, words): once, from a cold start."""
    answers = java.answers("speed", [text(context) for context in contexts], vocab)
    pairs = [answers.longs(2) for _ in contexts]
    nanoseconds, words = np.sum(pairs, axis=0)
    return float(words / nanoseconds * 1e9), int(words)


def make_logits(kind: str, windows: int, seed: int) -> Logits:
    """Logits as a model might give them, and as none should: start and end, float32 [windows, tokens].

    random: normal. tied: few different values. peaked: one token far above the rest. rounded: so large that
    float and double order the sums differently. infinite: some so, of both signs, or nearly.
    """
    rng = np.random.default_rng([seed, *kind.encode()])
    shape = (2, windows, MAX_SEQ_LENGTH)
    values = rng.normal(size=shape).astype(np.float32)
    if kind == "tied":
        values = np.round(2 * values)
    elif kind == "peaked":
        place = rng.integers(20, 120, (2, windows, 1))
        place[1] = place[0] + rng.integers(0, 6, (windows, 1))
        np.put_along_axis(values, place, np.float32(12), axis=-1)
    elif kind == "rounded":
        values = np.round(values * 50) / 50 + np.float32(1 << 14)
    elif kind == "infinite":
        chosen = rng.choice([np.inf, -np.inf, 3.4e38], shape).astype(np.float32)
        values = np.where(rng.random(shape) < rng.choice([0.001, 0.02, 0.9], (1, windows, 1)), chosen, values)
    return values[0], values[1]


def _is_unicode(value: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)


def _check_finished(answers: Reader) -> None:
    if not answers.finished:
        raise CheckFailed("Expected Java to answer these cases only, got more.")
