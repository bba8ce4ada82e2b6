"""The models that the XNNPACK checker is held against the interpreter with: one op each, or a few.

`MODELS` names each. What is right for each is not written here, for the interpreter says it. The CPU's own
kernels load every one, but for those that the test names in `DIFFERENCES`.
"""

from __future__ import annotations

from one_op_model import Graph, Operand, one_op, options

RELU, RELU_N1_TO_1, RELU6, TANH = 1, 2, 3, 4  # enum ActivationFunctionType
SAME, VALID = 0, 1  # enum Padding
RANK_7 = (1, 1, 1, 1, 1, 2, 4)
SCALES = {"usual": 1.0, "large": 200.0, "too large": 256.0, "tiny": 1e-9}
NOT_A_SCALE = {"0": 0.0, "denormal": 1e-40, "negative": -1.0, "infinite": float("inf")}

MODELS: dict[str, Graph] = {}


def f32(*shape: int, data: object = None) -> Operand:
    return Operand("float32", shape, data)


def f16(*shape: int, data: object = None) -> Operand:
    return Operand("float16", shape, data)


def i32(*shape: int, data: object = None) -> Operand:
    return Operand("int32", shape, data)


def i16(*shape: int) -> Operand:
    return Operand("int16", shape, None, (0.5,), (0,))


def i8(*shape: int, scale: float = 0.5, zero: int = 3, data: object = None) -> Operand:
    return Operand("int8", shape, data, (scale,), (zero,))


def u8(*shape: int, scale: float = 0.5, zero: int = 3, data: object = None) -> Operand:
    return Operand("uint8", shape, data, (scale,), (zero,))


def weights(*shape: int, scale: float = 0.25, zero: int = 0) -> Operand:
    return i8(*shape, scale=scale, zero=zero, data=1)


def bias(count: int, scale: float = 0.125, zero: int = 0) -> Operand:
    return Operand("int32", (count,), 0, (scale,), (zero,))


def per_channel(shape: tuple[int, ...], dimension: int, data: object = 1, dtype: str = "int8") -> Operand:
    scales = tuple(0.1 * (n + 1) for n in range(shape[dimension]))
    return Operand(dtype, shape, data, scales, (0,) * len(scales), dimension)


def channel_bias(count: int) -> Operand:
    return Operand("int32", (count,), 0, tuple(0.05 * (n + 1) for n in range(count)), (0,) * count)


def axis(value: int) -> Operand:
    return Operand("int32", (), value)


def add(name: str, inputs: list, outputs: list, version: int = 1, table: str = "", **fields: object) -> None:
    """A model named "OP what"; `table` and `fields` are its options."""
    if name in MODELS:
        raise KeyError(f"two models are named {name}")
    made = options(table, **fields) if table else None
    MODELS[name] = one_op(name.split()[0], inputs, outputs, version=version, options=made)


