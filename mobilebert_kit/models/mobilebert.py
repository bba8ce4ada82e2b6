"""MobileBERT for question answering, written once, in the primitives of a lowering.

Architecture: Sun et al. 2020, arXiv:2004.02984, in the variant that Google published fine-tuned
(no_norm, relu, trigram input, shared query/key bottleneck). Scopes are the published variable names.

    input_ids ─ word ─ trigram dense ─(+ token type + position)─ NoNorm ─ P
    P ─ bottleneck/input ──────────────────────────── LI ──────────┐
    P ─ bottleneck/attention ─ SH ─ query, key ┐                   + ─ NoNorm ─ feed-forward x F ─┐
    P ─ value ─────────────────────────────────┴ attention ─ dense ┘                              │
    P ────────────────────────────────────────────────────────────────── NoNorm(+ dense) ─────────┘─ next P
    last P ─ dense to 2 ─ end_logits, start_logits
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

    from mobilebert_kit.lowering.cpu import CpuLowering
    from mobilebert_kit.models.config import MobileBertConfig


def question_answering(
    config: MobileBertConfig,
    ops: CpuLowering,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    segment_ids: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """The forward pass: three int32 [B, S] tensors -> {"end_logits", "start_logits"}, float32 [B, S] each."""
    mask = ops.mask(input_mask)
    x = embeddings(ops, input_ids, segment_ids)
    for index in range(config.num_hidden_layers):
        x = layer(config, ops, f"bert/encoder/layer_{index}", x, mask)
    end, start = ops.logits(x, "cls/squad")
    return {"end_logits": end, "start_logits": start}


def embeddings(ops: CpuLowering, input_ids: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
    """Token ids and segment ids -> the first hidden state."""
    scope = "bert/embeddings"
    word = ops.embedding(input_ids, f"{scope}/word_embeddings")
    token_type = ops.embedding(segment_ids, f"{scope}/token_type_embeddings")
    return ops.trigram_no_norm(
        word,
        f"{scope}/embedding_transformation",
        f"{scope}/FakeLayerNorm",
        residual=ops.add_positions(token_type, f"{scope}/position_embeddings"),
    )


def layer(config: MobileBertConfig, ops: CpuLowering, scope: str, x: tf.Tensor, mask: object) -> tf.Tensor:
    """One encoder layer: hidden state in, hidden state out."""

    def project(inputs: tf.Tensor, name: str, residual: tf.Tensor | None = None) -> tf.Tensor:
        return ops.dense_no_norm(
            inputs, f"{scope}/{name}/dense", f"{scope}/{name}/FakeLayerNorm", residual=residual
        )

    def feed_forward(inputs: tf.Tensor, name: str) -> tf.Tensor:
        widened = ops.dense(inputs, f"{scope}/{name}intermediate/dense", activation=config.hidden_act)
        return project(widened, f"{name}output", residual=inputs)

    bottleneck = project(x, "bottleneck/input")
    shared = project(x, "bottleneck/attention")
    y = project(
        attention(config, ops, f"{scope}/attention/self", shared, x, mask),
        "attention/output",
        residual=bottleneck,
    )
    for index in range(config.num_feedforward_networks - 1):
        y = feed_forward(y, f"ffn_layer_{index}/")
    y = feed_forward(y, "")
    return project(y, "output/bottleneck", residual=x)


def attention(
    config: MobileBertConfig, ops: CpuLowering, scope: str, shared: tf.Tensor, x: tf.Tensor, mask: object
) -> tf.Tensor:
    """Self-attention; query and key read the shared bottleneck, value reads the layer's input."""
    heads = config.num_attention_heads
    # 1/sqrt(head size) is folded into the query: the scores come out scaled.
    query = ops.heads(shared, f"{scope}/query", heads, scale=config.attention_head_size**-0.5)
    key = ops.heads(shared, f"{scope}/key", heads)
    value = ops.heads(x, f"{scope}/value", heads)
    scores = ops.clip(ops.masked(ops.scores(query, key, scope), mask, scope), config.score_clip, scope)
    return ops.merge_heads(ops.context(ops.softmax(scores, scope), value, scope), scope)
