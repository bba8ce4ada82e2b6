"""Integers in an ONNX graph: QuantizeLinear and DequantizeLinear (QDQ) where the recipe has its fake-quants.

    activation:  x ─ fake-quant ─ next          x ─ QuantizeLinear ─ DequantizeLinear ─ next
    dense:       DequantizeLinear ─┐            DequantizeLinear ──────────────────────┐
                 kernel, bias ─────┴ Gemm       int8, int32 ─ DequantizeLinear (each) ─┴ Gemm
    table:       table ─ Gather ─ Quantize...   int8 table ─ Gather ─ DequantizeLinear

Activations are uint8, all: kernels for x86 multiply uint8 by int8, ONNX Runtime makes uint8 of int8 before it
computes, and leaves a Gemm in float32 that reads one and gives the other. Kernels are int8 from -127 to 127,
zero point 0, a step for each output; biases int32 in units of both steps. Scales and integers are those that
TFLiteConverter writes; uint8 is its int8 plus 128.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

LARGEST_KERNEL = 127  # symmetric and narrow
LARGEST_BIAS = 2.0**30  # room for the sum that it is added to
Handler = tuple[Callable[..., None], list[Any]]  # of tf2onnx's custom ops


def fake_quant_handlers() -> dict[str, Handler]:
    """How tf2onnx is to write TensorFlow's fake-quants, by op type; for one graph.

    A tensor that several layers read with one range, or that has it already, is quantized once: EXACT.
    """
    written: dict[tuple[str, float, float], str] = {}

    def activation(graph: Any, node: Any, name: str, _: list[Any]) -> None:
        x, y = node.input[0], node.output[0]
        low, high = (node.get_attr(end).f for end in ("min", "max"))
        shape = graph.get_shape(x)
        graph.remove_node(name)
        if (x, low, high) in written:
            graph.replace_all_inputs(y, written[x, low, high])
            return
        parameters = [
            graph.make_const(f"{name}/{part}", value).output[0]
            for part, value in zip(("scale", "zero_point"), scale_and_zero_point(low, high), strict=True)
        ]
        rounded = graph.make_node(
            "QuantizeLinear", [x, *parameters], shapes=[shape], dtypes=[TensorProto.UINT8]
        )
        graph.make_node(
            "DequantizeLinear", [rounded.output[0], *parameters], outputs=[y], shapes=[shape],
            dtypes=[TensorProto.FLOAT],
        )  # fmt: skip
        written[x, low, high] = written[y, low, high] = y

    return {"FakeQuantWithMinMaxArgs": (activation, [])}


def scale_and_zero_point(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the 256 numbers from `low` to `high`: float32, and uint8."""
    scale = (high - low) / 255
    return np.float32(scale), np.uint8(math.floor(-low / scale + 0.5))


def quantize_constants(graph: GraphProto) -> None:
    """Makes integers, in place, of the constants that meet quantized activations: dense layers and tables."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    nodes: list[NodeProto] = []
    for node in graph.node:
        maker = makers.get(node.input[0])
        if maker is not None and (node.op_type, maker.op_type) == ("Gemm", "DequantizeLinear"):
            nodes += _integer_operands(node, maker, makers, constants)
        elif maker is not None and (node.op_type, maker.op_type) == ("QuantizeLinear", "Gather"):
            _integer_table(node, maker, constants)
            continue
        elif node.op_type == "Mul" and (values := _kernel_in_steps(node, makers, constants)) is not None:
            node = makers[node.output[0]] = _trained_kernel(node, values, constants)
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [constants[name] for name in constants if name in used]
    for field, values in ((graph.node, nodes), (graph.initializer, kept)):
        del field[:]
        field.extend(values)


def _integer_operands(
    gemm: NodeProto,
    activation: NodeProto,
    makers: dict[str, NodeProto],
    constants: dict[str, TensorProto],
) -> Iterator[NodeProto]:
    """Puts DequantizeLinear of integers in the place of a Gemm's kernel and bias; gives the new nodes."""
    _, kernel, bias = gemm.input
    step = numpy_helper.to_array(constants[activation.input[1]])
    biases = numpy_helper.to_array(constants[bias]).astype(np.float64)
    if kernel in constants:
        values = numpy_helper.to_array(constants[kernel])
        steps = np.abs(values).max(axis=0).astype(np.float64) / LARGEST_KERNEL
        # An output of nothing but its bias: any step will do with which the bias fits int32.
        steps = np.maximum(steps, np.abs(biases) / (step * LARGEST_BIAS))
        steps = np.where(steps > 0, steps, 1)
        yield _dequantized(gemm, 1, _integers(values, steps), steps.astype(np.float32), 1, constants)
    else:  # on the grid of quantized training
        steps = numpy_helper.to_array(constants[makers[kernel].input[1]])
    units = (steps * step).astype(np.float32)
    integers = np.clip(np.rint(biases / units), -LARGEST_BIAS, LARGEST_BIAS).astype(np.int32)
    yield _dequantized(gemm, 2, integers, units, 0, constants)


