"""What the NNAPI delegate of TFLite accepts: NNAPIDelegateKernel::Validate, op by op.

Source of every rule, its order and its wording, unless a line says otherwise: google-ai-edge/LiteRT,
tflite/delegates/nnapi/nnapi_delegate.cc, read at 5c8a6d4b8063. Verdicts recorded with v2.2.0 (f67457790c9c)
are reproduced by them, reasons included.
What the Android runtime refuses beyond this stands in nnapi_runtime_rules.py.

That function ends in "all other operators are not mapped", so an op without an entry here is refused, except
those in NOT_COVERED, whose entry there was not taken over: of these the checker says that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mobilebert_kit.delegates.conditions import API_29, Condition
from mobilebert_kit.delegates.nnapi_compute_rules import COMPUTE_RULES
from mobilebert_kit.delegates.nnapi_layout_rules import LAYOUT_RULES

# StatefulNnApiDelegate::Options, nnapi_delegate.h: beyond so many partitions, only the largest are delegated.
MAX_DELEGATED_PARTITIONS = 3
# ShouldUseTargetDevices: `disallow_nnapi_cpu` is on by default, and from API 29 on it makes the delegate
# target the accelerators that it finds. So "is_accelerator_specified" is true then, though nobody named one.
ACCELERATOR_SINCE = API_29

NOT_COVERED = frozenset(
    {
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "HASHTABLE_LOOKUP",
        "LSH_PROJECTION",
        "LSTM",
        "RNN",
        "SVDF",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
    }
)

DELEGATE_RULES: Mapping[str, tuple[Condition, ...]] = MappingProxyType({**COMPUTE_RULES, **LAYOUT_RULES})
