"""The primitives for training: batches, dense layers as matrix products, nothing folded, dropout.

    what lowering/cpu.py makes                         what training makes
    activations [1, 1, S, C]                           [B, S, C], any B and S from call to call
    CONV_2D(kernel * gamma, bias * gamma + beta)       MatMul, BiasAdd, residual, then * gamma + beta
    LayerNorm behind MAXIMUM, for float16              LayerNorm as published, in float32
    query kernel * 1/sqrt(size)                        query * 1/sqrt(size)

Folding is exact in the values but not in the variables: gamma and the kernel each need their own gradient
(and, with fake quantization, their own range). The points that `observe` sees are those of cpu.py, and the
ones in front of which cpu.py folds: kernel, NoNorm's input, gamma, beta and product.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from mobilebert_kit.errors import InputError
from mobilebert_kit.lowering.cpu import ACTIVATIONS, CpuLowering, Observe, unobserved
from mobilebert_kit.models.config import ModelConfig

HIDDEN_DROPOUT = {"bert": 0.1, "distilbert": 0.1}  # transformers' default, by model_type


@dataclass(frozen=True)
class Dropout:
    """Probabilities of dropping a value, as the published configuration has them; 0 is none.

    `hidden` drops from the embeddings and from a dense layer's output before its residual (the last one of a
    MobileBERT's layer, both of a BERT's), `attention` from the softmax probabilities
    (google-research/mobilebert and google-research/bert, modeling.py).
    """

    hidden: float = 0.0
    attention: float = 0.1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, (int, float)) and 0 <= value < 1):
                raise InputError(
                    f"Expected the {name} dropout to be at least 0 and less than 1, got {value!r:.80}."
                )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any] | None) -> Dropout:
        """Of a configuration's hidden_dropout_prob and attention_probs_dropout_prob (a DistilBERT's dropout
        and attention_dropout); absent: as published, or for a BERT as transformers has it."""
        settings = settings or {}
        hidden = HIDDEN_DROPOUT.get(settings.get("model_type", ""), cls.hidden)
        return cls(
            settings.get("hidden_dropout_prob", settings.get("dropout", hidden)),
            settings.get("attention_probs_dropout_prob", settings.get("attention_dropout", cls.attention)),
        )


NO_DROPOUT = Dropout(0.0, 0.0)


class Heads(NamedTuple):
    """[B, heads, S, size], and the scale that is still to be applied: fake quantization wants it later."""

    values: tf.Tensor
    scale: float


class TrainingLowering(CpuLowering):
    """Primitives over `weights` (canonical name -> float32 tf.Variable) for batches.

    Args:
        dropout: applied where its probabilities are not 0; the caller passes NO_DROPOUT to evaluate.
        seed, step: what the dropped values follow from, and nothing else: int, and int or int64 scalar. The
            same two give the same bits, in a resumed run too; every call of a run needs another step.
        dtype: of activations and products. Softmax, LayerNorm and logits are float32 always.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Mapping[str, tf.Variable],
        *,
        observe: Observe = unobserved,
        dropout: Dropout = NO_DROPOUT,
        seed: int = 0,
        step: int | tf.Tensor = 0,
        dtype: str | tf.DType = tf.float32,
    ):
        super().__init__(config, weights, observe=observe)
        self.dropout = dropout
        self.seed = seed
        self.step = tf.cast(step, tf.int64)
        self.dtype = tf.as_dtype(dtype)

    def weight(self, name: str) -> tf.Tensor:
        """The variable in the dtype of the activations."""
        return self.observe(tf.cast(self.weights[name], self.dtype), name)

    def dropped(self, x: tf.Tensor, rate: float, point: str) -> tf.Tensor:
        """x with `rate` of its values zero and the others scaled up; which ones: by seed, step and point."""
        if rate == 0:
            return x
        place = (self.seed << 32) | zlib.crc32(point.encode())
        seed = tf.stack([tf.constant(place, tf.int64), self.step])
        return tf.nn.experimental.stateless_dropout(x, rate, seed, rng_alg="philox")

    # Embeddings

    def embedding(self, ids: tf.Tensor, name: str) -> tf.Tensor:
        """int32 [B, S] -> [B, S, C]. EXACT."""
        return self.observe(tf.cast(tf.gather(self.weights[name], ids), self.dtype), f"{name}/rows")

    def add_positions(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """x [B, S, C] plus the first S rows of a position table. EXACT."""
        return x + tf.cast(self.weights[name][: tf.shape(x)[1]], self.dtype)

    def trigram_no_norm(self, x: tf.Tensor, dense: str, norm: str, *, residual: tf.Tensor) -> tf.Tensor:
        """NoNorm(dense(next, current and previous token side by side) + residual). EXACT."""
        around = tf.pad(x, [[0, 0], [1, 1], [0, 0]])
        y = self._product(tf.concat([around[:, 2:], x, around[:, :-2]], axis=2), dense)
        return self.dropped(self._norm(y + residual, norm), self.dropout.hidden, norm)

    # Dense layers

    def dense(
        self, x: tf.Tensor, name: str, *, activation: str | None = None, scale: float = 1.0
    ) -> tf.Tensor:
        """activation((x @ kernel + bias) * scale), x [B, S, in] -> [B, S, out]. EXACT."""
        y = self._product(x, name)
        if scale != 1.0:
            y = y * scale
        return self.observe(y if activation is None else ACTIVATIONS[activation](y), name)

    def dense_no_norm(self, x: tf.Tensor, dense: str, norm: str, *, residual: tf.Tensor | None) -> tf.Tensor:
        """NoNorm(dense(x) + residual), NoNorm(y) = y * gamma + beta. EXACT."""
        y = self._product(x, dense)
        if dense.endswith("/output/bottleneck/dense"):
            y = self.dropped(y, self.dropout.hidden, dense)
        return self._norm(y if residual is None else y + residual, norm)

    def _product(self, x: tf.Tensor, name: str) -> tf.Tensor:
        x, kernel = self.observe(x, f"{name}/input"), self.weight(f"{name}/kernel")
        # One product for the whole batch; tf.matmul of [B, S, in] makes one for each window.
        rows = tf.matmul(tf.reshape(x, [-1, kernel.shape[0]]), kernel)
        rows = tf.nn.bias_add(rows, tf.cast(self.weights[f"{name}/bias"], self.dtype))
        return tf.reshape(rows, [*shape(x)[:-1], kernel.shape[1]])

    def _norm(self, y: tf.Tensor, norm: str) -> tf.Tensor:
        beta, gamma = self.weight(f"{norm}/beta"), self.weight(f"{norm}/gamma")
        y = self.observe(y, f"{norm}/input")
        return self.observe(self.observe(y * gamma, f"{norm}/product") + beta, norm)

    def embedding_layer_norm(self, x: tf.Tensor, norm: str, *, residual: tf.Tensor | None) -> tf.Tensor:
        """LayerNorm(x + residual), then dropout. EXACT."""
        y = super().embedding_layer_norm(x, norm, residual=residual)
        return self.dropped(y, self.dropout.hidden, norm)

    def dense_layer_norm(self, x: tf.Tensor, dense: str, norm: str, *, residual: tf.Tensor) -> tf.Tensor:
        """LayerNorm(dropout(dense(x)) + residual). EXACT."""
        y = self.dropped(self.dense(x, dense), self.dropout.hidden, dense)
        return self._layer_norm(y + residual, norm)

    def _layer_norm(self, x: tf.Tensor, norm: str, *, shrink: float = 1.0) -> tf.Tensor:
        x = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        normal = (x - mean) * tf.math.rsqrt(variance + self.config.layer_norm_eps)
        y = normal * self.weights[f"{norm}/gamma"] + self.weights[f"{norm}/beta"]
        return self.observe(tf.cast(y, self.dtype), norm)

    # Attention

    def heads(self, x: tf.Tensor, name: str, count: int, *, scale: float = 1.0) -> Heads:
        """A dense layer, its output split: [B, S, in] -> [B, heads, S, size]. EXACT."""
        y = self.dense(x, name)
        batch, length, width = shape(y)
        y = tf.reshape(y, [batch, length, count, width // count])
        return Heads(tf.transpose(y, [0, 2, 1, 3]), scale)

    def scores(self, query: Heads, key: Heads, scope: str) -> tf.Tensor:
        """query @ key^T, scaled -> [B, heads, S, S]. EXACT."""
        scaled = query.values * (query.scale * key.scale)  # cheaper than to scale the S x S scores
        return self.observe(tf.matmul(scaled, key.values, transpose_b=True), f"{scope}/scores")

    def mask(self, input_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """int32 [B, S], 1 = token, 0 = padding -> what `masked` needs, [B, 1, 1, S]."""
        keep = tf.cast(input_mask, self.dtype)[:, None, None, :]
        return {"keep": keep, "fill": (1.0 - keep) * self.mask_value}

    def softmax(self, scores: tf.Tensor, scope: str) -> tf.Tensor:
        """Over the last axis, then dropout. EXACT."""
        probabilities = tf.cast(tf.nn.softmax(tf.cast(scores, tf.float32)), self.dtype)
        probabilities = self.observe(probabilities, f"{scope}/probabilities")
        return self.dropped(probabilities, self.dropout.attention, f"{scope}/probabilities")

    def context(self, probabilities: tf.Tensor, value: Heads, scope: str) -> tf.Tensor:
        """probabilities @ value -> [B, heads, S, size]. EXACT."""
        return self.observe(tf.matmul(probabilities, value.values), f"{scope}/context")

    def merge_heads(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        """[B, heads, S, size] -> [B, S, heads * size]. EXACT."""
        batch, count, length, size = shape(x)
        return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batch, length, count * size])

    # Head

    def logits(self, x: tf.Tensor, scope: str) -> tuple[tf.Tensor, tf.Tensor]:
        """The question-answering head -> (end, start), float32 [B, S] each. EXACT."""
        batch, length, width = shape(x)
        rows = tf.cast(tf.reshape(self.observe(x, f"{scope}/input"), [-1, width]), tf.float32)
        y = tf.matmul(rows, self.weights[f"{scope}/output_weights"], transpose_b=True)
        y = tf.reshape(y + self.weights[f"{scope}/output_bias"], [batch, length, 2])
        start, end = tf.unstack(y, axis=2)
        return end, start


def shape(x: tf.Tensor) -> list[int | tf.Tensor]:
    """Each dimension: a number where it is known before the graph runs."""
    dynamic = tf.shape(x)
    return [dynamic[i] if size is None else size for i, size in enumerate(x.shape)]
