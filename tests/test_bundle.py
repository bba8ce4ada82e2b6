"""The bundle: what is in it, what its manifest says, and when it refuses."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_export
from ai_edge_litert.interpreter import Interpreter
from conftest import REPOSITORY
from without_tensorflow import run_light

from mobilebert_kit.android.assemble import bundle
from mobilebert_kit.android.delegates import BY_NAME, parse_delegates
from mobilebert_kit.artifacts import staged_folder
from mobilebert_kit.delegates.gpu import check_gpu
from mobilebert_kit.delegates.nnapi import check_nnapi
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.delegates.xnnpack import check_xnnpack
from mobilebert_kit.errors import InputError
from mobilebert_kit.squad.records import load_records

CHECKS = {"nnapi": check_nnapi, "gpu": check_gpu, "cpu": check_xnnpack}


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "bundle.json").read_text(encoding="utf-8"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def everything_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_file_is_in_the_checksums(bundled: Path) -> None:
    lines = (bundled / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    stated = dict(reversed(line.split("  ")) for line in lines)
    assert set(stated) == everything_under(bundled) - {"SHA256SUMS"}
    assert all(digest(bundled / name) == value for name, value in stated.items())


def test_the_manifest_lists_the_files(bundled: Path) -> None:
    files = manifest_of(bundled)["files"]
    assert set(files) == everything_under(bundled) - {"SHA256SUMS", "bundle.json", "manifest.json"}
    for name, entry in files.items():
        assert entry == {"sha256": digest(bundled / name), "bytes": (bundled / name).stat().st_size}


def test_models_in_the_order_to_try_them(bundled: Path) -> None:
    models = manifest_of(bundled)["models"]
    levels = [(model["delegate"], model["min_api"], model["max_api"], model["fallback"]) for model in models]
    assert levels == [("nnapi", 30, 34, "cpu"), ("gpu", 21, None, "cpu"), ("cpu", 21, None, None)]
    for model in models:
        file = bundled / model["file"]
        report = CHECKS[model["delegate"]](read_tflite(file))
        counts = (len(report.nodes), len(report.delegated), report.partitions)
        assert counts == (model["nodes"], model["delegated_nodes"], model["partitions"])
        assert (model["sha256"], model["bytes"]) == (digest(file), file.stat().st_size)


def test_what_an_app_must_know_to_make_windows(bundled: Path) -> None:
    manifest = manifest_of(bundled)
    lengths = ("sequence_length", "doc_stride", "max_query_length", "max_answer_length", "n_best")
    assert [manifest[key] for key in lengths] == [small_export.LENGTH, 128, 64, 30, 20]
    assert [tensor["name"] for tensor in manifest["outputs"]] == ["end_logits", "start_logits"]
    assert all(
        tensor["shape"] == [1, small_export.LENGTH] for tensor in manifest["inputs"] + manifest["outputs"]
    )
    assert manifest["vocab"]["sha256"] == digest(bundled / "vocab.txt")


def test_the_record_of_the_export_tells_the_size_with_metadata(bundled: Path) -> None:
    record = json.loads((bundled / "manifest.json").read_text(encoding="utf-8"))
    assert {name: result["bytes"] for name, result in record["targets"].items()} == {
        BY_NAME[model["delegate"]].target.name: model["bytes"] for model in manifest_of(bundled)["models"]
    }


def test_mlperf_records_are_the_questions(bundled: Path) -> None:
    questions, windows = load_records(bundled / "mlperf/squad_eval.tfrecord")
    expected = small_export.windows()
    assert [question.id for question in questions] == [q.id for q in small_export.questions()]
    assert [window.input_ids.tolist() for window in windows] == [w.input_ids.tolist() for w in expected]


@pytest.mark.parametrize("page", ["tasks.pbtxt", "tflite_settings.pbtxt"])
def test_mlperf_checksums_are_of_the_files_that_are_named(bundled: Path, page: str) -> None:
    text = (bundled / "mlperf" / page).read_text(encoding="utf-8")
    named = re.findall(r'_path: "local:///mlperf_datasets/squad/(.*)"\n\s*\w+_checksum: "(\w+)"', text)
    assert len(named) == text.count("_path:") == text.count("_checksum:")
    files = {Path(name).name: bundled / name for name in everything_under(bundled)}
    assert named
    for name, checksum in named:
        assert checksum == hashlib.md5(files[name].read_bytes()).hexdigest()
    assert text.count("{") == text.count("}")


def test_the_readme_tells_each_model_and_the_licences_the_weights(bundled: Path) -> None:
    manifest = manifest_of(bundled)
    readme = (bundled / "README.md").read_text(encoding="utf-8")
    assert all(f"`{model['file']}`" in readme for model in manifest["models"])
    assert 'noCompress += "tflite"' in readme and "deprecated since Android 15" in readme
    record = json.loads((bundled / "manifest.json").read_text(encoding="utf-8"))
    licenses = (bundled / "LICENSES.md").read_text(encoding="utf-8")
    assert record["checkpoint"]["sha256_of_tensors"] in licenses and "Apache-2.0" in licenses


def test_every_key_is_documented(bundled: Path) -> None:
    page = (REPOSITORY / "docs/android.md").read_text(encoding="utf-8")
    manifest = manifest_of(bundled)
    keys = {*manifest, *manifest["models"][0], *manifest["evaluation"], *manifest["vocab"]}
    assert {key for key in keys if f"`{key}`" not in page} == set()


def test_it_is_the_kits_to_replace(bundled: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundled, tmp_path / "copy"))
    with pytest.raises(InputError, match="--overwrite"), staged_folder(copy, overwrite=False):
        pass
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"), staged_folder(copy, overwrite=True):
        pass
    (copy / "notes.txt").unlink()
    with staged_folder(copy, overwrite=True) as stage:
        (stage / "new").write_text("new")
    assert everything_under(copy) == {"new"}


def test_nothing_is_left_of_a_bundle_that_fails(bundled: Path, tmp_path: Path) -> None:
    request = small_export.request(bundled.parent, output_dir=tmp_path / "D", evaluation="no.json")
    with pytest.raises(InputError, match=r"no\.json"):
        bundle(request, [BY_NAME["gpu"]])
    assert list(tmp_path.iterdir()) == []


def test_delegates_are_known_by_name() -> None:
    assert [delegate.name for delegate in parse_delegates("cpu, nnapi,cpu")] == ["nnapi", "cpu"]
    with pytest.raises(InputError, match="'npu'"):
        parse_delegates("cpu,npu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--targets=cpu"], "output_dir"),
        (["--output_dir=D", "--targets=int8"], "Expected --targets to be of nnapi, gpu, cpu, got 'int8'"),
        (["--output_dir=D", "--max_f1_drop=nan"], "--max_f1_drop from 0 to 100"),
        (["--output_dir=D", "--checkpoint=no/such"], "Expected a checkpoint at no/such"),
    ],
)
def test_wrong_flags(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mobilebert_kit.bundle", *arguments],
        cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and list(tmp_path.iterdir()) == []


def test_with_buckets_the_manifest_tells_each_graph(bundled: Path, tmp_path: Path) -> None:
    """For the CPU: the file runs by each of the signatures that bundle.json names, at their lengths."""
    checkpoint, questions = bundled.parent / "checkpoint", str(bundled.parent / "questions.json")
    asked = small_export.request(
        tmp_path, checkpoint=checkpoint, calibration=questions, evaluation=questions, buckets=(80, 96)
    )
    bundle(asked, [BY_NAME["cpu"]])
    manifest = manifest_of(tmp_path / "out")
    assert manifest["buckets"] == [{"length": 80, "signature": "serving_default_80"}]
    interpreter = Interpreter(str(tmp_path / "out" / manifest["models"][0]["file"]))
    graphs = {96: manifest["signature"]} | {row["length"]: row["signature"] for row in manifest["buckets"]}
    for length, signature in graphs.items():
        run = interpreter.get_signature_runner(signature)
        inputs = {tensor["name"]: np.ones((1, length), np.int32) for tensor in manifest["inputs"]}
        assert run(**inputs)["start_logits"].shape == (1, length)
    verified = run_light("mobilebert_kit.verify", "--manifest", tmp_path / "out" / "bundle.json")
    assert verified.returncode == 0, verified.stderr
