"""Damage .tflite files in many ways and check them all: nothing but a model or an InputError may come out.

    python tools/fuzz_check.py --files 20000 --seed 0
    python tools/fuzz_check.py --files 20000 --models FOLDER    # larger models too

Starts from the small models of tests/fuzz_models.py. What is done to them: tflite_mutations.py. What is asked
of each file, all that `check` computes: fuzz_worker.py, in a process of its own. Ends with 3 for any other
exception, a crash, a file that takes longer than --hang_seconds, or more memory than --max_megabytes; what
caused it is then in --save.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from absl import flags

from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.main import run

TOOLS = Path(__file__).resolve().parent

_FILES = flags.DEFINE_integer("files", 20_000, "How many damaged files.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Another one makes other files.", lower_bound=0)
_MODELS = flags.DEFINE_list("models", [], "Folders of .tflite files to start from, besides the small models.")
_HANG = flags.DEFINE_float("hang_seconds", 10.0, "What no file may take.", lower_bound=0.1)
_MOST = flags.DEFINE_float("max_megabytes", 200.0, "What the checking process may hold.", lower_bound=1.0)
_SAVE = flags.DEFINE_string("save", "build/fuzz", "Where files that cause a failure go.")


@dataclass(frozen=True)
class Outcome:
    """What fuzz_worker.py counted. `errors` by kind; `failures`: file -> traceback, one file of each kind."""

    files: int
    readable: int
    nodes: int
    errors: dict[str, int]
    failures: dict[str, str]
    slowest_seconds: float
    slowest_file: str
    peak_bytes: int


def fuzz(corpus: Path, files: int, seed: int, *, hang_seconds: float, save: Path) -> Outcome:
    """Checks the files of the folder `corpus` and `files` damaged ones, in a process that does nothing else.

    CheckFailed where that process dies or hangs; the file that it had in hand is then in `save`.
    """
    worker = [sys.executable, str(TOOLS / "fuzz_worker.py"), str(corpus), str(files), str(seed)]
    with tempfile.TemporaryDirectory() as work:
        done = subprocess.run([*worker, str(hang_seconds), work], capture_output=True, text=True)
        left = sorted(Path(work).iterdir())
        if left:
            save.mkdir(parents=True, exist_ok=True)
        for path in left:
            shutil.copy(path, save)
    if done.returncode:
        raise CheckFailed(
            f"Expected every file to be read or refused, got exit code {done.returncode} from "
            f"{save / 'current.tflite'}:\n{done.stderr[-4000:]}"
        )
    return Outcome(**json.loads(done.stdout))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        corpus = _write_corpus(Path(folder))
        outcome = fuzz(corpus, _FILES.value, _SEED.value, hang_seconds=_HANG.value, save=Path(_SAVE.value))
    print(table(outcome))
    if outcome.failures:
        name, trace = next(iter(outcome.failures.items()))
        raise CheckFailed(
            f"Expected a model or an InputError of every file, got another exception {len(outcome.failures)} "
            f"times ({', '.join(outcome.failures)}; the files are in {_SAVE.value}). {name}:\n{trace}"
        )
    if outcome.peak_bytes > _MOST.value * 1e6:
        raise CheckFailed(
            f"Expected at most {_MOST.value:g} MB, got {outcome.peak_bytes / 1e6:.0f} MB of memory."
        )


def _write_corpus(folder: Path) -> Path:
    sys.path.insert(0, str(TOOLS.parent / "tests"))
    from fuzz_models import write_corpus

    write_corpus(folder)
    for number, given in enumerate(_MODELS.value):
        paths = sorted(Path(given).glob("*.tflite"))
        if not paths:
            raise InputError(f"Expected .tflite files in {given}, got none. Name other --models.")
        for path in paths:
            shutil.copyfile(path, folder / f"{number}_{path.name}")
    return folder


def table(outcome: Outcome) -> str:
    """The outcome in a table, errors by kind below it."""
    refused = sum(outcome.errors.values())
    rows = [
        ("files", f"{outcome.files:,}"),
        (
            "readable",
            f"{outcome.readable:,} ({outcome.readable / outcome.files:.0%}), {outcome.nodes:,} nodes",
        ),
        ("refused", f"{refused:,}"),
        ("failures", f"{len(outcome.failures)}"),
        ("slowest", f"{outcome.slowest_seconds * 1e3:.0f} ms ({outcome.slowest_file})"),
        ("peak memory", f"{outcome.peak_bytes / 1e6:.0f} MB"),
    ]
    lines = [f"{name:<12} {value}" for name, value in rows]
    return "\n".join([*lines, "", *(f"{count:>8,}  {kind}" for kind, count in outcome.errors.items())])


if __name__ == "__main__":
    run(main)
