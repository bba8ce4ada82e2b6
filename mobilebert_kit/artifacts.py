"""The only module that writes what a user keeps: folders and files appear whole or not at all.

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
REPLACED_PREFIX = ".mobilebert_kit-replaced-"
# What a write in the middle of the work says where the disk, the quota or the file size limit is reached.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def staged_folder(output_dir: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder to fill; it becomes `output_dir` when the block ends, and vanishes if the block raises.

    Raises InputError where `output_dir` cannot be made, holds foreign files, exists without `overwrite`, or
    the disk is full.
    """
    output_dir = Path(os.path.abspath(output_dir))
    new_parents = [folder for folder in output_dir.parents if not os.path.exists(folder)]
    done = False
    try:
        with _explained(output_dir):
            _refuse_occupied(output_dir, overwrite)
            output_dir.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(output_dir.parent)
            stage, lock = _locked_folder(output_dir.parent)
        try:
            with _full_disk_explained(output_dir):
                yield stage
            with _explained(output_dir):
                # mkdtemp makes it private to the user; the result is as readable as any new folder.
                stage.chmod(0o777 & ~_umask())
                _put_in_place(stage, output_dir, overwrite)
            done = True
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            os.close(lock)
    finally:
        for folder in [] if done else new_parents:
            with contextlib.suppress(OSError):  # another export may have put something there
                folder.rmdir()


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Relative path -> {"sha256", "bytes"} of every file under `folder`, for the manifest."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
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
    (folder / MANIFEST).write_text(
        json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def check_new(path: str | Path, *, overwrite: bool) -> Path:
    """`path`, checked before long work starts: its folder exists, and nothing is there unless `overwrite`.

    Raises:
        InputError: it exists and `overwrite` is false, it is no regular file, or its folder is missing or
            not writable.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise InputError(f"Expected a file name to write to, got {path}, which is no regular file.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists. Name another file, or allow it to be replaced with --overwrite.")
    if not path.parent.is_dir():
        raise InputError(f"Expected the folder of {path} to exist, got no such folder. Create {path.parent}.")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"Cannot write {path}: no permission to write in {path.parent}.")
    return path


def write_new(path: str | Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write `data` to `path` by way of a temporary file beside it: a reader never sees half of it.

    Raises:
        InputError: as `check_new`, or the file system refuses (no space left, read-only).
    """
    path = check_new(path, overwrite=overwrite)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 would hide the result from other users
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise InputError(
            f"Cannot write {path}: {error.strerror}. Free some space or name another file."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _refuse_occupied(output_dir: Path, overwrite: bool) -> None:
    if not output_dir.exists() and not output_dir.is_symlink():
        return
    if not output_dir.is_dir() or output_dir.is_symlink():
        raise InputError(
            f"Expected --output_dir to be a folder or absent, got {output_dir}, which is something else. "
            "Choose another."
        )
    listed = _listed(output_dir)
    foreign = next((name for name in _files_under(output_dir) if name not in listed), None)
    if foreign:
        raise InputError(
            f"Expected --output_dir to be absent or made by the kit, got {output_dir} with {foreign!r}, "
            "which no manifest there lists. Choose another folder: the kit deletes no file that it did not "
            "write."
        )
    if listed and not overwrite:
        raise InputError(
            f"Expected --output_dir to be absent or empty, got {output_dir}, which holds an earlier export. "
            "Choose another folder, or give --overwrite to replace it."
        )


def _files_under(folder: Path) -> Iterator[str]:
    """Relative paths of everything but plain folders; lazily, for it may be asked of `/`."""

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in (*files, *links):
            yield Path(parent, name).relative_to(folder).as_posix()


def _listed(folder: Path) -> set[str]:
    """What the kit wrote in `folder`, the manifest included; empty where there is no manifest of the kit."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        # A web app's manifest.json is no export: the keys are the kit's.
        return {MANIFEST, *manifest["files"]} if isinstance(manifest["schema_version"], int) else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _put_in_place(stage: Path, output_dir: Path, overwrite: bool) -> None:
    _refuse_occupied(output_dir, overwrite)  # it may have appeared, or changed, meanwhile
    if not output_dir.exists():
        stage.rename(output_dir)
        return
    aside = Path(tempfile.mkdtemp(prefix=REPLACED_PREFIX, dir=output_dir.parent))
    old = aside / output_dir.name
    try:
        output_dir.rename(old)
        stage.rename(output_dir)
    finally:
        if old.exists() and not output_dir.exists():
            old.rename(output_dir)
        shutil.rmtree(aside, ignore_errors=True)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """A new staging folder, and the descriptor that holds its lock: the system frees it with the process."""
    while True:
        stage = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=parent))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(stage, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if stage.exists():
                return stage, lock
            os.close(lock)  # another export took it for abandoned, before it was locked


def _remove_abandoned(parent: Path) -> None:
    """Staging folders whose process is gone: nobody holds their lock."""
    for stage in parent.glob(f"{STAGING_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(stage, ignore_errors=True)
            finally:
                os.close(lock)


@contextlib.contextmanager
def _full_disk_explained(output_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InputError(
            f"Expected room for the export beside {output_dir}, got: {error.strerror}. Nothing was "
            "written. Free some, or choose another --output_dir."
        ) from error


@contextlib.contextmanager
def _explained(output_dir: Path) -> Iterator[None]:
    """What the operating system says of making or renaming folders there, in the user's terms."""
    with _full_disk_explained(output_dir):
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise InputError(
                f"Expected to be able to write {output_dir}, got: {error.strerror} ({error.filename}). "
                "Nothing was written. Choose another --output_dir."
            ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