def unary() -> None:
    approximate = {"GELU": "GeluOptions"}
    both = (
        *("COS", "EXP", "FLOOR", "GELU", "HARD_SWISH", "NEG", "RELU", "RELU6", "RELU_N1_TO_1", "ROUND"),
        *("SIN", "ELU", "LOGISTIC", "TANH"),
    )
    for op in (*both, "ABS", "CEIL", "LOG", "RSQRT", "SQRT", "SQUARE", "SIGN"):
        add(f"{op} f32", [f32(1, 4)], [f32(1, 4)], table=approximate.get(op, ""))
        add(f"{op} f32 rank 7", [f32(*RANK_7)], [f32(*RANK_7)], table=approximate.get(op, ""))
    for op in both:
        add(f"{op} f16", [f16(1, 4)], [f16(1, 4)], table=approximate.get(op, ""))
    for op in ("RELU", "RELU6", "GELU", "RSQRT", "ABS"):
        add(f"{op} int8", [i8(1, 4)], [i8(1, 4)], 2, approximate.get(op, ""))
    add("GELU approximate", [f32(1, 4)], [f32(1, 4)], table="GeluOptions", approximate=True)
    add("NEG int32", [i32(1, 4)], [i32(1, 4)])
    add("FLOOR rank 6", [f32(*RANK_7[1:])], [f32(*RANK_7[1:])])
    add("FLOOR of a scalar", [f32()], [f32()])
    add("FLOOR of nothing", [f32(0, 4)], [f32(0, 4)])
    add("ABS of a constant", [f32(1, 4, data=1)], [f32(1, 4)])
    add("LOGISTIC uint8", [u8(1, 4)], [u8(1, 4, scale=1 / 256, zero=0)])
    add(
        "LOGISTIC int16",
        [Operand("int16", (1, 4), None, (0.01,), (0,))],
        [Operand("int16", (1, 4), None, (2**-15,), (0,))],
        2,
    )
    add("TANH uint8", [u8(1, 4)], [u8(1, 4, scale=1 / 128, zero=128)], 2)
    for name, scale in {**SCALES, **NOT_A_SCALE}.items():
        add(f"LOGISTIC int8 {name}", [i8(1, 4, scale=scale)], [i8(1, 4, scale=1 / 256, zero=-128)], 2)
        add(f"TANH int8 {name}", [i8(1, 4, scale=scale)], [i8(1, 4, scale=1 / 128, zero=0)], 2)
    for name, scale in SCALES.items():
        add(f"ELU int8 {name}", [i8(1, 4, scale=scale)], [i8(1, 4, scale=1.0)])
    leaky = "LeakyReluOptions"
    for name, alpha, scale in (
        ("", 0.1, 0.5),
        (" alpha 0", 0.0, 0.5),
        (" small scale", 0.1, 500.0),
        (" flat", 0.003, 0.5),
        (" small scale, steep", 1.5, 150.0),
        (" steep", -300.0, 0.5),
    ):
        add(f"LEAKY_RELU int8{name}", [i8(1, 4)], [i8(1, 4, scale=scale)], 2, leaky, alpha=alpha)
        add(f"LEAKY_RELU f32{name}", [f32(1, 4)], [f32(1, 4)], 1, leaky, alpha=alpha)
    add("LEAKY_RELU f16", [f16(1, 4)], [f16(1, 4)], 1, leaky, alpha=0.1)


def conversions() -> None:
    add("QUANTIZE f32 to uint8", [f32(1, 4)], [u8(1, 4)])
    add("QUANTIZE f32 to int16", [f32(1, 4)], [i16(1, 4)], 2)
    add("QUANTIZE f32 to f16", [f32(1, 4)], [f16(1, 4)])
    add("QUANTIZE f32 to f32", [f32(1, 4)], [f32(1, 4)])
    add("QUANTIZE int32 to int8", [Operand("int32", (1, 4), None, (0.1,), (0,))], [i8(1, 4)], 2)
    add("QUANTIZE uint8 to int8", [u8(1, 4)], [i8(1, 4)])
    add("QUANTIZE rank 7", [f32(*RANK_7)], [i8(*RANK_7)])
    add("QUANTIZE nothing", [f32(0, 4)], [i8(0, 4)])
    add("QUANTIZE int8 to uint8", [i8(1, 4)], [u8(1, 4)])
    add("QUANTIZE uint8 to uint8", [u8(1, 4)], [u8(1, 4, scale=0.25)])
    add("QUANTIZE int16 to int8", [i16(1, 4)], [i8(1, 4)], 2)
    for name, scale in SCALES.items():
        add(f"QUANTIZE f32 to int8 {name}", [f32(1, 4)], [i8(1, 4, scale=scale)])
    for ratio in (1 / 300, 1 / 256, 0.5, 2.0, 127.9, 128.0, 128.5):
        add(f"QUANTIZE int8 {ratio:.4g} finer", [i8(1, 4, scale=ratio)], [i8(1, 4, scale=1.0)])
    for name, scale in {**SCALES, **NOT_A_SCALE}.items():
        add(f"DEQUANTIZE int8 {name}", [i8(1, 4, scale=scale)], [f32(1, 4)], 2)
    add("DEQUANTIZE int8 to f16", [i8(1, 4)], [f16(1, 4)], 2)
    add("DEQUANTIZE nothing", [i8(0, 4)], [f32(0, 4)], 2)
    add("DEQUANTIZE uint8", [u8(1, 4)], [f32(1, 4)])
    add("DEQUANTIZE int16", [i16(1, 4)], [f32(1, 4)], 3)
    add("DEQUANTIZE f16", [f16(1, 4)], [f32(1, 4)], 3)
    add("DEQUANTIZE int8 per channel", [per_channel((1, 4), 1, None)], [f32(1, 4)], 5)
    add("DEQUANTIZE constant int8", [i8(1, 4, data=1)], [f32(1, 4)], 2)
    add("DEQUANTIZE constant int8 per channel", [per_channel((2, 4), 0)], [f32(2, 4)], 5)
    add("DEQUANTIZE constant int8 with no scale", [Operand("int8", (2, 4), 1)], [f32(2, 4)], 2)
    add("DEQUANTIZE constant uint8", [u8(1, 4, data=1)], [f32(1, 4)])
    add("DEQUANTIZE constant f16", [f16(1, 4, data=1)], [f32(1, 4)], 3)
    add("CAST int32 to f32", [i32(2, 4)], [f32(2, 4)])


