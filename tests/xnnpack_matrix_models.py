"""More of the models of xnnpack_one_op_models.py: products of matrices, convolutions, pools."""

from __future__ import annotations

from one_op_model import Operand, constant
from xnnpack_one_op_models import (
    MODELS,
    NOT_A_SCALE,
    RANK_7,
    RELU,
    SAME,
    SCALES,
    TANH,
    VALID,
    add,
    bias,
    channel_bias,
    f16,
    f32,
    i8,
    i16,
    i32,
    per_channel,
    u8,
    weights,
)

__all__ = ["MODELS"]


def products() -> None:
    def bmm(name: str, a: Operand, b: Operand, out: Operand, **flags: bool) -> None:
        add(f"BATCH_MATMUL {name}", [a, b], [out], 1, "BatchMatMulOptions", **flags)

    a, b, out = (3, 2, 4), (3, 4, 5), (3, 2, 5)
    bmm("f32", f32(*a), f32(*b), f32(*out))
    bmm("f32 transposed b", f32(*a), f32(3, 5, 4), f32(*out), adjY=True)
    bmm("f32 transposed a", f32(3, 4, 2), f32(*b), f32(*out), adjX=True)
    bmm("f32 broadcast", f32(*a), f32(1, 4, 5), f32(*out))
    bmm("f32 rank 2", f32(2, 4), f32(4, 5), f32(2, 5))
    bmm("f32 rank 4", f32(1, *a), f32(1, *b), f32(1, *out))
    bmm("f32 ranks 3 and 2", f32(*a), f32(4, 5), f32(*out))
    bmm("f32 constant a", f32(*a, data=1), f32(*b), f32(*out))
    bmm("f32 constant b", f32(*a), f32(*b, data=1), f32(*out))
    bmm("f32 of nothing", f32(0, 2, 4), f32(0, 4, 5), f32(0, 2, 5))
    bmm("f32 to int8", f32(*a), f32(*b), i8(*out))
    bmm("int8 with a zero point", i8(*a), i8(*b), i8(*out))
    bmm("int8", i8(*a), i8(*b, zero=0), i8(*out))
    bmm("int8 transposed b", i8(*a), i8(3, 5, 4, zero=0), i8(*out), adjY=True)
    bmm("int8 transposed a", i8(3, 4, 2), i8(*b, zero=0), i8(*out), adjX=True)
    bmm("int8 constant a", i8(*a, data=1), i8(*b, zero=0), i8(*out))
    bmm("int8 constant b", i8(*a), weights(*b), i8(*out))
    bmm("int8 broadcast", i8(*a), i8(1, 4, 5, zero=0), i8(*out))
    bmm("int8 rank 4", i8(1, *a), i8(1, *b, zero=0), i8(1, *out))
    bmm("int8 per channel", i8(1, 2, 4), per_channel((1, 4, 5), 2), i8(1, 2, 5))
    bmm("int8 to f32", i8(*a), i8(*b, zero=0), f32(*out))
    bmm("int8 to int32", i8(*a), i8(*b, zero=0), i32(*out))
    for name, scale in SCALES.items():
        bmm(f"int8 {name}", i8(*a, scale=1.0), i8(*b, zero=0, scale=scale), i8(*out, scale=1.0))
    bmm("int16", i16(*a), i16(*b), i16(*out))
    bmm("hybrid", f32(*a), weights(*b), f32(*out))
    bmm("hybrid with a zero point", f32(*a), weights(*b, zero=3), f32(*out))
    bmm("hybrid computed", f32(*a), i8(*b, zero=0), f32(*out))
    bmm("hybrid computed with a zero point", f32(*a), i8(*b, zero=1), f32(*out))
    bmm("hybrid per channel", f32(*a), per_channel(b, 2), f32(*out))
    bmm("hybrid per channel transposed b", f32(1, 2, 4), per_channel((1, 5, 4), 1), f32(1, 2, 5), adjY=True)
    bmm("hybrid along the depth", f32(1, 2, 4), per_channel((1, 4, 5), 1), f32(1, 2, 5))
    bmm("hybrid rank 2", f32(2, 4), per_channel((4, 5), 1), f32(2, 5))
    bmm("hybrid transposed a", f32(3, 4, 2), weights(*b), f32(*out), adjX=True)
    bmm("hybrid broadcast", f32(*a), weights(1, 4, 5), f32(*out))
    bmm("hybrid to int8", f32(*a), weights(*b), i8(*out))


def dense() -> None:
    x, y, w, b = f32(8, 4), f32(8, 2), f32(2, 4, data=1), f32(2, data=1)
    qx, qy, qw, qb = i8(8, 4), i8(8, 2), weights(2, 4), bias(2)

    def fc(name: str, inputs: list, out: Operand, version: int = 1, **fields: object) -> None:
        add(f"FULLY_CONNECTED {name}", inputs, [out], version, "FullyConnectedOptions", **fields)

    fc("f32", [x, w, b], y)
    fc("f32 of two operands", [x, w], y)
    fc("f32 bias left out", [x, w, None], y)
    fc("f32 computed weights", [x, f32(2, 4), b], y)
    fc("f32 computed bias", [x, w, f32(2)], y)
    fc("f32 bias of rank 2", [x, w, f32(1, 2, data=1)], y)
    fc("f32 rank 1", [f32(4), w, b], f32(1, 2))
    fc("f32 rank 3", [f32(1, 8, 4), w, b], y)
    fc("f32 rank 3 kept", [f32(1, 8, 4), w, b], f32(1, 8, 2), 5, keepNumDims=True)
    fc("f32 rank 6", [f32(*RANK_7[1:]), w, b], f32(2, 2))
    fc("f32 rank 7", [f32(*RANK_7), w, b], f32(2, 2))
    fc("f32 flattening", [f32(8, 2), w, b], f32(4, 2))
    fc("f32 of nothing", [f32(0, 4), w, b], f32(0, 2))
    fc("f32 relu", [x, w, b], y, fusedActivationFunction=RELU)
    fc("f32 version 8", [x, w, b], y, 8)
    fc("f16", [f16(8, 4), f16(2, 4, data=1), f16(2, data=1)], f16(8, 2))
    fc("int8", [qx, qw, qb], qy, 4)
    fc("int8 of two operands", [qx, qw], qy, 6)
    fc("int8 weights with a zero point", [qx, weights(2, 4, zero=3), qb], qy, 4)
    fc("int8 computed weights", [qx, i8(2, 4, zero=0, scale=0.25), qb], qy, 4)
    fc("int8 relu", [qx, qw, qb], qy, 4, fusedActivationFunction=RELU)
    fc("int8 bias with a zero point", [qx, qw, bias(2, zero=1)], qy, 4)
    fine = [i8(8, 4, scale=1e-3), weights(2, 4, scale=1e-3), i32(2, data=0)]
    fc("int8 bias with no scale", fine, qy, 4)
    fc("int8 per channel", [qx, per_channel((2, 4), 0), channel_bias(2)], qy, 7)
    fc("int8 per channel, one bias scale", [qx, per_channel((2, 4), 0), qb], qy, 7)
    fc("int8 one channel", [qx, per_channel((1, 4), 0), channel_bias(1)], i8(8, 1), 7)
    fc("uint8", [u8(8, 4), u8(2, 4, scale=0.25, data=1), qb], u8(8, 2))
    fc("uint8 to int16", [u8(8, 4), u8(2, 4, scale=0.25, data=1), qb], i16(8, 2), 2)
    fc("int16", [i16(8, 4), qw, None], i16(8, 2), 7)
    fc("hybrid", [x, qw, b], y, 3)
    fc("hybrid bias left out", [x, qw, None], y, 3)
    fc("hybrid per channel", [x, per_channel((2, 4), 0), b], y, 12)
    fc("hybrid one channel", [x, weights(1, 4), f32(1, data=1)], f32(8, 1), 3)
    fc("hybrid with a zero point", [x, weights(2, 4, zero=3), b], y, 3)
    fc("hybrid uint8", [x, u8(2, 4, data=1), b], y, 3)
    fc("hybrid computed weights", [x, i8(2, 4, zero=0), b], y, 3)
    fc("hybrid asymmetric", [x, qw, b], y, 9, asymmetricQuantizeInputs=True)
    fc("hybrid rank 3", [f32(1, 8, 4), qw, b], y, 3)
    fc("hybrid flattening", [f32(8, 2), qw, b], f32(4, 2), 3)
    for name, scale in NOT_A_SCALE.items():
        fc(f"hybrid {name}", [x, weights(2, 4, scale=scale), b], y, 3)
    for name, scale in SCALES.items():
        given, made, b32 = i8(8, 4, scale=1.0), i8(8, 2, scale=1.0), bias(2, scale)
        fc(f"int8 {name}", [given, weights(2, 4, scale=scale), b32], made, 4)
        inputs = [u8(8, 4, scale=1.0), u8(2, 4, scale=scale, data=1), b32]
        fc(f"uint8 {name}", inputs, u8(8, 2, scale=1.0))


