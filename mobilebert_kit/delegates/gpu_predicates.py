"""The predicates of the GPU rules that fit no kind of condition, by the name that Special knows them by.

Those on the axes and extents of operands stand in gpu_shape_predicates.py. Source: gpu_rules.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest

from mobilebert_kit.delegates.gpu_shape_predicates import GPU_SHAPE_PREDICATES
from mobilebert_kit.delegates.tflite_file import Tensor
from mobilebert_kit.delegates.view import OperandMissing, View

# As operands of a float op: float16 ones stand for their DEQUANTIZE.
FLOAT_CONSTANTS = ("float32", "float16")
# ADD(x, x) is taken as 2 x, MUL(x, x) as a square; CONCATENATION and ADD_N copy. Others refuse or abort.
_TAKE_ONE_TENSOR_TWICE = ("ADD", "CONCATENATION", "MUL")


def _operands(view: View) -> tuple[Tensor, ...]:
    return tuple(tensor for tensor in view.inputs + view.outputs if tensor is not None)


def _runtime(view: View) -> tuple[Tensor, ...]:
    return tuple(tensor for tensor in _operands(view) if not tensor.is_constant)


def _operands_differ(view: View) -> bool:
    runtime = [tensor.index for tensor in view.inputs if tensor is not None and not tensor.is_constant]
    return view.node.op in _TAKE_ONE_TENSOR_TWICE or len(set(runtime)) == len(runtime)


def broadcast(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...] | None:
    """The shape of both together, aligned at their last axes; None where they do not fit."""
    sizes = []
    for x, y in zip_longest(reversed(a), reversed(b), fillvalue=1):
        if x != y and 1 not in (x, y):
            return None
        sizes.append(y if x == 1 else x)
    return tuple(reversed(sizes))


def _all_inputs(view: View) -> tuple[Tensor, ...]:
    return tuple(view.operand(f"in{number}") for number in range(len(view.inputs)))


def _has_runtime_input(view: View) -> bool:
    return any(not tensor.is_constant for tensor in _all_inputs(view))


def _float_constants(view: View) -> bool:
    return all(tensor.dtype in FLOAT_CONSTANTS for tensor in _all_inputs(view) if tensor.is_constant)


def _constant_in_place(view: View) -> bool:
    """The layout in which a constant is read, [H, W, C] aligned at C, is where TFLite broadcasts it.

    Computed tensors lie as [N], [N, C], [N, W, C] or [N, H, W, C]. So a constant of several columns and rows
    meets rank 2 at W instead of N, and a vector meets rank 1 at C instead of N.
    """
    constants = [tensor for tensor in _all_inputs(view) if tensor.is_constant]
    for constant in constants:
        shape = constant.shape
        size = 1
        for extent in shape:
            size *= extent
        if size == 1:
            continue
        runtime = next((tensor for tensor in _all_inputs(view) if not tensor.is_constant), None)
        if runtime is None or constant.rank > runtime.rank:
            return False
        linear = all(extent == 1 for extent in shape[:-1])
        if linear and runtime.rank >= 2:
            continue
        if constant.rank < 2 or runtime.rank < 3:
            return False
        if constant.rank == runtime.rank and shape[0] != 1:
            return False  # it has batches of its own
    return True


def _one_operand_is_whole(view: View) -> bool:
    """One computed operand has the output's shape: none is repeated in two directions (no outer product)."""
    inputs, out = _all_inputs(view), view.operand("out0")
    return broadcast(inputs[0].shape, inputs[-1].shape) == out.shape and any(
        tensor.shape == out.shape for tensor in inputs if not tensor.is_constant
    )


def _ranks_broadcast(view: View) -> bool:
    """Two computed operands of different rank: [H, W, C] or [1, C] beside [1, H, W, C], as older ones do."""
    runtime = [tensor.shape for tensor in _all_inputs(view) if not tensor.is_constant]
    if len(runtime) < 2 or len(runtime[0]) == len(runtime[1]):
        return True
    short, long = sorted(runtime, key=len)
    if len(long) != 4 or long[0] != 1:
        return False
    return len(short) == 3 or (len(short) == 2 and short[0] == 1 and short[1] in (1, long[3]))


