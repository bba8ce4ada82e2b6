"""What LiteRT's GPU accelerator prints, as data. Seen with ai-edge-litert 2.3.0; its text is no interface, so
what is not understood is left out, never guessed.

    ERROR: Following operations are not supported by GPU delegate:
    GATHER: Only support 1D indices
    925 operations will run on the GPU, and the remaining 2 operations will run on the CPU.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEADING = "Following operations are not supported by GPU delegate:"
_COUNTS = re.compile(
    r"(?P<gpu>No|\d+) operations will run on the GPU, and (?:all|the remaining) (?P<cpu>\d+) operations"
)
_ADAPTER = re.compile(r"Selected adapter: (?P<name>.*?), arch=.*adapterType=(?P<kind>.*)")
# abseil's "E0000 00:00:1795260026.38    5712 environment.cc:105] text", LiteRT's "ERROR: [file.cc:1] text"
_SEVERE = re.compile(
    r"(?:(?P<letter>[EFW])\d{4} \S+\s+\d+ \S+\] |(?P<word>ERROR|WARNING|Warning): (?:\[\S+\] )?)"
    r"(?P<text>.*\S)"
)
_NOISE = re.compile(  # true of every run, and of no consequence for the GPU
    r"Logging before InitGoogle|NPU accelerator could not be loaded|Failed to load plugin at|"
    + re.escape(_HEADING)
)


@dataclass(frozen=True)
class Refusal:
    """A kind of op that the accelerator does not take, in its own words; it gives some of them no reason.

    nodes: how many of them at most. None where several kinds are refused: it counts them together, and with
    those that it takes but leaves to the CPU.
    """

    op: str
    reason: str
    nodes: int | None = None


@dataclass(frozen=True)
class AcceleratorLog:
    """device: the adapter's own name, "" where none was found. software: it says that it is a CPU.

    on_gpu, on_cpu: operations, where the accelerator counted them, else None.
    fatal: the lines of that severity. errors: these and the errors. messages: these and the warnings. Each
    line once, in order.
    """

    device: str
    software: bool
    refusals: tuple[Refusal, ...]
    on_gpu: int | None
    on_cpu: int | None
    fatal: tuple[str, ...]
    errors: tuple[str, ...]
    messages: tuple[str, ...]


def parse_log(text: str) -> AcceleratorLog:
    lines = text.splitlines()
    adapter = next(filter(None, map(_ADAPTER.search, lines)), None)
    counts = next(filter(None, map(_COUNTS.match, lines)), None)
    on_gpu = on_cpu = None
    if counts:
        on_gpu = 0 if counts["gpu"] == "No" else int(counts["gpu"])
        on_cpu = int(counts["cpu"])
    severe = [found for found in map(_SEVERE.match, lines) if found and not _NOISE.search(found["text"])]

    def of(severities: str) -> tuple[str, ...]:
        texts = (found["text"] for found in severe if (found["letter"] or found["word"])[0] in severities)
        return tuple(dict.fromkeys(texts))

    return AcceleratorLog(
        device=adapter["name"] if adapter else "",
        software=bool(adapter) and "software" in adapter["kind"].lower(),
        refusals=_refusals(lines),
        on_gpu=on_gpu,
        on_cpu=on_cpu,
        fatal=of("F"),
        errors=of("EF"),
        messages=of("EFW"),
    )


def _refusals(lines: list[str]) -> tuple[Refusal, ...]:
    refusals: dict[Refusal, None] = {}
    inside = False
    for line in lines:
        if _HEADING in line:
            inside = True
        elif _COUNTS.match(line):
            inside = False
        elif inside and ":" in line:
            op, _, reason = line.partition(":")
            refusals[Refusal(op.strip(), reason.strip())] = None
    return tuple(refusals)
