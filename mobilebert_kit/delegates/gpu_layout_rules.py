"""What the GPU accelerator takes of the ops that move, cut, join or select data. Source: gpu_rules.py."""

from __future__ import annotations

from mobilebert_kit.delegates.conditions import Condition, InputCountIn, RankIn, TypeIn
from mobilebert_kit.delegates.fixes import FLATTENED_IDS
from mobilebert_kit.delegates.gpu_wording import (
    FLOAT_MODEL,
    computes,
    constant,
    operands,
    option,
    ranks,
    runtime_input,
    special,
    version,
)

_CUTS_SOMETHING = special(
    "cuts_something",
    "All of the input is no slice: the accelerator takes it out, and fails where both are read together.",
)
_SELECT = (
    version(1),
    computes(("float32", "bool")),
    *operands(3),
    TypeIn("in0", ("bool",), says="The condition must be bool."),
    runtime_input(),
    special("in0_is_whole", "The condition must have the output's shape."),
    special("branches", "What is selected must have the output's shape, or be a constant scalar."),
)
_PAD = (
    version(2),
    computes(),
    *constant("in1", "int32"),
    runtime_input(),
    special(
        "pads_no_batch",
        "Only of four dimensions (three are read with a batch pad of 1), and any of them but the batch.",
    ),
    special("fills_with_0", "The value to pad with must be a constant 0 of float32."),
)

LAYOUT_RULES: dict[str, tuple[Condition, ...]] = {
    "CONCATENATION": (
        version(2),
        computes(),
        *operands(*range(2, 1025)),
        special("has_runtime_input", "No runtime input tensors: all are constant."),
        special("float_constants", "A constant operand must be float32."),
        special("constants_whole", "Expected a constant of four dimensions."),
        special("joins", "All extents but that of the axis must be the output's."),
        option("fused_activation", "NONE"),
    ),
    "EMBEDDING_LOOKUP": (
        special(
            "never",
            "Operation is not supported by the open delegate. (The accelerator takes a constant table.)",
            fix=FLATTENED_IDS,
        ),
    ),
    "GATHER": (
        version(1),
        computes(("float32", "int32"), ("float32", "float16")),
        *operands(2),
        TypeIn("in1", ("int32",), says="Only accept INT32 indices", fix=FLOAT_MODEL),
        RankIn(("in1",), (1,), says="Only support 1D indices", fix=FLATTENED_IDS),
        special("has_runtime_input", "Op can only handle 1 or 2 operand(s)."),
        special(
            "table_type",
            "Input / output dtype mismatch: a table of float16 behind a DEQUANTIZE, or one that is no float.",
            fix="--target gpu_fp16: GATHER of the float16 table, and a CAST of its rows",
        ),
        option("batch_dims", 0),
        special("gathers", "The output must be the table with the indices in place of the axis."),
    ),
    "ONE_HOT": (
        version(1),
        computes(("int32",)),
        *operands(4),
        runtime_input(),
        TypeIn("in1", ("int32",), says="The depth must be int32."),
        special("one_hot_values", "on/off tensors must be constant, scalar, float type."),
        special("one_hot_along_channels", "Only along the last axis, all others but the last index's 1."),
    ),
    "PACK": (
        version(1),
        computes(),
        special("none_constant", "Expected inputs of four dimensions that are computed."),
        special("stacks", "The output must have one more axis, with an extent for each input."),
    ),
    "PAD": (*operands(2), *_PAD),
    "PADV2": (*operands(3), *_PAD),
    "RESHAPE": (
        version(1),
        computes(("float32", "int32"), ("float32", "int32")),
        *operands(1, 2),
        runtime_input(),
        special("shape_is_constant", "Expected 1 runtime input tensor(s): the new shape must be constant."),
        special("one_type", "Input and output must have the same type."),
        special("same_size", "Input and output must have as many elements."),
    ),
    "SELECT": _SELECT,
    "SELECT_V2": _SELECT,
    "SLICE": (
        version(2),
        computes(),
        *operands(3),
        runtime_input(),
        ranks(3, 4),
        *constant("in1", "int32"),
        *constant("in2", "int32"),
        _CUTS_SOMETHING,
        special("slice_in_bounds", "Begin and size must lie inside the input and make the output."),
    ),
    "SPLIT": (
        version(2),
        computes(),
        InputCountIn((2,), says="Expected 2 input tensor(s)."),
        *constant("in0", "int32"),
        runtime_input("in1"),
        special("split_parts", "Expected 2 outputs or more that together make the input, along one axis."),
    ),
    "SPLIT_V": (
        version(2),
        computes(),
        InputCountIn((3,), says="Expected 3 input tensor(s)."),
        runtime_input(),
        *constant("in1", "int32"),
        *constant("in2", "int32"),
        special("split_v_parts", "Expected 2 outputs or more that together make the input, along one axis."),
    ),
    "STRIDED_SLICE": (
        version(2),
        computes(),
        *operands(4),
        runtime_input(),
        ranks(3, 4),
        *(condition for name in ("in1", "in2", "in3") for condition in constant(name, "int32")),
        *(
            option(f"{mask}_mask", 0, says=f"Slice does not support {mask}_mask.")
            for mask in ("ellipsis", "new_axis", "shrink_axis")
        ),
        option("offset", False),
        _CUTS_SOMETHING,
        special(
            "strided_slice_in_bounds",
            "Begin and end must lie inside the input, strides be positive, and all of it make the output.",
        ),
    ),
    "TRANSPOSE": (
        version(4),
        computes(),
        *operands(2),
        runtime_input(),
        *constant("in1", "int32"),
        ranks(2, 3, 4),
        special("permutation", "Permutation for transpose is invalid: of 2 to 4 axes, none negative."),
    ),
    "UNPACK": (
        version(2),
        computes(),
        InputCountIn((1,), says="Expected 1 input tensor(s)."),
        runtime_input(),
        special("unstacks", "Expected an output for each step along the axis, without that axis."),
    ),
}
