"""What XNNPACK takes of the ops that move data. Source: xnnpack_rules.py."""

from __future__ import annotations

from mobilebert_kit.delegates.conditions import (
    Condition,
    IsConstant,
    OptionFrom,
    OptionIn,
    SameQuantization,
    When,
)
from mobilebert_kit.delegates.xnnpack_wording import (
    FLOAT32_OR_8_BIT,
    FLOAT_OR_8_BIT,
    LIKE_IN0,
    constant,
    operands,
    rank,
    same_type,
    sizes,
    special,
    unbuilt,
    value,
)

_OTHER = "an input has another type, scale or zero point than out0"


def _blocks(types: tuple[str, ...]) -> tuple[Condition, ...]:
    return (
        *operands((1,)),
        *value("in0", types),
        *value("out0", types),
        OptionFrom("block_size", 2, says="block_size is less than 2"),
        rank("in0", 4),
        LIKE_IN0,
    )


LAYOUT_RULES: dict[str, tuple[Condition, ...]] = {
    "CONCATENATION": (
        *operands((2, 3, 4, 5)),
        *value("out0", FLOAT_OR_8_BIT),
        special("inputs_float_or_8_bit", "an input is not float32, float16, int8 or uint8"),
        special("inputs_have_axis", "an input has not the axis along which they are joined"),
        special("inputs_like_out0", _OTHER, when=When(operand="out0", is_type=("uint8",))),
        unbuilt("inputs_like_out0", _OTHER),
    ),
    "DEPTH_TO_SPACE": _blocks(FLOAT_OR_8_BIT),
    "PAD": (
        *operands((2,)),
        *value("in0", FLOAT_OR_8_BIT),
        sizes("in0"),
        *constant("in1"),
        special("paddings_shape", "in1 has not two numbers for each dimension of in0"),
        special("paddings_positive", "a padding is negative"),
        *value("out0", FLOAT_OR_8_BIT),
        sizes("out0"),
        LIKE_IN0,
    ),
    "RESHAPE": (
        *operands((1, 2)),
        *value("in0", FLOAT_OR_8_BIT),
        sizes("in0"),
        *value("out0", FLOAT_OR_8_BIT),
        sizes("out0"),
        SameQuantization(("out0", "in0"), says="in0 and out0 have not the same scale and zero point"),
        special("new_shape_constant", "in1, the new shape, is not a constant of int32"),
        special("new_shape_flat", "in1, the new shape, is not a vector"),
        special("new_shape", "the new shape is [-1] or [0] alone, which may stand for a scalar"),
        LIKE_IN0,
    ),
    "SLICE": (
        *operands((3,)),
        *constant("in1", ("int32", "int64")),
        *constant("in2", ("int32", "int64")),
        special("in1_in2_vectors", "in1 or in2 has not one dimension"),
        *value("in0", FLOAT_OR_8_BIT),
        *value("out0", FLOAT_OR_8_BIT),
        special("plain_slice", "a begin is negative, a size is 0 or -1, or there are more than 6"),
        LIKE_IN0,
    ),
    "SPACE_TO_DEPTH": (
        *_blocks(FLOAT32_OR_8_BIT),
        special("blocks", "the height or width of in0 is not a multiple of block_size"),
    ),
    "SPLIT": (
        *operands((2,), (2, 3, 4)),
        special("splits", "num_splits is not the number of outputs"),
        *constant("in0"),
        *value("in1", FLOAT_OR_8_BIT),
        special("split_axis", "in1 has no such axis"),
        unbuilt("outputs_like_in1", "an output has another type, scale or zero point than in1"),
    ),
    "STRIDED_SLICE": (
        *operands((4,)),
        *(
            OptionIn(name, (0,), says=f"{name} is used")
            for name in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
        ),
        *constant("in3"),
        special("steps_of_one", "a stride is not 1"),
        *constant("in1"),
        *constant("in2"),
        special("index_a_dimension", "begin, end and strides have not one number for each dimension of in0"),
        *value("in0", FLOAT_OR_8_BIT),
        *value("out0", FLOAT_OR_8_BIT),
        LIKE_IN0,
    ),
    "TRANSPOSE": (
        *operands((2,)),
        *value("in0", FLOAT_OR_8_BIT),
        sizes("in0"),
        rank("in0", 1, 2, 3, 4, 5, 6),
        IsConstant("in1", says="in1 is not a constant"),
        same_type("in0", "out0"),
        LIKE_IN0,
    ),
}
