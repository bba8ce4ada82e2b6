"""BERT for question answering, written once, in the primitives of a lowering.

Architecture: Devlin et al. 2018, arXiv:1810.04805, with LayerNorm behind each residual sum. A DistilBERT
(Sanh et al. 2019, arXiv:1910.01108) is the same without token types. The small BERT of the OpenVINO zoo has
wider embeddings and a wider head, with a dense layer between each and the encoder. Scopes are the variable
names of Google's checkpoints.

    input_ids ─ word ─(+ position + token type)─ LayerNorm ─ [dense] ─ P
    P ─ query, key, value ─ attention ─ LayerNorm(dense + P) ─ Q
    Q ─ intermediate ─ gelu ─ LayerNorm(dense + Q) ─ next P
    last P ─ [dense] ─ dense to 2 ─ end_logits, start_logits
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobilebert_kit.models.mobilebert import attention

if TYPE_CHECKING:
    import tensorflow as tf

    from mobilebert_kit.lowering.cpu import CpuLowering
    from mobilebert_kit.models.bert_config import BertConfig


def question_answering(
    config: BertConfig,
    ops: CpuLowering,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    segment_ids: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """The forward pass: int32 [B, S] tensors -> {"end_logits", "start_logits"}, float32 [B, S] each.

    `segment_ids` are for a model that has segments, and only for one.
    """
    mask = ops.mask(input_mask)
    x = embeddings(config, ops, input_ids, segment_ids)
    for index in range(config.num_hidden_layers):
        x = layer(config, ops, f"bert/encoder/layer_{index}", x, mask)
    if config.output_size != config.hidden_size:
        x = ops.dense(x, "bert/encoder/output_transformation")
    end, start = ops.logits(x, "cls/squad")
    return {"end_logits": end, "start_logits": start}


def embeddings(
    config: BertConfig, ops: CpuLowering, input_ids: tf.Tensor, segment_ids: tf.Tensor | None
) -> tf.Tensor:
    """Token ids and segment ids -> the first hidden state."""
    scope = "bert/embeddings"
    token_type = None
    if config.has_segments:
        token_type = ops.embedding(segment_ids, f"{scope}/token_type_embeddings")
    word = ops.embedding(input_ids, f"{scope}/word_embeddings")
    placed = ops.add_positions(word, f"{scope}/position_embeddings")
    x = ops.embedding_layer_norm(placed, f"{scope}/LayerNorm", residual=token_type)
    if config.embedding_size != config.hidden_size:
        x = ops.dense(x, f"{scope}/embedding_transformation")
    return x


def layer(config: BertConfig, ops: CpuLowering, scope: str, x: tf.Tensor, mask: object) -> tf.Tensor:
    """One encoder layer: hidden state in, hidden state out."""

    def project(inputs: tf.Tensor, name: str, residual: tf.Tensor) -> tf.Tensor:
        return ops.dense_layer_norm(
            inputs, f"{scope}/{name}/dense", f"{scope}/{name}/LayerNorm", residual=residual
        )

    context = attention(config, ops, f"{scope}/attention/self", x, x, mask)
    y = project(context, "attention/output", residual=x)
    widened = ops.dense(y, f"{scope}/intermediate/dense", activation=config.hidden_act)
    return project(widened, "output", residual=y)
