"""What comes back from a device: answers in the official form, or the logits of each window.

A device that has the kit or its Java code writes {question id: answer}, as SQuAD's own script takes it. One
that only runs the model writes a folder, of which even a C program makes both files with a loop:

    windows.json  {"schema_version": 1, "delegate": "nnapi", "sequence_length": 384,
                   "outputs": ["end_logits", "start_logits"], "unique_ids": [1000000000, 1000000001, ...]}
    logits.bin    float32, little endian, [windows, outputs, S]: what the interpreter's buffers hold, appended

Raw floats, because text would round, or need a printer of shortest floats; a list of ids beside them, because
a device that stops halfway, or skips a window, is found out so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilebert_kit.errors import InputError
from mobilebert_kit.json_files import read_json_object
from mobilebert_kit.runtime.binding import bind_outputs
from mobilebert_kit.squad.files import read_bytes
from mobilebert_kit.squad.predictions import load_predictions
from mobilebert_kit.squad.windows import Window

WINDOWS, LOGITS = "windows.json", "logits.bin"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class DeviceLogits:
    """start, end: float32 [N, S], row by row those of the windows that were asked for."""

    delegate: str | None
    start: np.ndarray
    end: np.ndarray


def read_answers(path: str | Path) -> dict[str, str]:
    """{question id: answer} of a JSON file in the official form.

    Raises:
        InputError: no such file, other content, or an id twice (which JSON allows, and readers hide).
    """
    predictions = load_predictions(path)  # which says what is wrong with any other content
    pairs = json.loads(read_bytes(path, "predictions"), object_pairs_hook=list)
    seen: set[str] = set()
    for question_id, _ in pairs:
        if question_id in seen:
            raise InputError(
                f"Expected each question once, got {question_id} twice in {path}. Which answer counts?"
            )
        seen.add(question_id)
    return predictions


def read_logits(folder: str | Path, windows: Sequence[Window], output_names: Sequence[str]) -> DeviceLogits:
    """The logits in `folder` for `windows`; it may hold others of the same bundle.

    Raises:
        InputError: no such files, windows missing or twice, or not as many numbers as windows.json tells.
    """
    folder = Path(folder)
    source = folder / WINDOWS
    content = read_json_object(source, "the windows of a device's logits")
    length = len(windows[0].input_ids)
    ids, outputs = content.get("unique_ids"), content.get("outputs")
    for key, wanted in (("schema_version", SCHEMA_VERSION), ("sequence_length", length)):
        if content.get(key) != wanted:
            raise InputError(f"Expected {key} {wanted}, got {content.get(key)!r} in {source}.")
    if not isinstance(outputs, list) or sorted(map(str, outputs)) != sorted(output_names):
        raise InputError(f"Expected the outputs {', '.join(output_names)}, got {outputs!r} in {source}.")
    if not isinstance(ids, list) or not all(type(number) is int for number in ids):
        raise InputError(f"Expected unique_ids, a list of whole numbers, got {ids!r:.80} in {source}.")
    row_of = {number: row for row, number in enumerate(ids)}
    if len(row_of) != len(ids):
        twice = next(number for row, number in enumerate(ids) if row_of[number] != row)
        raise InputError(f"Expected each window once, got {twice} twice in {source}.")
    missing = [window for window in windows if window.unique_id not in row_of]
    if missing:
        raise InputError(
            f"Expected logits of {len(windows)} windows, got none of {len(missing)} of them, the first is "
            f"{missing[0].unique_id}, of question {missing[0].qas_id}: {source}. Did the device stop halfway?"
        )
    size = 4 * len(ids) * len(outputs) * length
    data = read_bytes(folder / LOGITS, "a device's logits")
    if len(data) != size:
        raise InputError(
            f"Expected {size} bytes of logits ({len(ids)} windows x {len(outputs)} outputs x {length} "
            f"float32), got {len(data)} in {folder / LOGITS}."
        )
    values = np.frombuffer(data, "<f4").reshape(len(ids), len(outputs), length)
    rows = [row_of[window.unique_id] for window in windows]
    named = bind_outputs(outputs, source)
    delegate = content.get("delegate")
    return DeviceLogits(
        delegate=delegate if isinstance(delegate, str) else None,
        start=values[rows, outputs.index(named["start_logits"])],
        end=values[rows, outputs.index(named["end_logits"])],
    )
