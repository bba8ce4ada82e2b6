"""A folder with an arm64 Debian's Python and the kit's [runtime] packages for it, to run under qemu-user.

    <root>/usr/bin/python3.11                                 Debian's, with the libraries that it needs
    <root>/usr/local/lib/python3.11/dist-packages             LiteRT, numpy, tokenizers, ... from PyPI
    <root>/arm64_root.json                                    what it was made of

apt finds and verifies Debian's packages, with lists and a state of its own for this one architecture, and
they are only unpacked: no package's script runs, so neither root's rights nor a chroot, mounts or binfmt_misc
are needed, and what is on the host stays as it is. pip takes wheels alone, the constraints' versions, for the
same reason. The kit itself is not in it: what runs is the checkout. About 260 MB on disk, 80 MB of downloads.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from mobilebert_kit.artifacts import staged_folder
from mobilebert_kit.errors import InputError
from mobilebert_kit.json_files import read_json_object

SUITE = "bookworm"  # its Python is 3.11, the newest that the kit runs with
PYTHON = "3.11"
GLIBC_MINOR = 36  # bookworm's glibc is 2.36: it runs wheels of manylinux_2_17 (the oldest for arm64) to 2_36
PACKAGES = (f"python{PYTHON}", "libstdc++6")  # LiteRT is written in C++
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"  # apt verifies the signature, whatever the transport
STAMP = "arm64_root.json"

_REPOSITORY = Path(__file__).resolve().parent.parent
_CONSTRAINTS = _REPOSITORY / f"constraints-{PYTHON}.txt"


def arm64_root(folder: Path, mirror: str = MIRROR) -> Path:
    """`folder`, as an earlier call made it, or made now: it appears whole or not at all.

    Raises:
        InputError: it holds something else, or a root of other packages; apt or pip is missing or fails.
    """
    content = stamp()
    if not (folder / STAMP).is_file():
        with staged_folder(folder, overwrite=False) as stage:
            _unpack_debian(stage, mirror)
            _install_wheels(stage, content["wheels"])
            (stage / STAMP).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    elif read_json_object(folder / STAMP, "what an arm64 root is made of") != content:
        raise InputError(f"Expected an arm64 root of these constraints, got another in {folder}. Delete it.")
    return folder


def python_path(root: Path) -> Path:
    return root / "usr/bin" / f"python{PYTHON}"


def stamp() -> dict[str, list[str]]:
    """What decides whether a root can be used again: Debian's packages, and the kit's, as they are pinned."""
    requirements = map(Requirement, metadata.requires("mobilebert_kit") or [])
    wanted = [item for item in requirements if not item.marker or item.marker.evaluate({"extra": "runtime"})]
    names = {item.name.lower() for item in wanted}
    pinned = _CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return {
        "debian": [SUITE, *PACKAGES],
        "wheels": [line for line in pinned if line.partition("==")[0] in names],
    }


def _unpack_debian(root: Path, mirror: str) -> None:
    if not KEYRING.is_file():
        raise InputError(f"Expected Debian's keys in {KEYRING}, got none: apt-get install {KEYRING.stem}.")
    with tempfile.TemporaryDirectory() as scratch:
        state = Path(scratch)
        for name in ("lists/partial", "archives/partial"):
            (state / name).mkdir(parents=True)
        (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {SUITE} main\n")
        (state / "status").touch()
        options = {
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "APT::Sandbox::User": "",  # root's apt would change to a user who cannot read the scratch folder
            "Acquire::Languages": "none",
            "Debug::NoLocking": "1",
            "Dir::Etc": scratch,
            "Dir::Etc::SourceList": f"{scratch}/sources.list",
            "Dir::State": scratch,
            "Dir::State::Status": f"{scratch}/status",
            "Dir::Cache": scratch,
        }
        apt = ["apt-get", "-q", *(f"--option={name}={value}" for name, value in options.items())]
        _run([*apt, "update"], "read the packages of arm64")
        install = ["install", "--download-only", "--yes", "--no-install-recommends", *PACKAGES]
        _run([*apt, *install], "download an arm64 Python")
        for package in sorted((state / "archives").glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(package), str(root)], f"unpack {package.name}")


def _install_wheels(root: Path, requirements: list[str]) -> None:
    platforms = (f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, GLIBC_MINOR + 1))
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        f"--target={root}/usr/local/lib/python{PYTHON}/dist-packages",
        *("--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp", *platforms),
        # Wheels of before PEP 600 have the older name alone.
        *("--platform=manylinux2014_aarch64", f"--constraint={_CONSTRAINTS}", *requirements),
    ]
    _run(command, "install the [runtime] packages of aarch64")


def _run(command: list[str], what: str) -> None:
    if shutil.which(command[0]) is None:
        raise InputError(f"Expected {command[0]} on PATH to {what}, got none. This wants Debian or Ubuntu.")
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()) or "nothing"
        raise InputError(f"Expected to {what}, got: {said[-500:]}. Is there a network?")
