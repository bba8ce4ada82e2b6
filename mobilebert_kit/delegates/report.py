"""What a delegate says of a model, as data: the same for every delegate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What the delegate says of one node.

    accepted: whether the delegate takes it; None where no rule of the checker covers it.
    reasons: why the delegate does not (or why it is unknown).
    runtime_refusals: why what runs below the delegate refuses it all the same; for NNAPI the Android runtime.
    fix: which lowering makes a form that the delegate takes, where the kit has one.
    tensors: the node's operands, each as "in0 'name' int8[1,384,512]".
    """

    index: int
    op: str
    version: int
    accepted: bool | None
    reasons: tuple[str, ...] = ()
    runtime_refusals: tuple[str, ...] = ()
    fix: str = ""
    tensors: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        """Accepted, and not refused below."""
        return self.accepted is True and not self.runtime_refusals


@dataclass(frozen=True)
class Report:
    """A delegate's verdicts on one subgraph of a model.

    level: what the delegate was asked for; for NNAPI see `nnapi_level`, 0 for a delegate without levels.
    partitions: how many pieces of the graph the delegate would run, before it drops those beyond its limit.
    delegated: the nodes that it would run, after that limit, and without the partitions that fail to build.
    """

    delegate: str
    level: int
    nodes: tuple[Verdict, ...]
    partitions: int
    delegated: tuple[int, ...]

    @property
    def refused(self) -> tuple[Verdict, ...]:
        """The nodes that would not run on the delegate, unknown ones among them."""
        return tuple(node for node in self.nodes if not node.runs)

    @property
    def whole(self) -> bool:
        """The delegate runs all of the model, in one piece."""
        return not self.refused and self.partitions == 1
