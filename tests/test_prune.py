"""The command `prune`: its flags, the published ones among them, and what it prints and leaves."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import REPOSITORY
from small_export import LENGTH
from small_training import losses, rows, write_data

from mobilebert_kit.training.pruning.table import row, told_cost
from mobilebert_kit.training.state import PRUNING

PAGE = (REPOSITORY / "docs" / "pruning.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(block.replace("\\\n", " "))
    for block in re.findall(r"```\n(python -m mobilebert_kit\.prune [^`]*?)```", PAGE)
    if "--model_name_or_path" in block
]
# Published: scripts/*.sh and README of neural-compressor's question-answering/pruning/eager.
# Batch, rate, weight decay, epochs, cool-down, weight of the teacher.
PUBLISHED = {
    "bertmini_squad": (16, 4.5e-4, 1e-7, 10, 5, 4.5),
    "distilbert_squad": (16, 1e-4, 1e-7, 20, 10, 3),
    "bert_base_squad": (12, 7e-5, 1e-7, 10, 4, 4.5),
    "bert_large_squad": (24, 5e-5, 0.0, 40, 10, 3),
}
PATTERNS = {"4x1": 0.8, "2:4": 0.5}
PARSE = """
import json, sys
from absl import flags
from mobilebert_kit import prune
told = []
for command in json.loads(sys.argv[1]):
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    flags.FLAGS(command)
    request = prune.pruning_training()
    pruning = vars(request.pruning) if request.pruning else None
    told.append(vars(request) | {"pruning": pruning, "seeds": [each.seed for each in prune.seeded(request)]})
print(json.dumps(told, default=str))
"""


def parsed(commands: list[list[str]]) -> list[dict]:
    """The requests that the flags make, in a process of its own: flags are global."""
    code = [sys.executable, "-c", PARSE, json.dumps(commands)]
    result = subprocess.run(code, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def prune(*flags: object) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "mobilebert_kit.prune", *map(str, flags)]
    return subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)


def test_the_published_commands():
    """Four models, two patterns each, and a dense fine-tune, as they stand on the page."""
    found = {}
    for command, request in zip(COMMANDS, parsed([each[2:] for each in COMMANDS]), strict=True):
        assert command[:3] == ["python", "-m", "mobilebert_kit.prune"]
        assert (request["dataset"], request["evaluation"]) == ("squad", "squad")
        assert (request["num_warmup_steps"], request["max_seq_length"], request["temperature"]) == (
            1000,
            384,
            2,
        )
        if request["pruning"] is None:
            assert (request["batch_size"], request["epochs"], request["adam_beta2"]) == (8, 5, 0.999)
            assert request["teacher"] is None
            continue
        pruning = request["pruning"]
        assert (pruning["criterion"], pruning["schedule"], pruning["scope"]) == (
            "snip_momentum",
            "exp",
            "global",
        )
        assert (pruning["pruning_frequency"], pruning["max_sparsity_per_layer"]) == (1000, 0.98)
        assert request["teacher"] == request["checkpoint"]  # the dense start
        assert request["adam_beta2"] == 0.9
        found[request["checkpoint"], pruning["pruning_pattern"]] = (
            pruning["target_sparsity"],
            *(request[name] for name in ("batch_size", "learning_rate", "weight_decay", "epochs")),
            *(pruning["cooldown_epochs"], request["distill_loss_weight"]),
        )
    assert found == {
        (model, pattern): (sparsity, *numbers)
        for model, numbers in PUBLISHED.items()
        for pattern, sparsity in PATTERNS.items()
    }


def test_the_defaults():
    base = ["prune", "--dataset", "a.json", "--output_dir", "o", "--checkpoint", "here"]
    plain, taught, named, several = parsed(
        [
            base,
            [*base, "--distill_loss_weight", "0.5"],
            [*base, "--teacher", "other"],
            [*base, "--seeds", "3,1,2", "--pruning_pattern", "1x1", "--exclude", "value,query"],
        ]
    )
    assert plain["teacher"] is None and plain["seeds"] == [12345]
    assert plain["pruning"]["exclude"] == ["embeddings", "pooler", "cls/squad"]
    assert (taught["teacher"], taught["distill_loss_weight"]) == ("here", 0.5)
    assert (named["teacher"], named["distill_loss_weight"]) == ("other", 1.0)
    assert several["seeds"] == [3, 1, 2] and several["pruning"]["exclude"] == ["value", "query"]


def test_the_published_columns():
    """bert-mini's, 4x1: means and maxima of F1, and the drop from maximum to maximum."""
    found = row("4x1", [0.7993, 0.7993], [[76.37, 70, 76.07], [76.87, 71, 76.27]])
    assert found == "| 4x1 | 0.7993 | 0.7662/0.7687 | 0.7617/0.7627 | -0.78% |"
    assert row("2:4", [0.5], [[]]) == "| 2:4 | 0.5000 |  |  |  |"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")
    return write_data(tmp_path_factory.mktemp("pruning"))


