"""The JVM code against the host on a whole dataset, on random texts, and on every code point there is.

    python tools/check_java.py --dataset dev-v1.1.json --output java.json

Compares the ids of every window, the answers to five kinds of logits by both rules, exact match and F1 to
the last digit, and the n best answers to every tenth question; times the tokenizer in one thread. Ends with 3
where anything differs. Wants a JDK.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import tokenizers
from absl import flags
from benchmark_models import DEMO_VOCAB
from benchmark_report import Requirement, publish
from java_cases import (
    LOGITS,
    Java,
    compare_candidates,
    compare_metrics,
    compare_questions,
    compare_texts,
    words_a_second,
)
from java_texts import every_character, random_pairs, random_texts

from mobilebert_kit.main import run
from mobilebert_kit.squad.dataset import load_questions

WORDS_A_SECOND = 20_000

_DATASET = flags.DEFINE_string("dataset", None, "SQuAD v1.1 file.", required=True)
_VOCAB = flags.DEFINE_string("vocab", str(DEMO_VOCAB), "vocab.txt")
_TEXTS = flags.DEFINE_integer("texts", 20_000, "How many random texts.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of texts and logits.")
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


def main() -> None:
    questions, vocab, seed = load_questions(_DATASET.value), Path(_VOCAB.value), _SEED.value
    with tempfile.TemporaryDirectory() as scratch:
        java = Java(Path(scratch))
        java.compile()
        everything = list(every_character([(0, sys.maxunicode + 1)]))
        outcomes = [
            ("dataset", compare_questions(java, vocab, questions, LOGITS, seed)),
            ("n best", compare_candidates(java, vocab, questions[::10], ("peaked",), seed)),
            ("random texts", compare_texts(java, vocab, list(random_texts(_TEXTS.value, seed)))),
            ("every code point", compare_texts(java, vocab, everything)),
            ("random answers", compare_metrics(java, random_pairs(_TEXTS.value, seed))),
        ]
        contexts = list(dict.fromkeys(question.context for question in questions))
        speed, words = words_a_second(java, vocab, contexts)
    rows = [
        (
            what,
            ", ".join(f"{count:,} {name}" for name, count in outcome.compared.items()),
            len(outcome.differences),
        )
        for what, outcome in outcomes
    ]
    for _, outcome in outcomes:
        for line in outcome.differences[:10]:
            print(line)
    publish(
        f"Java against Python, {words:,} words at {speed:,.0f} a second, {java.version()}",
        ("on", "compared", "different"),
        rows,
        [
            Requirement("different", sum(len(outcome.differences) for _, outcome in outcomes), 0),
            Requirement("words a second", speed, WORDS_A_SECOND, at_least=True),
        ],
        {"rows": rows, "words": words, "words_a_second": round(speed), "tokenizers": tokenizers.__version__},
        _OUTPUT.value,
    )


if __name__ == "__main__":
    run(main)
