"""Patterns, masks and schedules against the same written again in plain loops."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from mobilebert_kit.errors import InputError
from mobilebert_kit.training.pruning.masks import make_masks
from mobilebert_kit.training.pruning.patterns import parse_pattern
from mobilebert_kit.training.pruning.request import CRITERIA
from mobilebert_kit.training.pruning.schedule import SCHEDULES, SparsitySchedule

PATTERNS = ("1x1", "4x1", "2x3", "2:4", "1:3")
CASES = 200  # of each criterion, pattern and scope
STEPS = 3  # whose gradients make a score


def written_scores(criterion: str, weights: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    """Of each weight, as published: README of neural-compressor's pruner, and SNIP's equation 6. That the
    training step makes the same is tested in test_pruning_training.py."""
    if criterion == "magnitude":
        return np.abs(weights)
    scores = np.zeros_like(weights)
    for gradient in gradients:
        kept = {"snip_momentum": 0.9, "snip": 0.0}[criterion]
        scores = np.float32(kept) * scores + np.abs(weights * gradient)
    return scores


def loop_blocks(pattern: str, shape: tuple[int, int]) -> list[list[tuple[int, int]]]:
    """The weights (output, input) of each block, block by block in reading order."""
    if ":" in pattern:
        rows, columns = 1, int(pattern.split(":")[1])
    else:
        rows, columns = map(int, pattern.split("x"))
    return [
        [(row + i, column + j) for i in range(rows) for j in range(columns)]
        for row in range(0, shape[0], rows)
        for column in range(0, shape[1], columns)
    ]


def loop_masks(
    scores: dict[str, np.ndarray], pattern: str, sparsity: float, scope: str, cap: float
) -> dict[str, np.ndarray]:
    """Block by block, always the lowest that may still go; the first of equal ones."""
    zeros = int(pattern.split(":")[0]) if ":" in pattern else math.prod(map(int, pattern.split("x")))
    masks = {name: np.ones(score.shape, bool) for name, score in scores.items()}
    total = sum(score.size for score in scores.values())
    wanted = round(sparsity * total / zeros)
    all_blocks = sum(len(loop_blocks(pattern, score.shape)) for score in scores.values())
    queue, room, due, before = [], {}, {}, 0
    for number, (name, score) in enumerate(scores.items()):
        blocks = loop_blocks(pattern, score.shape)
        room[name] = min(len(blocks), math.floor(Fraction(str(cap)) * score.size / zeros))
        for place, block in enumerate(blocks):
            lowest = sorted(block, key=lambda at, score=score: float(score[at]))[:zeros]  # stable
            mean = sum(float(score[at]) for at in lowest) / zeros
            queue.append((mean, number, place, name, lowest))
        # A kernel's own share: what is due after it less what was due before it, each rounded, half up.
        due[name] = math.floor(Fraction((before + len(blocks)) * wanted, all_blocks) + Fraction(1, 2))
        due[name] -= math.floor(Fraction(before * wanted, all_blocks) + Fraction(1, 2))
        before += len(blocks)
    left = wanted
    for _, _, _, name, lowest in sorted(queue, key=lambda item: item[:3]):
        mine = due[name] if scope == "local" else left
        if not room[name] or mine <= 0:
            continue
        for at in lowest:
            masks[name][at] = False
        room[name] -= 1
        due[name] -= 1
        left -= 1
    return masks


@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_masks_against_loops(criterion, pattern, scope):
    """Identical masks, of kernels of several sizes; a third of the cases are full of equal scores."""
    parsed = parse_pattern(pattern)
    for case in range(CASES):
        chance = np.random.default_rng([case, PATTERNS.index(pattern)])
        shapes = [(4 * chance.integers(1, 3), 12 * chance.integers(1, 3)) for _ in range(3)]
        scores = {}
        for number, shape in enumerate(shapes):
            draw = chance.normal(size=(STEPS + 1, *shape)).astype(np.float32) * 10.0**number
            if case % 3 == 0:
                draw = np.round(draw / 10.0**number).astype(np.float32)
            scores[f"layer_{number}/kernel"] = written_scores(criterion, draw[0], list(draw[1:]))
        cap = float(chance.choice([0.98, 0.7, 0.5]))
        most = parsed.zeros / parsed.size
        sparsity = float(chance.uniform(0, min(cap, most)))
        found = make_masks(scores, parsed, sparsity, scope=scope, cap=cap)
        expected = loop_masks(scores, pattern, sparsity, scope, cap)
        for name, mask in expected.items():
            assert np.array_equal(found[name], mask), (case, name)


@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_a_mask_promises(pattern, scope):
    """Blocks are whole or untouched, the total is met within a block, no kernel passes the cap."""
    parsed = parse_pattern(pattern)
    chance = np.random.default_rng(0)
    shapes = {"a": (48, 96), "b": (96, 48), "c": (12, 144)}
    scores = {name: chance.random(shape) * (10 if name == "c" else 1) for name, shape in shapes.items()}
    for sparsity in (0.1, 0.29, 0.33):
        masks = make_masks(scores, parsed, sparsity, scope=scope, cap=0.6)
        pruned = sum(int((~mask).sum()) for mask in masks.values())
        assert abs(pruned - sparsity * sum(map(np.size, scores.values()))) <= parsed.zeros
        for name, mask in masks.items():
            assert (~mask).mean() <= 0.6
            for block in loop_blocks(pattern, shapes[name]):
                assert sum(not mask[at] for at in block) in (0, parsed.zeros)


def test_two_of_four_runs_along_the_inputs():
    """On [out, in]; the kit's kernels are the transpose of that, which test_pruning_training.py minds."""
    scores = {"a": np.array([[1, 2, 3, 4, 8, 7, 6, 5], [4, 1, 3, 2, 1, 1, 1, 1]], float)}
    mask = make_masks(scores, parse_pattern("2:4"), 0.5, scope="global", cap=0.98)["a"]
    assert mask.astype(int).tolist() == [[0, 0, 1, 1, 1, 1, 0, 0], [1, 0, 1, 0, 0, 0, 1, 1]]


