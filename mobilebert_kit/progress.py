"""The progress bar of long work: one for all of it, step by step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tqdm import tqdm


class Steps:
    """One progress bar over the steps of a command; silent where standard error is no terminal."""

    def __init__(self, total: int):
        self._total = total

    def __enter__(self) -> Steps:
        self._bar = tqdm(total=self._total, unit="step", disable=None, leave=False)
        self._started = False
        return self

    def next(self, step: str) -> None:
        """The step before is done; `step` begins."""
        if self._started:
            self._bar.update()
        self._started = True
        self._bar.set_postfix_str("", refresh=False)
        self._bar.set_description(step)

    def each(self, items: Sequence[Any], unit: str) -> Iterator[Any]:
        """`items`, counted in the bar."""
        for number, item in enumerate(items):
            self._bar.set_postfix_str(f"{number}/{len(items)} {unit}")
            yield item

    def counter(self, total: int, unit: str) -> Callable[[], None]:
        """What to call after each of `total` things: it counts them in the bar."""
        numbers = itertools.count(1)
        return lambda: self._bar.set_postfix_str(f"{next(numbers)}/{total} {unit}")

    def __exit__(self, *_: object) -> None:
        self._bar.close()
