"""The predicates of the GPU rules on axes and extents: of ops that move, cut or reduce data.

Source: gpu_rules.py. Each answers True where its constant operand is no constant of int32: other conditions
say that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mobilebert_kit.delegates.tflite_file import Tensor
from mobilebert_kit.delegates.view import View


def _integers(view: View, name: str) -> list[int] | None:
    """The values of a constant int32 operand, None for one that is computed or of another type."""
    tensor = view.operand(name)
    if not tensor.is_constant or tensor.dtype != "int32":
        return None
    return [int(value) for value in view.constant(name).flat]


def _axis(axis: int, rank: int) -> int | None:
    axis = axis + rank if axis < 0 else axis
    return axis if 0 <= axis < rank else None


def _except(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _outputs(view: View) -> list[Tensor]:
    return [view.operand(f"out{number}") for number in range(len(view.outputs))]


def _inputs(view: View) -> list[Tensor]:
    return [view.operand(f"in{number}") for number in range(len(view.inputs))]


def _same_size(view: View) -> bool:
    return math.prod(view.operand("in0").shape) == math.prod(view.operand("out0").shape)


def _permutation(view: View) -> bool:
    """A permutation of 2 to 4 axes, none counted from the end: the accelerator aborts at a negative one."""
    axes = _integers(view, "in1")
    if axes is None:
        return True
    given, out = view.operand("in0"), view.operand("out0")
    if given.rank < 2 or sorted(axes) != list(range(given.rank)):
        return False
    return out.shape == tuple(given.shape[axis] for axis in axes)


def _reduced_axes(view: View) -> bool:
    axes = _integers(view, "in1")
    if axes is None:
        return True
    given, out = view.operand("in0"), view.operand("out0")
    reduced = {_axis(axis, given.rank) for axis in axes}
    if not reduced or None in reduced:
        return False
    if view.option("keep_dims"):
        left = [1 if axis in reduced else extent for axis, extent in enumerate(given.shape)]
    else:
        left = [extent for axis, extent in enumerate(given.shape) if axis not in reduced]
    return out.shape == tuple(left)


def _slice_in_bounds(view: View) -> bool:
    begin, size = _integers(view, "in1"), _integers(view, "in2")
    if begin is None or size is None:
        return True
    shape, out = view.operand("in0").shape, view.operand("out0").shape
    if not len(begin) == len(size) == len(shape) == len(out):
        return False
    size = [
        whole - start if extent == -1 else extent
        for whole, start, extent in zip(shape, begin, size, strict=True)
    ]
    inside = all(
        start >= 0 and start + extent <= whole
        for whole, start, extent in zip(shape, begin, size, strict=True)
    )
    return inside and out == tuple(size)


def _strided_slice_in_bounds(view: View) -> bool:
    """Begin and end lie inside, as written or counted from the end: what goes beyond is not clamped."""
    begin, end, strides = (_integers(view, name) for name in ("in1", "in2", "in3"))
    if begin is None or end is None or strides is None:
        return True
    shape, out = view.operand("in0").shape, view.operand("out0").shape
    if not len(begin) == len(end) == len(strides) == len(shape) == len(out):
        return False
    for axis, whole in enumerate(shape):
        start = begin[axis] + (whole if begin[axis] < 0 else 0)
        stop = end[axis] + (whole if end[axis] < 0 else 0)
        start = 0 if int(view.option("begin_mask")) >> axis & 1 else start
        stop = whole if int(view.option("end_mask")) >> axis & 1 else stop
        if strides[axis] < 1 or not 0 <= start < stop <= whole:
            return False
        if -(-(stop - start) // strides[axis]) != out[axis]:
            return False
    return True


def _pads_no_batch(view: View) -> bool:
    """The batch keeps its size; padding it goes wrong for a batch of 1, padding nothing aborts before ADD."""
    pads = _integers(view, "in1")
    if pads is None:
        return True
    given, out = view.operand("in0"), view.operand("out0")
    if view.operand("in1").shape != (4, 2) or given.rank != 4:
        return False
    if min(pads) < 0 or any(pads[:2]) or not any(pads):
        return False
    return out.shape == tuple(n + pads[2 * axis] + pads[2 * axis + 1] for axis, n in enumerate(given.shape))


def _fills_with_0(view: View) -> bool:
    """Merged with the ADD or CONV_2D that follows, another value is taken for 0."""
    if view.node.op == "PAD":
        return True
    fill = view.operand("in2")
    if not fill.is_constant or fill.dtype != "float32" or fill.shape not in ((), (1,)):
        return False
    return not view.constant("in2").any()


def _joins(view: View) -> bool:
    inputs, out = _inputs(view), view.operand("out0")
    axis = _axis(int(view.option("axis")), out.rank)
    if axis is None or any(tensor.rank != out.rank for tensor in inputs):
        return False
    along = sum(tensor.shape[axis] for tensor in inputs)
    return along == out.shape[axis] and all(
        _except(tensor.shape, axis) == _except(out.shape, axis) for tensor in inputs
    )


def _constants_whole(view: View) -> bool:
    return all(tensor.rank == 4 for tensor in _inputs(view) if tensor.is_constant)


def _none_constant(view: View) -> bool:
    return not any(tensor.is_constant for tensor in _inputs(view))


def _stacks(view: View) -> bool:
    inputs, out = _inputs(view), view.operand("out0")
    axis = _axis(int(view.option("axis")), out.rank)
    if axis is None or len(inputs) != view.option("values_count") or out.shape[axis] != len(inputs):
        return False
    return all(tensor.shape == _except(out.shape, axis) for tensor in inputs)


def _unstacks(view: View) -> bool:
    given, outputs = view.operand("in0"), _outputs(view)
    axis = _axis(int(view.option("axis")), given.rank)
    if axis is None or len(outputs) != view.option("num") or given.shape[axis] != len(outputs):
        return False
    return all(tensor.shape == _except(given.shape, axis) for tensor in outputs)


def _splits(data: str, at: str) -> Callable[[View], bool]:
    """`data` is cut along the axis `at` into the outputs, 2 or more: with one, the accelerator aborts."""

    def test(view: View) -> bool:
        where = _integers(view, at)
        if where is None:
            return True
        given, outputs = view.operand(data), _outputs(view)
        axis = _axis(where[0], given.rank) if len(where) == 1 else None
        if axis is None or len(outputs) < 2 or len(outputs) != view.option("num_splits"):
            return False
        if any(tensor.rank != given.rank for tensor in outputs):
            return False
        along = sum(tensor.shape[axis] for tensor in outputs)
        return along == given.shape[axis] and all(
            _except(tensor.shape, axis) == _except(given.shape, axis) for tensor in outputs
        )

    return test


def _gathers(view: View) -> bool:
    table, ids, out = view.operand("in0"), view.operand("in1"), view.operand("out0")
    axis = _axis(int(view.option("axis")), table.rank)
    if axis is None or ids.rank != 1:
        return axis is not None  # the rank of the indices is another condition's
    return out.shape == (*table.shape[:axis], *ids.shape, *table.shape[axis + 1 :])


GPU_SHAPE_PREDICATES: dict[str, Callable[[View], bool]] = {
    "gpu_cuts_something": lambda view: view.operand("in0").shape != view.operand("out0").shape,
    "gpu_constants_whole": _constants_whole,
    "gpu_fills_with_0": _fills_with_0,
    "gpu_gathers": _gathers,
    "gpu_joins": _joins,
    "gpu_none_constant": _none_constant,
    "gpu_pads_no_batch": _pads_no_batch,
    "gpu_permutation": _permutation,
    "gpu_reduced_axes": _reduced_axes,
    "gpu_same_size": _same_size,
    "gpu_slice_in_bounds": _slice_in_bounds,
    "gpu_split_v_parts": _splits("in0", "in2"),
    "gpu_split_parts": _splits("in1", "in0"),
    "gpu_stacks": _stacks,
    "gpu_strided_slice_in_bounds": _strided_slice_in_bounds,
    "gpu_unstacks": _unstacks,
}
