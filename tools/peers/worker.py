"""One peer in a process of its own: windows come by standard input, times and logits go by standard output.

    python -m peers.worker '{"opens": ..., "options": {}, "file": ..., "threads": 1, "length": 384}'

A process each: the threads of a runtime go on spinning after a run, two runtimes may not share symbols,
and what takes one down is that one's result alone. A window is int32 [3, S]; an answer the seconds that it
took, float64, and the logits, float32 [2, S] (start, end); little-endian. READY comes first, once the model
is open.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from pathlib import Path
from pkgutil import resolve_name

import numpy as np

READY = b"\x06"
INPUTS = ("input_ids", "input_mask", "segment_ids")
OUTPUTS = ("start_logits", "end_logits")


def main(request: dict) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not lie among the answers
    length = request["length"]
    engine = resolve_name(request["opens"])(
        Path(request["file"]), threads=request["threads"], **request["options"]
    )
    answers.write(READY)
    answers.flush()
    while data := sys.stdin.buffer.read(4 * len(INPUTS) * length):
        rows = dict(zip(INPUTS, np.frombuffer(data, "<i4").reshape(-1, length), strict=True))
        window = {name: rows[name] for name in engine.inputs}
        began = time.perf_counter()
        outputs = engine.run(**window)
        seconds = time.perf_counter() - began
        logits = np.stack([outputs[name].reshape(length) for name in OUTPUTS])
        answers.write(struct.pack("<d", seconds) + logits.astype("<f4").tobytes())
        answers.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
