"""The model as a TensorFlow function with a contract's names, dtypes, shapes and order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from mobilebert_kit.contract import Contract
from mobilebert_kit.lowering.cpu import CpuLowering, Observe, unobserved
from mobilebert_kit.models.config import MobileBertConfig
from mobilebert_kit.models.mobilebert import question_answering


def serving_module(
    config: MobileBertConfig,
    weights: Mapping[str, tf.Tensor],
    *,
    lowering: type[CpuLowering],
    contract: Contract,
    sequence_length: int,
    observe: Observe = unobserved,
    mask_value: float | None = None,
    kernel_steps: Mapping[str, np.ndarray] | None = None,
) -> tf.Module:
    """A module whose `serve` takes and gives the contract's tensors, [1, sequence_length] each.

    `weights` is canonical name -> float32 array (they become constants) or tf.Variable. `observe`,
    `mask_value`, `kernel_steps`: see `CpuLowering`.
    """

    def serve(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        named = {spec.name: tensor for spec, tensor in zip(contract.inputs, inputs, strict=True)}
        ops = lowering(config, weights, observe=observe, mask_value=mask_value, kernel_steps=kernel_steps)
        outputs = question_answering(config, ops, **named)
        return {spec.name: tf.identity(outputs[spec.name], name=spec.name) for spec in contract.outputs}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=input_signature(contract, sequence_length))
    return module


def input_signature(contract: Contract, sequence_length: int) -> list[tf.TensorSpec]:
    """The contract's inputs, in its order."""
    return [
        tf.TensorSpec(spec.shape(sequence_length), tf.as_dtype(spec.dtype), name=spec.name)
        for spec in contract.inputs
    ]