def small(data: Path, checkpoint: str = "checkpoint") -> list[str]:
    flags = ["--checkpoint", data / checkpoint, "--dataset", data / "questions.json", "--batch_size", 4]
    flags += ["--eval", data / "questions.json", "--max_seq_length", LENGTH, "--learning_rate", "1e-3"]
    return [*map(str, flags), "--pruning_pattern", "2:4", "--target_sparsity", "0.5"]


def test_a_dense_run_tells_its_scores(tmp_path):
    summaries = [SimpleNamespace(scores=[{"f1": 50.0}, {"f1": 76.0}]), SimpleNamespace(scores=[{"f1": 77.0}])]
    assert told_cost([tmp_path, tmp_path], summaries) == ["dense F1 (mean/max) 0.7650/0.7700"]
    assert told_cost([tmp_path], [SimpleNamespace(scores=[])]) == []


def test_two_seeds_with_a_teacher(data, tmp_path):
    """From flags to folders and the table. The teacher's logits are kept once, for both."""
    flags = [*small(data), "--distill_loss_weight", "4.5", "--epochs", "2", "--cooldown_epochs", "1"]
    result = prune(*flags, "--seeds", "1,2", "--num_warmup_steps", "1", "--output_dir", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    reports = [json.loads((tmp_path / "out" / f"seed_{seed}" / PRUNING).read_text()) for seed in (1, 2)]
    for report in reports:  # some weights of the small model are zero of themselves
        assert report["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert len(list((tmp_path / "out" / "teacher").glob("*.npy"))) == 1
    ratios = [report["matmul_sparsity"] for report in reports]
    scores = [[each["f1"] for each in rows(tmp_path / "out" / f"seed_{seed}", "epoch")] for seed in (1, 2)]
    assert result.stdout.splitlines()[-1] == row("2:4", ratios, scores)
    first = losses(tmp_path / "out" / "seed_1")
    assert first[0] == pytest.approx(0, abs=1e-6) and max(first) > 0  # it is its own teacher at first
    assert losses(tmp_path / "out" / "seed_2") != first


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--output_dir", "o"],
        ["--dataset", "a.json", "--output_dir", "o", "--pruning_pattern", "four"],
        ["--dataset", "a.json", "--output_dir", "o", "--target_sparsity", "1.5"],
        ["--dataset", "a.json", "--output_dir", "o", "--seeds", "1,x"],
        ["--dataset", "a.json", "--output_dir", "o", "--seeds", "1,1"],
        ["--dataset", "a.json", "--output_dir", "o", "--doc_stride", "64"],
        ["--dataset", "a.json", "--output_dir", "o", "--checkpointing_steps", "often"],
    ],
)
def test_wrong_flags_end_with_2(flags):
    result = prune(*flags)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr
