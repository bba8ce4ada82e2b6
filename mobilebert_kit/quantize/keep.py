"""Which few tensors to keep in float so that a loss stays below a limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# More would be another target: each is a DEQUANTIZE and a QUANTIZE around a layer in float.
MOST_KEPT = 16


def keep_in_float(
    candidates: Sequence[T], limit: float, measure: Callable[[Sequence[T]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Tries the first 1, 2, 4, 8, 16 of `candidates`, until the loss is at most `limit`.

    Args:
        candidates: the most promising first.
        measure: what a model that keeps these tensors is like: `f1_drop`, and whether it is `refused` by
            its delegate. More tensors in float would not change that: the search ends there too.
    Returns:
        Each trial, with `kept`, the count: the last is the one that will do, if any is.
    """
    trials = []
    available = min(len(candidates), MOST_KEPT)
    count = min(1, available)
    while count:
        trials.append({"kept": count, **measure(candidates[:count])})
        if count == available or does(trials[-1], limit) or trials[-1]["refused"]:
            break
        count = min(2 * count, available)
    return trials


def does(trial: dict[str, Any], limit: float) -> bool:
    """Whether its delegate takes it, and it loses at most `limit`."""
    return not trial["refused"] and trial["f1_drop"] <= limit


def best(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One that is not refused, of those the one that loses least, of equals the smallest."""
    return min(trials, key=lambda trial: (trial["refused"], trial["f1_drop"], trial["kept"]))
