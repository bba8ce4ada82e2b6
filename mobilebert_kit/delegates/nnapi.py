"""Checks a model against the NNAPI delegate's rules and the Android runtime's.

    report = check_nnapi(read_tflite("model.tflite"), api_level=30)
    report.whole, report.partitions, report.refused

The delegate's rules: nnapi_rules.py. The runtime's: nnapi_runtime_rules.py. How both are tested: evaluate.py.
"""

from __future__ import annotations

from mobilebert_kit.delegates import conditions as c
from mobilebert_kit.delegates.evaluate import failures, reason
from mobilebert_kit.delegates.judge import verdict, without_rules
from mobilebert_kit.delegates.nnapi_rules import (
    ACCELERATOR_SINCE,
    DELEGATE_RULES,
    MAX_DELEGATED_PARTITIONS,
    NOT_COVERED,
)
from mobilebert_kit.delegates.nnapi_runtime_rules import (
    PER_CHANNEL_OPERANDS,
    RUNTIME_RULES,
    UNMAPPED_OPERANDS,
    UNMAPPED_TYPES,
)
from mobilebert_kit.delegates.partition import partitions_of
from mobilebert_kit.delegates.report import Report, Verdict
from mobilebert_kit.delegates.tflite_file import ABSENT, Model, Node, Tensor
from mobilebert_kit.delegates.view import OperandMissing, View, view_of
from mobilebert_kit.errors import InputError

API_LEVELS = range(27, 37)
# NeuralNetworksTypes.h: feature levels 1 to 5 are API 27 to 31; later ones are tied to no API level.
FEATURE_LEVELS = {
    **{n: 26 + n for n in range(1, 6)},
    6: c.FEATURE_LEVEL_6,
    7: c.FEATURE_LEVEL_7,
    8: c.FEATURE_LEVEL_8,
}
# The outcome of FP16GraphPartitionHelper (tflite/delegates/utils.cc), in the recorded verdicts' words.
CONSTANT_FLOAT16 = (
    "(Validate not called: constant fp16 DEQUANTIZE, FP16GraphPartitionHelper delegates it only if every "
    "other node is accepted)"
)


def nnapi_level(api_level: int, feature_level: int | None) -> int:
    """The number that the delegate compares: API level, or 1000000 + feature level from 6 on.

    A feature level is the driver's own and stands above the API level. Without one, nothing is assumed beyond
    feature level 5, on Android 13 and 14 too: which one a phone's driver has is its maker's choice.
    InputError for levels that do not exist.
    """
    if feature_level is not None:
        if feature_level in FEATURE_LEVELS:
            return FEATURE_LEVELS[feature_level]
        if feature_level in (c.FEATURE_LEVEL_6, c.FEATURE_LEVEL_7, c.FEATURE_LEVEL_8):
            return feature_level
        raise InputError(f"Expected an NNAPI feature level from 1 to 8, got {feature_level}.")
    if api_level not in API_LEVELS:
        raise InputError(
            f"Expected an Android API level from {API_LEVELS[0]} to {API_LEVELS[-1]}, got {api_level}."
        )
    return api_level


