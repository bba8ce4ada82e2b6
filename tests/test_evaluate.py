"""python -m mobilebert_kit.evaluate, from outside: what it prints, writes and ends with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tiny_question_model as tiny
from without_tensorflow import run_light

from mobilebert_kit.runtime.scoring import score_model
from mobilebert_kit.squad.dataset import load_questions
from mobilebert_kit.squad.records import write_groundtruth, write_windows
from mobilebert_kit.squad.tokenizer import load_tokenizer
from mobilebert_kit.squad.windows import make_windows

REPOSITORY = Path(__file__).resolve().parent.parent
LENGTH = 128


def evaluate(*arguments: object, code: str | None = None) -> subprocess.CompletedProcess[str]:
    head = ["-c", textwrap.dedent(code)] if code else ["-m", "mobilebert_kit.evaluate"]
    return subprocess.run(
        [sys.executable, *head, *map(str, arguments)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model, its vocabulary, a dataset as JSON and as records."""
    folder = tmp_path_factory.mktemp("evaluate")
    vocab = tiny.write_vocab(folder)
    tiny.write_model(folder / "model.tflite", LENGTH)
    text = "Steve Smith's red car was in Paris (1999), not in London. "
    asked = [("Who was in Paris?", "Steve Smith"), ("What was red?", "car"), ("Where?", "London")]
    paragraphs = [
        {
            "context": text * count,
            "qas": [
                {
                    "id": f"q{count}{n}",
                    "question": question,
                    "answers": [{"text": answer, "answer_start": (text * count).index(answer)}],
                }
                for n, (question, answer) in enumerate(asked)
            ],
        }
        for count in (1, 5, 20)
    ]
    (folder / "squad.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    questions = load_questions(folder / "squad.json")
    windows = make_windows(questions, load_tokenizer(vocab), max_seq_length=LENGTH)
    assert len(windows) > len(questions)
    write_windows(folder / "squad_eval.tfrecord", windows)
    write_groundtruth(folder / "squad_groundtruth.tfrecord", questions)
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    questions = load_questions(folder / "squad.json")
    windows = make_windows(questions, load_tokenizer(folder / "vocab.txt"), max_seq_length=LENGTH)
    return score_model(folder / "model.tflite", questions, windows, workers=1)


def result(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def same(found: dict, score) -> bool:
    names = ("exact_match", "f1", "app_f1", "questions", "windows")
    return all(found[name] == pytest.approx(getattr(score, name), abs=1e-9) for name in names)


def test_it_runs_without_tensorflow(folder, expected):
    model, dataset = folder / "model.tflite", folder / "squad.json"
    done = run_light("mobilebert_kit.evaluate", "--model", model, "--dataset", dataset, "--json")
    assert same(result(done), expected)


def test_the_summary_and_the_predictions(folder, expected, tmp_path):
    output = tmp_path / "predictions.json"
    common = ("--model", folder / "model.tflite", "--dataset", folder / "squad.json", "--output", output)
    done = evaluate(*common, "--workers", 2, "--threads", 1)
    assert done.returncode == 0, done.stderr
    lines = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["exact match"] == f"{expected.exact_match:.4f}"
    assert lines["F1"] == f"{expected.f1:.4f}"
    assert lines["F1 (app)"] == f"{expected.app_f1:.4f}"
    assert (lines["questions"], lines["windows"]) == ("9", str(expected.windows))
    assert json.loads(output.read_text(encoding="utf-8")) == expected.predictions
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]

    before = output.read_bytes()
    refused = evaluate(*common)
    assert refused.returncode == 2 and "--overwrite" in refused.stderr
    assert output.read_bytes() == before
    assert evaluate(*common, "--overwrite").returncode == 0

    scored = result(evaluate("--predictions", output, "--dataset", folder / "squad.json", "--json"))
    assert scored["f1"] == pytest.approx(expected.f1)
    assert scored["exact_match"] == pytest.approx(expected.exact_match)


@pytest.mark.parametrize("groundtruth", [None, "squad_groundtruth.tfrecord", "squad.json"])
def test_records_give_the_same_scores(folder, expected, groundtruth):
    more = () if groundtruth is None else ("--groundtruth", folder / groundtruth)
    done = evaluate(
        "--model", folder / "model.tflite", "--dataset", folder / "squad_eval.tfrecord", *more, "--json"
    )
    assert same(result(done), expected)


def test_tflite_runtime(folder, expected):
    pytest.importorskip("tflite_runtime", reason="pip install tflite-runtime")
    done = run_light(
        "mobilebert_kit.evaluate",
        *("--model", folder / "model.tflite", "--dataset", folder / "squad.json", "--json"),
        *("--runtime", "tflite_runtime"),
    )
    assert same(result(done), expected)


@pytest.mark.parametrize("dataset", ["squad.json", "squad_eval.tfrecord"])
def test_the_first_questions(folder, dataset):
    done = evaluate(
        "--model", folder / "model.tflite", "--dataset", folder / dataset, "--num_questions", 4, "--json"
    )
    assert result(done)["questions"] == 4


def test_missing_predictions_count_zero(folder, tmp_path):
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps({"q10": "the Steve Smith!", "q11": "red car", "other": "x"}))
    done = evaluate("--predictions", path, "--dataset", folder / "squad.json", "--json")
    found = result(done)
    assert found["exact_match"] == pytest.approx(100 / 9)
    assert found["f1"] == pytest.approx(100 * (1 + 2 / 3) / 9)
    assert found["app_f1"] == pytest.approx(100 * (4 / 5 + 2 / 3) / 9)
    assert found["missing"] == 7 and "7 of 9 questions have no prediction" in done.stderr


