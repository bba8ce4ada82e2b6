"""Make a bundle for an Android app: models for its delegates, the vocabulary, and one manifest that it reads.

python -m mobilebert_kit.bundle --targets cpu,gpu,nnapi --output_dir app/src/main/assets/qa
python -m mobilebert_kit.bundle --targets cpu --output_dir DIR --checkpoint DIR --eval dev-v1.1.json
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mobilebert_kit.android.delegates import BY_NAME, AppDelegate, parse_delegates
from mobilebert_kit.checkpoint_flags import DEMO_CHECKPOINT
from mobilebert_kit.export_flags import DEMO_QUESTIONS, EVAL, export_request
from mobilebert_kit.main import run

if TYPE_CHECKING:
    from mobilebert_kit.build import Summary

_TARGETS = flags.DEFINE_string("targets", ",".join(BY_NAME), "Delegates, comma-separated: cpu, gpu, nnapi.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "The bundle's folder.", required=True)


def main() -> None:
    delegates = parse_delegates(_TARGETS.value)
    request = export_request("mobilebert_kit.bundle", targets=[], output_dir=Path(_OUTPUT_DIR.value))
    from mobilebert_kit.android.assemble import bundle

    summary = bundle(
        request,
        delegates,
        demo_weights=request.checkpoint.resolve() == DEMO_CHECKPOINT,
        demo_questions=Path(EVAL.value).resolve() == DEMO_QUESTIONS,
    )
    _report(summary, delegates)


def _report(summary: Summary, delegates: list[AppDelegate]) -> None:
    print(f"{summary.output_dir}:")
    for number, (delegate, result) in enumerate(zip(delegates, summary.results, strict=True), 1):
        file = summary.output_dir / result.file.name
        delegated = f"{len(result.report.delegated)} of {len(result.report.nodes)} nodes"
        print(
            f"  {number}. {delegate.name:6} {file.name:36} {file.stat().st_size / 1e6:6.1f} MB   "
            f"{delegated:18}  EM {result.score.exact_match:5.2f}   F1 {result.score.f1:5.2f}"
        )
    print(
        f"float: EM {summary.float_score.exact_match:.2f}, F1 {summary.float_score.f1:.2f} on "
        f"{summary.float_score.questions} questions; {summary.seconds:.0f} s in all\n"
        f"Check it anywhere: python -m mobilebert_kit.verify --manifest {summary.output_dir / 'bundle.json'}"
    )


if __name__ == "__main__":
    run(main)
