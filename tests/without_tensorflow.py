"""Runs a command of the kit where TensorFlow, and what only an extra brings, cannot be imported."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from conftest import REPOSITORY

_CODE = """
    import runpy, sys
    class Forbidden:
        names = {"tensorflow", "tf_keras", "keras", "datasets", "torch", "transformers", "safetensors"}
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in self.names:
                raise ImportError(f"forbidden: {name}")
    sys.meta_path.insert(0, Forbidden())
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def run_light(module: str, *arguments: object, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments`; `text` goes to its standard input."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_CODE), module, *map(str, arguments)],
        cwd=REPOSITORY, input=text, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