def _exponent_2_or_3(view: View) -> bool:
    exponent = view.operand("in1")
    if not exponent.is_constant or exponent.dtype != "float32":
        return False
    return exponent.shape in ((), (1,)) and float(view.constant("in1").flat[0]) in (2.0, 3.0)


def _bias_constant(view: View) -> bool:
    weights = view.operand("in1")
    # TFLite's convolutions need a bias, though the schema does not.
    bias = view.optional("in2") if view.node.op == "FULLY_CONNECTED" else view.operand("in2")
    if bias is None:
        return True
    outputs = weights.shape[-1] if view.node.op == "DEPTHWISE_CONV_2D" else weights.shape[:1]
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return bias.is_constant and bias.dtype in FLOAT_CONSTANTS and bias.shape == outputs


def _no_bias_on_runtime_weights(view: View) -> bool:
    return view.operand("in1").is_constant or view.optional("in2") is None


def _float_weights(view: View) -> bool:
    weights = view.operand("in1")
    return weights.dtype in FLOAT_CONSTANTS if weights.is_constant else weights.dtype == "float32"


def _fully_connected_shapes(view: View) -> bool:
    given, weights, out = view.operand("in0"), view.operand("in1"), view.operand("out0")
    if not (given.rank >= 2 and weights.rank == 2 and out.rank >= 2):
        return False
    rows = given.shape[:-1]
    count = 1
    for extent in rows:
        count *= extent
    kept = out.shape[:-1] == rows if view.option("keep_num_dims") else out.shape[:-1] == (count,)
    return given.shape[-1] == weights.shape[1] and out.shape[-1] == weights.shape[0] and kept


def _convolution_shapes(view: View) -> bool:
    given, weights, out = view.operand("in0"), view.operand("in1"), view.operand("out0")
    if not given.rank == weights.rank == out.rank == 4:
        return False
    return (given.shape[3], given.shape[0]) == (weights.shape[3], out.shape[0]) and (
        weights.shape[0] == out.shape[3]
    )


def _depthwise_shapes(view: View) -> bool:
    given, weights, out = view.operand("in0"), view.operand("in1"), view.operand("out0")
    if not given.rank == weights.rank == out.rank == 4:
        return False
    return (
        weights.shape[0] == 1
        and given.shape[0] == out.shape[0]
        and view.option("depth_multiplier") == 1
        and out.shape[3] == weights.shape[3] == given.shape[3]
    )


def _steps(view: View) -> bool:
    names = ("stride_w", "stride_h", "dilation_w", "dilation_h")
    return all(int(view.option(name)) > 0 for name in names)


def _matmul_shapes(view: View) -> bool:
    """Two computed operands have the same batches; a constant second one is [K, N]."""
    a, b, out = view.operand("in0"), view.operand("in1"), view.operand("out0")
    if a.rank < 2 or b.rank < 2:
        return False
    rows, inner = a.shape[-1:-3:-1] if view.option("adj_x") else a.shape[-2:]
    inner_b, columns = b.shape[-1:-3:-1] if view.option("adj_y") else b.shape[-2:]
    batches = b.is_constant or a.shape[:-2] == b.shape[:-2]
    return inner == inner_b and batches and out.shape == (*a.shape[:-2], rows, columns)


def _constant_matrix_is_plain(view: View) -> bool:
    matrix = view.operand("in1")
    if not matrix.is_constant:
        return True
    return matrix.rank == 2 and not view.option("adj_x") and not view.option("adj_y")


def _branches(view: View) -> bool:
    """What SELECT chooses from has the output's shape; for SELECT_V2 it may be a constant scalar."""
    out = view.operand("out0")
    for name in ("in1", "in2"):
        tensor = view.operand(name)
        if not tensor.is_constant and tensor.shape != out.shape:
            return False
        scalar = tensor.dtype in FLOAT_CONSTANTS and tensor.shape in ((), (1,))
        if tensor.is_constant and (view.node.op == "SELECT" or not scalar):
            return False
    return True


