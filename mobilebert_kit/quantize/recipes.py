"""Quantization recipes, as data. A name decodes itself:

w32, w16, w8    weights: float32; float16, computed as float32; int8, per output channel, symmetric
a32, a8         activations: float32; int8 with one scale and zero point a tensor, ranges calibrated
dynamic         activations are float32 in the file and quantized by the kernel, per call
symkv           key and value with zero point 0: else XNNPACK refuses the int8 BATCH_MATMUL
centerv         values have mean zero, so what int8 probabilities lose is not missed (centering.py)
f32softmax      scores leave int8 before the mask and return after SOFTMAX: XNNPACK has no int8 SOFTMAX
f32residual     residual sums are float32; what a dense layer reads of them is quantized on its way in.
                Costs no time on XNNPACK, and errors no longer pile up from layer to layer
f32product      what a product adds up goes into float32 at once where no int8 kernel reads it: ONNX Runtime's
                kernels give either. One rounding and one pass less a product
f32embedding    the first hidden state, whose error every layer inherits, is summed in float32, the trigram
                convolution included; the word table stays int8. 1.2 MB more at full size, and no time
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

# NNAPI and TFLite both demand this of an int8 SOFTMAX: scale 1/256, zero point -128.
SOFTMAX_RANGE = (0.0, 255.0 / 256.0)
# An activation that stays below is taken for zero, which every scale represents. A dead unit's 1e-20 as its
# scale would break the kernels: they abort where an ADD's scales are more than 2^19 apart.
NEGLIGIBLE = 1e-6
RANGE_OF_ZERO = (0.0, 1e-3)
# LayerNorm and gelu: the squares of the one have a range of which 8 bits hold nothing, the other would be one
# more rounding. What a dense layer reads of them is quantized on its way in.
FLOAT_ALWAYS = ("*/LayerNorm", "*/LayerNorm/*", "*/dense/gelu*")


@dataclass(frozen=True)
class Recipe:
    """`*_points` are patterns (fnmatch) over the observation points that a lowering names.

    `center_values`: see centering.py; not for a checkpoint whose ranges were trained.
    """

    name: str
    weights: str = "float32"
    quantize_activations: bool = False
    float_points: tuple[str, ...] = ()
    symmetric_points: tuple[str, ...] = ()
    center_values: bool = False

    def quantizes(self, point: str) -> bool:
        """Whether the activation at `point` is int8."""
        return self.quantize_activations and not _matches(point, self.float_points + FLOAT_ALWAYS)

    def bounds(self, point: str, low: float, high: float) -> tuple[float, float]:
        """The range that int8 represents at `point`, from the range seen while calibrating.

        Zero is always inside. A symmetric range is (-128 s, 127 s), which makes the zero point 0.
        """
        if is_fixed(point):
            return SOFTMAX_RANGE
        low, high = min(low, 0.0), max(high, 0.0)
        if high - low < NEGLIGIBLE:
            low, high = RANGE_OF_ZERO
        if _matches(point, self.symmetric_points):
            scale = max(-low, high) / 127.0
            return -128.0 * scale, 127.0 * scale
        return low, high


def is_fixed(point: str) -> bool:
    """Whether the range at `point` is no matter of calibration or training: SOFTMAX_RANGE."""
    return point.endswith("/probabilities")


def _matches(point: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(point, pattern) for pattern in patterns)


W32_A32 = Recipe("w32_a32")
W16_A32 = Recipe("w16_a32", weights="float16")
W8_DYNAMIC = Recipe("w8_dynamic", weights="int8")
W8_A8 = Recipe("w8_a8_centerv", weights="int8", quantize_activations=True, center_values=True)
W8_A8_XNNPACK = Recipe(
    "w8_a8_symkv_centerv_f32softmax_f32residual_f32embedding",
    weights="int8",
    quantize_activations=True,
    center_values=True,
    symmetric_points=("*/attention/self/key", "*/attention/self/value"),
    float_points=(
        *("mask/*", "*/kept_scores", "*/masked_scores", "*/clipped_scores"),
        *("bert/embeddings/FakeLayerNorm", "*/output/FakeLayerNorm", "*/output/bottleneck/FakeLayerNorm"),
        "*/residual",
        *("bert/embeddings/FakeLayerNorm/dense", "bert/embeddings/*_type_embeddings"),
        *("bert/embeddings/position_embeddings", "bert/embeddings/embedding_transformation*"),
    ),
)
W8_A8_ONNX = replace(
    W8_A8_XNNPACK,
    name="w8_a8_symkv_centerv_f32product_f32softmax_f32residual_f32embedding",
    float_points=(*W8_A8_XNNPACK.float_points, "*/scores", "*/FakeLayerNorm/dense", "*/output/dense"),
)
