"""Memory that is free goes back to the system, where glibc would keep it for later.

Its malloc gives large blocks back when they are freed, but takes larger and larger ones for small, up to
32 MB: after a few tables, a converter's copies of 9 MB kernels stay. A threshold that is set holds (mallopt).
"""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3  # malloc.h
LARGE = 2**20  # bytes


def give_back_freed_blocks() -> None:
    """For the rest of the process; does nothing where the C library is another."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, LARGE)