def _one_hot_along_channels(view: View) -> bool:
    ids, out = view.operand("in0"), view.operand("out0")
    if ids.rank < 1 or out.shape[:-1] != ids.shape:
        return False
    return view.option("axis") == -1 and all(extent == 1 for extent in ids.shape[:-1])


def _one_hot_values(view: View) -> bool:
    values = [view.operand(name) for name in ("in2", "in3")]
    return all(t.is_constant and t.dtype == "float32" and t.shape in ((), (1,)) for t in values)


def _table_type(view: View) -> bool:
    """The type of the output too: a table of float16 gives float16, where its DEQUANTIZE gave float32."""
    table, out = view.operand("in0"), view.operand("out0")
    return table.dtype == out.dtype and (table.dtype == "float32" or table.is_constant)


def _one_of_two_computed(view: View) -> bool:
    if len(view.inputs) != 2:
        raise OperandMissing(f"it has {len(view.inputs)} inputs, not 2")
    return _has_runtime_input(view)


def _cast_pair(view: View) -> bool:
    types = view.operand("in0").dtype, view.operand("out0").dtype
    return types in (("bool", "float32"), ("float32", "bool"), ("float16", "float32")) or all(
        dtype in ("float32", "int32") for dtype in types
    )


GPU_PREDICATES: dict[str, Callable[[View], bool]] = {
    **GPU_SHAPE_PREDICATES,
    "gpu_bias_constant": _bias_constant,
    "gpu_branches": _branches,
    "gpu_cast_pair": _cast_pair,
    "gpu_constant_in_place": _constant_in_place,
    "gpu_constant_matrix_is_plain": _constant_matrix_is_plain,
    "gpu_constants_not_sparse": lambda view: not any(tensor.is_sparse for tensor in _operands(view)),
    "gpu_convolution_shapes": _convolution_shapes,
    "gpu_depthwise_shapes": _depthwise_shapes,
    "gpu_exponent_2_or_3": _exponent_2_or_3,
    "gpu_float_constants": _float_constants,
    "gpu_float_weights": _float_weights,
    "gpu_fully_connected_shapes": _fully_connected_shapes,
    "gpu_has_elements": lambda view: not any(0 in tensor.shape for tensor in _operands(view)),
    "gpu_has_layout": lambda view: all(tensor.rank > 0 for tensor in _runtime(view)),
    "gpu_has_runtime_input": _has_runtime_input,
    "gpu_in0_is_computed": lambda view: not view.operand("in0").is_constant,
    "gpu_in0_is_whole": lambda view: view.operand("in0").shape == view.operand("out0").shape,
    "gpu_in1_is_computed": lambda view: not view.operand("in1").is_constant,
    "gpu_matmul_shapes": _matmul_shapes,
    "gpu_never": lambda view: False,
    "gpu_no_bias_on_runtime_weights": _no_bias_on_runtime_weights,
    "gpu_no_variables": lambda view: not any(tensor.is_variable for tensor in _operands(view)),
    "gpu_one_hot_along_channels": _one_hot_along_channels,
    "gpu_one_hot_values": _one_hot_values,
    "gpu_one_of_two_computed": _one_of_two_computed,
    "gpu_one_operand_is_whole": _one_operand_is_whole,
    "gpu_one_type": lambda view: view.operand("in0").dtype == view.operand("out0").dtype,
    "gpu_operands_differ": _operands_differ,
    "gpu_ranks_broadcast": _ranks_broadcast,
    "gpu_same_shape": lambda view: view.operand("in0").shape == view.operand("out0").shape,
    "gpu_shape_is_constant": lambda view: all(tensor.is_constant for tensor in _all_inputs(view)[1:]),
    "gpu_static_shapes": lambda view: all(-1 not in tensor.shape_signature for tensor in _operands(view)),
    "gpu_steps": _steps,
    "gpu_table_type": _table_type,
    "gpu_up_to_rank_4": lambda view: all(tensor.rank <= 4 for tensor in _operands(view)),
}
