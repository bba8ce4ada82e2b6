"""A report in words, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mobilebert_kit.delegates.report import Report, Verdict

NODES_SHOWN = 6


def fallback_share(report: Report, macs: Sequence[int]) -> float:
    """The share of the MACs, 0 to 1, that the CPU's own kernels would compute; `macs` per node."""
    total = sum(macs)
    return 1.0 - sum(macs[index] for index in report.delegated) / total if total else 0.0


def headline(report: Report, macs: Sequence[int]) -> str:
    """One line: whole, or how much of it is refused, in how many pieces, and what falls back."""
    count = len(report.nodes)
    if report.whole:
        return f"takes all {count} nodes, in one partition"
    pieces = f"{report.partitions} partition{'' if report.partitions == 1 else 's'}"
    kept = f", {len(report.delegated)} nodes delegated"
    return (
        f"refuses {len(report.refused)} of {count} nodes; {pieces}{kept}; "
        f"{fallback_share(report, macs):.1%} of the MACs fall back to the CPU"
    )


def refusals(report: Report) -> str:
    """The nodes that would not run, those with the same reasons together; "" where all run."""
    groups: dict[tuple, list[Verdict]] = {}
    for node in report.refused:
        key = (node.op, node.version, node.accepted, node.reasons, node.runtime_refusals, node.fix)
        groups.setdefault(key, []).append(node)
    return "\n".join(line for nodes in groups.values() for line in _describe(nodes))


def _describe(nodes: Sequence[Verdict]) -> list[str]:
    first = nodes[0]
    shown = ", ".join(str(node.index) for node in nodes[:NODES_SHOWN])
    more = f" and {len(nodes) - NODES_SHOWN} more" if len(nodes) > NODES_SHOWN else ""
    plural = "" if len(nodes) == 1 else "s"
    says = "unknown" if first.accepted is None else "refused"
    if first.accepted:
        says = "accepted by the delegate, refused by what runs below it"
    lines = [f"  {first.op} version {first.version}, node{plural} {shown}{more}: {says}"]
    lines += [f"      {reason}" for reason in (*first.reasons, *first.runtime_refusals)]
    lines += [f"      {tensor}" for tensor in first.tensors]
    if first.fix:
        lines.append(f"      fix: {first.fix}")
    return lines


def to_json(report: Report, macs: Sequence[int]) -> dict[str, Any]:
    """JSON-ready: the verdict of every node, `accepted` being null for unknown."""
    return {
        "whole": report.whole,
        "partitions": report.partitions,
        "delegated_nodes": len(report.delegated),
        "macs_fallback_share": round(fallback_share(report, macs), 6),
        "nodes": [
            {
                "index": node.index,
                "op": node.op,
                "version": node.version,
                "accepted": node.accepted,
                "reasons": list(node.reasons),
                "runtime_refusals": list(node.runtime_refusals),
                "fix": node.fix,
                "tensors": list(node.tensors),
                "macs": count,
            }
            for node, count in zip(report.nodes, macs, strict=True)
        ],
    }
