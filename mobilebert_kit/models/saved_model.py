"""A SavedModel in the published layout: the variables carry their canonical names.

That of a quantized checkpoint computes as its training did, with the ranges among the variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from mobilebert_kit.checkpoints import Checkpoint
from mobilebert_kit.contract import SIGNATURE_KEY, Contract
from mobilebert_kit.lowering.cpu import CpuLowering
from mobilebert_kit.lowering.fake_quantized import FakeQuantizedLowering
from mobilebert_kit.models.config import MobileBertConfig
from mobilebert_kit.models.mobilebert import question_answering


def write_saved_model(
    folder: Path,
    config: MobileBertConfig,
    checkpoint: Checkpoint,
    *,
    contract: Contract,
    sequence_length: int,
) -> None:
    """Writes `folder` (which must not exist), to be read by TensorFlow and by `load_checkpoint`.

    TensorFlow 1's builder, as the published ones were made: it keeps the variables' names, where
    tf.saved_model.save would name them by their place in a Python object.
    """
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        values = {**checkpoint.tensors, **checkpoint.range_variables}
        if checkpoint.quantized and checkpoint.step is not None:
            values["global_step"] = np.int64(checkpoint.step)
        variables = {
            name: v1.get_variable(name, shape=value.shape, dtype=value.dtype, use_resource=True)
            for name, value in values.items()
        }
        ops = CpuLowering(config, variables)
        if checkpoint.quantized:
            pairs = {name: (variables[f"{name}/min"], variables[f"{name}/max"]) for name in checkpoint.ranges}
            ops = FakeQuantizedLowering(config, variables, pairs)
        inputs = {
            spec.name: v1.placeholder(spec.dtype, spec.shape(sequence_length), name=spec.name)
            for spec in contract.inputs
        }
        outputs = question_answering(config, ops, **inputs)
        outputs = {spec.name: tf.identity(outputs[spec.name], name=spec.name) for spec in contract.outputs}
        # In one run: Variable.load would extend the graph once a variable, minutes at full size.
        initializers = {name: variable.initializer for name, variable in variables.items()}
        fed = {initializer.inputs[1]: values[name] for name, initializer in initializers.items()}
        session.run(list(initializers.values()), fed)
        save_signature(session, folder, inputs, outputs, contract.signature_key)


def save_signature(
    session: tf.compat.v1.Session,
    folder: Path,
    inputs: Mapping[str, tf.Tensor],
    outputs: Mapping[str, tf.Tensor],
    key: str = SIGNATURE_KEY,
) -> None:
    """Writes the session's graph and variables as a SavedModel into `folder`, which must not exist."""
    saved_model = tf.compat.v1.saved_model
    builder = saved_model.Builder(str(folder))
    builder.add_meta_graph_and_variables(
        session,
        [saved_model.SERVING],
        signature_def_map={key: saved_model.predict_signature_def(dict(inputs), dict(outputs))},
    )
    builder.save()
