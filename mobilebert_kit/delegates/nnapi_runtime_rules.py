"""What the Android runtime or any driver refuses though the delegate accepts it.

The delegate hands each node to ANeuralNetworksModel_addOperation, which validates it again; a refusal there
makes the whole delegate fail, not only the node. Sources: AOSP packages/modules/NeuralNetworks,
common/operations/<Op>Validation.cpp and common/LegacyUtils.cpp (validateOperation), for what is checked when
the model is built; the operation's entry in NeuralNetworks.h for what is demanded of scales and zero points.
How the delegate maps tensors to operand types: NNAPIOpBuilder::AddTensor in nnapi_delegate.cc.

This is not the whole of those files: the conditions that a converted model can violate.
"""

from __future__ import annotations

from mobilebert_kit.delegates.conditions import (
    API_30,
    Condition,
    OptionIn,
    QuantizationIs,
    RankIn,
    SameQuantization,
    SameType,
    Since,
    Special,
    TypeIn,
    When,
)

# AddTensor: "Failed to add NN API tensor: type ... is not supported".
UNMAPPED_TYPES = frozenset(
    {"int64", "string", "complex64", "float64", "complex128", "uint64", "resource", "variant", "uint32"}
    | {"uint16", "int4", "bfloat16", "int2", "uint4", "float8_e4m3fn", "float8_e5m2"}
)
# Operands that the delegate turns into scalars or leaves out instead of adding them as tensors.
UNMAPPED_OPERANDS: dict[str, tuple[str, ...]] = {
    "ARG_MAX": ("in1",),
    "ARG_MIN": ("in1",),
    "BATCH_TO_SPACE_ND": ("in2",),
    "EXPAND_DIMS": ("in1",),
    "FILL": ("in0", "in1"),
    "RESIZE_BILINEAR": ("in1",),
    "RESIZE_NEAREST_NEIGHBOR": ("in1",),
    "SPLIT": ("in0",),
    "SPLIT_V": ("in1", "in2"),
    "TOPK_V2": ("in1",),
}
# Where TENSOR_QUANT8_SYMM_PER_CHANNEL may stand, and the dimension that its scales must run along.
PER_CHANNEL_OPERANDS: dict[tuple[str, str], int | str] = {
    ("CONV_2D", "in1"): 0,
    ("DEPTHWISE_CONV_2D", "in1"): 3,
    ("TRANSPOSE_CONV", "in1"): 0,
    ("DEQUANTIZE", "in0"): "any",
}

_QUANT8 = ("uint8", "int8")
_INT8_FROM_30 = (
    "a signed int8 operand needs API 30: before it the delegate does not convert this op's to uint8"
)


def _up_to_rank_4(*operands: str) -> RankIn:
    return RankIn(operands, (0, 1, 2, 3, 4), says=f"rank above 4 ({', '.join(operands)})")


def _types(operand: str, *types: str) -> TypeIn:
    return TypeIn(operand, types, says=f"{operand} must be one of {', '.join(types)}")


def _same_type(*operands: str) -> SameType:
    return SameType(operands, says=f"{', '.join(operands)} must have one type")


def _keeps_quantization(source: str = "in0", target: str = "out0") -> SameQuantization:
    return SameQuantization((source, target), says=f"{target} must have the scale and zero point of {source}")


def _output_is(scale: float, zero_points: dict[str, int], shown: str) -> tuple[Condition, ...]:
    return tuple(
        QuantizationIs(
            "out0",
            scale,
            zero_point,
            says=f"the {dtype} output must have scale {shown} and zero point {zero_point}",
            when=When(operand="out0", is_type=(dtype,)),
        )
        for dtype, zero_point in zero_points.items()
    )


def _ignored(option: str, value: object, says: str) -> OptionIn:
    return OptionIn(option, (value,), says=says)


# FuseCode, NeuralNetworks.h.
_FUSED = OptionIn(
    "fused_activation",
    ("NONE", "RELU", "RELU_N1_TO_1", "RELU6"),
    says="the fused activation must be NONE, RELU, RELU_N1_TO_1 or RELU6",
)
_BINARY = (_same_type("in0", "in1", "out0"), _FUSED)
_MOVES_DATA = (_same_type("in0", "out0"), _keeps_quantization())
# OperationsUtils.cpp, GetQuantizedConvolutionMultiplier: the relative difference may be 1e-6.
_BIAS_SCALE = Special(
    "bias_scale", says="the bias must have scale in0 * in1", when=When(is_type=_QUANT8, min_inputs=3)
)
_ACTIVATION = (_up_to_rank_4("in0"), _same_type("in0", "out0"))
_SIGNED_FROM_30 = Since(API_30, says=_INT8_FROM_30, when=When(is_type=("int8",)))
_LAYOUT_TYPES = _types("in0", "float32", "float16", "uint8", "int8")

