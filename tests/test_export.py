"""The command, from a checkpoint to a folder of files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_export
from checkpoint_files import huggingface_tensors, write_bin, write_config, write_safetensors, write_tensorflow
from export_command import command, everything_under, manifest_of, start
from tensorflow.lite.python import schema_py_generated
from tiny_question_model import write_vocab

from mobilebert_kit.artifacts import STAGING_PREFIX
from mobilebert_kit.checkpoints.names import quant_ranges
from mobilebert_kit.contract import MLPERF
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.inputs import Inputs
from mobilebert_kit.models.config import MobileBertConfig
from mobilebert_kit.runtime.interpreter import load
from mobilebert_kit.targets import TARGETS

FILES = {target.file_for(small_export.LENGTH) for target in TARGETS.values()}


# What comes out


def test_folder_holds_what_the_manifest_lists(exported: Path) -> None:
    folder = exported / "all"
    files = manifest_of(folder)["files"]
    there = {name for name in everything_under(folder) if (folder / name).is_file()}
    assert there == {*files, "manifest.json"}
    assert {*FILES, "vocab.txt", "saved_model/saved_model.pb"} <= set(files)
    for name, entry in files.items():
        data = (folder / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def test_manifest_says_where_the_files_come_from(exported: Path) -> None:
    manifest = manifest_of(exported / "all")
    assert manifest["schema_version"] == 1
    assert manifest["contract"] == {
        "name": "mlperf",
        "signature": "serving_default",
        "buckets": [],
        "inputs": [
            {"name": name, "dtype": "int32", "shape": [1, 96]}
            for name in ("input_ids", "input_mask", "segment_ids")
        ],
        "outputs": [
            {"name": name, "dtype": "float32", "shape": [1, 96]} for name in ("end_logits", "start_logits")
        ],
    }
    checkpoint = manifest["checkpoint"]
    assert MobileBertConfig.from_published(checkpoint["config"]) == small_export.CONFIG
    assert checkpoint["parameters"] == sum(tensor.size for tensor in small_export.weights().values())
    assert re.fullmatch("[0-9a-f]{64}", checkpoint["sha256_of_tensors"])
    digest = hashlib.sha256()
    for question in small_export.questions():
        line = json.dumps([question.id, question.question, question.context], separators=(",", ":"))
        digest.update(f"{line}\n".encode())
    data = {"source": "questions.json", "questions": 9, "windows": 9, "questions_sha256": digest.hexdigest()}
    assert manifest["calibration"] == data
    assert data.items() <= manifest["evaluation"].items()
    assert manifest["evaluation"]["float"] == {"exact_match": 100.0, "f1": 100.0}
    for name, entry in manifest["targets"].items():
        assert entry["recipe"] == TARGETS[name].recipe.name
        assert entry["f1_drop"] == pytest.approx(100 - entry["f1"], abs=1e-3)
        # Only an integer mask must be small; the published -10000 is a float one's.
        assert entry["mask_value"] == -10000 or name == "nnapi"
    assert -64 <= manifest["targets"]["nnapi"]["mask_value"] < 0
    assert manifest["versions"]["tensorflow"] == "2.21.0"


@pytest.mark.parametrize("name", sorted(FILES))
def test_contract_holds_by_position_and_by_name(exported: Path, name: str) -> None:
    path = exported / "all" / name
    model = read_tflite(path)
    (signature,) = model.signatures
    sides = [
        (signature.inputs, model.main.inputs, MLPERF.inputs),
        (signature.outputs, model.main.outputs, MLPERF.outputs),
    ]
    for by_name, by_position, specs in sides:
        assert [by_name[spec.name] for spec in specs] == list(by_position)
        tensors = [model.main.tensors[index] for index in by_position]
        assert [(t.dtype, t.shape, t.shape_signature) for t in tensors] == [
            (spec.dtype, (1, 96), (1, 96)) for spec in specs
        ]
    # Output 0 is the END: of the float model, whose start and end differ everywhere.
    interpreter = load(path)
    window = {key: value[0] for key, value in small_export.arrays()[0].items()}
    named = interpreter.run(**window)
    assert not np.array_equal(named["start_logits"], named["end_logits"])
    first = interpreter._interpreter.get_output_details()[0]["index"]
    np.testing.assert_array_equal(interpreter._interpreter.get_tensor(first), named["end_logits"])


def test_twice_gives_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    from mobilebert_kit.build import export

    export(small_export.request(exported, *TARGETS, output_dir=tmp_path / "again"))
    for name in sorted(FILES):
        assert (tmp_path / "again" / name).read_bytes() == (exported / "all" / name).read_bytes(), name


def test_no_constant_lies_twice_in_a_file(exported: Path) -> None:
    """What the converter's own merging, which is left out, would find."""
    for file in (exported / "all").glob("*.tflite"):
        model = schema_py_generated.Model.GetRootAs(file.read_bytes())
        buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
        constants = [each.DataAsNumpy().tobytes() for each in buffers if each.DataLength()]
        assert len(constants) > 50 and len(set(constants)) == len(constants), file.name


