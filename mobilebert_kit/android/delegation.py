"""What the runtime prints of a delegate: did it take as many nodes as the bundle's manifest promises?

    Replacing 415 out of 415 node(s) with delegate (TfLiteNnapiDelegate) node, yielding 1 partitions

The line is TFLite's (core/subgraph.cc). A delegate that takes nothing, or whose compilation fails, does not
end the run: the CPU does the work, and answers well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mobilebert_kit.android.delegates import BY_NAME
from mobilebert_kit.android.reading import Model
from mobilebert_kit.errors import CheckFailed

_REPLACING = re.compile(
    r"Replacing (?P<taken>\d+) (?:out of (?P<nodes>\d+) )?node\(s\) with delegate \((?P<name>[^)]*)\) node, "
    r"yielding (?P<partitions>\d+) partitions"
)
_UNDONE = re.compile(r"Restored original execution plan after delegate application failure")


@dataclass(frozen=True)
class Delegation:
    """One "Replacing" line: `taken` nodes went to the delegate called `name`."""

    name: str
    taken: int
    partitions: int


def parse_delegations(log: str) -> list[Delegation]:
    """All of a log, in order."""
    return [
        Delegation(found["name"], int(found["taken"]), int(found["partitions"]))
        for found in _REPLACING.finditer(log)
    ]


def check_delegation(log: str, model: Model) -> Delegation:
    """The delegation of `model` by its delegate in a run's output.

    Raises:
        CheckFailed: no such line, fewer nodes than the bundle promises, or the delegate failed afterwards.
    """
    wanted = BY_NAME[model.delegate].log_name
    promised = (
        f"Expected {wanted} to take {model.delegated_nodes} of {model.nodes} nodes of {model.file}, got"
    )
    found = [delegation for delegation in parse_delegations(log) if delegation.name == wanted]
    advice = "Take the model's fallback on this device."
    if not found:
        others = ", ".join(f"{other.name} {other.taken}" for other in parse_delegations(log)) or "none"
        raise CheckFailed(f"{promised} no line of it; other delegates: {others}. {advice}")
    least = min(found, key=lambda delegation: delegation.taken)
    if least.taken < model.delegated_nodes:
        raise CheckFailed(f"{promised} {least.taken}, in {least.partitions} partitions. {advice}")
    if _UNDONE.search(log):
        raise CheckFailed(f"{promised} them, but it failed to prepare them. {advice}")
    return least
