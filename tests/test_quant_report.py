"""The command quant_report: the folder, what stands in it, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import published_quantized
import pytest
import quantized_export
import small_export
from conftest import REPOSITORY
from quant_case import PLANTED, planted_weights

from mobilebert_kit.artifacts import sha256_file

FILES = {"manifest.json", "quant_report.html", "quant_report.json"}


def quant_report(folder: Path, *more: str, target: str = "int8") -> subprocess.CompletedProcess[str]:
    """The command on the checkpoint and questions in `folder`; flags in `more` are stronger."""
    questions = folder / "questions.json"
    arguments = [
        f"--target={target}",
        f"--checkpoint={folder / 'checkpoint'}",
        f"--calibration={questions}",
        f"--dataset={questions}",
        "--calibration_questions=9",
        "--questions=9",
        f"--max_seq_length={small_export.LENGTH}",
        f"--output_dir={folder / 'report'}",
        *more,
    ]
    return subprocess.run(
        [sys.executable, "-m", "mobilebert_kit.quant_report", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def findings_of(folder: Path) -> dict:
    return json.loads((folder / "quant_report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with two tensors that int8 destroys; its float model answers the questions rightly."""
    from mobilebert_kit.build import export

    folder = tmp_path_factory.mktemp("planted")
    small_export.write_checkpoint(folder / "checkpoint", planted_weights())
    small_export.write_squad(folder / "questions.json")
    request = small_export.request(folder, "float", output_dir=folder / "float")
    small_export.write_squad(folder / "questions.json", export(request).float_score.predictions)
    return folder


@pytest.fixture(scope="module")
def mended(planted: Path) -> subprocess.CompletedProcess[str]:
    return quant_report(planted, "--max_f1_drop=12")


def test_the_tensors_at_fault_are_found_and_kept(
    planted: Path, mended: subprocess.CompletedProcess[str]
) -> None:
    assert mended.returncode == 0, mended.stderr
    findings = findings_of(planted / "report")
    keep = findings["keep"]
    assert findings["file"]["f1_drop"] > 12
    assert {row["tensor"] for row in findings["tensors"][:2]} == PLANTED == set(keep["tensors"])
    assert [trial["kept"] for trial in keep["trials"]] == [1, 2]
    assert keep["met"] and keep["verified"]["f1_drop"] <= 12
    assert keep["trials"][-1] == keep["verified"] and len(keep["tensors"]) == keep["verified"]["kept"] <= 16
    assert keep["verified"]["sqnr_db"] > findings["file"]["sqnr_db"] + 6
    [guilty] = [row for row in findings["groups"] if row["group"] == "hidden states"]
    others = [row["alone"]["sqnr_db"] for row in findings["groups"] if row is not guilty]
    assert guilty["alone"]["sqnr_db"] < min(others)
    assert all(f"\n  {point}\n" in mended.stdout for point in keep["float_points"])


def test_folder_is_whole_and_says_where_it_comes_from(
    planted: Path, mended: subprocess.CompletedProcess[str]
) -> None:
    folder = planted / "report"
    assert {path.name for path in folder.iterdir()} == FILES
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == {
        name: sha256_file(folder / name) for name in FILES - {"manifest.json"}
    }
    findings = findings_of(folder)
    assert findings["command"].startswith("python -m mobilebert_kit.quant_report --target=int8")
    assert (findings["evaluation"]["questions"], findings["windows_measured"]) == (9, 9)
    assert sum(row["logit_noise_share"] for row in findings["tensors"]) == pytest.approx(1)
    assert sum(row["tensors"] for row in findings["groups"]) == len(findings["tensors"])
    assert len(findings["layers"]) == small_export.CONFIG.num_hidden_layers


def test_page_shows_it_and_loads_nothing(planted: Path, mended: subprocess.CompletedProcess[str]) -> None:
    page = (planted / "report" / "quant_report.html").read_text(encoding="utf-8")
    findings = findings_of(planted / "report")
    assert not re.search(r"https?:|<script|<link|<img|@import|url\(", page)
    assert all(tensor in page for tensor in PLANTED)
    assert findings["checkpoint"]["sha256_of_tensors"] in page
    for row in findings["groups"]:
        assert f"<b>{row['group']}</b>" in page


def test_trained_ranges(tmp_path: Path) -> None:
    """A quantized checkpoint: the simulation explains most of the file's error (its noise is 6 dB below)."""
    from mobilebert_kit.quant_analysis import write_report

    weights = small_export.weights(quantized_export.CONFIG)
    quantized_export.write(tmp_path, published_quantized.variables(weights, quantized_export.seen(1.0)))
    findings = write_report(small_export.request(tmp_path, "int8"), windows=9)
    assert findings["file"]["sqnr_db"] > 0
    assert findings["simulation"]["against_file"]["sqnr_db"] > findings["file"]["sqnr_db"] + 6
    assert findings["keep"] == {"max_f1_drop": 100.0, "met": True, "tensors": [], "float_points": []}


def test_an_existing_report_stays(planted: Path, mended: subprocess.CompletedProcess[str]) -> None:
    before = {name: (planted / "report" / name).read_bytes() for name in FILES}
    again = quant_report(planted)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    assert {path.name: path.read_bytes() for path in (planted / "report").iterdir()} == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--target=int9"], r"of float, .* got 'int9'"),
        (["--target=float"], r"int8 activations \(int8 or nnapi\), got float"),
        (["--target=int8,nnapi"], r"int8 activations \(int8 or nnapi\), got int8,nnapi"),
        (["--questions=0"], "--questions"),
        (["--windows=0"], "--windows"),
        (["--max_f1_drop=nan"], "from 0 to 100, got nan"),
        (["--dataset=/no/such/file.json"], "/no/such/file.json"),
    ],
)
def test_bad_input_is_refused(planted: Path, tmp_path: Path, flags: list[str], message: str) -> None:
    run = quant_report(planted, *flags, f"--output_dir={tmp_path / 'report'}")
    assert run.returncode == 2, run.stderr
    assert re.search(message, run.stderr)
    assert "Traceback" not in run.stderr
    assert not os.listdir(tmp_path)
