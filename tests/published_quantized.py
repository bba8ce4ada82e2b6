"""The published quantized MobileBERT in NumPy: its graph with all 66 quantizers a layer, nothing folded.

Written from the rules of google-research/mobilebert (modeling.py with use_quantized_training) and of
TensorFlow's fake quantization, without the kit. Arithmetic is float64, so that only what is rounded on
purpose is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import small_export

from mobilebert_kit.models.config import MobileBertConfig

ACT, WEIGHT = "MobileBertActFakeQuantWithMinMaxVars", "MobileBertWeightFakeQuantWithMinMaxVars"
CONFIG = replace(
    small_export.CONFIG, hidden_act="relu6", mask_semantics="multiplicative", score_clip=(-6.0, 60.0)
)

Arrays = dict[str, np.ndarray]
Ranges = dict[str, tuple[float, float]]
Quantize = Callable[[str, np.ndarray], np.ndarray]


def logits(
    config: MobileBertConfig, weights: Arrays, window: Arrays, quantize: Quantize
) -> tuple[np.ndarray, np.ndarray]:
    """(start, end), float64 [S]; each of the 66 quantizers a layer is a call quantize(name, value)."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    ids, keep, segments = (window[name][0] for name in ("input_ids", "input_mask", "segment_ids"))
    heads, size = config.num_attention_heads, config.attention_head_size

    def dense(x: np.ndarray, scope: str) -> np.ndarray:
        kernel = quantize(f"{scope}/{WEIGHT}", w[f"{scope}/kernel"])
        return quantize(f"{scope}/{ACT}", x) @ kernel + w[f"{scope}/bias"]

    def no_norm(x: np.ndarray, scope: str) -> np.ndarray:
        norm = f"{scope}/FakeLayerNorm"
        x = quantize(f"{scope}/{ACT}", x)
        beta = quantize(f"{norm}/{ACT}", w[f"{norm}/beta"])
        gamma = quantize(f"{norm}/{ACT}_1", w[f"{norm}/gamma"])
        return quantize(f"{norm}/{ACT}_2", x * gamma) + beta

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), heads, size).transpose(1, 0, 2)

    def attention(shared: np.ndarray, hidden: np.ndarray, scope: str) -> np.ndarray:
        query, key = split(dense(shared, f"{scope}/query")), split(dense(shared, f"{scope}/key"))
        value = split(dense(hidden, f"{scope}/value"))
        scores = quantize(f"{scope}/{ACT}", query @ key.transpose(0, 2, 1)) / np.sqrt(size)
        scores = quantize(f"{scope}/{ACT}_1", scores * keep)
        scores = quantize(f"{scope}/{ACT}_2", scores + (1 - keep) * -6.0).clip(-6, 60)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        context = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        return quantize(f"{scope}/{ACT}_3", context.transpose(1, 0, 2).reshape(len(hidden), -1))

    def layer(hidden: np.ndarray, scope: str) -> np.ndarray:
        bottleneck = no_norm(dense(hidden, f"{scope}/bottleneck/input/dense"), f"{scope}/bottleneck/input")
        shared = f"{scope}/bottleneck/attention"
        context = attention(
            no_norm(dense(hidden, f"{shared}/dense"), shared), hidden, f"{scope}/attention/self"
        )
        x = no_norm(
            dense(context, f"{scope}/attention/output/dense") + bottleneck, f"{scope}/attention/output"
        )
        networks = [f"{scope}/ffn_layer_{i}" for i in range(config.num_feedforward_networks - 1)]
        for network in [*networks, scope]:
            widened = dense(x, f"{network}/intermediate/dense").clip(0, 6)
            x = no_norm(dense(widened, f"{network}/output/dense") + x, f"{network}/output")
        last = f"{scope}/output/bottleneck"
        return no_norm(dense(x, f"{last}/dense") + hidden, last)

    word = w["bert/embeddings/word_embeddings"][ids]
    zero = np.zeros_like(word[:1])
    trigram = np.concatenate([np.r_[word[1:], zero], word, np.r_[zero, word[:-1]]], axis=1)
    scope = "bert/embeddings/embedding_transformation"
    x = trigram @ w[f"{scope}/kernel"] + w[f"{scope}/bias"]
    x = x + w["bert/embeddings/token_type_embeddings"][segments]
    x = x + w["bert/embeddings/position_embeddings"][: len(ids)]
    x = x * w["bert/embeddings/FakeLayerNorm/gamma"] + w["bert/embeddings/FakeLayerNorm/beta"]
    for index in range(config.num_hidden_layers):
        x = layer(x, f"bert/encoder/layer_{index}")
    return tuple((x @ w["cls/squad/output_weights"].T + w["cls/squad/output_bias"]).T)


def not_quantized(_: str, value: np.ndarray) -> np.ndarray:
    return value


def quantizer(ranges: Ranges) -> Quantize:
    """Fake quantization with the range of each name."""

    def quantize(name: str, value: np.ndarray) -> np.ndarray:
        scale, zero_point = grid(*ranges[name], narrow=name.endswith(WEIGHT))
        low = -127 if name.endswith(WEIGHT) else -128
        integers = np.floor(value / scale + zero_point + 0.5).clip(low, 127)
        return (integers - zero_point) * scale

    return quantize


def grid(low: float, high: float, *, narrow: bool = False) -> tuple[float, int]:
    """(scale, int8 zero point) of a range, moved so that zero is on the grid, as TensorFlow nudges it."""
    least = -127 if narrow else -128
    scale = (high - low) / (127 - least)
    return scale, int(np.clip(np.floor(least - low / scale + 0.5), least, 127))


def seen_ranges(config: MobileBertConfig, weights: Arrays, windows: list[Arrays], margin: float) -> Ranges:
    """`margin` times the extremes of what each quantizer sees in the float model, zero among them; a
    kernel's is symmetric. As training finds them, but for its moving average. The values are float32's."""
    ranges: Ranges = {}

    def see(name: str, value: np.ndarray) -> np.ndarray:
        low, high = ranges.get(name, (0.0, 0.0))
        low, high = min(low, margin * value.min()), max(high, margin * value.max())
        if name.endswith(WEIGHT):
            low, high = -max(-low, high), max(-low, high)
        ranges[name] = (float(np.float32(low)), float(np.float32(high)))
        return value

    for window in windows:
        logits(config, weights, window, see)
    return ranges


def variables(weights: Arrays, ranges: Ranges) -> Arrays:
    """Everything that the published checkpoint holds, by its names."""
    lows = {f"{name}/min": np.float32(low) for name, (low, _) in ranges.items()}
    highs = {f"{name}/max": np.float32(high) for name, (_, high) in ranges.items()}
    return weights | lows | highs | {"global_step": np.int64(12345)}
