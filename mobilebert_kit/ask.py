"""Ask a model a question about a text.

    python -m mobilebert_kit.ask --model mobilebert_int8_384.tflite --context article.txt --question "Who?"
    echo "It was in Paris." | python -m mobilebert_kit.ask --model M.tflite --context - --question "Where?"

A .tflite, or an .xml of OpenVINO's; any length of text. Needs what `evaluate` needs; no TensorFlow. The
probability is among the 20 best answers, not of being right.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from absl import flags

from mobilebert_kit.errors import InputError
from mobilebert_kit.main import run
from mobilebert_kit.runtime.engine import open_engine
from mobilebert_kit.runtime.packages import RUNTIMES
from mobilebert_kit.runtime.scoring import run_windows
from mobilebert_kit.runtime.segments import require_segments
from mobilebert_kit.squad.answers import N_BEST, NO_ANSWER
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.files import read_bytes
from mobilebert_kit.squad.n_best import Candidate, n_best_answers
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import DOC_STRIDE, make_windows, split_words

_MODEL = flags.DEFINE_string("model", None, "The model: a .tflite, or an .xml of OpenVINO.", required=True)
_CONTEXT = flags.DEFINE_string(
    "context", None, "A file with the text to answer from, UTF-8; - for standard input.", required=True
)
_QUESTION = flags.DEFINE_string("question", None, "The question.", required=True)
_VOCAB = flags.DEFINE_string("vocab", None, "The vocabulary; default: vocab.txt beside the model.")
_N_BEST = flags.DEFINE_integer("n_best", 1, "How many answers to show.", lower_bound=1, upper_bound=N_BEST)
_DOC_STRIDE = flags.DEFINE_integer("doc_stride", DOC_STRIDE, "Tokens from window to window.", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 1, "Threads of one interpreter.", lower_bound=1)
_WORKERS = flags.DEFINE_integer("workers", None, "Interpreters at a time; default: one a CPU.", lower_bound=1)
_RUNTIME = flags.DEFINE_enum(
    "runtime", None, list(RUNTIMES), "What runs the model; default: openvino for an .xml, else litert."
)
_JSON = flags.DEFINE_bool("json", False, "Print the result as one JSON object.")

_MAX_BYTES = 2**20  # some 2,000 windows: minutes
_SENTENCE_END = re.compile(r"[.!?][\"')\]]* ")


def main() -> None:
    if not _QUESTION.value.strip():
        raise InputError("Expected a text as --question, got none.")
    model = open_engine(_MODEL.value, threads=_THREADS.value, runtime=_RUNTIME.value)
    require_segments([model])
    tokenizer = load_tokenizer(_VOCAB.value or Path(_MODEL.value).parent / "vocab.txt")
    question = Question("ask", _QUESTION.value, _read_context(_CONTEXT.value), "", (), ())
    windows = make_windows(
        [question], tokenizer, max_seq_length=model.sequence_length, doc_stride=_DOC_STRIDE.value
    )
    if not windows:
        raise InputError(f"Expected words in the context, got none in {_CONTEXT.value}.")
    del model  # the workers make their own
    start, end = run_windows(
        _MODEL.value,
        windows,
        threads=_THREADS.value,
        workers=_WORKERS.value,
        runtime=_RUNTIME.value,
    )
    answers = n_best_answers(question, windows, start, end)
    words = split_words(question.context)
    shown = [(answer, mark_answer(words, answer)) for answer in answers[: _N_BEST.value]]
    if _JSON.value:
        n_best = [
            {"text": a.text, "probability": a.probability, "score": a.score, "sentence": sentence}
            for a, sentence in shown
        ]
        best = answers[0].text if answers else NO_ANSWER
        print(json.dumps({"answer": best, "windows": len(windows), "n_best": n_best}, ensure_ascii=False))
        return
    for answer, sentence in shown:
        print(f"{answer.text}\n    probability {answer.probability:.3f}, score {answer.score:.2f}")
        print(f"    {sentence}")
    if not answers:
        print("no answer")


def _read_context(source: str) -> str:
    if source == "-":
        data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise InputError(f"Expected a context of {_MAX_BYTES} bytes at most, got more.")
    else:
        data = read_bytes(source, "a context, a text file,", max_bytes=_MAX_BYTES)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"Expected a context as UTF-8 text, got other bytes in {source}: {error}."
        ) from error


def mark_answer(words: list[str], answer: Candidate) -> str:
    """The sentence around the answer, **with the answer so**, its words joined by one space."""
    text = " ".join(words)
    first = len(" ".join(words[: answer.first_word])) + (answer.first_word > 0)
    start = text.find(answer.text, first)
    end = start + len(answer.text)
    before = [match.end() for match in _SENTENCE_END.finditer(text, 0, start)]
    after = _SENTENCE_END.search(text, max(end - 1, 0))
    head = text[before[-1] if before else 0 : start]
    tail = text[end : after.end() if after else len(text)]
    return f"{head}**{answer.text}**{tail}".strip()


if __name__ == "__main__":
    run(main)
