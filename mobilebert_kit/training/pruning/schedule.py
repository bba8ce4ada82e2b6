"""How sparse the model is after so many updates: from its start to the target, in T prunings.

After update start + k * frequency, k = 1 ... T, it is pruned to, with t the target and s0 the start:

    exp      1 - (1 - s0) * ((1 - t) / (1 - s0)) ** (k / T)    the same share of what is left, each time
    cubic    s0 + (t - s0) * (k / T) ** 3                       slowly first
    linear   s0 + (t - s0) * k / T
    cosine   s0 + (t - s0) * (1 - cos(k / T * pi / 2))

neural-compressor, compression/pruner/schedulers.py and pruners/base.py, with T = (end - start) // frequency.
Where T is 0 the model is pruned once, after update `start`. (tensorflow-model-optimization's PolynomialDecay
of power 3 is another cubic: fast first.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

PRUNINGS = 40  # of a run whose frequency is not given (run_qa_no_trainer.py)

# Initial sparsity, target, k / T -> sparsity.
SCHEDULES: dict[str, Callable[[float, float, float], float]] = {
    "exp": lambda initial, target, share: 1 - (1 - initial) * ((1 - target) / (1 - initial)) ** share,
    "cubic": lambda initial, target, share: initial + (target - initial) * share**3,
    "linear": lambda initial, target, share: initial + (target - initial) * share,
    "cosine": lambda initial, target, share: (
        initial + (target - initial) * (1 - math.cos(share * math.pi / 2))
    ),
}


@dataclass(frozen=True)
class SparsitySchedule:
    """Sparsities are shares of the weights that may be pruned, from 0 to less than 1; steps are updates.

    rise: one of SCHEDULES.
    """

    rise: str
    start: int
    end: int
    frequency: int
    initial: float
    target: float

    @property
    def prunings(self) -> int:
        """T above, 1 at least."""
        return max(1, (self.end - self.start) // self.frequency)

    def sparsity(self, step: int) -> float | None:
        """What to prune to after `step` updates; None where nothing is to be done."""
        if self.end - self.start < self.frequency:
            return self.target if step == self.start else None
        number, rest = divmod(step - self.start, self.frequency)
        if rest or not 1 <= number <= self.prunings:
            return None
        if number == self.prunings:
            return self.target  # exactly
        return SCHEDULES[self.rise](self.initial, self.target, number / self.prunings)
