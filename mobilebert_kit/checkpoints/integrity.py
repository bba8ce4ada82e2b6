"""Is a checkpoint the model's, whole and finite, and are its ranges ranges; and a digest of what it says,
whatever file it came in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from mobilebert_kit.checkpoints.names import quantized_kernel
from mobilebert_kit.errors import InputError

LISTED = 10
# Of the larger end. Training computes one end from the other in float32; other tools may round a little.
ASYMMETRY = 1e-5


def listing(names: Iterable[str]) -> str:
    """The first ten of `names`, one a line, and how many more there are."""
    names = list(names)
    more = [f"... and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return "".join(f"\n    {name}" for name in names[:LISTED] + more)


def prove_complete(
    tensors: Mapping[str, np.ndarray],
    expected_shapes: Mapping[str, tuple[int, ...]],
    *,
    source: str = "the checkpoint",
) -> None:
    """Proves that `tensors` are `expected_shapes`: the same names, the same shapes, all values finite.

    Args:
        tensors: canonical name -> float array.
        expected_shapes: canonical name -> shape, of every variable of the model.
        source: where the tensors come from, for the message.
    Raises:
        InputError: lists what is missing, extra, misshapen, NaN or infinite (ten of each at most).
    """
    missing = [name for name in expected_shapes if name not in tensors]
    extra = [name for name in tensors if name not in expected_shapes]
    misshapen, not_finite = [], []
    for name, tensor in tensors.items():
        expected = expected_shapes.get(name)
        if expected is not None and tuple(tensor.shape) != tuple(expected):
            misshapen.append(f"{name}: expected {list(expected)}, got {list(tensor.shape)}")
        if not np.isfinite(tensor).all():
            nan = int(np.isnan(tensor).sum())
            infinite = int(np.isinf(tensor).sum())
            not_finite.append(f"{name}: {nan} NaN, {infinite} infinite of {tensor.size} values")
    kinds = {"missing": missing, "extra": extra, "misshapen": misshapen, "not finite": not_finite}
    if any(kinds.values()):
        found = "".join(f"\n  {len(found)} {kind}:{listing(found)}" for kind, found in kinds.items() if found)
        raise InputError(
            f"Expected {len(expected_shapes)} finite tensors of this model in {source}, got:{found}\n"
            "Use the checkpoint that this configuration describes, or give the right one with --config."
        )


def prove_ranges(
    ranges: Mapping[str, tuple[np.ndarray, np.ndarray]], *, source: str = "the checkpoint"
) -> None:
    """Proves that each quantizer's range is finite and holds zero, and that a kernel's is symmetric.

    Training extends every range to zero. A kernel's has its zero in the middle (contrib's LastValueQuantize
    with symmetric=True), and so has every int8 kernel in a .tflite.

    Raises:
        InputError: lists the ranges that are not so (ten of each at most).
    """
    not_finite, without_zero, asymmetric = [], [], []
    for name, (low, high) in ranges.items():
        line = f"{name}: {np.min(low):g} to {np.max(high):g}"
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            not_finite.append(line)
        elif (low > 0).any() or (high < 0).any():
            without_zero.append(line)
        elif quantized_kernel(name) and (np.abs(low + high) > ASYMMETRY * np.maximum(-low, high)).any():
            asymmetric.append(line)
    kinds = {"not finite": not_finite, "without zero": without_zero, "of kernels, not symmetric": asymmetric}
    if any(kinds.values()):
        found = "".join(f"\n  {len(found)} {kind}:{listing(found)}" for kind, found in kinds.items() if found)
        raise InputError(
            f"Expected {len(ranges)} ranges of quantized training in {source}, each from below or at zero to "
            f"above or at it, those of kernels symmetric, got:{found}\nThe checkpoint is damaged, or was "
            "trained with other quantizers."
        )


def content_digest(tensors: Mapping[str, np.ndarray]) -> str:
    """sha256 (hex) over the tensors in the order of their names: `name`, NUL, `d0,d1,...`, LF, the values.

    The values are float32, little-endian, in C order. The same weights have the same digest
    in any file format.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.asarray(tensors[name], dtype="<f4", order="C")
        digest.update(f"{name}\0{','.join(map(str, tensor.shape))}\n".encode())
        digest.update(tensor.data)
    return digest.hexdigest()
