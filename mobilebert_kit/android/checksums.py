"""SHA256SUMS: one line for each file of a bundle, as `sha256sum` writes and checks it.

It lists every file but itself; a change in it shows, for its lines are compared with what the files give, to
the character.
"""

from __future__ import annotations

from pathlib import Path

from mobilebert_kit.artifacts import sha256_file
from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.squad.files import read_bytes

NAME = "SHA256SUMS"
_MAX_BYTES = 2**20


def write_checksums(folder: Path) -> None:
    """Writes `folder`/SHA256SUMS for all files that are there now."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [_line(folder, name) for name in names if name != NAME]
    (folder / NAME).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def check_checksums(folder: Path) -> dict[str, str]:
    """{name: sha256} of `folder`/SHA256SUMS, once every one of these files is there and unchanged.

    Files that it does not list are nobody's business: an app's folder may hold others.

    Raises:
        InputError: there is no SHA256SUMS.
        CheckFailed: files are missing or changed, or SHA256SUMS is; it names them.
    """
    content = read_bytes(folder / NAME, "the checksums of a bundle", max_bytes=_MAX_BYTES)
    sums: dict[str, str] = {}
    faults = []
    # A line is compared as bytes: what is no text is only another way of being changed.
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        name = line[66:].decode("utf-8", "replace")
        path = folder / name
        if not name or name in sums or Path(name).is_absolute() or ".." in Path(name).parts:
            faults.append(f"line {number} of {NAME} is no line of checksums")
        elif not path.is_file():
            faults.append(f"{name} is missing")
        elif _line(folder, name).encode() != line:
            faults.append(f"{name} has changed")
        sums[name] = line[:64].decode("ascii", "replace")
    if not content.endswith(b"\n") or not sums:
        faults.append(f"{NAME} is cut off")
    if faults:
        raise CheckFailed(
            f"Expected the files of {folder} as they were bundled, got: {'; '.join(faults)}. Copy the bundle "
            "again."
        )
    return sums


def _line(folder: Path, name: str) -> str:
    return f"{sha256_file(folder / name)}  {name}"
