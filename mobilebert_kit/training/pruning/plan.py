"""A pruning that can be had: of which kernels, at which steps, from what is zero already.

Kernels are those of dense layers, "<scope>/kernel" [in, out], and the head's cls/squad/output_weights, which
is [out, in] as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from absl import logging

from mobilebert_kit.errors import InputError
from mobilebert_kit.training.pruning.masks import allowed_blocks, wanted_blocks
from mobilebert_kit.training.pruning.patterns import Pattern, parse_pattern
from mobilebert_kit.training.pruning.request import CRITERIA, EXCLUDED, PruningRequest
from mobilebert_kit.training.pruning.schedule import PRUNINGS, SparsitySchedule

HEAD = "cls/squad/output_weights"


@dataclass(frozen=True)
class Plan:
    """`kernels` are the names of what is pruned, in the order of the model."""

    pattern: Pattern
    criterion: str
    scope: str
    cap: float
    schedule: SparsitySchedule
    kernels: tuple[str, ...]
    refit_steps: int = 0

    @property
    def momentum(self) -> float | None:
        """See CRITERIA."""
        return CRITERIA[self.criterion]

    def settings(self) -> dict[str, Any]:
        """All that the masks follow from besides the training, JSON-ready."""
        refit = {"refit_steps": self.refit_steps} if self.refit_steps else {}  # so that older runs can go on
        return {
            "pattern": self.pattern.name,
            "criterion": self.criterion,
            "scope": self.scope,
            "max_sparsity_per_layer": self.cap,
            **vars(self.schedule),
            **refit,
            "kernels": list(self.kernels),
        }


def is_kernel(name: str) -> bool:
    """Whether the variable of that canonical name is a dense layer's weights."""
    return name.endswith("/kernel") or name == HEAD


def as_outputs_inputs(name: str, kernel: np.ndarray) -> np.ndarray:
    """The kernel as [out, in], a view; what is [out, in] comes back as the kernel is stored."""
    return kernel if name == HEAD else kernel.T


def make_plan(
    request: PruningRequest,
    tensors: Mapping[str, np.ndarray],
    *,
    warmup: int,
    steps: int,
    steps_per_epoch: int,
) -> Plan:
    """What the request means for a checkpoint of these `tensors` (canonical name -> array).

    Args:
        warmup: steps in which the learning rate rises: the default start.
        steps, steps_per_epoch: of the training.
    Raises:
        InputError: a pattern that divides no kernel, a sparsity that cannot be reached or is passed already,
            or steps beyond the training.
    """
    pattern = parse_pattern(request.pruning_pattern)
    kernels = _kernels(request, tensors, pattern)
    initial = _initial_sparsity(request, pattern, kernels)
    _prove_reachable(request, pattern, kernels)
    cooldown = request.cooldown_epochs * steps_per_epoch
    start = warmup if request.start_step is None else request.start_step
    end = steps - cooldown if request.end_step is None else request.end_step
    if not start <= end <= steps:
        raise InputError(
            f"Expected pruning to start and end within the {steps} steps of the training, the start first, "
            f"got steps {start} to {end}. By default it goes from the end of the learning rate's warm-up "
            f"(here {warmup}) to --cooldown_epochs before the end (here {cooldown} steps). Train longer, or "
            "give --start_step and --end_step."
        )
    frequency = request.pruning_frequency or max(1, (end - start) // PRUNINGS)
    schedule = SparsitySchedule(request.schedule, start, end, frequency, initial, request.target_sparsity)
    if CRITERIA[request.criterion] is not None and schedule.sparsity(0) is not None:
        raise InputError(
            f"Expected --criterion magnitude for a pruning before the first step, got {request.criterion}, "
            "which needs gradients. Give a later --end_step, or a smaller --pruning_frequency."
        )
    return Plan(
        pattern,
        request.criterion,
        request.scope,
        request.max_sparsity_per_layer,
        schedule,
        tuple(kernels),
        request.refit_steps,
    )


def _kernels(
    request: PruningRequest, tensors: Mapping[str, np.ndarray], pattern: Pattern
) -> dict[str, np.ndarray]:
    """Those to prune, [out, in]."""
    for word in request.exclude:
        if word not in EXCLUDED and not any(word in name for name in tensors):
            raise InputError(
                f"Expected parts of variables' names in --exclude, got {word!r}, which is in none."
            )
    found = {
        name: as_outputs_inputs(name, tensor)
        for name, tensor in tensors.items()
        if is_kernel(name) and not any(word in name for word in request.exclude)
    }
    if not found:
        raise InputError(
            f"Expected kernels to prune, got none besides --exclude {','.join(request.exclude)}."
        )
    whole = {name: kernel for name, kernel in found.items() if pattern.divides(kernel.shape)}
    if not whole:
        shapes = sorted({kernel.shape for kernel in found.values()})
        raise InputError(
            f"Expected --pruning_pattern to divide a kernel of the model, got {pattern.name} for kernels of "
            f"{', '.join(f'{rows}x{columns}' for rows, columns in shapes)} (outputs x inputs)."
        )
    if len(whole) < len(found):
        skipped = [name for name in found if name not in whole]
        logging.warning("%s does not divide %s: dense.", pattern.name, ", ".join(skipped))
    return whole


def _initial_sparsity(request: PruningRequest, pattern: Pattern, kernels: Mapping[str, np.ndarray]) -> float:
    """Share of the weights that the pattern has pruned already."""
    total = sum(kernel.size for kernel in kernels.values())
    zeros = sum(kernel.size - np.count_nonzero(kernel) for kernel in kernels.values()) / total
    if zeros > request.target_sparsity:
        raise InputError(
            f"Expected a checkpoint denser than --target_sparsity {request.target_sparsity:g}, got one of "
            f"whose weights {zeros:.4f} are zero. Ask for more, or start from the dense checkpoint."
        )
    blocks = sum(np.count_nonzero(pattern.pruned_blocks(kernel)) for kernel in kernels.values())
    return blocks * pattern.zeros / total


def _prove_reachable(request: PruningRequest, pattern: Pattern, kernels: Mapping[str, np.ndarray]) -> None:
    """InputError where the caps leave the total more than a block below the target."""
    total = sum(kernel.size for kernel in kernels.values())
    most = [
        allowed_blocks(pattern, kernel.shape, request.max_sparsity_per_layer) for kernel in kernels.values()
    ]
    wanted = wanted_blocks(pattern, list(kernels.values()), request.target_sparsity)
    if wanted - sum(most) > 1:
        raise InputError(
            f"Expected --target_sparsity of at most {sum(most) * pattern.zeros / total:.4f}, which is what "
            f"{pattern.name} and --max_sparsity_per_layer {request.max_sparsity_per_layer:g} can reach here, "
            f"got {request.target_sparsity:g}."
        )
