"""How long a process takes, and how much memory, its own alone."""

from __future__ import annotations

import json
import os
import signal
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


# Linux counts the memory of the process that starts another as the other's own, up to its exec: so it is
# started by one that has none.
_STARTER = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
code = os.waitstatus_to_exitcode(status)
print(json.dumps([code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""


def run_measured(command: Sequence[str], what: str) -> Cost:
    """Runs `command`, its output unseen. CheckFailed, which says `what`, where it fails."""
    began = time.monotonic()
    starter = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _STARTER, *command],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        told, _ = starter.communicate()
    except BaseException:  # Ctrl-C, or terminated: both processes go too
        os.killpg(starter.pid, signal.SIGTERM)
        starter.wait()
        raise
    seconds = time.monotonic() - began
    if starter.returncode:
        raise CheckFailed(f"Expected {what} to start, got exit code {starter.returncode}; see above.")
    code, cpu_seconds, peak = json.loads(told)
    if code:
        raise CheckFailed(f"Expected {what} to succeed, got exit code {code}.")
    peak_bytes = peak * (1 if sys.platform == "darwin" else 1024)
    return Cost(round(seconds, 1), round(cpu_seconds, 1), peak_bytes)
