"""The report of a benchmark: a table and JSON that say when, where and with what it was measured."""

from __future__ import annotations

import contextlib
import datetime
import json
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from mobilebert_kit.artifacts import write_new
from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.machine import machine

PACKAGES = ("tensorflow", "ai-edge-litert", "numpy", "torch", "transformers")


@dataclass(frozen=True)
class Requirement:
    """A measured value and the bound it is held to."""

    what: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def publish(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    requirements: Sequence[Requirement],
    details: dict[str, Any],
    output: str | None,
) -> None:
    """Prints the dated Markdown table, writes everything as JSON to `output`, where one is named.

    Raises:
        CheckFailed: a requirement is not reached; after both.
    """
    where = {
        "title": title,
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **_installed()},
    }
    checks = [{**vars(item), "reached": item.reached} for item in requirements]
    if output:
        content = json.dumps({**where, "requirements": checks, **details}, indent=2) + "\n"
        write_new(output, content.encode(), overwrite=True)
    print(f"{title}. {where['date']}, {where['machine']}; ", end="")
    print(", ".join(f"{name} {version}" for name, version in where["versions"].items()) + ".\n")
    print(f"    {where['command']}\n")
    print("\n".join(_table(header, rows)))
    print()
    for item in requirements:
        sign = "at least" if item.at_least else "at most"
        print(f"{item.what}: {item.value:.4g} ({sign} {item.bound:g}: {'yes' if item.reached else 'NO'})")
    failed = [item.what for item in requirements if not item.reached]
    if failed:
        raise CheckFailed(
            f"Expected every requirement above to be reached, got {len(failed)} that are not: "
            f"{'; '.join(failed)}. If they are times: did the machine do something else meanwhile?"
        )


def _installed() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    cells = [list(map(str, row)) for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