def check_nnapi(
    model: Model,
    *,
    api_level: int = 30,
    feature_level: int | None = None,
    accelerator: bool | None = None,
    max_partitions: int = MAX_DELEGATED_PARTITIONS,
    subgraph: int = 0,
) -> Report:
    """What the NNAPI delegate says of every node of one subgraph of the model, the main one by default.

    accelerator: whether the delegate targets accelerators; None means as with default options, from API 29.
    max_partitions: the delegate's option `max_number_delegated_partitions`; 0 for no limit.
    """
    level = nnapi_level(api_level, feature_level)
    if accelerator is None:
        accelerator = level >= ACCELERATOR_SINCE
    graph = model.subgraphs[subgraph]
    half = {n.outputs[0]: n.inputs[0] for n in graph.nodes if _dequantizes_float16(n, graph.tensors, True)}
    constant_dequantize = {n.index for n in graph.nodes if n.outputs and n.outputs[0] in half}
    verdicts = {}
    for node in graph.nodes:
        if node.index not in constant_dequantize:
            # In a model with float16 weights, ops are asked with the float16 constant as their operand.
            view = view_of(node, graph.tensors, level, accelerator, half)
            # To NNAPI it gives that constant as float32, so the runtime sees what the file says.
            below = view_of(node, graph.tensors, level, accelerator)
            verdicts[node.index] = _judge(view, below, graph.tensors)
    rest_accepted = all(judged.accepted is True for judged in verdicts.values())
    for index in constant_dequantize:
        node = graph.nodes[index]
        verdicts[index] = verdict("nnapi", node, graph.tensors, rest_accepted, (CONSTANT_FLOAT16,))
    nodes = tuple(verdicts[node.index] for node in graph.nodes)
    groups = partitions_of(graph, {v.index for v in nodes if v.accepted is True}, half)
    kept = sorted(groups, key=len, reverse=True)[: max_partitions or None]
    # What the runtime refuses, it refuses while the partition's model is built: all of it stays on the CPU.
    kept = [group for group in kept if all(nodes[index].runs for index in group)]
    return Report("nnapi", level, nodes, len(groups), tuple(sorted(i for group in kept for i in group)))


def _dequantizes_float16(node: Node, tensors: tuple[Tensor, ...], constant: bool) -> bool:
    if node.op != "DEQUANTIZE" or len(node.inputs) != 1 or len(node.outputs) != 1 or ABSENT in node.inputs:
        return False
    tensor = tensors[node.inputs[0]]
    return tensor.dtype == "float16" and tensor.is_constant == constant


def _judge(view: View, below: View, tensors: tuple[Tensor, ...]) -> Verdict:
    node = view.node
    rules = DELEGATE_RULES.get(node.op)
    if rules is None:
        unknown = without_rules(node, NOT_COVERED)
        reasons = (unknown or "UnsupportedOperator: Unsupported operation type.",)
        return verdict("nnapi", node, tensors, None if unknown else False, reasons)
    if _dequantizes_float16(node, tensors, False) and view.level >= c.API_30:
        return verdict("nnapi", node, tensors, True)  # accepted before any other rule
    try:
        view.operand("out0")  # every op that is mapped has one
        failed = failures(rules, view)
        refusals = () if failed else _runtime_refusals(below)
    except OperandMissing as error:
        return verdict("nnapi", node, tensors, None, (f"Unknown: the node is malformed, {error}.",))
    return verdict("nnapi", node, tensors, not failed, failed=failed, refusals=refusals)


def _runtime_refusals(view: View) -> tuple[str, ...]:
    node, found = view.node, []
    unmapped = UNMAPPED_OPERANDS.get(node.op, ())
    for side, operands in (("in", view.inputs), ("out", view.outputs)):
        for number, tensor in enumerate(operands):
            name = f"{side}{number}"
            if tensor is None or name in unmapped:
                continue
            if tensor.dtype in UNMAPPED_TYPES:
                found.append(f"{name} is {tensor.dtype}, which NNAPI has no operand type for")
            if tensor.per_channel and tensor.dtype == "int8":
                dimension = PER_CHANNEL_OPERANDS.get((node.op, name))
                if dimension is None:
                    found.append(
                        f"{name} is quantized per channel: TENSOR_QUANT8_SYMM_PER_CHANNEL is no type that "
                        f"{node.op} takes there"
                    )
                elif dimension not in (tensor.quantized_dimension, "any"):
                    found.append(
                        f"{name} is quantized along dimension {tensor.quantized_dimension}, not {dimension}"
                    )
    found.extend(reason(rule) for rule in failures(RUNTIME_RULES.get(node.op, ()), view))
    return tuple(found)
