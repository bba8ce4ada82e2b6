"""The predicates of the XNNPACK rules that fit no kind of condition, by the name that Special knows them by.

Source: xnnpack_rules.py. Ratios of scales are float32, as the delegate computes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mobilebert_kit.delegates.tflite_file import Tensor
from mobilebert_kit.delegates.view import QUANTIZED_8, OperandMissing, View
from mobilebert_kit.delegates.xnnpack_layout_predicates import LAYOUT_PREDICATES, MAX_RANK

_ZERO_POINTS = {"int8": (-128, 127), "uint8": (0, 255), "int32": (0, 0)}
_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
SAME, VALID = 0, 1  # enum Padding
# A product of scales that float32 cannot hold becomes infinite, and fits no range.
_QUIETLY = np.errstate(all="ignore")


@dataclass(frozen=True)
class XnnpackView(View):
    """A node as XNNPACK sees it. Constants behind a DEQUANTIZE are constants to it.

    halves: the tensors that are dequantized from float16 in the file, but stay float16 for XNNPACK.
    """

    halves: frozenset[int] = frozenset()


def _normal(scale: float) -> bool:
    return _SMALLEST_NORMAL <= scale <= float(np.finfo(np.float32).max)


def _ratio(*names: str) -> Callable[[View], np.float32 | None]:
    """The product of the operands' scales over the last one's; None where they are not 8-bit of one type."""

    @_QUIETLY
    def compute(view: View) -> np.float32 | None:
        tensors = [view.operand(name) for name in names]
        if tensors[0].dtype not in QUANTIZED_8 or len({tensor.dtype for tensor in tensors}) > 1:
            return None
        scales = [np.float32(tensor.scale) for tensor in tensors]
        if not all(map(_normal, map(float, scales))):
            return None  # said by the condition on quantization
        product = scales[0] if len(scales) == 2 else scales[0] * scales[1]
        return product / scales[-1]

    return compute


def _ratio_in(least: float, below: float, *names: str, up_to: bool = False) -> Callable[[View], bool]:
    compute = _ratio(*names)

    def test(view: View) -> bool:
        ratio = compute(view)
        return ratio is None or (least <= ratio and (ratio <= below if up_to else ratio < below))

    return test


@_QUIETLY
def _leaky_slope_fits(view: View) -> bool:
    positive = _ratio("in0", "out0")(view)
    if positive is None:
        return True
    negative = float(positive * np.float32(view.option("alpha")))
    return -127.99609375 <= negative <= 128.0 and abs(negative) >= 1 / 256


def _alpha_is_normal(view: View) -> bool:
    return _normal(abs(float(view.option("alpha"))))


def _has_positive_sizes(name: str) -> Callable[[View], bool]:
    def test(view: View) -> bool:
        tensor = view.operand(name)
        return tensor.rank <= MAX_RANK and all(size > 0 for size in tensor.shape)

    return test


def _operands(view: View) -> list[Tensor]:
    return [tensor for tensor in (*view.inputs, *view.outputs) if tensor is not None]


def _ranks_fit(view: View) -> bool:
    return all(tensor.rank <= MAX_RANK for tensor in _operands(view))


def _usable(tensor: Tensor) -> bool:
    """Scales positive and normal, zero points in range; per channel: one of each a channel, the latter 0."""
    if not tensor.scales or tensor.dtype not in _ZERO_POINTS:
        return True
    if len(tensor.zero_points) != len(tensor.scales):
        return False
    least, most = _ZERO_POINTS[tensor.dtype]
    if tensor.per_channel:
        least = most = 0
        channels = tensor.shape[tensor.quantized_dimension : tensor.quantized_dimension + 1]
        if channels != (len(tensor.scales),):
            return False
    return all(map(_normal, tensor.scales)) and all(least <= z <= most for z in tensor.zero_points)


def _is_usable(name: str) -> Callable[[View], bool]:
    def test(view: View) -> bool:
        tensor = view.optional(name)
        return tensor is None or _usable(tensor)

    return test


def _all_are_usable(view: View) -> bool:
    return all(map(_usable, _operands(view)))


def _is_given(name: str) -> Callable[[View], bool]:
    return lambda view: view.optional(name) is not None


def _bias_is_constant(name: str) -> Callable[[View], bool]:
    return lambda view: view.optional(name) is None or view.operand(name).is_constant


def _bias_type_fits(bias: str, given: str) -> Callable[[View], bool]:
    """A float bias beside float activations; a quantized int32 one beside 8-bit ones."""

    def test(view: View) -> bool:
        tensor = view.optional(bias)
        if tensor is None:
            return True
        if view.operand(given).dtype == "float32":
            return tensor.dtype == "float32"
        return tensor.dtype == "int32" and bool(tensor.scales) and tensor.quantized_dimension == 0

    return test


def _bias_size_fits(view: View) -> bool:
    bias = view.optional("in2")
    return bias is None or np.prod(bias.shape, dtype=int) == view.operand("in1").shape[0]


def _bias_scales_like_filter(bias: str, weights: str) -> Callable[[View], bool]:
    def test(view: View) -> bool:
        tensor = view.optional(bias)
        if tensor is None or tensor.dtype != "int32":
            return True
        return tensor.per_channel == view.operand(weights).per_channel

    return test


def _bias_as_wide_as_filter(view: View) -> bool:
    """Not a float16 bias beside a float32 filter; the other way round is taken."""
    halves = view.halves if isinstance(view, XnnpackView) else frozenset()
    bias, weights = view.optional("in2"), view.operand("in1")
    return bias is None or weights.dtype != "float32" or bias.index not in halves or weights.index in halves


def _covered_weights(view: View) -> bool:
    if view.operand("in1").dtype in ("int4", "int2"):
        raise OperandMissing(f"{view.operand('in1').dtype} weights are not covered by this checker's rules")
    return True


def _weights_go_with(given: str, weights: str, *, hybrid: bool) -> Callable[[View], bool]:
    """The weights have the activations' type; where `hybrid`, also int8 weights beside float32."""

    def test(view: View) -> bool:
        types = view.operand(given).dtype, view.operand(weights).dtype
        return types[0] == types[1] or (hybrid and types == ("float32", "int8"))

    return test


