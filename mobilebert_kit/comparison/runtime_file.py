"""A file that the kit's own runtimes run: a .tflite, or OpenVINO's .xml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobilebert_kit.comparison.batches import Logits
from mobilebert_kit.runtime.engine import open_engine
from mobilebert_kit.runtime.scoring import run_windows
from mobilebert_kit.squad.windows import Window


class RuntimeFile:
    """Runs as `evaluate` runs it: several interpreters side by side, one window at a time each."""

    def __init__(self, path: Path) -> None:
        engine = open_engine(path)
        self.path, self.kind, self.inputs = path, engine.kind, engine.inputs
        self.sequence_length = engine.sequence_length

    def logits(self, windows: Sequence[Window]) -> Logits:
        return run_windows(self.path, windows)
