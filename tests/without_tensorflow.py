"""Runs a command of the kit where TensorFlow, and what only an extra brings, cannot be imported."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Collection

from conftest import REPOSITORY

HEAVY = ("tensorflow", "tf_keras", "keras", "datasets", "torch", "transformers", "safetensors")

_CODE = """
    import runpy, sys
    class Forbidden:
        names = set(sys.argv[1].split(","))
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in self.names:
                raise ImportError(f"forbidden: {name}")
    sys.meta_path.insert(0, Forbidden())
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def run_light(
    module: str, *arguments: object, text: str | None = None, forbidden: Collection[str] = HEAVY
) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments` without the packages `forbidden`; `text` goes to its standard input."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_CODE), ",".join(forbidden), module, *map(str, arguments)],
        cwd=REPOSITORY, input=text, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
