"""MobileBERT as one would write it down from the paper, with nothing done for a delegate: the yardstick.

Dense layers on [1, S, C], heads by reshape and transpose, NoNorm as a product and a sum, the trigram input by
padding, slicing and concatenating. Variable names are the published ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from mobilebert_kit.contract import Contract
from mobilebert_kit.errors import InputError
from mobilebert_kit.models.config import MobileBertConfig
from mobilebert_kit.models.serving import input_signature


def convert_plain(
    config: MobileBertConfig, weights: Mapping[str, np.ndarray], contract: Contract, sequence_length: int
) -> bytes:
    """The float .tflite that TensorFlow's converter makes of the plain model, by its defaults."""
    if config.mask_semantics != "additive" or config.score_clip is not None:
        raise InputError("Expected a checkpoint with the additive mask and no score clip, got another.")

    def serve(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        named = {spec.name: tensor for spec, tensor in zip(contract.inputs, inputs, strict=True)}
        outputs = plain(config, weights, **named)
        return {spec.name: tf.identity(outputs[spec.name], name=spec.name) for spec in contract.outputs}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=input_signature(contract, sequence_length))
    function = module.serve.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert()


def plain(
    config: MobileBertConfig,
    weights: Mapping[str, np.ndarray],
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    segment_ids: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """Three int32 [1, S] tensors -> {"end_logits", "start_logits"}, float32 [1, S] each."""
    length, heads = input_ids.shape[1], config.num_attention_heads
    size = config.attention_head_size

    def dense(x: tf.Tensor, name: str) -> tf.Tensor:  # as a Keras Dense layer does it
        return tf.nn.bias_add(tf.tensordot(x, weights[f"{name}/kernel"], 1), weights[f"{name}/bias"])

    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        return x * weights[f"{name}/FakeLayerNorm/gamma"] + weights[f"{name}/FakeLayerNorm/beta"]

    def block(x: tf.Tensor, name: str, residual: tf.Tensor | None = None) -> tf.Tensor:
        y = dense(x, f"{name}/dense")
        return norm(y if residual is None else y + residual, name)

    def split(x: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.reshape(x, [1, length, heads, size]), [0, 2, 1, 3])

    activation = {"relu": tf.nn.relu, "relu6": tf.nn.relu6}[config.hidden_act]
    penalty = (1.0 - tf.cast(input_mask, tf.float32))[:, None, None, :] * config.mask_value

    word = tf.gather(weights["bert/embeddings/word_embeddings"], input_ids)
    padded = tf.pad(word, [[0, 0], [1, 1], [0, 0]])
    trigram = tf.concat([padded[:, 2:], word, padded[:, :-2]], axis=2)
    x = dense(trigram, "bert/embeddings/embedding_transformation")
    x = x + weights["bert/embeddings/position_embeddings"][:length]
    x = x + tf.gather(weights["bert/embeddings/token_type_embeddings"], segment_ids)
    x = norm(x, "bert/embeddings")
    for index in range(config.num_hidden_layers):
        scope = f"bert/encoder/layer_{index}"
        bottleneck = block(x, f"{scope}/bottleneck/input")
        shared = block(x, f"{scope}/bottleneck/attention")
        query = split(dense(shared, f"{scope}/attention/self/query"))
        key = split(dense(shared, f"{scope}/attention/self/key"))
        value = split(dense(x, f"{scope}/attention/self/value"))
        scores = tf.matmul(query, key, transpose_b=True) * size**-0.5 + penalty
        context = tf.transpose(tf.matmul(tf.nn.softmax(scores), value), [0, 2, 1, 3])
        context = tf.reshape(context, [1, length, heads * size])
        y = block(context, f"{scope}/attention/output", bottleneck)
        networks = [f"{scope}/ffn_layer_{i}" for i in range(config.num_feedforward_networks - 1)]
        for network in [*networks, scope]:
            y = block(activation(dense(y, f"{network}/intermediate/dense")), f"{network}/output", y)
        x = block(y, f"{scope}/output/bottleneck", x)
    logits = tf.matmul(x, weights["cls/squad/output_weights"], transpose_b=True)
    logits = logits + weights["cls/squad/output_bias"]
    return {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}
