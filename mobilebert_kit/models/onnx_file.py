"""From a serving module to an .onnx file: tf2onnx translates the ops, the integers are the recipe's.

tf.function ─ graph ─ tf2onnx ─ onnx_integers.py ─ names of its own ─ onnx.checker ─ file
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import tensorflow as tf
from onnx import GraphProto, ModelProto, NodeProto, helper
from tf2onnx.optimizer import optimize_graph
from tf2onnx.optimizer.back_to_back_optimizer import BackToBackOptimizer
from tf2onnx.optimizer.const_fold_optimizer import ConstFoldOptimizer
from tf2onnx.optimizer.identity_optimizer import IdentityOptimizer
from tf2onnx.tfonnx import process_tf_graph

from mobilebert_kit import __version__
from mobilebert_kit.quantize.onnx_integers import fake_quant_handlers, quantize_constants
from mobilebert_kit.quantize.recipes import Recipe

# Of tf2onnx's, those that leave every QuantizeLinear where it is.
OPTIMIZERS = {"constants": ConstFoldOptimizer, "pairs": BackToBackOptimizer, "identities": IdentityOptimizer}
# DequantizeLinear with a scale a channel came with 13, and tf2onnx knows up to 18. ONNX Runtime reads 17
# since 1.12 (July 2022).
OPSET = 17
IR_VERSION = 8  # the format of the file that came with opset 17


def write_onnx(module: tf.Module, recipe: Recipe, file: Path) -> list[Path]:
    """Writes `module.serve` as `file`, weights inside; gives the one file that it is.

    Inputs and outputs are named and ordered as the module's, [1, S]. Two runs give the same bytes. Raises
    ValueError for a recipe whose weights are rounded and whose activations are not.
    """
    if recipe.weights != ("int8" if recipe.quantize_activations else "float32"):
        raise ValueError(f"Expected a recipe of float32 or of int8 activations, got {recipe.name}.")
    graph, inputs, outputs = _translated(module.serve)
    gc.collect()  # a TensorFlow graph is full of reference cycles, and holds all weights
    quantize_constants(graph)
    _rename(graph, inputs, outputs)
    model = _model(graph, recipe)
    onnx.checker.check_model(model, full_check=True)
    file.write_bytes(model.SerializeToString(deterministic=True))
    return [file]


def _translated(
    function: tf.types.experimental.PolymorphicFunction,
) -> tuple[GraphProto, dict[str, str], dict[str, str]]:
    """`function` in ONNX's ops, and {tensor in the graph: name in the signature} of inputs and outputs."""
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        fed = [v1.placeholder(spec.dtype, spec.shape, name=spec.name) for spec in function.input_signature]
        given = function.python_function(*fed)
        inputs = {tensor.name: spec.name for tensor, spec in zip(fed, function.input_signature, strict=True)}
        outputs = {tensor.name: name for name, tensor in given.items()}
        made = process_tf_graph(
            graph,
            opset=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            custom_op_handlers=fake_quant_handlers(),
        )
        made = optimize_graph(made, catch_errors=False, optimizers=OPTIMIZERS)
        return made.make_model("").graph, inputs, outputs


def _rename(graph: GraphProto, inputs: dict[str, str], outputs: dict[str, str]) -> None:
    """Gives nodes and tensors names, and an order, that follow from the graph alone.

    tf2onnx numbers on from file to file, as long as the process lives.
    """
    names = {**inputs, **outputs}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(_ordered(graph, list(outputs)))
    for index, node in enumerate(nodes):
        node.name = f"{node.op_type}_{index}"
        for position, name in enumerate(node.input):
            if name in constants:
                names.setdefault(name, f"{node.name}/input_{position}")
        for position, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}/output_{position}")
    used = [name for name in names if name in constants]
    for node in nodes:
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        node.ClearField("doc_string")
    for tensor in (*graph.input, *graph.output, *(constants[name] for name in used)):
        tensor.name = names[tensor.name]
    for field, values in ((graph.node, nodes), (graph.initializer, [constants[name] for name in used])):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)
    for field, order in ((graph.input, inputs.values()), (graph.output, outputs.values())):
        by_name = {value.name: value for value in field}
        copies = [helper.make_tensor_value_info(name, *_type(by_name[name])) for name in order]
        del field[:]
        field.extend(copies)
    del graph.value_info[:]


def _ordered(graph: GraphProto, outputs: Sequence[str]) -> Iterator[NodeProto]:
    """The nodes that `outputs` need, each behind those that it reads."""
    makers = {name: node for node in graph.node for name in node.output}
    done: set[int] = set()
    waiting = [makers[name] for name in reversed(outputs)]
    while waiting:
        node = waiting[-1]
        needed = [makers[name] for name in reversed(node.input) if name in makers]
        missing = [maker for maker in needed if id(maker) not in done]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        if id(node) not in done:
            done.add(id(node))
            yield node


def _type(value: onnx.ValueInfoProto) -> tuple[int, list[int]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, [size.dim_value for size in tensor.shape.dim]


def _model(graph: GraphProto, recipe: Recipe) -> ModelProto:
    graph.name = "question_answering"
    graph.ClearField("doc_string")
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mobilebert_kit",
        producer_version=__version__,
    )
    helper.set_model_props(model, {"recipe": recipe.name})
    return model
