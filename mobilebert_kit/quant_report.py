"""Tell where the accuracy of an int8 target goes, and what to keep in float to get it back.

python -m mobilebert_kit.quant_report --target int8
python -m mobilebert_kit.quant_report --target nnapi --checkpoint DIR --dataset dev-v1.1.json --max_f1_drop 1

Writes quant_report.json and quant_report.html. If the target loses more than --max_f1_drop, files are made
with its 1, 2, 4, 8, 16 noisiest tensors in float, until one does. Exit code 3, with the report, where none
does, or where the target's delegate refuses floats among its integers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import flags

from mobilebert_kit.conversion_flags import CALIBRATION_DATA, conversion_request
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.html_page import in_decibels
from mobilebert_kit.main import run
from mobilebert_kit.quant_page import within_one_question
from mobilebert_kit.targets import TARGETS, Target, parse_targets

WORST = 10  # tensors that the terminal shows

_TARGET = flags.DEFINE_string("target", None, "One target with int8 activations.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Default: quant_report/TARGET.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an earlier report in --output_dir.")
_DATASET = flags.DEFINE_string(
    "dataset",
    str(CALIBRATION_DATA / "demo_eval.json"),
    "SQuAD v1.1 file (or name of a dataset) on whose first questions everything is measured.",
)
_QUESTIONS = flags.DEFINE_integer(
    "questions",
    100,
    "How many of them F1 is measured on: in TensorFlow for each group alone and left out, some 22 times, and "
    "for each file. On N questions F1 moves in steps of up to 100/N.",
    lower_bound=1,
)
_WINDOWS = flags.DEFINE_integer("windows", 20, "How many of its windows SQNR is measured on.", lower_bound=1)
_MAX_F1_DROP = flags.DEFINE_float("max_f1_drop", 0.5, "Find the tensors to keep in float to lose no more.")


def main() -> None:
    target = _int8_target(_TARGET.value)
    output_dir = Path(_OUTPUT_DIR.value or Path("quant_report") / target.name)
    request = conversion_request(
        "mobilebert_kit.quant_report",
        targets=[target],
        output_dir=output_dir,
        evaluation=_DATASET.value,
        eval_questions=_QUESTIONS.value,
        max_f1_drop=_MAX_F1_DROP.value,
        overwrite=_OVERWRITE.value,
    )
    from mobilebert_kit.quant_analysis import write_report

    findings = write_report(request, _WINDOWS.value)
    print("\n".join(_summary(findings)))
    print(f"{output_dir}: quant_report.json, quant_report.html; {findings['seconds']} s in all")
    if not findings["keep"]["met"]:
        raise CheckFailed(_unmet(findings, output_dir))


def _int8_target(name: str) -> Target:
    targets = parse_targets(name)
    if len(targets) == 1 and targets[0].recipe.quantize_activations:
        return targets[0]
    fit = " or ".join(name for name, target in TARGETS.items() if target.recipe.quantize_activations)
    raise InputError(
        f"Expected --target to be one with int8 activations ({fit}), got {name}. Others round no activation."
    )


def _summary(findings: dict[str, Any]) -> list[str]:
    file, simulation = findings["file"], findings["simulation"]
    lines = [
        f"{findings['target']}: F1 {findings['float']['f1']:.2f} -> {file['f1']:.2f}, drop "
        f"{file['f1_drop']:.2f} on {findings['evaluation']['questions']} questions; logits' SQNR "
        f"{in_decibels(file['sqnr_db'])} dB (simulated: {in_decibels(simulation['sqnr_db'])} dB, F1 "
        f"{simulation['f1']:.2f})",
        "",
        f"{'group':20}{'tensors':>8}  {'alone in int8':^22}      all but it in int8",
        f"{'':28}  {'logit dB':>10}{'F1 drop':>12}  {'logit dB':>10}{'F1 drop':>12}",
    ]
    for row in findings["groups"]:
        cells = [row["alone"], row["left_out"]] if "left_out" in row else [row["alone"]]
        numbers = (f"  {in_decibels(cell['sqnr_db']):>10}{cell['f1_drop']:12.2f}" for cell in cells)
        lines.append(f"{row['group']:20}{row['tensors']:8}{''.join(numbers)}")
    worst = findings["tensors"][:WORST]
    lines += ["", f"{'of the noise':>12}{'own dB':>8}{'dB there':>10}  the worst tensors"]
    lines += [
        f"{row['logit_noise_share']:12.1%}{in_decibels(row['sqnr_own_db']):>8}{in_decibels(row['sqnr_after_db']):>10}"
        f"  {row['tensor']}"
        for row in worst
    ]
    return [*lines, "", *_kept(findings)]


def _kept(findings: dict[str, Any]) -> list[str]:
    keep = findings["keep"]
    if "verified" not in keep:
        return [f"keep: nothing; the drop is within {keep['max_f1_drop']:g}", *within_one_question(findings)]
    lines = [*within_one_question(findings), "files with the noisiest tensors in float:"]
    for trial in keep["trials"]:
        refused = f"   {trial['refused_nodes']} nodes refused" if trial["refused"] else ""
        lines.append(
            f"{trial['kept']:4} kept   F1 {trial['f1']:.2f}, drop {trial['f1_drop']:.2f}   logits "
            f"{in_decibels(trial['sqnr_db'])} dB   {trial['bytes'] / 1e6:.1f} MB{refused}"
        )
    told = "keep in float" if keep["met"] else "the best found, not enough"
    return [
        *lines,
        f"{told}, as float_points of a recipe:",
        *(f"  {point}" for point in keep["float_points"]),
    ]


def _unmet(findings: dict[str, Any], output_dir: Path) -> str:
    keep, lost = findings["keep"], findings["file"]["f1_drop"]
    verified, limit = keep["verified"], keep["max_f1_drop"]
    expected = f"Expected {findings['target']} to lose {limit:g} F1 at most, got a drop of {lost:.2f}"
    there = f"The report is in {output_dir}"
    if verified["refused"]:
        return (
            f"{expected}; and with {verified['kept']} of its tensors in float {findings['delegate']} refuses "
            f"{verified['refused_nodes']} of {verified['nodes']} nodes, so this target can not keep them. "
            f"{there}. Train with --qat, or take another target."
        )
    return (
        f"{expected}, and of {verified['f1_drop']:.2f} at best with up to {keep['trials'][-1]['kept']} of "
        f"its tensors in float. {there}: see what its other groups cost, weights above all. Train with "
        "--qat, or allow more with --max_f1_drop."
    )


if __name__ == "__main__":
    run(main)