# Formats


def tf1(folder: Path) -> None:
    write_tensorflow(folder / "model.ckpt", small_export.weights())
    (folder / "bert_config.json").write_text(json.dumps(small_export.CONFIG.to_dict()))
    write_vocab(folder)


def torch(folder: Path) -> None:
    write_bin(folder, huggingface_tensors(small_export.weights()))
    write_config(
        folder, json.loads((small_export.write_checkpoint(folder / "x") / "config.json").read_text())
    )
    write_vocab(folder)


def huggingface_float16(folder: Path) -> None:
    """The small weights are multiples of 1/256: float16 holds them exactly."""
    tensors = huggingface_tensors(small_export.weights())
    small_export.write_checkpoint(folder)
    write_safetensors(folder, {name: value.astype(np.float16) for name, value in tensors.items()})
    (folder / "config.json").write_text(
        (small_export.write_checkpoint(folder / "x") / "config.json").read_text()
    )


@pytest.mark.parametrize("write", [tf1, torch, huggingface_float16])
def test_every_format_gives_the_same_file(
    exported: Path, tmp_path: Path, write: Callable[[Path], None]
) -> None:
    from mobilebert_kit.build import export

    write(tmp_path / "checkpoint")
    export(
        small_export.request(
            exported, "float", checkpoint=tmp_path / "checkpoint", output_dir=tmp_path / "out"
        )
    )
    name = "mobilebert_float_96.tflite"
    assert (tmp_path / "out" / name).read_bytes() == (exported / "all" / name).read_bytes()


def test_a_kept_saved_model_gives_the_same_files(exported: Path, tmp_path: Path) -> None:
    from mobilebert_kit.build import export

    saved_model = exported / "all" / "saved_model"
    export(
        small_export.request(exported, "float", "int8", checkpoint=saved_model, output_dir=tmp_path / "out")
    )
    for name in ("mobilebert_float_96.tflite", "mobilebert_int8_96.tflite"):
        assert (tmp_path / "out" / name).read_bytes() == (exported / "all" / name).read_bytes()


@pytest.mark.parametrize("target", ["int8", "nnapi"])
def test_a_quantized_target_keeps_the_saved_model_that_computes_as_its_file(
    exported: Path, target: str
) -> None:
    from mobilebert_kit.comparison.models import open_model

    windows = small_export.windows()
    tokens = np.stack([window.input_mask for window in windows]) == 1

    def logits(name: str) -> np.ndarray:
        return np.stack(open_model(exported / "all" / name).logits(windows))[:, tokens]

    file = logits(TARGETS[target].file_for(small_export.LENGTH))
    step = np.diff(np.unique(file)).min()
    difference = np.abs(logits(f"saved_model_{target}") - file) / step
    of_float = np.abs(logits("saved_model") - file) / step
    assert difference.max() <= 2.5
    assert difference.mean() < of_float.mean() / 5


