"""What LiteRT's GPU accelerator takes of a .tflite file, op by op.

Sources, all of google-ai-edge/LiteRT: the open delegate's parsers (tflite/delegates/gpu/common/
model_builder.cc and model_builder_helper.cc, read at 34ec5badbbbf) and its checks (tflite/tools/versioning/
gpu_compatibility.cc, read at 007226f498a6); and ai-edge-litert 2.3.0's own accelerator, which is closed, and
was asked with some thousands of models of one op. Phones have older delegates too, so an op is taken where
the open delegate and the accelerator both take it, and the accelerator's numbers are the CPU's. Three things
go beyond the open delegate: RESHAPE of int32, which int32 ids need; comparisons and CAST of bool wherever
they stand; and the adjoints of BATCH_MATMUL. Where this refuses what the accelerator takes:
docs/gpu_disagreements.md.

The open delegate ends in "Operation is not supported", so an op without an entry is refused, except those in
NOT_COVERED, which one of the two takes in some form: of these the checker says that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mobilebert_kit.delegates.conditions import Condition
from mobilebert_kit.delegates.gpu_compute_rules import COMPUTE_RULES
from mobilebert_kit.delegates.gpu_layout_rules import LAYOUT_RULES
from mobilebert_kit.delegates.gpu_wording import special

# TfLiteGpuDelegateOptionsV2Default, tflite/delegates/gpu/delegate_options.cc.
MAX_DELEGATED_PARTITIONS = 1

# Asked of every node first; the op's own rules count only where these are met.
EVERY_OP: tuple[Condition, ...] = (
    special("up_to_rank_4", "Tensor dimensions must be less than 5."),
    special("has_layout", "Tensor has bad input dims size: 0. A scalar must be constant."),
    special("static_shapes", "A tensor has no static shape: export the model with a fixed one."),
    special("has_elements", "A tensor is empty."),
    special("no_variables", "A variable tensor keeps its value from run to run."),
    special("constants_not_sparse", "A constant is sparse."),
    special("operands_differ", "No support of few identical inputs in the same operation."),
)

NOT_COVERED = frozenset(
    """
    ADD_N ATAN2 AVERAGE_POOL_2D BATCH_TO_SPACE_ND BITCAST CEIL COS CUMSUM CUSTOM DENSIFY DEPTH_TO_SPACE
    DYNAMIC_UPDATE_SLICE FLOOR_DIV FLOOR_MOD LOGICAL_AND LOGICAL_NOT LOGICAL_OR LSTM MAX_POOL_2D MIRROR_PAD
    PRELU REDUCE_ALL REDUCE_ANY RELU_0_TO_1 RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RIGHT_SHIFT
    ROUND SIGN SIN SPACE_TO_BATCH_ND SPACE_TO_DEPTH STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CBRT STABLEHLO_CLAMP
    STABLEHLO_COMPOSITE STABLEHLO_REMAINDER STABLEHLO_SHIFT_LEFT TILE TOPK_V2 TRANSPOSE_CONV
    """.split()  # noqa: SIM905 - as OP_NAMES in tflite_schema.py
)

RULES: Mapping[str, tuple[Condition, ...]] = MappingProxyType({**COMPUTE_RULES, **LAYOUT_RULES})
