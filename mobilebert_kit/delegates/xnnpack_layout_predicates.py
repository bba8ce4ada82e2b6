"""The predicates of XNNPACK's rules on axes, sizes and windows. Source: xnnpack_rules.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mobilebert_kit.delegates.view import View

MAX_RANK = 6  # XNN_MAX_TENSOR_DIMS


def _outputs_like_input(name: str) -> Callable[[View], bool]:
    """All outputs have the input's type, scale and zero point."""

    def test(view: View) -> bool:
        tensor = view.operand(name)
        like = (tensor.dtype, tensor.scale, tensor.zero_point)
        return all(out is not None and (out.dtype, out.scale, out.zero_point) == like for out in view.outputs)

    return test


def _inputs_like_output(view: View) -> bool:
    out = view.operand("out0")
    like = (out.dtype, out.scale, out.zero_point)
    return all(i is not None and (i.dtype, i.scale, i.zero_point) == like for i in view.inputs)


def _inputs_are(*types: str) -> Callable[[View], bool]:
    return lambda view: all(tensor is not None and tensor.dtype in types for tensor in view.inputs)


def _inputs_have_the_axis(view: View) -> bool:
    axis = int(view.option("axis"))
    return all(tensor is not None and -tensor.rank <= axis < tensor.rank for tensor in view.inputs)


def _splits_are_outputs(view: View) -> bool:
    return view.option("num_splits") == len(view.outputs)


def _split_axis_exists(view: View) -> bool:
    axis, rank = view.constant("in0"), view.operand("in1").rank
    return axis.size > 0 and -rank <= int(axis.flat[0]) < rank


def _is_vector(*names: str) -> Callable[[View], bool]:
    return lambda view: all(view.operand(name).rank == 1 for name in names)


def _is_scalar_or_vector(view: View) -> bool:
    return view.operand("in1").rank <= 1


def _slice_is_plain(view: View) -> bool:
    begin, sizes = view.constant("in1"), view.constant("in2")
    if begin.shape != sizes.shape or sizes.size > MAX_RANK:
        return False
    return bool((begin >= 0).all() and (sizes > 0).all())


def _steps_are_one(view: View) -> bool:
    return bool((view.constant("in3") == 1).all())


def _one_index_a_dimension(view: View) -> bool:
    rank = view.operand("in0").rank
    return all(view.operand(name).shape == (rank,) for name in ("in1", "in2", "in3"))


def _paddings_fit(view: View) -> bool:
    return view.operand("in1").shape == (view.operand("in0").rank, 2)


def _paddings_are_not_negative(view: View) -> bool:
    return bool((view.constant("in1") >= 0).all())


def _axes_are_some(view: View) -> bool:
    """At least one axis to reduce, at most 6, and something to reduce."""
    axes = view.constant("in1").flatten()
    return 0 < axes.size <= MAX_RANK and view.operand("in0").rank > 0


def _new_shape_is_constant(view: View) -> bool:
    return len(view.inputs) < 2 or (view.operand("in1").dtype == "int32" and view.operand("in1").is_constant)


def _new_shape_is_flat(view: View) -> bool:
    """The tensor that holds the new shape is a vector, but for leading dimensions of 1."""
    return len(view.inputs) < 2 or all(size == 1 for size in view.operand("in1").shape[:-1])


def _new_shape_is_no_legacy_scalar(view: View) -> bool:
    """Not [-1] or [0] alone: old models mean a scalar by it."""
    wanted = view.constant("in1").flatten() if len(view.inputs) > 1 else np.array(view.option("new_shape"))
    return not (wanted.size == 1 and int(wanted[0]) in (-1, 0))


def _blocks_divide(view: View) -> bool:
    shape, block = view.operand("in0").shape, int(view.option("block_size"))
    return len(shape) == 4 and block > 1 and shape[1] % block == 0 == shape[2] % block


def _pool_window_covers_steps(view: View) -> bool:
    window = view.option("filter_width"), view.option("filter_height")
    steps = view.option("stride_w"), view.option("stride_h")
    return min(steps) > 0 and all(s <= w for s, w in zip(steps, window, strict=True))


def _resized_to_something(view: View) -> bool:
    size = view.constant("in1")
    return size.size == 2 and bool((size > 0).all())


LAYOUT_PREDICATES: dict[str, Callable[[View], bool]] = {
    "xnnpack_outputs_like_in0": _outputs_like_input("in0"),
    "xnnpack_outputs_like_in1": _outputs_like_input("in1"),
    "xnnpack_inputs_like_out0": _inputs_like_output,
    "xnnpack_inputs_float_or_8_bit": _inputs_are("float32", "float16", "int8", "uint8"),
    "xnnpack_inputs_have_axis": _inputs_have_the_axis,
    "xnnpack_splits": _splits_are_outputs,
    "xnnpack_split_axis": _split_axis_exists,
    "xnnpack_in1_vector": _is_vector("in1"),
    "xnnpack_in1_in2_vectors": _is_vector("in1", "in2"),
    "xnnpack_in0_vector": _is_vector("in0"),
    "xnnpack_in1_flat": _is_scalar_or_vector,
    "xnnpack_plain_slice": _slice_is_plain,
    "xnnpack_steps_of_one": _steps_are_one,
    "xnnpack_index_a_dimension": _one_index_a_dimension,
    "xnnpack_paddings_shape": _paddings_fit,
    "xnnpack_paddings_positive": _paddings_are_not_negative,
    "xnnpack_axes": _axes_are_some,
    "xnnpack_new_shape_constant": _new_shape_is_constant,
    "xnnpack_new_shape_flat": _new_shape_is_flat,
    "xnnpack_new_shape": _new_shape_is_no_legacy_scalar,
    "xnnpack_blocks": _blocks_divide,
    "xnnpack_pool_window": _pool_window_covers_steps,
    "xnnpack_resize": _resized_to_something,
}
