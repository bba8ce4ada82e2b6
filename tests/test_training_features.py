"""Answer positions: by hand, and against the offsets of the tokenizer of transformers on real questions."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_question_model import write_vocab

from mobilebert_kit.errors import InputError
from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows
from mobilebert_kit.training import features as features_module
from mobilebert_kit.training.features import Features, make_features

REAL_QUESTIONS = 400


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(write_vocab(tmp_path_factory.mktemp("vocab")))


@pytest.fixture(scope="module")
def real(shared):
    """Questions and tokenizer of SQuAD."""
    path = shared / "data" / "squad" / "train-v1.1.json"
    return load_questions(path, limit=REAL_QUESTIONS), load_tokenizer(shared / "data" / "vocab.txt")


def question(context: str, answer: str, start: int | None = None, question_id: str = "q") -> Question:
    start = context.index(answer) if start is None else start
    return Question(question_id, "Who was in Paris ?", context, "t", (answer,), (start,))


def spans(made: Features, tokenizer) -> list[str]:
    """What lies between the positions, in each window."""
    texts = []
    for i in range(len(made)):
        ids = made.ids[made.offsets[i] : made.offsets[i + 1]]
        texts.append(" ".join(map(tokenizer.id_to_token, ids[made.starts[i] : made.ends[i] + 1])))
    return texts


@pytest.mark.parametrize(
    ("context", "answer", "start", "expected"),
    [
        ("Steve Smith was in Paris .", "Steve Smith", None, "steve smith"),
        ("Steve Smith was in Paris .", "Paris", None, "paris"),
        # Part of a word: the word's own pieces, where they are the answer's.
        ("The cars was in Paris .", "car", None, "car"),
        ("In (1-2) Smith was in Paris .", "1", None, "1"),
        ("In (1-2) Smith was in Paris .", "2", None, "2"),
        # Where no piece of the word is the answer's, the whole word.
        ("The cars was in Paris .", "ars", None, "car ##s"),
        # The first place of the words that it touches, as _improve_answer_span searches.
        ("The 1-1 was red .", "1", 6, "1"),
        # Other white space than a space is between words; inside an answer, any.
        ("Steve\tSmith\u202fwas in Paris .", "Smith\u202fwas", None, "smith was"),
        # An answer that begins with a space touches the word before it.
        ("Who was in Paris .", " was", None, "was"),
    ],
)
def test_positions(tokenizer, context, answer, start, expected):
    made = make_features([question(context, answer, start)], tokenizer, max_seq_length=96)
    assert spans(made, tokenizer) == [expected]


def test_window_without_the_whole_answer_points_to_cls(tokenizer):
    """60 words in windows of 20 tokens that start every 8: by hand, which of them hold words 17 to 18."""
    context = " ".join(["the"] * 17 + ["red", "car"] + ["was"] * 41)
    made = make_features(
        [question(context, "red car")], tokenizer, max_seq_length=28, doc_stride=8, max_query_length=5
    )
    room = 28 - 5 - 3
    starts = [0, 8, 16, 24, 32, 40]
    assert len(made) == len(starts)
    assert spans(made, tokenizer) == [
        "red car" if start <= 17 and start + room > 18 else "[CLS]" for start in starts
    ]
    assert made.answered == 3
    assert not made.starts[3:].any() and not made.ends[3:].any()


def test_windows_are_those_of_the_evaluation_whatever_the_chunk(tokenizer, monkeypatch):
    contexts = ["Steve was in Paris . " * (n + 1) for n in range(7)]
    questions = [question(context, "Paris", question_id=f"q{n}") for n, context in enumerate(contexts)]
    lengths = {"max_seq_length": 40, "doc_stride": 6, "max_query_length": 5}
    windows = make_windows(questions, tokenizer, **lengths)
    monkeypatch.setattr(features_module, "_CHUNK", 3)
    made = make_features(questions, tokenizer, **lengths)
    assert len(made) == len(windows) > len(questions)
    for i, window in enumerate(windows):
        ids = made.ids[made.offsets[i] : made.offsets[i + 1]]
        assert np.array_equal(ids, window.input_ids[window.input_mask == 1])
        assert made.contexts[i] == np.argmax(window.segment_ids)
        assert made.question_ids[i] == window.qas_id


def test_answer_that_its_words_do_not_hold_is_left_out(tokenizer):
    """run_squad.py skips it: the context's "no-break" space ends no word there, but does in the answer."""
    kept = question("Steve was in Paris .", "Paris", question_id="kept")
    left = question("Steve\u00a0Smith was in Paris .", "Steve\u00a0Smith", question_id="left")
    made = make_features([left, kept], tokenizer, max_seq_length=96)
    assert made.left_out == ("left",)
    assert made.question_ids == ("kept",)


def test_no_usable_window(tokenizer):
    context = " ".join(["red"] * 100)
    with pytest.raises(InputError, match="a window that holds its answer"):
        make_features([question(context, context)], tokenizer, max_seq_length=96)


def test_real_questions_against_the_offsets_of_transformers(shared, real):
    """Where an answer begins and ends with a token, its first and last tokens by transformers' offsets."""
    transformers = pytest.importorskip("transformers", reason="no transformers (extra [distill])")
    theirs = transformers.BertTokenizerFast(str(shared / "data" / "vocab.txt"), do_lower_case=True)
    questions, tokenizer = real
    made = make_features(questions, tokenizer)
    by_question = {asked.id: asked for asked in questions}
    aligned = 0
    for i, question_id in enumerate(made.question_ids):
        asked = by_question[question_id]
        if made.question_ids.count(question_id) > 1:
            continue  # the windows' tokens are compared elsewhere; here one window, one context
        first, last = asked.answer_starts[0], asked.answer_starts[0] + len(asked.answers[0])
        encoded = theirs(asked.question, asked.context, return_offsets_mapping=True)
        assert encoded["input_ids"] == made.ids[made.offsets[i] : made.offsets[i + 1]].tolist()
        offsets = encoded["offset_mapping"]
        inside = [
            place
            for place, (start, end) in enumerate(offsets)
            if encoded.sequence_ids()[place] == 1 and start < last and end > first
        ]
        if offsets[inside[0]][0] == first and offsets[inside[-1]][1] == last:
            aligned += 1
            assert (made.starts[i], made.ends[i]) == (inside[0], inside[-1]), asked
        else:
            assert made.starts[i] <= inside[0] and inside[-1] <= made.ends[i], asked
    assert aligned > 0.9 * REAL_QUESTIONS


def test_real_questions_in_short_windows(real):
    """Windows that overlap by more than any answer: each answer is in one, and reads the same in all."""
    questions, tokenizer = real
    whole, cut = (
        make_features(questions, tokenizer, max_seq_length=length, doc_stride=stride)
        for length, stride in ((384, 128), (128, 32))
    )
    assert len(cut) > len(whole) >= REAL_QUESTIONS
    expected, found = (
        {
            (question_id, text)
            for question_id, text in zip(made.question_ids, spans(made, tokenizer), strict=True)
            if text != "[CLS]"
        }
        for made in (whole, cut)
    )
    assert len(expected) == REAL_QUESTIONS
    assert found == expected
