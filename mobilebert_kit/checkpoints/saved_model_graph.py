"""What a SavedModel's graph tells that its variables do not: mask semantics and activation.

google-research's modeling.py masks attention scores in one of two ways, each with a scalar constant inside
the scope `attention/self` that names it:

    scores + (1 - mask) * -10000              "additive"        before quantized training existed
    scores * mask + (1 - mask) * -6           "multiplicative"  since then
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.errors import InputError

MASK_CONSTANTS = {-10000.0: "additive", -6.0: "multiplicative"}
ACTIVATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Erf": "gelu",
    "Erfc": "gelu",
    "Tanh": "gelu_tanh",  # the only one of an encoder; the pooler is not part of it
}


def graph_hints(path: Path) -> dict[str, str]:
    """{"mask_semantics": ..., "hidden_act": ...}, each only where the graph is clear about it.

    Raises:
        InputError: `path` is not a SavedModel's protocol buffer.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel()
    try:
        saved_model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InputError(
            f"Expected a SavedModel, got a truncated or damaged file: {path} ({error}). Copy it again from "
            "its source."
        ) from error
    masks, activations = set(), set()
    for node in _nodes(saved_model):
        if node.op in ACTIVATIONS and "bert/encoder/" in node.name:
            activations.add(ACTIVATIONS[node.op])
        # The quantizers start at -6, and the clip of quantized training ends there: neither is a mask.
        if node.op == "Const" and "attention/self/" in node.name:
            if "FakeQuant" in node.name or "clip_by_value" in node.name:
                continue
            masks.add(MASK_CONSTANTS.get(_scalar(node.attr["value"].tensor)))
    found = {"mask_semantics": masks - {None}, "hidden_act": activations}
    return {key: values.pop() for key, values in found.items() if len(values) == 1}


def _nodes(saved_model: Any) -> Iterator[Any]:
    for meta_graph in saved_model.meta_graphs:
        yield from meta_graph.graph_def.node
        for function in meta_graph.graph_def.library.function:
            yield from function.node_def


def _scalar(tensor: Any) -> float | None:
    if tensor.tensor_shape.dim or tensor.tensor_shape.unknown_rank:
        return None
    if len(tensor.float_val) == 1:
        return float(tensor.float_val[0])
    if len(tensor.tensor_content) == 4:
        return float(np.frombuffer(tensor.tensor_content, "<f4")[0])
    return None