def _kernel_in_steps(
    multiply: NodeProto, makers: dict[str, NodeProto], constants: dict[str, TensorProto]
) -> np.ndarray | None:
    """The kernel of quantized training, in units of its steps, as lowering/onnx.py has it: constant ─
    QuantizeLinear ─ DequantizeLinear ─ Mul. None for any other product."""
    name = multiply.input[0]
    for op_type in ("DequantizeLinear", "QuantizeLinear"):
        if name not in makers or makers[name].op_type != op_type:
            return None
        name = makers[name].input[0]
    return numpy_helper.to_array(constants[name]) if name in constants else None


def _trained_kernel(multiply: NodeProto, values: np.ndarray, constants: dict[str, TensorProto]) -> NodeProto:
    """DequantizeLinear in the place of a product of `values` and steps."""
    steps, kernel = multiply.input[1], multiply.output[0]
    zeros = np.zeros(values.shape[1], np.int8)
    for part, array in (("integers", _integers(values, 1.0)), ("zero_point", zeros)):
        constants[f"{kernel}/{part}"] = numpy_helper.from_array(array, f"{kernel}/{part}")
    return helper.make_node(
        "DequantizeLinear", [f"{kernel}/integers", steps, f"{kernel}/zero_point"], [kernel], axis=1
    )


def _dequantized(
    reader: NodeProto,
    position: int,
    integers: np.ndarray,
    steps: np.ndarray,
    axis: int,
    constants: dict[str, TensorProto],
) -> NodeProto:
    name = f"{reader.output[0]}/input_{position}"
    parts = {"integers": integers, "scale": steps, "zero_point": np.zeros(steps.shape, integers.dtype)}
    for part, value in parts.items():
        constants[f"{name}/{part}"] = numpy_helper.from_array(value, f"{name}/{part}")
    reader.input[position] = name
    return helper.make_node("DequantizeLinear", [f"{name}/{part}" for part in parts], [name], axis=axis)


def _integer_table(quantize: NodeProto, gather: NodeProto, constants: dict[str, TensorProto]) -> None:
    """Quantizes the table that `gather` reads, and gives its output the name of what `quantize` made."""
    scale, zero_point = (numpy_helper.to_array(constants[name]) for name in quantize.input[1:])
    table = numpy_helper.to_array(constants[gather.input[0]])
    limits = np.iinfo(zero_point.dtype)
    rounded = np.clip(np.rint(table / scale) + zero_point, limits.min, limits.max).astype(zero_point.dtype)
    name = f"{gather.input[0]}/integers"
    constants[name] = numpy_helper.from_array(rounded, name)
    gather.input[0], gather.output[0] = name, quantize.output[0]


def _integers(kernel: np.ndarray, steps: np.ndarray | float) -> np.ndarray:
    """kernel [in, out] in units of `steps`, halves away from zero, as TFLiteConverter has them."""
    nearest = np.trunc(kernel / steps + np.copysign(0.5, kernel))
    return np.clip(nearest, -LARGEST_KERNEL, LARGEST_KERNEL).astype(np.int8)
