"""Which lowering of the kit makes the form that a delegate takes, by delegate and op.

Said where a node is refused; a condition may have a `fix` of its own, which goes first.
"""

from __future__ import annotations

from collections.abc import Mapping

_ONE_FULLY_CONNECTED_A_HEAD = (
    "NnapiLowering.scores and .context (--target nnapi): one FULLY_CONNECTED a head, its weight an activation"
)

FIXES: Mapping[str, Mapping[str, str]] = {
    "gpu": {},
    "nnapi": {
        "BATCH_MATMUL": _ONE_FULLY_CONNECTED_A_HEAD,
        "FULLY_CONNECTED": "CpuLowering.dense (--target nnapi): a dense layer as CONV_2D 1x1",
    },
    "xnnpack": {},
}