def binary() -> None:
    floats = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")
    for op in (*floats, "POW", "FLOOR_DIV"):
        add(f"{op} f32", [f32(2, 4), f32(2, 4)], [f32(2, 4)])
        add(f"{op} f32 and a vector", [f32(2, 4), f32(4)], [f32(2, 4)])
        add(f"{op} f32 and a constant scalar", [f32(2, 4), f32(data=1.0)], [f32(2, 4)])
    for op in floats:
        add(f"{op} f16", [f16(2, 4), f16(2, 4)], [f16(2, 4)])
    for op in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"):
        add(f"{op} int8", [i8(2, 4), i8(2, 4)], [i8(2, 4)], 2)
        add(f"{op} int32", [i32(2, 4), i32(2, 4)], [i32(2, 4)], 2)
    for op in ("ADD", "SUB", "MUL", "DIV"):
        add(f"{op} uint8", [u8(2, 4), u8(2, 4)], [u8(2, 4)])
        for name, kind in (("relu", RELU), ("relu6", RELU6), ("relu n1", RELU_N1_TO_1), ("tanh", TANH)):
            table = f"{op.capitalize()}Options"
            add(f"{op} f32 {name}", [f32(4), f32(4)], [f32(4)], 1, table, fusedActivationFunction=kind)
    add("ADD int8 relu", [i8(4), i8(4)], [i8(4)], 2, "AddOptions", fusedActivationFunction=RELU)
    add("ADD int8 and a vector", [i8(2, 4), i8(4)], [i8(2, 4)], 2)
    add("ADD int8 and a constant", [i8(2, 4), i8(4, data=1)], [i8(2, 4)], 2)
    for op in ("ADD", "SUB"):
        for ratio in (1 / 1024, 1 / 1025, 255.9, 256.0, 1e3):
            for place, scales in enumerate(((ratio, 1.0), (1.0, ratio))):
                inputs = [i8(2, 4, scale=scale) for scale in scales]
                add(f"{op} int8 in{place} {ratio:.4g} coarser", inputs, [i8(2, 4, scale=1.0)], 2)
    for product in (1 / 65536, 1 / 65537, 255.9, 256.0):
        inputs = [i8(2, 4, scale=product), i8(2, 4, scale=1.0)]
        add(f"MUL int8 {product:.6g} coarser", inputs, [i8(2, 4, scale=1.0)], 2)
    add("ADD rank 5", [f32(1, 2, 1, 2, 4), f32(4)], [f32(1, 2, 1, 2, 4)])
    add("ADD rank 6", [f32(*RANK_7[1:]), f32(4)], [f32(*RANK_7[1:])], 5)
    add("ADD both ways", [f32(2, 1), f32(1, 4)], [f32(2, 4)])
    add("ADD of constants", [f32(4, data=1), f32(4, data=1)], [f32(4)])
    for op in floats:
        add(f"{op} of nothing", [f32(0, 4), f32(4)], [f32(0, 4)])
        add(f"{op} with nothing", [f32(1, 4), f32(0, 4)], [f32(0, 4)])
    add("ADD int64", [Operand("int64", (4,))] * 2, [Operand("int64", (4,))], 4)
    add("PRELU", [f32(1, 2, 2, 4), f32(1, 1, 4, data=0.1)], [f32(1, 2, 2, 4)])
    add("PRELU f16", [f16(1, 2, 2, 4), f16(1, 1, 4, data=0.1)], [f16(1, 2, 2, 4)])
    add("PRELU with a slope a position", [f32(1, 2, 2, 4), f32(2, 2, 4, data=0.1)], [f32(1, 2, 2, 4)])
    add("PRELU computed", [f32(1, 2, 2, 4), f32(1, 1, 4)], [f32(1, 2, 2, 4)])
    add("PRELU int8", [i8(1, 2, 2, 4), i8(1, 1, 4, data=1)], [i8(1, 2, 2, 4)])
    for op in ("EQUAL", "LESS", "GREATER"):
        add(f"{op} f32", [f32(4), f32(4)], [Operand("bool", (4,))])


unary()
conversions()
binary()