def test_quantized_training_brings_relu6_its_mask_and_its_clip(exported: Path, tmp_path: Path) -> None:
    """The published quantized layout, ranges and all; nothing but the shapes tells its size, so 2 heads need
    --config."""
    from mobilebert_kit.build import export

    ranges = {name: np.float32(6 if name.endswith("/max") else -6) for name in quant_ranges(2, 3)}
    write_tensorflow(tmp_path / "checkpoint" / "model.ckpt", small_export.weights() | ranges)
    write_vocab(tmp_path / "checkpoint")
    config = {**small_export.CONFIG.to_dict(), "hidden_act": "relu6"}
    del config["mask_semantics"], config["score_clip"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    request = small_export.request(
        exported, "int8", "nnapi",
        checkpoint=tmp_path / "checkpoint", output_dir=tmp_path / "out", config=str(tmp_path / "config.json"),
    )  # fmt: skip
    export(request)
    manifest = manifest_of(tmp_path / "out")
    told = manifest["checkpoint"]["config"]
    assert (told["hidden_act"], told["mask_semantics"], told["score_clip"]) == (
        "relu6", "multiplicative", [-6.0, 60.0],
    )  # fmt: skip
    assert len(manifest["checkpoint"]["quantized_training_ranges"]) == len(ranges)
    assert {entry["mask_value"] for entry in manifest["targets"].values()} == {-6.0}


# The gate


def test_a_target_that_loses_too_much_is_refused(exported: Path, tmp_path: Path) -> None:
    """A channel of 1e5 takes the whole range of the last int8 sums; float answers from the others."""
    from mobilebert_kit.build import export

    tensors = small_export.weights()
    beta = tensors["bert/encoder/layer_1/output/bottleneck/FakeLayerNorm/beta"]
    beta[0] = 1e5
    tensors["cls/squad/output_weights"][:, 0] = 0
    small_export.write_checkpoint(tmp_path / "checkpoint", tensors)
    small_export.write_squad(tmp_path / "questions.json")
    score = export(small_export.request(tmp_path, "float")).float_score
    small_export.write_squad(tmp_path / "questions.json", score.predictions)
    before = everything_under(tmp_path)
    request = small_export.request(
        tmp_path, "float", "nnapi", output_dir=tmp_path / "new" / "nnapi", max_f1_drop=2.0
    )
    with pytest.raises(CheckFailed, match=r"nnapi to lose 2 F1 at most .* 100\.00 -> .* on 9 questions"):
        export(request)
    assert everything_under(tmp_path) == before


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_nan_logits_are_refused(exported: Path, tmp_path: Path) -> None:
    from mobilebert_kit.build import export

    tensors = {name: value * np.float32(1e37) for name, value in small_export.weights().items()}
    small_export.write_checkpoint(tmp_path / "checkpoint", tensors)
    request = small_export.request(
        exported, "float", checkpoint=tmp_path / "checkpoint", output_dir=tmp_path / "out"
    )
    with pytest.raises(CheckFailed, match="Expected numbers as logits, got NaN"):
        export(request)
    assert os.listdir(tmp_path) == ["checkpoint"]


# The command itself


def test_command_prints_a_summary_and_nothing_else(exported: Path, tmp_path: Path) -> None:
    """From another folder, with relative paths, a space, an umlaut and a trailing slash."""
    folder = tmp_path / "größe 1"
    folder.mkdir()
    for name in ("checkpoint", "questions.json"):
        (folder / name).symlink_to(exported / name)
    arguments = command(
        Path("größe 1"), "--output_dir=größe 1/out", "--keep_saved_model", target="int8,float"
    )
    arguments[1] += "/"
    process = start(arguments, tmp_path)
    out, err = process.communicate(timeout=300)
    assert (
        process.returncode,
        err.replace("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n", ""),
    ) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "größe 1/out:"
    assert [line.split()[0] for line in lines[1:3]] == [
        "mobilebert_int8_96.tflite",
        "mobilebert_float_96.tflite",
    ]
    assert re.fullmatch(r"float: EM 100.00, F1 100.00 on 9 questions; \d+ s in all", lines[3])
    assert len(lines) == 4
    manifest = manifest_of(folder / "out")
    assert manifest["command"].startswith("python -m mobilebert_kit.export --target=int8,float ")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_stopped_in_the_middle(exported: Path, tmp_path: Path, number: int, code: int) -> None:
    process = start(command(exported, "--output_dir=out", target="all"), tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(f"{STAGING_PREFIX}*/*/*.tflite")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    left = os.listdir(tmp_path)
    assert len(left) == (1 if number == signal.SIGKILL else 0)
    assert all(name.startswith(STAGING_PREFIX) for name in left)


def test_windows_follow_the_doc_stride(tmp_path: Path) -> None:
    small_export.write_checkpoint(tmp_path / "checkpoint")
    answer = {"text": "car", "answer_start": 0}
    asked = {"context": "car " * 150, "qas": [{"id": "q", "question": "car ?", "answers": [answer]}]}
    squad = {"version": "1.1", "data": [{"title": "t", "paragraphs": [asked]}]}
    (tmp_path / "questions.json").write_text(json.dumps(squad), encoding="utf-8")

    def first_tokens(stride: int) -> list[int]:
        """Of the context, that each window begins with."""
        request = small_export.request(tmp_path, "float", sequence_length=68, doc_stride=stride)
        return [int(window.token_to_orig_map[0]) for window in Inputs(request).evaluation.windows]

    room = 68 - len(["[CLS]", "car", "?", "[SEP]", "[SEP]"])
    assert first_tokens(26) == [0, 26, 52, 78, 104]
    assert first_tokens(128) == [0, room, 2 * room]  # no token is left out


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs the superuser")
def test_a_full_disk(exported: Path, tmp_path: Path) -> None:
    """64 KiB: room for the float model, not for the rest."""
    mount = tmp_path / "full"
    mount.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        process = start(command(exported, f"--output_dir={mount}/out", "--keep_saved_model"), tmp_path)
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out, os.listdir(mount)) == (2, "", []), err
        assert "No space left on device" in err
    finally:
        subprocess.run(["umount", str(mount)], check=True)
