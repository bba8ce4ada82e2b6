"""How long a process takes, and how much memory, its own alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mobilebert_kit.errors import CheckFailed


@dataclass(frozen=True)
class Cost:
    """`seconds` from the start of the process to its end; `peak_bytes`: the largest resident set."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run_measured(command: Sequence[str], what: str) -> Cost:
    """Runs `command`, its output unseen. CheckFailed, which says `what`, where it fails."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _, status, usage = os.wait4(process.pid, 0)  # of this process alone, where getrusage sums up all
    except BaseException:  # Ctrl-C, or terminated: the process goes too
        process.terminate()
        process.wait()
        raise
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise CheckFailed(f"Expected {what} to succeed, got exit code {process.returncode}.")
    return Cost(
        round(seconds, 1),
        round(usage.ru_utime + usage.ru_stime, 1),
        usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    )
