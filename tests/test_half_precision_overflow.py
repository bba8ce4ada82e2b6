"""A model that float16 cannot hold, or hardly: refused, or let through and told of."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import small_export
from export_command import command, manifest_of, start
from tiny_question_model import VOCAB

from mobilebert_kit.build import export
from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.squad.answers import NO_ANSWER

LAST = "bert/encoder/layer_1/output/bottleneck/FakeLayerNorm"
Tensors = dict[str, np.ndarray]


def without_channel_0(tensors: Tensors) -> Tensors:
    """Nothing reads the first channel of the hidden state but the next layer's residual sum."""
    readers = ("self/value/kernel", "bottleneck/input/dense/kernel", "bottleneck/attention/dense/kernel")
    for name, tensor in tensors.items():
        if name.endswith(readers):
            tensor[0] = 0
    tensors["cls/squad/output_weights"][:, 0] = 0
    return tensors


def reaching(size: float) -> Tensors:
    """The first channel is some 0.5 * size behind layer 0, and size behind layer 1."""
    tensors = without_channel_0(small_export.weights())
    for layer in range(2):
        norm = f"bert/encoder/layer_{layer}/output/bottleneck/FakeLayerNorm"
        tensors[f"{norm}/gamma"][0] = 1
        tensors[f"{norm}/beta"][0] = size / 2
    return tensors


def write(folder: Path, tensors: Tensors) -> Path:
    """`folder` with a checkpoint and the questions that its float model answers rightly."""
    small_export.write_checkpoint(folder / "checkpoint", tensors)
    small_export.write_squad(folder / "questions.json")
    score = export(small_export.request(folder, "float", output_dir=folder / "float")).float_score
    small_export.write_squad(folder / "questions.json", score.predictions)
    return folder


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("overflowing"), reaching(80_000))


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("near"), reaching(40_000))


def test_an_overflow_is_refused(overflowing: Path, tmp_path: Path) -> None:
    """The float model, and its file, answer as ever. In float16 80,000 is infinite, and 0 times that NaN."""
    request = small_export.request(overflowing, "gpu", output_dir=tmp_path / "out", max_f1_drop=2.0)
    expected = rf"gpu to lose 2 F1 at most in float16.* 100\.00 -> 0\.00 .*{LAST} overflows.* 9 windows"
    with pytest.raises(CheckFailed, match=expected):
        export(request)
    assert not os.listdir(tmp_path)


def test_an_overflow_that_is_allowed_is_told(overflowing: Path, tmp_path: Path) -> None:
    summary = export(small_export.request(overflowing, "gpu", output_dir=tmp_path / "out"))
    [result] = summary.results
    assert result.score.f1 == 100
    assert set(result.half.score.predictions.values()) == {NO_ANSWER}
    entry = manifest_of(tmp_path / "out")["targets"]["gpu"]
    assert entry["f1"] == 100
    assert entry["simulated_fp16"] == {
        "exact_match": 0.0, "f1": 0.0, "f1_drop": 100.0,
        "logit_difference": None, "overflow": LAST, "windows_lost": 9,
    }  # fmt: skip
    assert entry["fp16_headroom"]["tensor"] == LAST
    assert entry["fp16_headroom"]["largest"] == pytest.approx(80_000, abs=20)
    assert 0.8 < entry["fp16_headroom"]["headroom"] < 0.82


def test_an_overflow_that_only_the_evaluation_shows_is_named(tmp_path: Path) -> None:
    """One token is too large, and the only calibration question lacks it."""
    token = VOCAB.index("where")
    tensors = without_channel_0(small_export.weights())
    words = tensors["bert/embeddings/word_embeddings"]
    kernel = tensors["bert/embeddings/embedding_transformation/kernel"]
    words[:, 0] = 0
    words[token, 0] = 1000
    kernel[:: words.shape[1]] = 0  # what reads the token's first value, as next, current, previous
    kernel[words.shape[1], 0] = 1000
    tensors["bert/embeddings/FakeLayerNorm/gamma"][0] = 1
    small_export.write_checkpoint(tmp_path / "checkpoint", tensors)
    small_export.write_squad(tmp_path / "questions.json")
    windows = small_export.windows()
    lost = sum(token in window.input_ids for window in windows)
    assert token not in windows[0].input_ids and 0 < lost < 9
    export(small_export.request(tmp_path, "gpu", calibration_questions=1))
    entry = manifest_of(tmp_path / "out")["targets"]["gpu"]
    assert entry["fp16_headroom"]["headroom"] > 2
    told = entry["simulated_fp16"]
    assert told["overflow"] == "bert/embeddings/FakeLayerNorm/dense"
    assert told["windows_lost"] == lost
    assert 0 < told["logit_difference"] < 0.1  # of the other windows


# The command: folder, --max_f1_drop, exit code, the summary's third line, the warning

COMMANDS = {
    "near": (
        *("near", 2, 0),
        rf"largest activation 4\d{{4}} at {LAST} \(1\.6x headroom\), F1 \d+\.\d\d simulated",
        f"gpu: {LAST} is 1.6x below an overflow",
    ),
    "refused": ("overflowing", 2, 3, None, None),
    "allowed": (
        *("overflowing", 100, 0),
        rf"overflows at {LAST}, largest activation 8\d{{4}} at {LAST} \(0\.82x headroom\), F1 0\.00 "
        "simulated",
        f"gpu: {LAST} overflows in float16",
    ),
    "normal": (
        *("exported", 100, 0),
        r"largest activation \d\.\d+ at cls/squad \(14\d\d\dx headroom\), F1 \d+\.\d\d simulated",
        None,
    ),
}


@pytest.fixture(scope="module")
def printed(
    near: Path, overflowing: Path, exported: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int, str, str]]:
    """Name -> (exit code, standard output, standard error); all at once, for TensorFlow takes seconds."""
    out = tmp_path_factory.mktemp("out")
    folders = {"near": near, "overflowing": overflowing, "exported": exported}
    processes = {}
    for name, (folder, drop, *_) in COMMANDS.items():
        flags = (f"--max_f1_drop={drop}", f"--output_dir={out / name}")
        processes[name] = start(command(folders[folder], *flags, target="gpu"), out.parent)
    texts = {name: process.communicate(timeout=300) for name, process in processes.items()}
    assert sorted(os.listdir(out)) == sorted(name for name in COMMANDS if name != "refused")
    return {name: (processes[name].returncode, *text) for name, text in texts.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_tells(printed: dict[str, tuple[int, str, str]], name: str) -> None:
    *_, expected_code, line, warning = COMMANDS[name]
    code, out, err = printed[name]
    assert code == expected_code, err
    if line is None:
        assert out == ""
        assert err.startswith("error: ") and f"{LAST} overflows" in err and "--max_f1_drop" in err
        return
    lines = out.splitlines()
    assert len(lines) == 4
    assert re.fullmatch(f"    fp16: {line}", lines[2]), lines[2]
    assert ("WARNING" in err) == (warning is not None), err
    assert warning is None or warning in err
