"""Starts the accelerator's child process, listens to it, and sees to it that nothing of it stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilebert_kit.runtime.accelerator_inputs import Endpoints

_PROGRAM = "mobilebert_kit.runtime.accelerator_process"
_PACKAGES = Path(__file__).resolve().parents[2]
_LOG_BYTES = 1 << 20  # kept of what the child prints: so much from its start, and so much from its end


@dataclass(frozen=True)
class Child:
    """How the child came to its end.

    ended: "" or how it died. error: "" or what went wrong in it. stage: how far it came: "driver", "compile",
    "run". accelerated: what CompiledModel.is_fully_accelerated() said. outputs: by name, for each input.
    """

    ended: str
    error: str
    stage: str
    accelerated: bool
    outputs: tuple[Mapping[str, np.ndarray], ...]
    log: str
    seconds: float


def run_child(
    model: Path,
    ends: Endpoints,
    inputs: Sequence[Mapping[str, np.ndarray]],
    *,
    timeout: float,
    request: Mapping[str, object],
    environment: Mapping[str, str],
) -> Child:
    """Runs accelerator_process.py on a model that was read before.

    Args:
        request: what accelerator_process.py wants to know besides the model and its inputs.
        environment: variables to set for it.
    """
    began = time.monotonic()
    # mkdtemp makes it for this user alone (mode 700), as XDG_RUNTIME_DIR must be.
    with tempfile.TemporaryDirectory(prefix="mobilebert_kit_") as name:
        folder = Path(name)
        for index, arrays in enumerate(inputs):
            places = {f"a{place}": arrays[key] for place, key in enumerate(ends.inputs)}
            np.savez(folder / f"inputs_{index}.npz", **places)
        whole = {
            **request,
            "parent": os.getpid(),
            "model": str(model.absolute()),
            "signature": ends.signature,
            "inputs": list(ends.inputs),
            "outputs": list(ends.outputs),
            "input_tensors": [tensor.index for tensor in ends.inputs.values()],
            "output_tensors": [tensor.index for tensor in ends.outputs.values()],
            "count": len(inputs),
        }
        (folder / "request.json").write_text(json.dumps(whole))
        variables = {**os.environ, **environment, "XDG_RUNTIME_DIR": name, "TMPDIR": name}
        ended, log = _watch(folder, variables, timeout)
        answer = {"error": "", "stage": "", "accelerated": False}
        if not ended:
            answer = json.loads((folder / "answer.json").read_text())
        done = not ended and not answer["error"]
        outputs = tuple(_outputs(folder, index, ends) for index in range(len(inputs))) if done else ()
    seconds = time.monotonic() - began
    return Child(ended, answer["error"], answer["stage"], answer["accelerated"], outputs, log, seconds)


def _outputs(folder: Path, index: int, ends: Endpoints) -> Mapping[str, np.ndarray]:
    with np.load(folder / f"outputs_{index}.npz", allow_pickle=False) as arrays:
        return {name: arrays[f"a{place}"] for place, name in enumerate(ends.outputs)}


def _watch(folder: Path, variables: Mapping[str, str], timeout: float) -> tuple[str, str]:
    """Runs the child to its end: "" or how it died, and what it printed."""
    deadline = time.monotonic() + timeout
    printed = _Bounded()
    with _process([sys.executable, "-m", _PROGRAM, str(folder)], variables) as process:
        pipe = process.stdout.fileno()
        while (left := deadline - time.monotonic()) > 0:
            # In short waits: whatever the child started may hold the pipe open when the child is gone.
            if select.select([pipe], [], [], min(left, 1.0))[0]:
                chunk = os.read(pipe, 1 << 16)
                printed.add(chunk)
                if chunk:
                    continue
            elif process.poll() is None:
                continue
            break
        try:
            code = process.wait(max(left, 0.0))
        except subprocess.TimeoutExpired:
            return f"timed out after {timeout:g} s", printed.text()
    if code < 0:
        return f"aborted by {signal.Signals(-code).name}", printed.text()
    if not (folder / "answer.json").exists():
        return f"ended itself with exit status {code}", printed.text()
    return "", printed.text()


@contextlib.contextmanager
def _process(command: list[str], variables: Mapping[str, str]) -> Iterator[subprocess.Popen]:
    """A process that is dead at the end of the block, whatever happens, with all that it started."""
    process = subprocess.Popen(
        command,
        cwd=_PACKAGES,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a process group of its own: Ctrl-C comes to the parent only
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


class _Bounded:
    """The start and the end of a stream."""

    def __init__(self) -> None:
        self._head, self._tail = b"", b""

    def add(self, chunk: bytes) -> None:
        room = _LOG_BYTES - len(self._head)
        self._head += chunk[:room]
        self._tail = (self._tail + chunk[room:])[-_LOG_BYTES:]

    def text(self) -> str:
        return (self._head + self._tail).decode(errors="replace")
