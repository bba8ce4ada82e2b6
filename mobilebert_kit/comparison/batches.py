"""A model's windows, batch by batch; what its library says, in the kit's terms."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mobilebert_kit.errors import InputError, KitError
from mobilebert_kit.squad.windows import Window

Logits = tuple[np.ndarray, np.ndarray]  # start, end: float32 [N, S] each
BATCH = 8  # windows at a time, where a model takes several: more gains nothing on a CPU

_SHOWN = 300  # characters of another library's message


def window_shape(shapes: Mapping[str, Sequence[object]], path: Path) -> tuple[int, int | None]:
    """(windows at a time, the fixed sequence length or None) of inputs of these shapes.

    Args:
        shapes: of every input by name; what is no int is free.
    Raises:
        InputError: not [batch, length] for all alike, or a fixed batch of more than one window.
    """
    two_dimensional = all(len(shape) == 2 for shape in shapes.values())
    columns = list(zip(*shapes.values(), strict=True)) if two_dimensional else [(0,), ()]
    batches, lengths = ({size for size in column if isinstance(size, int)} for column in columns)
    if not batches <= {1} or len(lengths) > 1:
        got = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise InputError(f"Expected inputs [1, S] or [batch, S], one length for all, got {got} in {path}.")
    return (1 if batches else BATCH), next(iter(lengths), None)


def run_batches(
    windows: Sequence[Window],
    inputs: Mapping[str, str],
    run: Callable[[dict[str, np.ndarray]], Logits],
    *,
    size: int,
    path: Path,
) -> Logits:
    """The logits of `windows`, `size` at a time.

    Args:
        inputs: {the kit's name: the model's own}.
        run: {the model's name: int32 [B, S]} -> (start, end), [B, S] each.
    Raises:
        InputError: `run` fails, or gives other shapes.
    """
    results = np.zeros((2, len(windows), len(windows[0].input_ids)), np.float32)
    with tqdm(total=len(windows), unit="window", disable=None, leave=False, desc=path.name) as bar:
        for first in range(0, len(windows), size):
            chunk = windows[first : first + size]
            feed = {theirs: np.stack([getattr(w, own) for w in chunk]) for own, theirs in inputs.items()}
            with explained(f"a model that can run these windows in {path} (vocabulary? --max_seq_length?)"):
                logits = run(feed)
            for result, name, values in zip(results, ("start_logits", "end_logits"), logits, strict=True):
                expected = result[first : first + len(chunk)]
                if np.shape(values) != expected.shape:
                    raise InputError(
                        f"Expected {name} of shape {list(expected.shape)}, got {list(np.shape(values))} from "
                        f"{path}."
                    )
                expected[:] = values
            bar.update(len(chunk))
    return results[0], results[1]


@contextlib.contextmanager
def explained(expected: str) -> Iterator[None]:
    """What another library raises in the block, of whatever class, as InputError."""
    try:
        yield
    except KitError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:_SHOWN]
        raise InputError(f"Expected {expected}, got {type(error).__name__}: {said}") from error
