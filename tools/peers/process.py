"""The parent's side of a worker: ask it a window, and learn why it died if it did."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

_TOOLS = Path(__file__).resolve().parent.parent
_SECONDS = 300.0  # to open a model, or for one window: the slowest takes 2


class PeerFailed(Exception):
    """A peer, or the program that makes its file, does not do its work; the message says why."""


class Worker:
    """A process of peers.worker with its model open."""

    def __init__(self, python: str, request: dict[str, Any], *, timeout: float = _SECONDS) -> None:
        """
        Args:
            python: the interpreter.
            request: what peers.worker takes.
            timeout: seconds for each answer.
        Raises PeerFailed where the model does not open.
        """
        self._length, self._timeout = request["length"], timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (close() does)
        try:
            self._process = subprocess.Popen(
                [python, "-m", "peers.worker", json.dumps(request)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment(),
            )  # fmt: skip
        except OSError as error:
            raise PeerFailed(f"{python}: {error.strerror}") from error
        self._receive(1)

    def ask(self, window: np.ndarray) -> tuple[float, np.ndarray]:
        """int32 [3, S] (ids, mask, segments) -> the seconds that the model took, its logits float32 [2, S]
        (start, end). Raises PeerFailed."""
        try:
            self._process.stdin.write(window.astype("<i4").tobytes())
            self._process.stdin.flush()
        except OSError as error:  # nobody reads any more
            raise self._failure("ended") from error
        data = self._receive(8 + 8 * self._length)
        return struct.unpack("<d", data[:8])[0], np.frombuffer(data[8:], "<f4").reshape(2, self._length)

    def close(self) -> None:
        self._process.kill()  # it has nothing to lose, and some runtimes take seconds to go
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):  # half a window that was never read
                stream.close()

    def _receive(self, count: int) -> bytes:
        data, until = b"", time.monotonic() + self._timeout
        while len(data) < count:
            if not select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                raise self._failure(f"gave no answer within {self._timeout:.0f} s")
            part = os.read(self._process.stdout.fileno(), count - len(data))
            if not part:
                raise self._failure("ended")
            data += part
        return data

    def _failure(self, what: str) -> PeerFailed:
        if what == "ended":
            code = self._process.wait()
            what = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._errors.seek(0)
        said = last_line(self._errors.read().decode(errors="replace"))
        self.close()
        return PeerFailed(f"{what}: {said}" if said else what)


def environment() -> dict[str, str]:
    """Where a peer's interpreter finds these modules and the kit; the CPU alone, no network."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_TOOLS), str(_TOOLS.parent)]),
        "CUDA_VISIBLE_DEVICES": "-1",
        "HF_HUB_OFFLINE": "1",
        "NNCF_CI": "1",  # else it reports its use to the vendor
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def last_line(text: str) -> str:
    """The last line that is not empty, shortened: of a traceback the error itself."""
    return next((line.strip()[:300] for line in reversed(text.splitlines()) if line.strip()), "")
