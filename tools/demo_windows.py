"""SQuAD for the demo's training: windows with labels as flat arrays, batches of one length, and the score.

Windows, answer extraction and metric are the kit's own (mobilebert_kit.squad). A window takes 384 tokens at
most and about 170 on average, so batches hold windows of similar length and are padded to their longest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from demo_distillation import MASKED

from mobilebert_kit.squad.answers import extract_answers
from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.metric import Metrics, score
from mobilebert_kit.squad.tokenizer import encode_words, load_tokenizer
from mobilebert_kit.squad.windows import MAX_SEQ_LENGTH, Window, make_windows, split_words

# Batches are padded to a multiple of it: aligned rows, and fewer shapes for oneDNN to build.
LENGTH_MULTIPLE = 16
POOL_BATCHES = 40  # batches are cut from this many batches' worth of shuffled windows, sorted by length
_ARRAYS = ("ids", "starts", "lengths", "contexts", "labels")


class TrainingWindows:
    """All windows of a dataset, token after token, on one device."""

    def __init__(self, arrays: dict[str, np.ndarray], device: torch.device) -> None:
        self.lengths = arrays["lengths"]  # [N], here for the batching
        self.device = device
        self.ids, self._starts, self._lengths, self._contexts, self.labels = (
            torch.from_numpy(arrays[name].astype(np.int64)).to(device) for name in _ARRAYS
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def gather(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """-> ids, types, mask, place, [B, S] each; place: where a token lies in `ids` (padding: its end)."""
        size = _round_up(int(self.lengths[rows].max()))
        at = torch.from_numpy(rows).to(self.device)
        column = torch.arange(size, device=self.device)[None]
        mask = column < self._lengths[at, None]
        place = torch.where(mask, self._starts[at, None] + column, len(self.ids))
        ids = torch.where(mask, self.ids[place.clamp_max(len(self.ids) - 1)], 0)
        types = (mask & (column >= self._contexts[at, None])).long()
        return ids, types, mask, place

    def batches(self, tokens: int, seed: int, among: np.ndarray | None = None) -> list[np.ndarray]:
        """Window numbers of every batch of an epoch, of at most `tokens` tokens each, padding included.

        among: the windows to take, all by default.
        """
        random = np.random.default_rng(seed)
        order = random.permutation(len(self) if among is None else among)
        pool = max(1, POOL_BATCHES * tokens // int(self.lengths.mean()))
        batches = []
        for first in range(0, len(order), pool):
            part = order[first : first + pool]
            batches += cut_by_tokens(
                part[np.argsort(self.lengths[part], kind="stable")], self.lengths, tokens
            )
        return [batches[number] for number in random.permutation(len(batches))]


def cut_by_tokens(rows: np.ndarray, lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """`rows`, sorted by length, in groups of at most `tokens` tokens when padded (one window at least)."""
    groups: list[list[int]] = [[]]
    for row in rows:
        if groups[-1] and _round_up(int(lengths[row])) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(row)
    return [np.array(group) for group in groups]


def load_training_windows(
    cache: Path, train: str, exclude_ids: str | None, vocab: Path, device: torch.device
) -> TrainingWindows:
    """The windows of a SQuAD file, tokenized once: the arrays are kept in `cache`."""
    if not cache.exists():
        excluded = set(json.loads(Path(exclude_ids).read_text(encoding="utf-8"))) if exclude_ids else set()
        questions = [question for question in load_questions(train) if question.id not in excluded]
        arrays = _flatten(questions, vocab)
        temporary = cache.with_name(f"new.{cache.name}")
        np.savez(temporary, **arrays)
        os.replace(temporary, cache)
    with np.load(cache) as file:
        return TrainingWindows({name: file[name] for name in _ARRAYS}, device)


def _flatten(questions: Sequence[Question], vocab: Path) -> dict[str, np.ndarray]:
    tokenizer = load_tokenizer(vocab)
    windows = make_windows(questions, tokenizer)
    answers = encode_words(tokenizer, [question.answers[0] for question in questions])
    lengths = np.array([len(window.tokens) for window in windows], np.int32)
    return {
        "ids": np.concatenate([window.input_ids[: len(window.tokens)] for window in windows]),
        "starts": np.cumsum(lengths, dtype=np.int64) - lengths,
        "lengths": lengths,
        "contexts": np.array([window.doc_offset for window in windows], np.int32),
        "labels": np.array(
            [
                answer_span(window, questions[window.question_index], answers[window.question_index][1])
                for window in windows
            ],
            np.int32,
        ),
    }


def answer_span(window: Window, question: Question, answer_tokens: Sequence[str]) -> tuple[int, int]:
    """First and last token of the first answer, or (0, 0), [CLS], where the window does not hold it whole.

    The words that the answer touches, narrowed to the answer's own wordpieces where they appear there, as
    run_squad.py does it (_improve_answer_span): of "(1895-1943)" only "1895".
    """
    first_character = question.answer_starts[0]
    last_character = first_character + len(question.answers[0]) - 1
    first_word, last_word = (
        len(split_words(question.context[: character + 1])) - 1
        for character in (first_character, last_character)
    )
    word_of_token = window.token_to_orig_map
    at = np.flatnonzero((word_of_token >= first_word) & (word_of_token <= last_word))
    if not len(at) or word_of_token[at[0]] != first_word or word_of_token[at[-1]] != last_word:
        return 0, 0
    first, last = int(at[0]) + window.doc_offset, int(at[-1]) + window.doc_offset
    wanted = tuple(answer_tokens)
    for start in range(first, last + 2 - len(wanted)):
        if window.tokens[start : start + len(wanted)] == wanted:
            return start, start + len(wanted) - 1
    return first, last


class Evaluation:
    """The first questions of a SQuAD file, and the score that a student's logits earn on them."""

    def __init__(self, path: str, limit: int | None, vocab: Path, device: torch.device) -> None:
        self.questions = load_questions(path, limit=limit)
        self.windows = make_windows(self.questions, load_tokenizer(vocab))
        self._device = device

    def score(self, predict, batch_tokens: int = 8192) -> tuple[Metrics, list[float]]:
        """-> exact match and F1, and the largest magnitude of each hidden state.

        predict: (ids, types, mask [B, S]) -> logits [B, S, 2], magnitudes [layers + 1].
        """
        lengths = np.array([len(window.tokens) for window in self.windows])
        # What is never computed is padding, which must not be among the best of its window.
        logits = np.full((2, len(self.windows), MAX_SEQ_LENGTH), MASKED, np.float32)
        peaks = []
        for rows in cut_by_tokens(np.argsort(lengths, kind="stable"), lengths, batch_tokens):
            size = int(lengths[rows].max())
            ids, mask, types = (
                torch.from_numpy(np.stack([getattr(self.windows[row], name)[:size] for row in rows]))
                .long()
                .to(self._device)
                for name in ("input_ids", "input_mask", "segment_ids")
            )
            values, peak = predict(ids, types, mask.bool())
            logits[:, rows, :size] = values.permute(2, 0, 1).cpu().numpy()
            peaks.append(peak)
        answers = extract_answers(self.questions, self.windows, logits[0], logits[1])
        return score(self.questions, answers.official), torch.stack(peaks).amax(0).tolist()


def _round_up(length: int) -> int:
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
