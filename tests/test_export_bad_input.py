"""Every way in which export refuses: told in a line, with nothing written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_export
from checkpoint_files import huggingface_tensors, write_config, write_safetensors
from export_command import ENVIRONMENT, command, everything_under
from tiny_question_model import write_vocab

# Many commands in one process, for TensorFlow takes seconds to start.
DRIVER = """
import contextlib, io, json, sys
from absl import flags
from mobilebert_kit import checkpoint_flags, conversion_flags, export, export_flags
from mobilebert_kit.main import run

results = []
for arguments in json.load(sys.stdin):
    for module in (export, checkpoint_flags, conversion_flags, export_flags):
        for flag in flags.FLAGS.flags_by_module_dict()[module.__name__]:
            flag.unparse()
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run(export.main, ["export", *arguments])
        except SystemExit as end:
            code = end.code
    results.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""


def checkpoint_with(folder: Path, **tensors: np.ndarray | None) -> str:
    """A checkpoint with some tensors replaced, or left out where None; __ is for /."""
    changed = {name.replace("__", "/"): value for name, value in tensors.items()}
    kept = {name: value for name, value in (small_export.weights() | changed).items() if value is not None}
    write_safetensors(folder, huggingface_tensors(kept))
    write_config(folder, small_export.huggingface_config(small_export.CONFIG))
    write_vocab(folder)
    return f"--checkpoint={folder}"


def cases(exported: Path, tmp: Path) -> dict[str, tuple[list[str], str]]:
    """name -> (flags beside the working ones, what the message says)."""
    config = small_export.CONFIG
    bias = "cls__squad__output_bias"
    truncated = tmp / "truncated"
    checkpoint_with(truncated)
    weights_file = truncated / "model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-100])
    squad = json.loads((exported / "questions.json").read_text())
    squad["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] += 1
    (tmp / "wrong_answer.json").write_text(json.dumps(squad))
    (tmp / "no.json").write_text("{")
    (tmp / "no_squad.json").write_text("{}")
    (tmp / "short_vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    (tmp / "config.json").write_text(json.dumps(config.to_dict() | {"hidden_size": 48}))
    (tmp / "no_vocab").mkdir()
    for name in ("model.safetensors", "config.json"):
        (tmp / "no_vocab" / name).symlink_to(exported / "checkpoint" / name)
    (tmp / "file").write_text("")
    (tmp / "home").mkdir()
    (tmp / "home" / "thesis.txt").write_text("")
    missing = checkpoint_with(tmp / "missing", bert__embeddings__position_embeddings=None)
    return {
        "no target": (["--target="], "nnapi, openvino, onnx, onnx_qdq, all or list, got ''"),
        "unknown target": (["--target=int4"], "openvino, onnx, onnx_qdq, all or list, got 'int4'"),
        "list among targets": (["--target=list,int8"], "mixture"),
        "unknown flag": (["--targets=int8"], "Unknown command line flag 'targets'"),
        "no flag": (["int8"], "Expected flags only"),
        "negative drop": (["--max_f1_drop=-1"], "from 0 to 100, got -1"),
        "drop of NaN": (["--max_f1_drop=nan"], "from 0 to 100, got nan"),
        "no number": (["--max_f1_drop=much"], "max_f1_drop"),
        "no checkpoint": ([f"--checkpoint={tmp}/none"], "got nothing at .*/none"),
        "no folder of a checkpoint": ([f"--checkpoint={tmp}/none/none"], "none"),
        "empty folder as checkpoint": ([f"--checkpoint={tmp}/home"], "Expected a TF1 checkpoint"),
        "missing tensor": ([missing], "position_embeddings|max_position_embeddings"),
        "missing bias": ([checkpoint_with(tmp / "bias", **{bias: None})], "1 missing:\n +cls/squad/outp"),
        "extra tensor": ([checkpoint_with(tmp / "more", cls__squad__more=np.ones(3, np.float32))], "others:"),
        "misshapen tensor": ([checkpoint_with(tmp / "shape", **{bias: np.ones(3, np.float32)})], "misshapen"),
        "NaN": ([checkpoint_with(tmp / "nan", **{bias: np.float32([0, np.nan])})], "1 NaN, 0 infinite of 2"),
        "infinite": ([checkpoint_with(tmp / "inf", **{bias: np.float32([np.inf, 0])})], "0 NaN, 1 infinite"),
        "truncated weights": ([f"--checkpoint={truncated}"], "truncated"),
        "config of another model": ([f"--config={tmp}/config.json"], "hidden_size: the config.* says 48"),
        "no config": ([f"--config={tmp}/none.json"], "no such file"),
        "no vocabulary": ([f"--checkpoint={tmp}/no_vocab"], "vocab.txt beside .*--vocab"),
        "vocabulary of another size": ([f"--vocab={tmp}/short_vocab.txt"], "tokens, the model's, got 5"),
        "vocabulary absent": ([f"--vocab={tmp}/none.txt"], "no such file"),
        "too long": (["--max_seq_length=129"], r"from 68 .* to 128 .* got 129"),
        "too short": (["--max_seq_length=67"], r"from 68 .* to 128 .* got 67"),
        "no length": (["--max_seq_length=0"], "max_seq_length"),
        "no questions file": ([f"--eval={tmp}/none.json"], "no such file"),
        "a folder as questions": ([f"--calibration={tmp}"], "Expected a SQuAD"),
        "no JSON": ([f"--eval={tmp}/no.json"], "as JSON"),
        "no SQuAD": ([f"--eval={tmp}/no_squad.json"], "'data'"),
        "answer elsewhere": ([f"--eval={tmp}/wrong_answer.json"], "Expected the answer"),
        "few questions": (["--eval_questions=10"], "10 questions at least, got 9"),
        "few to calibrate": (["--calibration_questions=10"], "10 questions at least, got 9"),
        "an existing file": ([f"--output_dir={tmp}/file"], "something else"),
        "under a file": ([f"--output_dir={tmp}/file/out"], "able to write"),
        "the root": (["--output_dir=/", "--overwrite"], "Choose another folder"),
        "a home": ([f"--output_dir={tmp}/home", "--overwrite"], "'thesis.txt', which no manifest"),
        "nowhere": (["--output_dir=/proc/out"], "able to write /proc/out"),
        "no name": (["--output_dir="], "Choose another"),
        "an earlier export": ([f"--output_dir={exported}/all"], "--overwrite"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def answers(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str, str]]:
    """name -> (code, standard output, standard error, expected); after seeing that nothing was written."""
    tmp = tmp_path_factory.mktemp("bad")
    bad = cases(exported, tmp)
    lines = [
        command(exported, f"--output_dir={tmp}/new/out", *more, target="int8") for more, _ in bad.values()
    ]
    before = everything_under(tmp), everything_under(exported)
    process = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        cwd=tmp,
        env=ENVIRONMENT,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert (everything_under(tmp), everything_under(exported)) == before
    results = json.loads(process.stdout)
    return {
        name: (*result, expected) for (name, (_, expected)), result in zip(bad.items(), results, strict=True)
    }


CASES = re.findall(r'^        "([^"]+)": \(\[', Path(__file__).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", CASES)
def test_bad_input(answers: dict[str, tuple[int, str, str, str]], name: str) -> None:
    code, out, err, expected = answers[name]
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert re.search(expected, err), err
