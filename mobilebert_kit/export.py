"""Make verified model files of a MobileBERT or BERT checkpoint that is fine-tuned on SQuAD.

python -m mobilebert_kit.export --target nnapi
python -m mobilebert_kit.export --target float,int8,nnapi --checkpoint DIR --output_dir DIR
python -m mobilebert_kit.export --target openvino --contract openvino
python -m mobilebert_kit.export --target list
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags, logging

from mobilebert_kit.conversion_flags import SEQUENCE_LENGTH
from mobilebert_kit.export_flags import export_request
from mobilebert_kit.main import run
from mobilebert_kit.targets import describe_targets, parse_targets

if TYPE_CHECKING:
    from mobilebert_kit.build import Summary
    from mobilebert_kit.manifest import Result

ROOT = Path(__file__).resolve().parents[1]

_TARGET = flags.DEFINE_string("target", None, "Targets, comma-separated; all; or list.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Default: android_assets/TARGET.")
_KEEP_SAVED_MODEL = flags.DEFINE_bool("keep_saved_model", False, "Add the SavedModel to the output folder.")


def main() -> None:
    if _TARGET.value.strip() == "list":
        print(describe_targets(SEQUENCE_LENGTH.value))
        return
    targets = parse_targets(_TARGET.value)
    default_output = ROOT / "android_assets" / _TARGET.value.replace(",", "_").replace(" ", "")
    request = export_request(
        "mobilebert_kit.export",
        targets=targets,
        output_dir=default_output if _OUTPUT_DIR.value is None else Path(_OUTPUT_DIR.value),
        keep_saved_model=_KEEP_SAVED_MODEL.value,
    )
    from mobilebert_kit.build import export

    summary = export(request)
    _report(summary)


def _report(summary: Summary) -> None:
    here = Path.cwd()
    folder = summary.output_dir
    print(f"{folder.relative_to(here) if folder.is_relative_to(here) else folder}:")
    for result in summary.results:
        drop = summary.float_score.f1 - result.score.f1
        nodes = f"{len(result.report.nodes):5} nodes" if result.report else " " * 11
        print(
            f"  {result.file.name:36} {result.file_bytes / 1e6:6.1f} MB   {nodes}"
            f"   EM {result.score.exact_match:5.2f}   F1 {result.score.f1:5.2f}   drop {drop:5.2f}"
        )
        _report_half(result)
    print(
        f"float: EM {summary.float_score.exact_match:.2f}, F1 {summary.float_score.f1:.2f} on "
        f"{summary.float_score.questions} questions; {summary.seconds:.0f} s in all"
    )


def _report_half(result: Result) -> None:
    """A line on float16, and a warning where little is left of its range; nothing for other targets."""
    from mobilebert_kit.quantize.half_precision import SAFE_HEADROOM

    half = result.half
    if half is None:
        return
    room = half.headroom
    overflows = "" if half.overflow is None else f"overflows at {half.overflow}, "
    print(
        f"    fp16: {overflows}largest activation {room.largest:.5g} at {room.tensor} "
        f"({_factor(room.factor)}x headroom), F1 {half.score.f1:.2f} simulated"
    )
    if half.overflow is not None:
        finding = f"{half.overflow} overflows"
    elif room.factor < SAFE_HEADROOM:
        factor = _factor(room.factor)
        finding = f"{room.tensor} is {factor}x below an overflow, expected {SAFE_HEADROOM:g}x at least,"
    else:
        return
    logging.warning(
        "%s: %s in float16, which GPUs compute in. Other questions may give larger activations. Have the app "
        "ask its GPU for fp32 precision, or ship a target for the CPU.",
        result.target.name,
        finding,
    )


def _factor(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


if __name__ == "__main__":
    run(main)
