"""Folders that appear whole or not at all, whatever goes wrong in between."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobilebert_kit import artifacts
from mobilebert_kit.artifacts import MANIFEST, STAGING_PREFIX, describe_files, staged_folder, write_manifest
from mobilebert_kit.errors import InputError


def export_to(folder: Path, *, overwrite: bool = False, text: str = "new") -> None:
    """A small export: one file, one in a folder, the manifest."""
    with staged_folder(folder, overwrite=overwrite) as stage:
        (stage / "model.tflite").write_text(text)
        (stage / "saved_model").mkdir()
        (stage / "saved_model" / "manifest.json").write_text("{}")
        write_manifest(stage, {"schema_version": 1, "files": describe_files(stage)})


def everything_under(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


WHOLE = ["manifest.json", "model.tflite", "saved_model", "saved_model/manifest.json"]


def test_files_appear_together_with_their_digests(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with staged_folder(out, overwrite=False) as stage:
        (stage / "model.tflite").write_bytes(b"bytes")
        assert not out.exists()
        files = describe_files(stage)
    assert everything_under(tmp_path) == ["a", "a/out", "a/out/model.tflite"]
    assert files == {"model.tflite": {"sha256": hashlib.sha256(b"bytes").hexdigest(), "bytes": 5}}


def test_every_file_but_the_manifest_is_described(tmp_path: Path) -> None:
    export_to(tmp_path / "out")
    assert everything_under(tmp_path / "out") == WHOLE
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert list(manifest["files"]) == ["model.tflite", "saved_model/manifest.json"]


def test_folder_is_as_readable_as_any_new_one(tmp_path: Path) -> None:
    export_to(tmp_path / "out")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(143)])
def test_nothing_stays_when_the_block_raises(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), staged_folder(tmp_path / "a" / "b" / "out", overwrite=False) as stage:
        (stage / "half").write_text("half")
        raise error
    assert everything_under(tmp_path) == []


def test_an_earlier_export_is_replaced_only_on_demand(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_to(out, text="old")
    with pytest.raises(InputError, match=r"holds an earlier export.*--overwrite"):
        export_to(out)
    assert (out / "model.tflite").read_text() == "old"
    export_to(out, overwrite=True)
    assert (out / "model.tflite").read_text() == "new"
    assert everything_under(tmp_path) == ["out", *(f"out/{name}" for name in WHOLE)]


def test_an_earlier_export_survives_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_to(out, text="old")
    with pytest.raises(ValueError), staged_folder(out, overwrite=True):
        raise ValueError
    assert (out / "model.tflite").read_text() == "old"
    assert everything_under(tmp_path) == ["out", *(f"out/{name}" for name in WHOLE)]


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_an_earlier_export_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    out = tmp_path / "out"
    export_to(out, text="old")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.startswith(STAGING_PREFIX):
            raise failure
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((InputError, KeyboardInterrupt)):
        export_to(out, overwrite=True)
    assert (out / "model.tflite").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def foreign_file(out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("mine")


def foreign_beside_export(out: Path) -> None:
    export_to(out)
    (out / "saved_model" / "notes.txt").write_text("mine")


def foreign_manifest(out: Path) -> None:
    """A web app's manifest.json, which lists files of its own."""
    out.mkdir()
    (out / MANIFEST).write_text('{"name": "app", "files": ["index.html"]}')
    (out / "index.html").write_text("mine")


def foreign_link_to_folder(out: Path) -> None:
    export_to(out)
    (out / "link").symlink_to(out.parent)


def regular_file(out: Path) -> None:
    out.write_text("mine")


def link_to_folder(out: Path) -> None:
    (out.parent / "real").mkdir()
    out.symlink_to(out.parent / "real")


def broken_link(out: Path) -> None:
    out.symlink_to(out.parent / "nowhere")


@pytest.mark.parametrize(
    "make",
    [
        foreign_file,
        foreign_beside_export,
        foreign_manifest,
        foreign_link_to_folder,
        regular_file,
        link_to_folder,
        broken_link,
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_the_kit_did_not_write_is_left_alone(tmp_path: Path, make, overwrite: bool) -> None:
    out = tmp_path / "out"
    make(out)
    before = everything_under(tmp_path)
    with pytest.raises(InputError, match=r"Expected --output_dir to be .* got .*/out"):
        export_to(out, overwrite=overwrite)
    assert everything_under(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_empty_folder_is_taken(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "out").mkdir()
    export_to(tmp_path / "out", overwrite=overwrite)
    assert everything_under(tmp_path / "out") == WHOLE


@pytest.mark.parametrize("path", ["/", "/proc", "/proc/1/out", "/dev/null/out", "/dev/null", "/" + "x" * 300])
def test_hopeless_destinations(path: str) -> None:
    with pytest.raises(InputError, match="Choose another"):
        export_to(Path(path), overwrite=True)


def test_a_folder_under_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"able to write .*/file/out, got: (File exists|Not a directory)"):
        export_to(tmp_path / "file" / "out")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_parent_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """By hand, for permissions do not bind the superuser."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(artifacts.tempfile, "mkdtemp", refuse)
    with pytest.raises(InputError, match=os.strerror(number)):
        export_to(tmp_path / "new" / "out")
    assert everything_under(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_nothing(tmp_path: Path, number: int) -> None:
    with (
        pytest.raises(InputError, match=rf"Expected room .*{os.strerror(number)}.*Free some"),
        staged_folder(tmp_path / "out", overwrite=False) as stage,
    ):
        (stage / "half").write_text("half")
        raise OSError(number, os.strerror(number))
    assert everything_under(tmp_path) == []


def test_other_errors_of_the_block_are_not_the_destinations(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), staged_folder(tmp_path / "out", overwrite=False):
        raise PermissionError(errno.EACCES, "of some input")


def test_two_exports_into_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(InputError, match="earlier export"),
        staged_folder(out, overwrite=False) as slow,
    ):
        (slow / "late.tflite").write_text("late")
        export_to(out)  # it removes no folder that is in use
        assert slow.exists()
    assert everything_under(tmp_path) == ["out", *(f"out/{name}" for name in WHOLE)]


STOPPED = """
import sys, time
from pathlib import Path
from mobilebert_kit.artifacts import staged_folder
from mobilebert_kit.main import run

def main():
    with staged_folder(Path(sys.argv[0]), overwrite=False) as stage:
        (stage / "half").write_text("half")
        print("ready", flush=True)
        time.sleep(60)

run(main, [sys.argv.pop(0) and sys.argv[0]])
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_a_stopped_export_leaves_no_folder(tmp_path: Path, number: int, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        cwd=Path(artifacts.__file__).parent.parent,
    )
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.wait(30) == code
    process.stdout.close()
    left = os.listdir(tmp_path)
    if number == signal.SIGKILL:
        assert [name.startswith(STAGING_PREFIX) for name in left] == [True]
        deadline = time.monotonic() + 10  # the system frees the lock when it has taken the process down
        while len(os.listdir(tmp_path)) > 1 and time.monotonic() < deadline:
            time.sleep(0.1)
        export_to(tmp_path / "other")
        assert os.listdir(tmp_path) == ["other"]
    else:
        assert left == []
