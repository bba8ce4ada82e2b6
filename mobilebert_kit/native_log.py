"""What native libraries print to standard error, which Python's logging does not reach."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

from mobilebert_kit.errors import InputError

# TensorFlow 2.21 says these while it is imported, whatever TF_CPP_MIN_LOG_LEVEL says: abseil's log has not
# read it yet. They speak of CPU features and absent GPUs, nothing that a user of the kit could act on.
TENSORFLOW_NOTICES = (
    r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR",
    r"I0000 [\d:. ]+\S+\.cc:\d+\] .*",  # of level INFO
    r"To enable the following instructions: .*, in other operations, rebuild TensorFlow with .*",
)


@contextlib.contextmanager
def without_notices(*patterns: str) -> Iterator[None]:
    """Holds back what the block prints to file descriptor 2; at its end passes on every other line.

    `patterns` are regular expressions for whole lines. Not for long work: nothing is seen before the end.
    """
    known = re.compile("|".join(patterns).encode())
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held, contextlib.ExitStack() as stack:
        terminal = os.dup(2)
        stack.callback(os.close, terminal)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            held.seek(0)
            for line in held:
                if not known.fullmatch(line.rstrip()):
                    os.write(2, line)


def import_tensorflow(*others: str, extra: str = "export", on_gpu: bool = False) -> None:
    """Imports TensorFlow silently: what goes wrong in it comes as a Python exception.

    Args:
        others: modules that are needed with it.
        extra: of the kit's, which installs all of them.
        on_gpu: use the GPUs that there are. Without, it computes on the CPU: a GPU rounds otherwise, and so
            would give other ranges and another file.
    Raises:
        InputError: one is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # fatal errors only; 2 would report the absent GPU
    if not on_gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    try:
        with without_notices(*TENSORFLOW_NOTICES):
            tf, *_ = (importlib.import_module(name) for name in ("tensorflow", *others))
    except ImportError as error:
        raise InputError(
            f"Expected {' and '.join(('TensorFlow', *others))} to be installed, got: {error}. Install: "
            f"pip install 'mobilebert_kit[{extra}]'."
        ) from error
    tf.get_logger().setLevel("ERROR")  # its warnings are about old interfaces of its own