RUNTIME_RULES: dict[str, tuple[Condition, ...]] = {
    "ADD": _BINARY,
    "AVERAGE_POOL_2D": (*_MOVES_DATA, _FUSED),
    "BATCH_MATMUL": (_same_type("in0", "in1", "out0"),),
    # TENSOR_QUANT8_ASYMM_SIGNED may only be cast to itself (CastValidation.cpp).
    "CAST": (Special("int8_cast_is_identity", says="int8 may only be cast to int8"),),
    "CONCATENATION": (
        Special("inputs_up_to_rank_4", says="an input has a rank above 4"),
        Special("inputs_share_type", says="inputs and output must have one type"),
    ),
    "CONV_2D": (
        RankIn(("in0", "in1"), (4,), says="input and filter must have rank 4"),
        Special("weights_match", says="quantized input needs filter of its type or int8 per channel"),
        Special("bias_type", says="the bias must be int32 for quantized input, else of its type"),
        _BIAS_SCALE,
        _same_type("in0", "out0"),
        _FUSED,
    ),
    "DEPTHWISE_CONV_2D": (
        RankIn(("in0", "in1"), (4,), says="input and filter must have rank 4"),
        Special("weights_match", says="quantized input needs filter of its type or int8 per channel"),
        Special("bias_type", says="the bias must be int32 for quantized input, else of its type"),
        _BIAS_SCALE,
        _same_type("in0", "out0"),
        _FUSED,
    ),
    "DEQUANTIZE": (_up_to_rank_4("in0"), _types("out0", "float32", "float16")),
    "DIV": _BINARY,
    "EXPAND_DIMS": _MOVES_DATA,
    "FULLY_CONNECTED": (
        RankIn(("in0",), (2, 3, 4), says="the input must have rank 2, 3 or 4"),
        RankIn(("in1",), (2,), says="the weights must have rank 2"),
        Special("weights_match", says="the weights must have the type of the input"),
        Special("bias_type", says="the bias must be int32 for quantized input, else of its type"),
        Special("bias_length", says="the bias must have rank 1 and as many elements as in1 has rows"),
        _BIAS_SCALE,
        _same_type("in0", "out0"),
        Special("plain_weights", says="shuffled or sparse weights are not mapped"),
        _FUSED,
    ),
    "GATHER": (
        *_MOVES_DATA,
        _ignored("batch_dims", 0, "the delegate does not pass on batch_dims: the result would be another"),
    ),
    # NeuralNetworks.h, LOGISTIC and TANH.
    "LOGISTIC": (*_ACTIVATION, *_output_is(1 / 256, {"uint8": 0, "int8": -128}, "1/256")),
    "MAXIMUM": (_same_type("in0", "in1", "out0"),),
    "MAX_POOL_2D": (*_MOVES_DATA, _FUSED),
    "MEAN": (_same_type("in0", "out0"),),
    "MINIMUM": (_same_type("in0", "in1", "out0"),),
    # NeuralNetworks.h, MUL: "output_scale > input1_scale * input2_scale"; broadcast::mulQuant8 fails without.
    "MUL": (
        *_BINARY,
        Special(
            "product_scale", says="scale of out0 must exceed scale in0 * in1", when=When(is_type=_QUANT8)
        ),
    ),
    "PAD": (_up_to_rank_4("in0"), *_MOVES_DATA),
    "PADV2": (_up_to_rank_4("in0"), *_MOVES_DATA),
    # int8 to int8 is mapped as DEQUANTIZE and QUANTIZE (nnapi_delegate.cc, Map).
    "QUANTIZE": (
        RankIn(
            ("in0",),
            (0, 1, 2, 3, 4),
            says="requantizing goes through DEQUANTIZE: rank above 4",
            when=When(is_type=_QUANT8),
        ),
    ),
    "RELU": (*_ACTIVATION, _keeps_quantization()),
    "RELU6": (*_ACTIVATION, _keeps_quantization()),
    "RELU_N1_TO_1": (*_ACTIVATION, _keeps_quantization()),
    "RESHAPE": _MOVES_DATA,
    "SLICE": _MOVES_DATA,
    "SOFTMAX": (
        _same_type("in0", "out0"),
        *_output_is(1 / 256, {"uint8": 0, "int8": -128}, "1/256"),
    ),
    "SPLIT": (_same_type("in1", "out0"), _keeps_quantization("in1")),
    "SPLIT_V": _MOVES_DATA,
    "SQUARED_DIFFERENCE": (_same_type("in0", "in1", "out0"),),
    "SQUEEZE": (_LAYOUT_TYPES, _up_to_rank_4("in0"), *_MOVES_DATA, _SIGNED_FROM_30),
    "STRIDED_SLICE": (
        _up_to_rank_4("in0"),
        *_MOVES_DATA,
        *(
            _ignored(option, 0, f"the delegate does not pass on {option}: the result would be another")
            for option in ("ellipsis_mask", "new_axis_mask")
        ),
        _ignored("offset", False, "the delegate does not pass on offset: the result would be another"),
    ),
    "SUB": _BINARY,
    "TANH": (*_ACTIVATION, *_output_is(1 / 128, {"uint8": 128, "int8": 0}, "1/128")),
    "TILE": _MOVES_DATA,
    "TRANSPOSE": (_LAYOUT_TYPES, _up_to_rank_4("in0"), *_MOVES_DATA),
    "UNPACK": _MOVES_DATA,
}
