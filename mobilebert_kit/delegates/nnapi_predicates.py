"""The predicates of the NNAPI rules that fit no kind of condition, by the name that Special knows them by.

Source: nnapi_rules.py, nnapi_runtime_rules.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mobilebert_kit.delegates import conditions as c
from mobilebert_kit.delegates.view import QUANTIZED_8, OperandMissing, View

_INT32 = np.iinfo(np.int32)


def _fits_int32(name: str) -> Callable[[View], bool]:
    def test(view: View) -> bool:
        values = view.constant(name)
        return values.size == 0 or bool(values.min() >= _INT32.min and values.max() <= _INT32.max)

    return test


def _constant_int32(name: str, rank: int | None = None) -> Callable[[View], bool]:
    def test(view: View) -> bool:
        tensor = view.operand(name)
        return tensor.dtype == "int32" and tensor.is_constant and (rank is None or tensor.rank == rank)

    return test


def _scalar_is_constant(name: str) -> Callable[[View], bool]:
    return lambda view: view.operand(name).rank > 0 or view.operand(name).is_constant


def _batch_dimensions_equal(view: View) -> bool:
    a, b = view.operand("in0"), view.operand("in1")
    return a.rank == b.rank and a.shape[:-2] == b.shape[:-2]


def _not_hybrid(view: View) -> bool:
    return view.operand("in0").dtype != "float32" or view.operand("in1").dtype not in QUANTIZED_8


def _restricted_scales(view: View) -> bool:
    product = view.operand("in0").scale * view.operand("in1").scale
    return product < view.operand("out0").scale


def _inputs_share_quantization(view: View) -> bool:
    tensors = [tensor for tensor in view.inputs if tensor is not None]
    return len({(tensor.scale, tensor.zero_point) for tensor in tensors}) <= 1


def _not_grouped(view: View) -> bool:
    shapes = view.operand("in0").shape, view.operand("in1").shape
    if min(map(len, shapes)) < 4:
        raise OperandMissing("an operand of it has fewer than 4 dimensions")
    return shapes[0][3] == shapes[1][3]


def _split_sizes_not_zero(view: View) -> bool:
    """A -1 among the sizes stands for what is left of the axis, which must not be 0 either."""
    if not (_constant_int32("in1", 1)(view) and _constant_int32("in2")(view)):
        return True  # said by the conditions before
    sizes, axis = view.constant("in1"), view.constant("in2")
    shape = view.operand("in0").shape
    if axis.size == 0 or not -len(shape) <= int(axis.flat[0]) < len(shape):
        raise OperandMissing("its axis is outside its input")
    known = int(sizes[sizes != -1].sum())
    left = shape[int(axis.flat[0])] - known if (sizes == -1).any() else -1
    return bool((sizes != 0).all()) and left != 0


def _sub_type(view: View) -> bool:
    kind, level = view.operand("in0").dtype, view.level
    return (
        (level >= c.API_28 and kind == "float32")
        or (level >= c.API_29 and kind in QUANTIZED_8)
        or (level >= c.API_30 and kind == "int32")
    )


def _zero_crops(view: View) -> bool:
    tensor = view.operand("in2")
    if not tensor.is_constant or tensor.dtype != "int32":
        return False
    crops = view.constant("in2")
    return crops.size == 4 and not crops.any()


def _square_output(view: View) -> bool:
    shape = view.operand("out0").shape
    return len(shape) == 4 and shape[1] == shape[2]


def _weights_match(view: View) -> bool:
    """Hybrid weights (int8 with float input) are dequantized by the delegate, float16 ones converted."""
    given, weights = view.operand("in0"), view.operand("in1")
    if given.dtype in QUANTIZED_8:
        # Per channel, int8 goes with uint8 input too; where an op takes that at all is another rule.
        return weights.dtype == given.dtype or (weights.dtype == "int8" and weights.per_channel)
    return weights.dtype in ("float32", "float16", *QUANTIZED_8)


def _bias_type(view: View) -> bool:
    bias = view.optional("in2")
    if bias is None:
        return True
    return (
        bias.dtype == "int32"
        if view.operand("in0").dtype in QUANTIZED_8
        else bias.dtype in ("float32", "float16")
    )


def _bias_length(view: View) -> bool:
    bias, weights = view.optional("in2"), view.operand("in1")
    return bias is None or (bias.rank == 1 and weights.rank == 2 and bias.shape[0] == weights.shape[0])


def _bias_scale(view: View) -> bool:
    bias, given, weights = view.optional("in2"), view.operand("in0"), view.operand("in1")
    if bias is None or weights.per_channel:
        return True
    product = given.scale * weights.scale
    return abs(product - bias.scale) <= 1e-6 * min(product, bias.scale)


NNAPI_PREDICATES: dict[str, Callable[[View], bool]] = {
    "bias_length": _bias_length,
    "bias_scale": _bias_scale,
    "bias_type": _bias_type,
    "constant_int32_in0": _constant_int32("in0"),
    "constant_int32_in1": _constant_int32("in1"),
    "constant_int32_in2": _constant_int32("in2"),
    "constant_int32_vector_in1": _constant_int32("in1", 1),
    "fill_has_dimensions": lambda view: view.operand("in0").shape[:1] not in ((), (0,)),
    "flat_output": lambda view: not view.option("keep_num_dims"),
    "has_elements": lambda view: 0 not in view.operand("in0").shape,
    "in0_and_in1_constant": lambda view: (
        len(view.inputs) > 1 and view.operand("in0").is_constant and view.operand("in1").is_constant
    ),
    "in0_fits_int32": _fits_int32("in0"),
    "in0_scale_positive": lambda view: view.operand("in0").scale > 0,
    "in1_fits_int32": _fits_int32("in1"),
    "inputs_share_type": lambda view: (
        len({t.dtype for t in view.inputs + view.outputs if t is not None}) == 1
    ),
    "inputs_up_to_rank_4": lambda view: all(t is None or t.rank <= 4 for t in view.inputs),
    "int8_cast_is_identity": lambda view: (
        "int8" not in (view.operand("in0").dtype, view.operand("out0").dtype)
        or view.operand("in0").dtype == view.operand("out0").dtype
    ),
    "inputs_share_quantization": _inputs_share_quantization,
    "int64_axis_fits": lambda view: view.operand("in1").is_constant and _fits_int32("in1")(view),
    "new_shape_not_scalar": lambda view: view.option("new_shape") not in ((), (0,)),
    "no_batch_broadcast": _batch_dimensions_equal,
    "no_dilation": lambda view: view.option("dilation_w") == 1 and view.option("dilation_h") == 1,
    "not_grouped": _not_grouped,
    "not_hybrid": _not_hybrid,
    "out0_not_int16": lambda view: view.operand("out0").dtype != "int16",
    "out0_scale_positive": lambda view: view.operand("out0").scale > 0,
    # PACK adds a dimension: the last axis of what comes out is the rank of what goes in.
    "pack_axis_not_last": lambda view: view.option("axis") not in (-1, view.operand("in0").rank),
    "plain_weights": lambda view: view.option("weights_format") == 0 and not view.operand("in1").is_sparse,
    "product_scale": lambda view: (
        view.operand("in0").scale * view.operand("in1").scale < view.operand("out0").scale
    ),
    "restricted_scales": _restricted_scales,
    "scalar_in0_constant": _scalar_is_constant("in0"),
    "scalar_in1_constant": _scalar_is_constant("in1"),
    "small_pool_window": lambda view: view.option("filter_width") * view.option("filter_height") <= 256,
    "split_sizes_not_zero": _split_sizes_not_zero,
    "square_output": _square_output,
    "squeeze_dims_given": lambda view: len(view.option("squeeze_dims")) > 0,
    "sub_type": _sub_type,
    "two_inputs": lambda view: len(view.inputs) >= 2,
    "unpack_axis_not_last": lambda view: view.option("axis") not in (-1, view.operand("in0").rank - 1),
    "version_1_or_2": lambda view: view.node.version in (1, 2),
    "weights_match": _weights_match,
    "weights_per_tensor": lambda view: not view.operand("in1").per_channel,
    "zero_crops": _zero_crops,
    "zero_point_is_0": lambda view: view.operand("in0").zero_point == 0,
}
