"""Which lowering of the kit makes the form that a delegate takes, by delegate and op.

Said where a node is refused; a condition may have a `fix` of its own, which goes first.
"""

from __future__ import annotations

from collections.abc import Mapping

_ONE_FULLY_CONNECTED_A_HEAD = (
    "NnapiLowering.scores and .context (--target nnapi): one FULLY_CONNECTED a head, its weight an activation"
)
FLATTENED_IDS = "GpuLowering.embedding (--target gpu): ids flattened to one dimension around GATHER"
_FOUR_D_SLICES = (
    "GpuLowering.split_logits (--target gpu): SLICE of four dimensions and RESHAPE, no SPLIT or UNPACK"
)
_RESHAPE = "RESHAPE to the same shape, as every lowering writes it (--target gpu)"
_ONE_CONVOLUTION = (
    "CpuLowering.trigram_no_norm (--target gpu): one 1x3 convolution instead of PAD, SLICE and CONCATENATION"
)
_DENSE = "CpuLowering.dense (--target gpu): a dense layer as CONV_2D 1x1 on [1,1,S,C]"
BROADCAST_MASK = (
    "GpuLowering.mask and .masked (--target gpu): the mask as a broadcast ADD of [1,1,1,S], from MUL and ADD"
)
_MOVES_DATA = "nothing to mend: it runs on the CPU's own kernel; it moves data only"

FIXES: Mapping[str, Mapping[str, str]] = {
    "gpu": {
        "CONCATENATION": _ONE_CONVOLUTION,
        "CONV_2D": _DENSE,
        "EMBEDDING_LOOKUP": FLATTENED_IDS,
        "EXPAND_DIMS": _RESHAPE,
        "FULLY_CONNECTED": _DENSE,
        "GATHER": FLATTENED_IDS,
        "MUL": BROADCAST_MASK,
        "PAD": _ONE_CONVOLUTION,
        "PADV2": _ONE_CONVOLUTION,
        "SELECT": BROADCAST_MASK,
        "SELECT_V2": BROADCAST_MASK,
        "SLICE": _FOUR_D_SLICES,
        "SPLIT": _FOUR_D_SLICES,
        "SPLIT_V": _FOUR_D_SLICES,
        "SQUEEZE": _RESHAPE,
        "STRIDED_SLICE": _FOUR_D_SLICES,
        "UNPACK": _FOUR_D_SLICES,
    },
    "nnapi": {
        "BATCH_MATMUL": _ONE_FULLY_CONNECTED_A_HEAD,
        "FULLY_CONNECTED": (
            "--target nnapi, from API 30 on: a dense layer as CONV_2D 1x1 (CpuLowering.dense), per-tensor "
            "FULLY_CONNECTED only for products of activations (NnapiLowering.scores and .context)"
        ),
    },
    "xnnpack": {
        **dict.fromkeys(
            ("CAST", "EXPAND_DIMS", "GATHER", "PACK", "RESHAPE", "SPLIT_V", "SQUEEZE", "UNPACK"), _MOVES_DATA
        ),
    },
}
