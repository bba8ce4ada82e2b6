"""What XNNPACK, the CPU delegate of LiteRT's interpreter, takes as the interpreter applies it by default.

Source of every rule: google-ai-edge/LiteRT, tflite/delegates/xnnpack/xnnpack_delegate.cc (Subgraph::VisitNode
and what it calls, Delegate::PrepareOpsToDelegate), read at 8b87307e24f7. Where ai-edge-litert 2.3.0 differs
from it, the rule is the runtime's: it takes float16 in AVERAGE_POOL_2D, BATCH_MATMUL, DEPTH_TO_SPACE, PAD and
SOFTMAX, and a float32 bias beside float16 weights.

Options are those that the interpreter sets: int8 and uint8 on, FULLY_CONNECTED with computed weights off,
float16 not forced. The delegate has no limit to the number of its partitions, and no levels.

Two kinds of rule: what the delegate leaves to the CPU's other kernels, and (`NOT_BUILT`) what it takes and
then fails to build. The interpreter does not fall back from the second: allocate_tensors fails for the model.

The rules do not look at the CPU, nor does the delegate when it takes nodes. Ops on float16 tensors are
computed in float32 where the CPU has no float16 arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mobilebert_kit.delegates.conditions import Condition
from mobilebert_kit.delegates.xnnpack_compute_rules import COMPUTE_RULES
from mobilebert_kit.delegates.xnnpack_layout_rules import LAYOUT_RULES

# Resource variables are taken by all their ops or none, DENSIFY goes with sparse weights, and a composite may
# be an attention: rules that were not taken over.
NOT_COVERED = frozenset({"ASSIGN_VARIABLE", "DENSIFY", "READ_VARIABLE", "STABLEHLO_COMPOSITE", "VAR_HANDLE"})
# The custom ops that XNNPACK knows, none of which this checker has rules for.
CUSTOM_NOT_COVERED = frozenset(
    {
        "Convolution2DTransposeBias",
        "MaxPoolingWithArgmax2D",
        "MaxUnpooling2D",
        "odml.scaled_dot_product_attention",
    }
)

RULES: Mapping[str, tuple[Condition, ...]] = MappingProxyType({**COMPUTE_RULES, **LAYOUT_RULES})
