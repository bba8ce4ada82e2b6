"""Flags that export and bundle have besides those of conversion_flags: what is scored, and in which form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from mobilebert_kit.contract import CONTRACTS, MLPERF
from mobilebert_kit.conversion_flags import CALIBRATION_DATA, conversion_request
from mobilebert_kit.errors import InputError

if TYPE_CHECKING:
    from mobilebert_kit.inputs import Request

DEMO_QUESTIONS = CALIBRATION_DATA / "demo_eval.json"

EVAL = flags.DEFINE_string(
    "eval",
    str(DEMO_QUESTIONS),
    "SQuAD v1.1 file (or name of a dataset) on which the float model and every target are scored.",
)
_EVAL_QUESTIONS = flags.DEFINE_integer(
    "eval_questions", None, "The first N questions of it; default: all.", lower_bound=1
)
_CONTRACT = flags.DEFINE_enum(
    "contract",
    MLPERF.name,
    list(CONTRACTS),
    "What the files call their inputs and outputs, and in which order: as the MLPerf app, OpenVINO's model "
    "zoo or TensorFlow Lite's Task Library (its BertQuestionAnswerer) wants them.",
)
_BUCKETS = flags.DEFINE_list(
    "buckets",
    [],
    "Lengths like 64,128,256,384, up to --max_seq_length: one file with a signature for each, over the same "
    "weights, of which `evaluate` and the JVM code take the shortest that holds a window.",
)
_MAX_F1_DROP = flags.DEFINE_float("max_f1_drop", 2.0, "Refuse a target that loses more F1 than this.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an earlier export in --output_dir.")


def export_request(module: str, **changes: object) -> Request:
    """What all these flags ask for; see conversion_request.

    Raises:
        InputError: buckets that are no numbers, and what conversion_request raises.
    """
    if not all(length.isdecimal() for length in _BUCKETS.value):
        raise InputError(
            f"Expected --buckets of whole numbers like 64,128,256,384, got {','.join(_BUCKETS.value)}."
        )
    return conversion_request(
        module,
        evaluation=EVAL.value,
        eval_questions=_EVAL_QUESTIONS.value,
        contract=CONTRACTS[_CONTRACT.value],
        buckets=[int(length) for length in _BUCKETS.value],
        max_f1_drop=_MAX_F1_DROP.value,
        overwrite=_OVERWRITE.value,
        **changes,
    )
