"""What a tool tells of a process that it ran: the process's own time and memory."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mobilebert_kit.errors import CheckFailed
from tools.measured_process import run_measured


def test_memory_is_the_process_own() -> None:
    """This one has 300 MB and more, of which Linux would count all."""
    here = np.ones(300_000_000, np.uint8)
    small = run_measured([sys.executable, "-c", "print('seen by nobody')"], "a small one")
    large = run_measured([sys.executable, "-c", "x = b'x' * 200_000_000; print(len(x))"], "a large one")
    assert small.peak_bytes < 100e6 < here.nbytes
    assert 200e6 < large.peak_bytes < 300e6


def test_a_process_that_fails() -> None:
    with pytest.raises(CheckFailed, match="the third try to succeed, got exit code 3"):
        run_measured([sys.executable, "-c", "raise SystemExit(3)"], "the third try")
