"""What each peer lacks, and the files that they run."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path

from peers.models import Request
from peers.process import PeerFailed, environment, last_line
from peers.table import CHECKPOINT, MADE, Made, Peer

from mobilebert_kit.artifacts import sha256_file
from mobilebert_kit.runtime.packages import RUNTIMES
from mobilebert_kit.targets import TARGETS_WITH_EXTRAS

_SECONDS = 3600  # to make a file: NNCF takes minutes for a full-size model
_VERSIONS = """
import importlib.metadata, json
found = importlib.metadata.distributions()
print(json.dumps({item.metadata["Name"].lower().replace("_", "-"): item.version for item in found}))
"""


@cache
def installed(python: str) -> dict[str, str]:
    """{package: version} of an interpreter. Raises PeerFailed where it does not run."""
    try:
        done = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, check=False)
        return json.loads(done.stdout)
    except (OSError, ValueError) as error:
        raise PeerFailed(f"{python} is no Python that runs: {error}") from error


def versions(peer: Peer, python: str) -> dict[str, str]:
    """Of the packages that a peer needs. Raises PeerFailed that names one which `python` has not."""
    found = installed(python)
    lacking = [package for package in peer.packages if package not in found]
    if lacking:
        raise PeerFailed(f"missing: {lacking[0]} is not installed")
    return {package: found[package] for package in peer.packages}


def targets_for(peers: Iterable[Peer]) -> list[str]:
    """The targets of `export` that these peers run, or are made of."""
    files = [MADE[peer.file].source if peer.file in MADE else peer.file for peer in peers]
    return list(dict.fromkeys(file for file in files if file != CHECKPOINT))


def cannot_export(target: str, python: str) -> str | None:
    """The first package that exporting it needs and `python` has not."""
    wanted = TARGETS_WITH_EXTRAS[target]
    packages = [RUNTIMES[wanted.runtime].package, *(needed.package for needed in wanted.needs)]
    return next((package for package in packages if package not in installed(python)), None)


def file_for(peer: Peer, exported: Mapping[str, Path], request: Request, python: str, folder: Path) -> Path:
    """The file that `peer` runs: as exported, or in `folder`, made by `python` unless it is there.

    Args:
        exported: by target.
    Raises PeerFailed where the maker fails.
    """
    if peer.file == CHECKPOINT:
        return Path(request.checkpoint)
    if peer.file in exported:
        return exported[peer.file]
    made = MADE[peer.file]
    source = exported[made.source]
    # Of another source, calibration or version it has another name.
    read = [
        source,
        Path(request.calibration),
        *([source.with_suffix(".bin")] if source.suffix == ".xml" else []),
    ]
    made_of = [*map(sha256_file, read), request.calibration_questions, versions(peer, python)]
    digest = hashlib.sha256(repr(made_of).encode()).hexdigest()
    file = folder / f"{peer.file}_{request.length}_{digest:.12}{made.suffix}"
    if not file.exists():
        _make(made, request, source, file, python)
    return file


def _make(made: Made, request: Request, source: Path, file: Path, python: str) -> None:
    """Writes `file` (and the weights of an .xml beside it), whole or not at all."""
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        output = Path(scratch) / file.name
        command = [python, "-m", "peers.models", made.maker, json.dumps(asdict(request)), source, output]
        try:
            done = subprocess.run(
                command, env=environment(), capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise PeerFailed(f"its file was not made within {_SECONDS} s") from error
        if done.returncode:
            raise PeerFailed(f"its file cannot be made: {last_line(done.stderr) or done.returncode}")
        for part in sorted(Path(scratch).iterdir()):  # a .bin before its .xml, by which it is looked for
            os.replace(part, file.parent / part.name)
