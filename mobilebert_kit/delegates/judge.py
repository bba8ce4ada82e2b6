"""From what a delegate's rules found of a node to its Verdict: the same for every delegate."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from mobilebert_kit.delegates.conditions import Condition
from mobilebert_kit.delegates.evaluate import reason
from mobilebert_kit.delegates.fixes import FIXES
from mobilebert_kit.delegates.report import Verdict
from mobilebert_kit.delegates.tflite_file import ABSENT, Node, Tensor

OPERANDS_SHOWN = 16


def verdict(
    delegate: str,
    node: Node,
    tensors: Sequence[Tensor],
    accepted: bool | None,
    reasons: tuple[str, ...] = (),
    *,
    failed: tuple[Condition, ...] = (),
    refusals: tuple[str, ...] = (),
) -> Verdict:
    """The verdict on `node`; `failed` conditions add their reasons, and the first that has a fix gives it."""
    described = (*_describe("in", node.inputs, tensors), *_describe("out", node.outputs, tensors))
    reasons += tuple(map(reason, failed))
    fix = ""
    if accepted is not True or refusals:
        fix = next((rule.fix for rule in failed if rule.fix), FIXES[delegate].get(node.op, ""))
    return Verdict(node.index, node.op, node.version, accepted, reasons, refusals, fix, described)


def _describe(side: str, operands: tuple[int, ...], tensors: Sequence[Tensor]) -> Iterator[str]:
    for number, index in enumerate(operands[:OPERANDS_SHOWN]):
        if index != ABSENT:
            yield f"{side}{number} {tensors[index].describe()}"
    if len(operands) > OPERANDS_SHOWN:
        yield f"{side}{OPERANDS_SHOWN} to {side}{len(operands) - 1} are not shown"


def without_rules(node: Node, not_covered: Collection[str]) -> str:
    """Why nothing is known of an op that has no rules; "" where having none means that it is refused."""
    if node.op in not_covered:
        return f"Unknown: no rule of this checker covers {node.op}."
    if node.op.startswith("UNKNOWN_"):
        return f"Unknown: op code {node.op.removeprefix('UNKNOWN_')} is newer than this checker."
    return ""
