"""Checks a model against the rules of LiteRT's GPU accelerator.

    report = check_gpu(read_tflite("model.tflite"))
    report.whole, report.partitions, report.refused

The rules: gpu_rules.py, and gpu_graph_rules.py for what nodes do to each other. How they are tested:
evaluate.py. The real thing: runtime/accelerator.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from mobilebert_kit.delegates.evaluate import failures
from mobilebert_kit.delegates.gpu_graph_rules import refused_together
from mobilebert_kit.delegates.gpu_rules import EVERY_OP, MAX_DELEGATED_PARTITIONS, NOT_COVERED, RULES
from mobilebert_kit.delegates.judge import verdict, without_rules
from mobilebert_kit.delegates.partition import partitions_of
from mobilebert_kit.delegates.report import Report, Verdict
from mobilebert_kit.delegates.tflite_file import ABSENT, Model, Node, Tensor
from mobilebert_kit.delegates.view import OperandMissing, view_of

# FP16GraphPartitionHelper (tflite/delegates/utils.cc), which the delegate and the accelerator both use.
CONSTANT_FLOAT16 = (
    "A float16 constant is dequantized by the delegate itself, if it takes every other node; else on the CPU."
)
IS_AN_OUTPUT = "A dequantized constant that is an output of the model is never written."
PLAIN_FLOAT16 = "A float16 constant is taken behind a DEQUANTIZE only, but for the table of a GATHER."
NOT_SUPPORTED = "Operation is not supported."


def check_gpu(model: Model, *, max_partitions: int = MAX_DELEGATED_PARTITIONS, subgraph: int = 0) -> Report:
    """What the GPU accelerator says of every node of one subgraph of the model, the main one by default.

    max_partitions: the delegate's option `max_delegated_partitions`; 0 for no limit.
    """
    graph = model.subgraphs[subgraph]
    half = {n.outputs[0]: n.inputs[0] for n in graph.nodes if _dequantizes_constant_float16(n, graph.tensors)}
    dequantize = {n.index for n in graph.nodes if n.outputs and n.outputs[0] in half}
    together = refused_together(graph)
    outputs = frozenset(graph.outputs)
    verdicts = {
        n.index: _judge(n, graph.tensors, half, together.get(n.index, ""))
        for n in graph.nodes
        if n.index not in dequantize
    }
    rest_accepted = all(judged.accepted is True for judged in verdicts.values())
    for index in dequantize:
        node = graph.nodes[index]
        is_output = node.outputs[0] in outputs
        verdicts[index] = verdict(
            "gpu",
            node,
            graph.tensors,
            rest_accepted and not is_output,
            (IS_AN_OUTPUT if is_output else CONSTANT_FLOAT16,),
        )
    nodes = tuple(verdicts[node.index] for node in graph.nodes)
    groups = partitions_of(graph, {v.index for v in nodes if v.accepted is True}, half)
    kept = sorted(groups, key=len, reverse=True)[: max_partitions or None]
    return Report("gpu", 0, nodes, len(groups), tuple(sorted(i for group in kept for i in group)))


def _dequantizes_constant_float16(node: Node, tensors: tuple[Tensor, ...]) -> bool:
    if node.op != "DEQUANTIZE" or len(node.inputs) != 1 or len(node.outputs) != 1 or ABSENT in node.inputs:
        return False
    if ABSENT in node.outputs:
        return False
    constant, made = tensors[node.inputs[0]], tensors[node.outputs[0]]
    known = constant.is_constant and not constant.is_sparse
    return (
        known
        and (constant.dtype, made.dtype) == ("float16", "float32")
        and constant.shape == made.shape
        and constant.rank <= 4
        and node.version <= 3
    )


def _judge(node: Node, tensors: tuple[Tensor, ...], half: dict[int, int], together: str) -> Verdict:
    """together: why it is refused for what is around it, or ""."""
    rules = RULES.get(node.op)
    if rules is None:
        unknown = without_rules(node, NOT_COVERED)
        return verdict("gpu", node, tensors, None if unknown else False, (unknown or NOT_SUPPORTED,))
    view = view_of(node, tensors, 0, True, half)
    try:
        view.operand("out0")
        failed = failures(EVERY_OP, view) or failures(rules, view)
    except OperandMissing as error:
        return verdict("gpu", node, tensors, None, (f"Unknown: the node is malformed, {error}.",))
    reasons = (together,) if together else ()
    if not failed and _reads_float16(node, tensors):
        reasons += (PLAIN_FLOAT16,)
    return verdict("gpu", node, tensors, not failed and not reasons, reasons, failed=failed)


def _reads_float16(node: Node, tensors: Sequence[Tensor]) -> bool:
    """Without a DEQUANTIZE, which GATHER alone takes."""
    return node.op != "GATHER" and any(
        tensors[i].dtype == "float16" and tensors[i].is_constant for i in node.inputs if i != ABSENT
    )
