"""Checks a model against what XNNPACK, the CPU delegate that the interpreter applies by itself, takes.

    report = check_xnnpack(read_tflite("model.tflite"))
    report.partitions, report.delegated, report.refused

A node that XNNPACK does not take runs on the interpreter's own kernel, which is often slower, and ends the
partition. The rules: xnnpack_rules.py. How they are tested: evaluate.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mobilebert_kit.delegates.conditions import Condition
from mobilebert_kit.delegates.evaluate import applies, holds
from mobilebert_kit.delegates.judge import verdict, without_rules
from mobilebert_kit.delegates.partition import partitions_of
from mobilebert_kit.delegates.report import Report, Verdict
from mobilebert_kit.delegates.tflite_file import ABSENT, Model, Node, Subgraph, Tensor
from mobilebert_kit.delegates.view import OperandMissing
from mobilebert_kit.delegates.xnnpack_predicates import XnnpackView
from mobilebert_kit.delegates.xnnpack_rules import CUSTOM_NOT_COVERED, NOT_COVERED, RULES
from mobilebert_kit.delegates.xnnpack_wording import TENSORS

# The ops that XNNPACK gives float16 weights to as they are; for others it unpacks them beforehand.
_TAKE_HALVES = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def check_xnnpack(model: Model, *, subgraph: int = 0) -> Report:
    """What XNNPACK says of every node of one subgraph of the model, the main one by default.

    Of a refused node, the reasons hold the first that the delegate meets, not all. The report's level is 0.
    """
    graph = model.subgraphs[subgraph]
    unpacking = {node.index: node for node in graph.nodes if _unpacks(node, graph.tensors)}
    unpacked = {node.outputs[0] for node in unpacking.values()}
    halves = _halves(graph, unpacking)
    sparse = {i for node in graph.nodes if node.op == "DENSIFY" for i in node.outputs}
    tensors = [replace(t, is_constant=True) if t.index in unpacked else t for t in graph.tensors]
    verdicts: dict[int, Verdict] = {}
    readers: dict[int, list[Verdict]] = {}
    for node in graph.nodes:
        if node.index in unpacking:
            continue
        if sparse.isdisjoint(node.inputs):
            judged = _judge(node, tensors, halves)
        else:
            judged = verdict("xnnpack", node, tensors, None, ("Unknown: it reads sparse weights.",))
        verdicts[node.index] = judged
        for index in unpacked.intersection(node.inputs):
            readers.setdefault(index, []).append(judged)
    for node in unpacking.values():
        verdicts[node.index] = _judge_unpacking(node, graph.tensors, readers.get(node.outputs[0], []))
    nodes = tuple(verdicts[node.index] for node in graph.nodes)
    groups = partitions_of(graph, {v.index for v in nodes if v.accepted is True})
    return Report("xnnpack", 0, nodes, len(groups), tuple(sorted(i for group in groups for i in group)))


def _unpacks(node: Node, tensors: Sequence[Tensor]) -> bool:
    """Whether it makes a float32 constant of a float16 or int8 one: XNNPACK does that beforehand."""
    if node.op != "DEQUANTIZE" or len(node.inputs) != 1 or len(node.outputs) != 1:
        return False
    if ABSENT in node.inputs + node.outputs:
        return False
    packed, plain = tensors[node.inputs[0]], tensors[node.outputs[0]]
    known = packed.dtype == "float16" or (packed.dtype == "int8" and bool(packed.scales))
    return packed.is_constant and not packed.is_sparse and known and plain.dtype == "float32"


def _halves(graph: Subgraph, unpacking: Mapping[int, Node]) -> frozenset[int]:
    """The unpacked float16 constants that are read as weights or biases only: they stay float16."""
    halves = {n.outputs[0] for n in unpacking.values() if graph.tensors[n.inputs[0]].dtype == "float16"}
    for node in graph.nodes:
        halves.difference_update(node.inputs[:1] if node.op in _TAKE_HALVES else node.inputs)
    return frozenset(halves)


def _judge(node: Node, tensors: Sequence[Tensor], halves: frozenset[int]) -> Verdict:
    rules = RULES.get(node.op)
    if rules is None:
        name = f"{node.op} {node.custom_code!r}" if node.op == "CUSTOM" else node.op
        unknown = without_rules(node, NOT_COVERED)
        if node.op == "CUSTOM" and node.custom_code in CUSTOM_NOT_COVERED:
            unknown = f"Unknown: no rule of this checker covers {name}."
        reasons = (unknown or f"XNNPACK has no {name}",)
        return verdict("xnnpack", node, tensors, None if unknown else False, reasons)
    inputs = tuple(None if i == ABSENT else tensors[i] for i in node.inputs)
    outputs = tuple(None if i == ABSENT else tensors[i] for i in node.outputs)
    view = XnnpackView(node, inputs, outputs, 0, False, halves)
    try:
        failed = _first_failure((*rules, *TENSORS), view)
    except OperandMissing as error:
        return verdict("xnnpack", node, tensors, None, (f"Unknown: {error}.",))
    return verdict("xnnpack", node, tensors, not failed, failed=failed)


def _first_failure(rules: tuple[Condition, ...], view: XnnpackView) -> tuple[Condition, ...]:
    """The first condition that is not met, alone: those behind it take it for granted."""
    for rule in rules:
        if applies(rule.when, view) and not holds(rule, view):
            return (rule,)
    return ()


def _judge_unpacking(node: Node, tensors: Sequence[Tensor], readers: Sequence[Verdict]) -> Verdict:
    """XNNPACK takes such a DEQUANTIZE unless a node that it does not take reads what it makes."""
    for accepted in (False, None):
        for reader in readers:
            if reader.accepted is accepted:
                why = f"node {reader.index} ({reader.op}) reads it"
                said = f"{why}, which XNNPACK does not take" if accepted is False else f"Unknown: {why}."
                return verdict("xnnpack", node, tensors, accepted, (said,))
    return verdict("xnnpack", node, tensors, True)
