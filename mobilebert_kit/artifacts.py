"""The only module that writes what a user keeps: folders appear whole or not at all.

    output_dir absent            ->  stage beside it, rename
    output_dir made by the kit   ->  refused; with overwrite: stage, move the old one aside, rename, delete it
    anything else there          ->  refused, whatever the flags: it is not the kit's to delete

A killed export leaves only its staging folder, hidden and locked while its process lives; the next export
beside it removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mobilebert_kit.errors import InputError

MANIFEST = "manifest.json"
STAGING_PREFIX = ".mobilebert_kit-staging-"
LOCK = ".lock"


@contextlib.contextmanager
def staged_folder(output_dir: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder to fill; it becomes `output_dir` when the block ends, and vanishes if the block raises.

    Raises InputError where `output_dir` cannot be made, holds foreign files, exists without `overwrite`, or
    the disk is full.
    """
    output_dir = Path(os.path.abspath(output_dir))
    _refuse_foreign(output_dir, overwrite)
    with _explained(output_dir):
        output_dir.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(output_dir.parent)
        stage = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=output_dir.parent))
    try:
        with _explained(output_dir), open(stage / LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield stage
            (stage / LOCK).unlink()
            # mkdtemp makes it private to the user; the result is as readable as any new folder.
            stage.chmod(0o777 & ~_umask())
            _put_in_place(stage, output_dir, overwrite)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Relative path -> {"sha256", "bytes"} of every file under `folder`, for the manifest."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (LOCK, MANIFEST))
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in paths
    }


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """The manifest, as JSON that a person can read."""
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _refuse_foreign(output_dir: Path, overwrite: bool) -> None:
    if not output_dir.exists() and not output_dir.is_symlink():
        return
    if not output_dir.is_dir() or output_dir.is_symlink():
        raise InputError(
            f"Expected --output_dir to be a folder or absent, got {output_dir}, which is something else. "
            "Choose another."
        )
    present = {path.relative_to(output_dir).as_posix() for path in output_dir.rglob("*") if not path.is_dir()}
    foreign = sorted(present - _listed(output_dir) - {MANIFEST})
    if foreign:
        raise InputError(
            f"Expected --output_dir to be absent or made by the kit, got {output_dir} with {foreign[0]!r}"
            f"{f' and {len(foreign) - 1} more files' if len(foreign) > 1 else ''} that no manifest there lists. "
            "Choose another folder: the kit deletes no file that it did not write."
        )
    if present and not overwrite:
        raise InputError(
            f"Expected --output_dir to be absent or empty, got {output_dir}, which holds an earlier export. "
            "Choose another folder, or give --overwrite to replace it."
        )


def _listed(folder: Path) -> set[str]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return set(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _put_in_place(stage: Path, output_dir: Path, overwrite: bool) -> None:
    if not output_dir.exists():
        stage.rename(output_dir)
        return
    _refuse_foreign(output_dir, overwrite)  # it may have changed meanwhile
    old = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=output_dir.parent))
    output_dir.rename(old / "old")
    try:
        stage.rename(output_dir)
    except OSError:
        (old / "old").rename(output_dir)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Staging folders whose process is gone: nobody holds their lock."""
    for stage in parent.glob(f"{STAGING_PREFIX}*"):
        with contextlib.suppress(OSError), open(stage / LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def _explained(output_dir: Path) -> Iterator[None]:
    """Turns what the operating system says about writing into the user's terms."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"Expected room for the export beside {output_dir}, but no space is left there. Nothing was "
                "written. Free some, or choose another --output_dir."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
            raise InputError(
                f"Expected to be able to write {output_dir}, got: {error.strerror}. Choose another --output_dir."
            ) from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
