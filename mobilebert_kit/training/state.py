"""What a run needs to go on: weights, optimizer slots, step and settings, in one file that is replaced whole.

    output_dir/training/run.json            the settings; a folder with others is refused
    output_dir/training/state.safetensors   the last good checkpoint

The position in the data follows from the step: see data.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.artifacts import write_new
from mobilebert_kit.errors import InputError
from mobilebert_kit.json_files import read_json_object

FOLDER, RUN, STATE = "training", "run.json", "state.safetensors"
# What a run makes in its output folder; MODEL is there when it is done.
METRICS, CURVE, MODEL, LAST_GOOD = "metrics.jsonl", "curve.png", "model", "last_good"
PRUNING, SPARSITY = "pruning.json", "sparsity.png"  # of a run that prunes
_OWN = (FOLDER, METRICS, CURVE, MODEL, LAST_GOOD, PRUNING, SPARSITY)


@dataclass(frozen=True)
class State:
    """After `step` updates: variable name -> array, the optimizer's included."""

    step: int
    tensors: dict[str, np.ndarray]


def settings_digest(settings: Mapping[str, Any]) -> str:
    """sha256 (hex) of the settings as JSON with sorted keys and without spaces."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class RunFolder:
    """The output folder of one run, locked while the process lives (see `opened`)."""

    def __init__(self, output_dir: Path, settings: Mapping[str, Any]) -> None:
        self.path = Path(os.path.abspath(output_dir))
        self.settings = json.loads(json.dumps(settings))  # as it reads back: tuples become lists
        self.digest = settings_digest(self.settings)

    @contextlib.contextmanager
    def opened(self, *, writes: bool = True) -> Iterator[None]:
        """Makes the folder or checks that it is of this run, and holds its lock.

        Args:
            writes: false for the workers that leave writing to the first one: nothing is made or locked.
        Raises:
            InputError: the folder is another run's, holds foreign files, cannot be written, or another
                process is training in it. Nothing in it was changed.
        """
        if not writes:
            self._check()
            yield
            return
        self._check()
        try:
            (self.path / FOLDER).mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / FOLDER, os.O_RDONLY)
        except OSError as error:
            raise InputError(
                f"Expected to be able to write {self.path}, got: {error.strerror} ({error.filename}). Choose "
                "another --output_dir."
            ) from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    f"Expected --output_dir to be free, got {self.path}, in which another process is "
                    "training. Wait for it, or choose another folder."
                ) from error
            self._check()
            self._remove_temporary()
            if not (self.path / FOLDER / RUN).exists():
                run = {"settings_sha256": self.digest, "settings": self.settings}
                self._write(self.path / FOLDER / RUN, (json.dumps(run, indent=2) + "\n").encode())
            yield
        finally:
            os.close(lock)

    @property
    def finished(self) -> bool:
        """Whether the result is there."""
        return (self.path / MODEL).exists()

    def save(self, state: State) -> None:
        """Replaces the checkpoint: a kill at any moment leaves the old one or the new one."""
        from safetensors.numpy import save

        metadata = {"format": "mobilebert_kit training", "step": str(state.step), "settings": self.digest}
        self._write(self.path / FOLDER / STATE, save(state.tensors, metadata))

    def load(self) -> State | None:
        """The last checkpoint; None where there is none yet. InputError where it is damaged."""
        from safetensors import SafetensorError, safe_open

        path = self.path / FOLDER / STATE
        if not path.exists():
            return None
        try:
            with safe_open(str(path), framework="np") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            step, digest = int(metadata["step"]), metadata["settings"]
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise InputError(
                f"Expected a training checkpoint in {path}, got a damaged or other file ({error!r}). Choose "
                "another --output_dir to start anew, or put the file back from a copy."
            ) from error
        if digest != self.digest:
            raise InputError(
                f"Expected the checkpoint of the run that {self.path / FOLDER / RUN} describes, got another "
                f"run's in {path}. Choose another --output_dir, or put the file back from a copy."
            )
        return State(step, tensors)

    def prove_fits(self, state: State, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """InputError where the state's tensors are not of these names and shapes."""
        found = {name: tensor.shape for name, tensor in state.tensors.items()}
        if found != dict(shapes):
            wrong = sorted(found.items() ^ dict(shapes).items())
            raise InputError(
                f"Expected the {len(shapes)} variables of this run in {self.path / FOLDER / STATE}, got "
                f"others, for example {wrong[0][0]}. It is of another version of the kit: choose another "
                "--output_dir."
            )

    def _check(self) -> None:
        if not self.path.exists() and not self.path.is_symlink():
            return
        if not self.path.is_dir():
            raise InputError(
                f"Expected --output_dir to be a folder or absent, got {self.path}, which is a file. Choose "
                "another."
            )
        run = self.path / FOLDER / RUN
        if run.exists():
            self._check_settings(run)
            return
        foreign = [
            entry.name for entry in self.path.iterdir() if entry.name not in _OWN and not _temporary(entry)
        ]
        if foreign or (self.path / FOLDER / STATE).exists():
            raise InputError(
                f"Expected --output_dir to be absent, empty, or of this run, got {self.path} with "
                f"{(foreign or [STATE])[0]!r} and no {FOLDER}/{RUN}. Choose another folder."
            )

    def _check_settings(self, run: Path) -> None:
        theirs = read_json_object(run, "a run's settings").get("settings")
        if theirs == self.settings:
            return
        theirs = theirs if isinstance(theirs, dict) else {}
        keys = [key for key in {**theirs, **self.settings} if theirs.get(key) != self.settings.get(key)]
        lines = "".join(
            f"\n    {key}: {_shown(theirs.get(key))} there, {_shown(self.settings.get(key))} asked for"
            for key in keys
        )
        raise InputError(
            f"Expected --output_dir to be of a run with the same settings, got another run's in "
            f"{self.path}:{lines}\nNothing in it was changed. Choose another --output_dir, or give the same "
            "flags to go on."
        )

    def _remove_temporary(self) -> None:
        """What a killed run was writing: see artifacts.write_new."""
        for folder in (self.path, self.path / FOLDER):
            for path in folder.iterdir():
                if _temporary(path):
                    with contextlib.suppress(OSError):
                        path.unlink()

    def _write(self, path: Path, data: bytes) -> None:
        write_new(path, data, overwrite=True)


def _temporary(path: Path) -> bool:
    """Whether `path` is a file that was being written, beside the one that it was to replace."""
    return path.is_file() and path.name.startswith(tuple(f".{name}." for name in (RUN, STATE, *_OWN)))


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