def convolutions() -> None:
    image, kernel, b, out = f32(1, 4, 4, 3), f32(2, 3, 3, 3, data=1), f32(2, data=0), f32(1, 4, 4, 2)
    q_image, q_kernel, q_out = i8(1, 4, 4, 3), per_channel((2, 3, 3, 3), 0), i8(1, 4, 4, 2)

    def conv(name: str, inputs: list, out: Operand, version: int = 1, **fields: int) -> None:
        made = {"padding": SAME, "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
        add(f"CONV_2D {name}", inputs, [out], version, "Conv2DOptions", **made | fields)

    conv("f32", [image, kernel, b], out)
    conv("f32 valid", [image, kernel, b], f32(1, 1, 1, 2), padding=VALID, strideW=2, strideH=2)
    conv("f32 dilated", [image, kernel, b], out, dilationWFactor=2)
    conv("f32 relu", [image, kernel, b], out, fusedActivationFunction=RELU)
    conv("f32 tanh", [image, kernel, b], out, fusedActivationFunction=TANH)
    conv("f32 computed weights", [image, f32(2, 3, 3, 3), b], out)
    conv("f32 computed bias", [image, kernel, f32(2)], out)
    conv("f32 grouped", [f32(1, 4, 4, 6), f32(2, 3, 3, 3, data=1), b], out, 6)
    conv("f16", [f16(1, 4, 4, 3), f16(2, 3, 3, 3, data=1), f16(2, data=0)], f16(1, 4, 4, 2))
    conv("int8", [q_image, q_kernel, channel_bias(2)], q_out, 3)
    conv("int8 relu", [q_image, q_kernel, channel_bias(2)], q_out, 3, fusedActivationFunction=RELU)
    conv("int8 per tensor", [q_image, weights(2, 3, 3, 3), bias(2)], q_out, 3)
    conv("int8 one channel", [q_image, per_channel((1, 3, 3, 3), 0), channel_bias(1)], i8(1, 4, 4, 1), 3)
    conv("int8, one bias scale", [q_image, q_kernel, bias(2)], q_out, 3)
    conv("int8, one weight scale", [q_image, weights(2, 3, 3, 3), channel_bias(2)], q_out, 3)
    conv("int8 bias with no scale", [q_image, q_kernel, i32(2, data=0)], q_out, 3)
    conv("uint8", [u8(1, 4, 4, 3), u8(2, 3, 3, 3, scale=0.25, data=1), bias(2)], u8(1, 4, 4, 2))
    conv("hybrid", [image, q_kernel, b], out, 5)
    conv("hybrid per tensor", [image, weights(2, 3, 3, 3), b], out, 2)
    conv("hybrid with a zero point", [image, weights(2, 3, 3, 3, zero=3), b], out, 2)
    conv("hybrid one channel", [image, weights(1, 3, 3, 3), f32(1, data=0)], f32(1, 4, 4, 1), 2)
    conv("hybrid grouped", [f32(1, 4, 4, 6), q_kernel, b], out, 5)
    for name, scale in NOT_A_SCALE.items():
        conv(f"hybrid {name}", [image, weights(2, 3, 3, 3, scale=scale), b], out, 2)

    def depthwise(name: str, inputs: list, out: Operand, version: int = 1, multiplier: int = 1) -> None:
        made = {"padding": SAME, "strideW": 1, "strideH": 1, "depthMultiplier": multiplier}
        table = "DepthwiseConv2DOptions"
        made |= {"dilationWFactor": 1, "dilationHFactor": 1}
        add(f"DEPTHWISE_CONV_2D {name}", inputs, [out], version, table, **made)

    taps, b3, flat, q_flat = f32(1, 3, 3, 3, data=1), f32(3, data=0), f32(1, 4, 4, 3), i8(1, 4, 4, 3)
    depthwise("f32", [image, taps, b3], flat)
    depthwise("f32 doubled", [image, f32(1, 3, 3, 6, data=1), f32(6, data=0)], f32(1, 4, 4, 6), 1, 2)
    depthwise("f32 by 0", [image, taps, b3], flat, 1, 0)
    depthwise("f32 by 4", [image, f32(1, 3, 3, 6, data=1), f32(6, data=0)], f32(1, 4, 4, 6), 1, 4)
    depthwise("f32 of two operands", [image, taps], flat)
    depthwise("f32 computed weights", [image, f32(1, 3, 3, 3), b3], flat)
    depthwise("f32 computed bias", [image, taps, f32(3)], flat)
    depthwise("int8 bias with no scale", [q_image, weights(1, 3, 3, 3), i32(3, data=0)], q_flat, 3)
    depthwise("int8", [q_image, per_channel((1, 3, 3, 3), 3), channel_bias(3)], q_flat, 3)
    depthwise("int8 doubled", [q_image, per_channel((1, 3, 3, 6), 3), channel_bias(6)], i8(1, 4, 4, 6), 3, 2)
    depthwise("int8, one bias scale", [q_image, per_channel((1, 3, 3, 3), 3), bias(3)], q_flat, 3)
    depthwise("int8, one weight scale", [q_image, weights(1, 3, 3, 3), channel_bias(3)], q_flat, 3)
    depthwise("int8 with a zero point", [q_image, weights(1, 3, 3, 3, zero=3), bias(3)], q_flat, 3)
    depthwise("uint8", [u8(1, 4, 4, 3), u8(1, 3, 3, 3, scale=0.25, data=1), bias(3)], u8(1, 4, 4, 3))
    depthwise("hybrid", [image, per_channel((1, 3, 3, 3), 3), b3], flat, 6)

    def transposed(name: str, inputs: list, out: Operand, version: int = 1, **fields: int) -> None:
        made = {"padding": SAME, "strideW": 2, "strideH": 2} | fields
        add(f"TRANSPOSE_CONV {name}", inputs, [out], version, "TransposeConvOptions", **made)

    shape, grown, q_grown = constant([1, 8, 8, 2]), f32(1, 8, 8, 2), i8(1, 8, 8, 2)
    transposed("f32", [shape, kernel, image], grown)
    transposed("f32 bias", [shape, kernel, image, b], grown, 3)
    transposed("f32 bias left out", [shape, kernel, image, None], grown, 3)
    transposed("f32 relu", [shape, kernel, image], grown, 4, fusedActivationFunction=RELU)
    transposed("f32 valid", [constant([1, 9, 9, 2]), kernel, image], f32(1, 9, 9, 2), padding=VALID)
    wide = {"strideW": 4, "strideH": 4}
    transposed("f32 wide", [constant([1, 16, 16, 2]), kernel, image], f32(1, 16, 16, 2), **wide)
    transposed("f32 computed shape", [i32(4), kernel, image], grown)
    transposed("f32 computed weights", [shape, f32(2, 3, 3, 3), image], grown)
    transposed("f32 computed bias", [shape, kernel, image, f32(2)], grown, 3)
    transposed("int8", [shape, q_kernel, q_image, channel_bias(2)], q_grown, 3)
    transposed("int8 with a zero point", [shape, weights(2, 3, 3, 3, zero=3), q_image], q_grown, 3)
    transposed("int8, one bias scale", [shape, q_kernel, q_image, bias(2)], q_grown, 3)
    transposed("int8, one weight scale", [shape, weights(2, 3, 3, 3), q_image, channel_bias(2)], q_grown, 3)
    transposed("int8 bias with no scale", [shape, q_kernel, q_image, i32(2, data=0)], q_grown, 3)
    transposed("uint8", [shape, u8(2, 3, 3, 3, data=1), u8(1, 4, 4, 3)], u8(1, 8, 8, 2), 3)
    transposed("hybrid", [shape, q_kernel, image], grown, 5)
    transposed("hybrid with a zero point", [shape, weights(2, 3, 3, 3, zero=3), image], grown, 5)
    for name, scale in SCALES.items():
        given, w = i8(1, 4, 4, 3, scale=1.0), weights(2, 3, 3, 3, scale=scale)
        conv(f"int8 {name}", [given, w, bias(2, scale)], i8(1, 4, 4, 2, scale=1.0), 3)
        transposed(f"int8 {name}", [shape, w, given], i8(1, 8, 8, 2, scale=1.0), 3)
        inputs = [given, weights(1, 3, 3, 3, scale=scale), bias(3, scale)]
        depthwise(f"int8 {name}", inputs, i8(1, 4, 4, 3, scale=1.0), 3)


def images() -> None:
    image, q_image, u_image = f32(1, 4, 4, 3), i8(1, 4, 4, 3), u8(1, 4, 4, 3)

    def pool(name: str, image: Operand, out: Operand, version: int = 1, **fields: int) -> None:
        made = {"padding": VALID, "strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2}
        add(name, [image], [out], version, "Pool2DOptions", **made | fields)

    one_by_one = {"filterWidth": 1, "filterHeight": 1}
    for op in ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"):
        pool(f"{op} f32", image, f32(1, 2, 2, 3))
        pool(f"{op} f32 relu", image, f32(1, 2, 2, 3), fusedActivationFunction=RELU)
        pool(f"{op} f32 tanh", image, f32(1, 2, 2, 3), fusedActivationFunction=TANH)
        pool(f"{op} f32 with gaps", f32(1, 5, 5, 3), f32(1, 2, 2, 3), strideW=3, strideH=3)
        pool(f"{op} f32 one by one", image, image, strideW=1, strideH=1, **one_by_one)
        pool(f"{op} f32 one by one with gaps", image, f32(1, 2, 2, 3), **one_by_one)
    for op in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        pool(f"{op} f16", f16(1, 4, 4, 3), f16(1, 2, 2, 3))
        pool(f"{op} int8", q_image, i8(1, 2, 2, 3), 2)
        pool(f"{op} uint8", u_image, u8(1, 2, 2, 3))
    pool("MAX_POOL_2D int8 rescaled", q_image, i8(1, 2, 2, 3, scale=0.25), 2)
    for name, given, made in (
        ("f32", image, f32(1, 8, 8, 3)),
        ("f16", f16(1, 4, 4, 3), f16(1, 8, 8, 3)),
        ("int8", q_image, i8(1, 8, 8, 3)),
        ("int8 rescaled", q_image, i8(1, 8, 8, 3, scale=0.25)),
        ("f32 to int8", image, i8(1, 8, 8, 3)),
        ("uint8", u_image, u8(1, 8, 8, 3)),
    ):
        for flags in ({}, {"alignCorners": True}, {"halfPixelCenters": True}):
            title = f"RESIZE_BILINEAR {name} {''.join(flags)}"
            add(title, [given, constant([8, 8])], [made], 3, "ResizeBilinearOptions", **flags)
    add("RESIZE_BILINEAR computed", [image, i32(2)], [f32(1, 8, 8, 3)], 1, "ResizeBilinearOptions")
    size, made = constant([8, 8]), f32(1, 8, 8, 3)
    add("RESIZE_NEAREST_NEIGHBOR f32", [image, size], [made], 1, "ResizeNearestNeighborOptions")


products()
dense()
convolutions()
images()
