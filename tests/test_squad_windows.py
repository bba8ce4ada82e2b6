"""Windows against the MLPerf app's published records (all 10,833 of them), and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_question_model as tiny

from mobilebert_kit.errors import InputError
from mobilebert_kit.squad.dataset import Question, load_questions
from mobilebert_kit.squad.records import read_windows
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows, max_context, span_starts, split_words

SCALARS = ("unique_id", "qas_id", "question_index", "span_index", "tokens", "doc_offset")
ARRAYS = ("input_ids", "input_mask", "segment_ids", "token_to_orig_map", "token_is_max_context")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(tiny.write_vocab(tmp_path_factory.mktemp("vocab")))


@pytest.fixture(scope="module")
def dev_windows(shared):
    questions = load_questions(shared / "data" / "squad" / "dev-v1.1.json")
    return make_windows(questions, load_tokenizer(shared / "data" / "vocab.txt"))


@pytest.mark.parametrize(
    ("name", "count"), [("squad_eval", 10833), ("squad_eval_mini", 100), ("squad_eval_tiny", 10)]
)
def test_the_published_records(shared, dev_windows, name, count):
    published = read_windows(shared / "data" / "mlperf" / f"{name}.tfrecord")
    assert len(published) == count
    if name == "squad_eval":
        assert len(dev_windows) == count
    made = {window.unique_id: window for window in dev_windows}
    for record in published:
        window = made[record.unique_id]
        for field in SCALARS:
            # The smaller files are selections: their questions are counted anew.
            if field != "question_index" or name == "squad_eval":
                assert getattr(window, field) == getattr(record, field), (field, record.unique_id)
        for field in ARRAYS:
            ours, theirs = getattr(window, field), getattr(record, field)
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{field} of {record.unique_id}")


def test_a_window_by_hand(tokenizer):
    question = Question("q", "Where was Steve?", "Steve's red\tcar, in \u202f Paris.", "", ("Paris",), (0,))
    (window,) = make_windows([question], tokenizer, max_seq_length=24, max_query_length=8)
    text = "[CLS] where was steve ? [SEP] steve ' s red car , in paris . [SEP]"
    tokens = text.split()
    assert window.tokens == tuple(tokens)
    vocab = {token: number for number, token in enumerate(tiny.VOCAB)}
    assert window.input_ids.tolist() == [vocab[token] for token in tokens] + [0] * 8
    assert window.input_mask.tolist() == [1] * 16 + [0] * 8
    assert window.segment_ids.tolist() == [0] * 6 + [1] * 10 + [0] * 8
    assert split_words(question.context) == ["Steve's", "red", "car,", "in", "Paris."]
    assert window.doc_offset == 6
    assert window.token_to_orig_map.tolist() == [0, 0, 0, 1, 2, 2, 3, 4, 4]
    assert window.token_is_max_context.tolist() == [True] * 9
    assert (window.unique_id, window.qas_id, window.question_index, window.span_index) == (10**9, "q", 0, 0)


def test_sliding_by_hand(tokenizer):
    """Room for 5 of 9 tokens, stride 2, and a question cut at 3 tokens."""
    context = "a b c d e f g h i"
    question = Question("q", "what was the river?", context, "", ("a",), (0,))
    windows = make_windows([question] * 2, tokenizer, max_seq_length=11, doc_stride=2, max_query_length=3)
    assert [w.unique_id - 10**9 for w in windows] == [0, 1, 2, 3, 4, 5]
    assert [w.question_index for w in windows] == [0, 0, 0, 1, 1, 1]
    assert [w.span_index for w in windows] == [0, 1, 2, 0, 1, 2]
    assert [" ".join(w.tokens) for w in windows[:3]] == [
        "[CLS] what was the [SEP] a b c d e [SEP]",
        "[CLS] what was the [SEP] c d e f g [SEP]",
        "[CLS] what was the [SEP] e f g h i [SEP]",
    ]
    # c has 2 left and 2 right in the first, none left in the second; of equals (d: 1 and 1) the first wins.
    assert [w.token_is_max_context.tolist() for w in windows[:3]] == [
        [True, True, True, True, False],
        [False, False, True, True, False],
        [False, False, True, True, True],
    ]


def test_max_context_is_its_definition():
    rng = np.random.default_rng(3)
    for _ in range(200):
        total, room, stride = rng.integers(1, 60), int(rng.integers(1, 20)), int(rng.integers(1, 20))
        spans = span_starts(int(total), room, stride)
        assert spans[-1][0] + spans[-1][1] == total
        flags = max_context(spans)
        for position in range(total):
            scores = [
                min(position - start, start + length - 1 - position) + 0.01 * length
                if start <= position < start + length
                else -1
                for start, length in spans
            ]
            best = scores.index(max(scores))
            for index, (start, length) in enumerate(spans):
                if start <= position < start + length:
                    assert flags[index][position - start] == (index == best)


def test_a_context_without_tokens_gives_no_window(tokenizer):
    questions = [Question("q", "who?", "\u200b\u200b", "", ("\u200b",), (0,))]
    assert make_windows(questions, tokenizer) == []


@pytest.mark.parametrize(
    "lengths",
    [{"max_seq_length": 67}, {"doc_stride": 0}, {"max_query_length": 0}, {"max_query_length": 381}],
)
def test_lengths_without_room(tokenizer, lengths):
    with pytest.raises(InputError, match="sequence length of more than the query length"):
        make_windows([], tokenizer, **lengths)