def _scales_along(weights: str, dimension: int) -> Callable[[View], bool]:
    def test(view: View) -> bool:
        tensor = view.operand(weights)
        return not tensor.per_channel or tensor.quantized_dimension == dimension

    return test


def _uint8_per_tensor(weights: str) -> Callable[[View], bool]:
    return lambda view: view.operand(weights).dtype != "uint8" or len(view.operand(weights).scales) == 1


def _int8_quantized(weights: str) -> Callable[[View], bool]:
    return lambda view: view.operand(weights).dtype not in QUANTIZED_8 or bool(view.operand(weights).scales)


def _zero_point_is_zero(weights: str) -> Callable[[View], bool]:
    def test(view: View) -> bool:
        tensor = view.operand(weights)
        return tensor.dtype != "int8" or not any(tensor.zero_points)

    return test


def _requantization_fits(given: str, weights: str) -> Callable[[View], bool]:
    """Input scale x weight scale / output scale below 256, in every channel."""

    @_QUIETLY
    def test(view: View) -> bool:
        tensors = view.operand(given), view.operand(weights), view.operand("out0")
        if any(tensor.dtype not in QUANTIZED_8 for tensor in tensors) or not tensors[2].scale:
            return True
        largest = np.float32(tensors[0].scale) * np.float32(max(tensors[1].scales, default=0.0))
        return bool(largest / np.float32(tensors[2].scale) < 256)

    return test


def _columns_quantized(view: View) -> bool:
    """BATCH_MATMUL: a scale for each of the product's columns, not along the depth."""
    b = view.operand("in1")
    return not b.per_channel or b.quantized_dimension == b.rank - (2 if view.option("adj_y") else 1)


def _not_per_channel_in_int8(view: View) -> bool:
    return view.operand("in0").dtype != "int8" or not view.operand("in1").per_channel