def test_four_by_one_runs_along_the_outputs():
    scores = {"a": np.arange(8)[:, None] + np.array([[9, 0, 1]])}
    mask = make_masks(scores, parse_pattern("4x1"), 0.5, scope="global", cap=0.98)["a"]
    assert mask.astype(int).tolist() == [[1, 0, 0]] * 4 + [[1, 0, 1]] * 4


def test_an_already_pruned_block():
    pattern = parse_pattern("2:4")
    weights = np.array([[0, 0, 1, 2, 0, 1, 2, 3], [0, 0, 0, 0, 1, 0, 1, 0]], float)
    assert pattern.pruned_blocks(weights).tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    "text",
    ["", "4", "4x", "x1", "0x1", "4x0", "4:2", "2:2", "0:4", "channelx1", "4x1x1", "-1x1", "9" * 5000 + "x1"],
)
def test_what_is_no_pattern(text):
    with pytest.raises(InputError, match="--pruning_pattern"):
        parse_pattern(text)


@pytest.mark.parametrize(
    ("rise", "expected"),
    [
        ("exp", [1 - 0.9 * (0.2 / 0.9) ** 0.25, 1 - 0.9 * (0.2 / 0.9) ** 0.5]),
        ("cubic", [0.1 + 0.7 / 64, 0.1 + 0.7 / 8]),
        ("linear", [0.1 + 0.7 / 4, 0.1 + 0.7 / 2]),
        ("cosine", [0.1 + 0.7 * (1 - math.cos(math.pi / 8)), 0.1 + 0.7 * (1 - math.sqrt(0.5))]),
    ],
)
def test_schedules_by_hand(rise, expected):
    """From 0.1 to 0.8 in four prunings, after updates 20, 30, 40 and 50; 53 is never reached."""
    schedule = SparsitySchedule(rise, start=10, end=53, frequency=10, initial=0.1, target=0.8)
    found = {step: schedule.sparsity(step) for step in range(100) if schedule.sparsity(step) is not None}
    assert list(found) == [20, 30, 40, 50]
    assert list(found.values())[:2] == pytest.approx(expected, rel=1e-12)
    assert found[50] == 0.8
    assert list(found.values()) == sorted(found.values())


@pytest.mark.parametrize("rise", SCHEDULES)
def test_one_shot(rise):
    schedule = SparsitySchedule(rise, start=5, end=5, frequency=1000, initial=0.0, target=0.8)
    assert [schedule.sparsity(step) for step in (4, 5, 6, 1005)] == [None, 0.8, None, None]
