"""The model as a TensorFlow function with a contract's names, dtypes, shapes and order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from mobilebert_kit.contract import Contract
from mobilebert_kit.errors import InputError
from mobilebert_kit.lowering.cpu import CpuLowering, Observe, unobserved
from mobilebert_kit.models.config import ModelConfig
from mobilebert_kit.models.forward import question_answering


def serving_module(
    config: ModelConfig,
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
    `mask_value`, `kernel_steps`: see `CpuLowering`. Raises InputError where one of contract and model has
    segments and the other has none.
    """
    prove_segments(config, contract)

    def serve(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        ops = lowering(config, weights, observe=observe, mask_value=mask_value, kernel_steps=kernel_steps)
        return answer(config, ops, contract, inputs)

    module = tf.Module()
    signature = input_signature(contract, sequence_length)
    # Without AutoGraph, which rewrites the source of every function called: 40 % of the tracing.
    module.serve = tf.function(serve, input_signature=signature, autograph=False)
    return module


def input_signature(contract: Contract, sequence_length: int) -> list[tf.TensorSpec]:
    """The contract's inputs, in its order."""
    return [
        tf.TensorSpec(spec.shape(sequence_length), tf.as_dtype(spec.dtype), name=spec.name)
        for spec in contract.inputs
    ]


def answer(
    config: ModelConfig, ops: CpuLowering, contract: Contract, inputs: Sequence[tf.Tensor]
) -> dict[str, tf.Tensor]:
    """The forward pass from the contract's inputs to its outputs by name, both in its order."""
    own = {spec.own_name: tensor for spec, tensor in zip(contract.inputs, inputs, strict=True)}
    outputs = question_answering(config, ops, **own)
    return {spec.name: tf.identity(outputs[spec.own_name], name=spec.name) for spec in contract.outputs}


def prove_segments(config: ModelConfig, contract: Contract) -> None:
    """InputError unless contract and model both have an input for the segments, or neither has."""
    if contract.has_segments != config.has_segments:
        has, has_not = (
            (f"The contract {contract.name}", f"a {config.family}")
            if contract.has_segments
            else (f"A {config.family}", f"the contract {contract.name}")
        )
        raise InputError(
            "Expected a contract and a model that both have segment_ids, or both have none, got one: "
            f"{has} has them, {has_not} has none. Ask the contract for_model()."
        )