def _has_groups(view: View) -> bool:
    inputs, taps = view.operand("in0").shape[3], view.operand("in1").shape[3]
    return inputs >= taps


def _multiplier_divides(view: View) -> bool:
    multiplier = int(view.option("depth_multiplier"))
    return multiplier > 0 and view.operand("in1").shape[3] % multiplier == 0


def _deconvolution_fits(view: View) -> bool:
    """TRANSPOSE_CONV: the channels agree, and the output size is one that the input comes from."""
    wanted = view.constant("in0").flatten()
    taps, given = view.operand("in1").shape, view.operand("in2").shape
    if wanted.size != 4 or int(wanted[3]) != taps[0] or given[3] != taps[3]:
        return False
    for axis, option in ((1, "stride_h"), (2, "stride_w")):
        size, stride = int(wanted[axis]), int(view.option(option))
        if stride <= 0:
            return False
        if view.option("padding") == VALID and taps[axis] > size:
            return False
        if view.option("padding") == SAME and (-(-size // stride) != given[axis] or taps[axis] < stride):
            return False
    return True


XNNPACK_PREDICATES: dict[str, Callable[[View], bool]] = {
    **LAYOUT_PREDICATES,
    "xnnpack_alpha_normal": _alpha_is_normal,
    "xnnpack_leaky_slope": _leaky_slope_fits,
    "xnnpack_in0_scale_128": _ratio_in(1 / 256, 128.0, "in0", "out0", up_to=True),
    "xnnpack_in0_scale_256": _ratio_in(1 / 1024, 256.0, "in0", "out0"),
    "xnnpack_in1_scale_256": _ratio_in(1 / 1024, 256.0, "in1", "out0"),
    "xnnpack_product_scale_256": _ratio_in(1 / 65536, 256.0, "in0", "in1", "out0"),
    **{f"xnnpack_{name}_sizes": _has_positive_sizes(name) for name in ("in0", "in1", "in2", "out0")},
    "xnnpack_ranks": _ranks_fit,
    "xnnpack_quantization": _all_are_usable,
    **{f"xnnpack_{name}_quantization": _is_usable(name) for name in ("in1", "in2", "in3")},
    "xnnpack_in2_given": _is_given("in2"),
    "xnnpack_in2_constant": _bias_is_constant("in2"),
    "xnnpack_in3_constant": _bias_is_constant("in3"),
    "xnnpack_in2_bias_type": _bias_type_fits("in2", "in0"),
    "xnnpack_in3_bias_type": _bias_type_fits("in3", "in2"),
    "xnnpack_bias_size": _bias_size_fits,
    "xnnpack_in2_bias_scales": _bias_scales_like_filter("in2", "in1"),
    "xnnpack_in3_bias_scales": _bias_scales_like_filter("in3", "in1"),
    "xnnpack_bias_width": _bias_as_wide_as_filter,
    "xnnpack_not_sparse_version": lambda view: view.node.version != 8,
    "xnnpack_covered_weights": _covered_weights,
    "xnnpack_in1_like_in0": _weights_go_with("in0", "in1", hybrid=False),
    "xnnpack_in1_with_in0": _weights_go_with("in0", "in1", hybrid=True),
    "xnnpack_in1_with_in2": _weights_go_with("in2", "in1", hybrid=True),
    "xnnpack_scales_along_0": _scales_along("in1", 0),
    "xnnpack_scales_along_3": _scales_along("in1", 3),
    "xnnpack_uint8_weights": _uint8_per_tensor("in1"),
    "xnnpack_quantized_weights": _int8_quantized("in1"),
    "xnnpack_in1_symmetric": _zero_point_is_zero("in1"),
    "xnnpack_in0_requantization": _requantization_fits("in0", "in1"),
    "xnnpack_in2_requantization": _requantization_fits("in2", "in1"),
    "xnnpack_columns_quantized": _columns_quantized,
    "xnnpack_int8_matrix_per_tensor": _not_per_channel_in_int8,
    "xnnpack_groups": _has_groups,
    "xnnpack_multiplier": _multiplier_divides,
    "xnnpack_deconvolution": _deconvolution_fits,
}