def test_help():
    done = evaluate("--help")
    assert done.returncode == 0
    assert "--model" in done.stdout and "--num_questions" in done.stdout and "TFLite" in done.stdout


BAD = {
    "nothing": ((), "dataset"),
    "no model": (("--dataset", "squad.json"), "either --model or --predictions"),
    "both": (("--dataset", "squad.json", "--model", "model.tflite", "--predictions", "p"), "got both"),
    "unknown flag": (("--modle", "x"), "Unknown command line flag 'modle'"),
    "no number": (("--num_questions", "many"), "num_questions"),
    "zero": (("--num_questions", "0"), "num_questions"),
    "runtime": (("--runtime", "tvm"), "litert"),
    "word": (("--dataset", "squad.json", "--model", "model.tflite", "word"), "flags only"),
    "no such model": (("--dataset", "squad.json", "--model", "no.tflite"), "no such file"),
    "no model at all": (("--dataset", "squad.json", "--model", "squad.json"), "Expected a .tflite model"),
    "no such dataset": (("--dataset", "no.json", "--model", "model.tflite"), "no such file"),
    "not cached": (("--dataset", "not-cached", "--model", "model.tflite"), "offline"),
    "no vocab": (("--dataset", "squad.json", "--model", "model.tflite", "--vocab", "no.txt"), "vocabulary"),
    "too many": (
        ("--dataset", "squad.json", "--model", "model.tflite", "--num_questions", "10"),
        "10 questions",
    ),
    "wrong file": (("--dataset", "vocab.txt", "--model", "model.tflite"), "SQuAD v1.1"),
    "groundtruth": (
        ("--dataset", "squad.json", "--model", "model.tflite", "--groundtruth", "x"),
        "with records",
    ),
    "output folder": (
        ("--dataset", "squad.json", "--model", "model.tflite", "--output", "no/x.json"),
        "no such folder",
    ),
    "output": (
        ("--dataset", "squad.json", "--predictions", "p.json", "--output", "x.json"),
        "--output with --model",
    ),
    "others": (("--dataset", "squad.json", "--predictions", "others.json"), "Are they for another dataset?"),
    "n-best": (("--dataset", "squad.json", "--predictions", "nbest.json"), "take predictions.json"),
    "truncated": (("--dataset", "cut.tfrecord", "--model", "model.tflite"), "truncated"),
    "no room": (
        ("--dataset", "squad.json", "--model", "model.tflite", "--max_query_length", "125"),
        "more than",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input(folder, kind):
    (folder / "others.json").write_text('{"x": "y"}')
    (folder / "nbest.json").write_text('{"q10": [{"text": "y"}]}')
    (folder / "cut.tfrecord").write_bytes((folder / "squad_eval.tfrecord").read_bytes()[:-30])
    files = {path.name for path in folder.iterdir()} | {"no.tflite", "no.json", "no.txt"}
    arguments, message = BAD[kind]
    before = sorted(folder.iterdir())
    done = evaluate(*(folder / a if a in files or a.endswith("x.json") else a for a in arguments))
    assert done.returncode == 2, done.stderr
    *others, last = done.stderr.splitlines()
    assert last.startswith("error: ") and message in last
    assert all(line.startswith("INFO: ") for line in others)  # the runtime's own
    assert done.stdout == ""
    assert sorted(folder.iterdir()) == before


MAIN = """
    import os, signal, sys
    from absl import flags
    from mobilebert_kit import errors
    from mobilebert_kit.main import run
    def main():
        try:
            {body}
        finally:
            print("unwound")
    run(main)
"""


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("pass", 0, ""),
        ("raise errors.InputError('bad')", 2, "error: bad\n"),
        ("raise errors.CheckFailed('F1 fell')", 3, "error: F1 fell\n"),
        ("raise flags.ValidationError('no')", 2, "error: no See --help.\n"),
        ("1 / 0", 4, "ZeroDivisionError"),
        ("os.kill(os.getpid(), signal.SIGINT)", 130, "interrupted\n"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143, "terminated\n"),
    ],
)
def test_exit_codes(body, code, message):
    done = evaluate(code=textwrap.dedent(MAIN).format(body=body))
    assert done.returncode == code
    assert done.stdout == "unwound\n"
    assert message in done.stderr and ("Traceback" in done.stderr) == (code == 4)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("print('told')", 141, ""),
        ("sys.stderr.write('nothing told')", 0, "nothing told"),
    ],
)
def test_nobody_reads_the_output(body, code, message):
    """As behind `| head`, which has ended: no error of the command's."""
    reader, writer = os.pipe()
    os.close(reader)
    program = f"import sys; from mobilebert_kit.main import run; run(lambda: {body}, argv=['x'])"
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120,
        cwd=REPOSITORY, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, message)


def test_another_broken_pipe_is_a_defect():
    code = """
        import os
        from mobilebert_kit.main import run
        reader, broken = os.pipe()
        os.close(reader)
        run(lambda: os.write(broken, b"x"), argv=["x"])
    """
    done = evaluate(code=code)
    assert done.returncode == 4 and "BrokenPipeError" in done.stderr


def test_sigterm_leaves_nothing_behind(folder, tmp_path):
    """Killed while it writes: the temporary file goes, the output does not appear."""
    code = """
        import os, signal, sys
        from mobilebert_kit.main import run
        from mobilebert_kit import artifacts
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGTERM)
        run(lambda: artifacts.write_new(sys.argv[1], b"data"), argv=["x"])
    """
    done = evaluate(tmp_path / "out.json", code=code)
    assert done.returncode == 128 + signal.SIGTERM
    assert os.listdir(tmp_path) == []
