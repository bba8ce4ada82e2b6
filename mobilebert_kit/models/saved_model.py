"""SavedModels: of a checkpoint, in the published layout; and of a function, for the converters.

In the first the variables carry their canonical names; that of a quantized checkpoint computes as its
training did, with the ranges among the variables.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from mobilebert_kit.checkpoints import Checkpoint
from mobilebert_kit.contract import SIGNATURE_KEY, Contract
from mobilebert_kit.lowering.cpu import CpuLowering
from mobilebert_kit.lowering.fake_quantized import FakeQuantizedLowering
from mobilebert_kit.models.config import ModelConfig
from mobilebert_kit.models.serving import answer, prove_segments

LARGE = 2**20  # bytes of a constant


def write_saved_model(
    folder: Path,
    config: ModelConfig,
    checkpoint: Checkpoint,
    *,
    contract: Contract,
    sequence_length: int,
    vocab: Path,
) -> None:
    """Writes `folder` (which must not exist), to be read by TensorFlow and by `load_checkpoint`.

    Configuration and vocabulary lie beside the variables, which tell neither heads nor mask. TensorFlow 1's
    builder, as the published ones were made: it keeps the variables' names, where tf.saved_model.save would
    name them by their place in a Python object. Raises InputError as `serving_module` does.
    """
    prove_segments(config, contract)
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
        outputs = answer(config, ops, contract, list(inputs.values()))
        assign(session, variables, values)
        save_signature(session, folder, inputs, outputs, contract.signature_key)
    extra = folder / "assets.extra"
    extra.mkdir()
    (extra / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(vocab, extra / "vocab.txt")


def save_graph(
    function: tf.types.experimental.PolymorphicFunction, folder: Path
) -> tuple[list[str], list[str]]:
    """Writes `function` as the graph of a SavedModel, its LARGE constants as variables.

    Gives the names of its inputs and outputs, in its order. TensorFlow 1's builder: by way of a concrete
    function the converter traces everything twice. It holds a constant some ten times over, a variable some
    four times, before it makes a constant of it: exporting BERT-base took 3.0 GB so, and 5.8 without.
    """
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        inputs = {
            spec.name or f"input_{index}": v1.placeholder(spec.dtype, spec.shape, name=spec.name)
            for index, spec in enumerate(function.input_signature)
        }
        outputs = function.python_function(*inputs.values())
        if not isinstance(outputs, dict):
            outputs = {f"output_{index}": output for index, output in enumerate(tf.nest.flatten(outputs))}
        definition = graph.as_graph_def()
    sides = [{name: tensor.name for name, tensor in side.items()} for side in (inputs, outputs)]
    del graph, inputs, outputs
    values = {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for node in definition.node
        if node.op == "Const" and node.attr["value"].tensor.ByteSize() > LARGE
    }
    kept = [node for node in definition.node if node.name not in values]
    rest = v1.GraphDef(versions=definition.versions, node=kept)
    del definition, kept
    gc.collect()  # a graph is full of reference cycles
    with tf.Graph().as_default() as graph, v1.Session() as session:
        variables = {
            name: v1.get_variable(name, shape=value.shape, dtype=value.dtype, use_resource=True)
            for name, value in values.items()
        }
        reads = {f"{name}:0": variable.read_value() for name, variable in variables.items()}
        tf.import_graph_def(rest, input_map=reads, name="")
        assign(session, variables, values)
        values.clear()
        named = [{name: graph.get_tensor_by_name(at) for name, at in side.items()} for side in sides]
        save_signature(session, folder, *named)
    return list(sides[0]), list(sides[1])


def assign(
    session: tf.compat.v1.Session,
    variables: Mapping[str, tf.Variable],
    values: Mapping[str, np.ndarray],
) -> None:
    """Gives each variable its value, all in one run.

    Variable.load would extend the graph once a variable, minutes at full size.
    """
    initializers = {name: variable.initializer for name, variable in variables.items()}
    fed = {initializer.inputs[1]: values[name] for name, initializer in initializers.items()}
    session.run(list(initializers.values()), fed)


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
