"""Whether a built file may ship: its delegate takes it, and it lost no more F1 than is allowed."""

from __future__ import annotations

from pathlib import Path

from mobilebert_kit.delegates.report import Report
from mobilebert_kit.delegates.summary import refusals
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.quantize.half_precision import LARGEST_HALF, HalfPrecision
from mobilebert_kit.runtime.scoring import Score
from mobilebert_kit.targets import Target


def is_refused(target: Target, report: Report) -> bool:
    """Whether the target's delegate leaves nodes to the CPU that it must take."""
    missing = {node.op for node in report.refused} - target.may_fall_back
    return bool(missing) or not (report.whole or target.may_fall_back)


def check_delegate(target: Target, file: Path) -> Report | None:
    """What the target's delegate says of the main graph of `file`.

    CheckFailed where of that, or of a shorter bucket's graph, it would not take all that it must.
    """
    if target.delegate is None:
        return None
    model = read_tflite(file)
    reports = [target.delegate.check(model, number) for number in range(len(model.subgraphs))]
    report = next((report for report in reports if is_refused(target, report)), reports[0])
    if is_refused(target, report):
        raise CheckFailed(
            f"Expected {target.delegate} to take {target.name} whole, got {len(report.refused)} of "
            f"{len(report.nodes)} nodes refused, {report.partitions} partitions:\n{refusals(report)}\n"
            "Nothing was written. This is a defect of the lowering for this configuration: please report it."
        )
    return report


def check_drop(target: Target, reference: Score, score: Score, most: float) -> None:
    """CheckFailed where the target's file lost more than `most` F1 against the float file."""
    drop = reference.f1 - score.f1
    if drop > most:
        raise CheckFailed(
            f"Expected {target.name} to lose {most:g} F1 at most against float, got {reference.f1:.2f} -> "
            f"{score.f1:.2f}, {drop:.2f} lost on {score.questions} questions. Nothing was written. Calibrate "
            "on questions closer to the evaluation's (--calibration), or allow it with --max_f1_drop."
        )


def check_half_drop(target: Target, reference: Score, half: HalfPrecision, most: float) -> None:
    """CheckFailed where the target's model loses more than `most` F1 in float16, simulated."""
    drop = reference.f1 - half.score.f1
    if drop > most:
        room = half.headroom
        cause = "Nothing overflows: it is the rounding"
        if half.overflow is not None:
            cause = (
                f"{half.overflow} overflows first, and {half.windows_lost} windows have no numbers as logits"
            )
        raise CheckFailed(
            f"Expected {target.name} to lose {most:g} F1 at most in float16, which GPUs compute in, got "
            f"{reference.f1:.2f} -> {half.score.f1:.2f} simulated, {drop:.2f} lost on {half.score.questions} "
            f"questions. {cause}. The largest activation is {room.largest:.5g} at {room.tensor}, the largest "
            f"float16 {LARGEST_HALF:.0f}. Nothing was written. Allow it with --max_f1_drop, and have the app "
            "ask its GPU for fp32 precision; or export a target for the CPU."
        )
