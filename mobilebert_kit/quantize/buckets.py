"""One .tflite of several that differ in their sequence length alone: signatures over one set of weights.

    before:  384.tflite  graph, weights      after:  one file: graph 384  "serving_default"     ─┐
             64.tflite   graph, weights                        graph 64   "serving_default_64"  ─┴ weights

EXACT: no node and no constant changes. Whatever vectors have the same bytes lie in the file once: constants,
and the scales of the kernels, of which a full-size int8 graph has 2 MB. What is left of a shorter graph are
its nodes, and its positions, of which there are as many as tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from mobilebert_kit.contract import shorter_signature
from mobilebert_kit.quantize.half_tables import IDENTIFIER, AlignedBuilder


def merge_buckets(models: Mapping[int, bytes]) -> bytes:
    """`models`: sequence length -> .tflite with one graph and one signature.

    The longest becomes the main graph and keeps its signature's key; the others get theirs by
    `shorter_signature`.
    """
    longest, *others = sorted(models, reverse=True)
    tree = schema.ModelT.InitFromPackedBuf(models[longest])
    for length in sorted(others):
        _append(tree, schema.ModelT.InitFromPackedBuf(models[length]), length)
    builder = _SharingBuilder(len(models[longest]))
    builder.Finish(tree.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _append(tree: schema.ModelT, other: schema.ModelT, length: int) -> None:
    """Adds the graph of `other` with its constants and op codes; of metadata the main graph's stays."""
    [graph], [signature] = other.subgraphs, other.signatureDefs
    for tensor in graph.tensors:
        if tensor.buffer:  # 0 is the empty one, of tensors that are computed
            tensor.buffer += len(tree.buffers)
    for operator in graph.operators:
        operator.opcodeIndex += len(tree.operatorCodes)
    graph.name += f"_{length}".encode()
    signature.signatureKey = shorter_signature(signature.signatureKey.decode(), length).encode()
    signature.subgraphIndex = len(tree.subgraphs)
    tree.buffers += other.buffers
    tree.operatorCodes += other.operatorCodes
    tree.subgraphs.append(graph)
    tree.signatureDefs.append(signature)


class _SharingBuilder(AlignedBuilder):
    """Writes vectors and texts of the same content once; a FlatBuffer's tables may share them."""

    def __init__(self, size: int):
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        return self._once(x.dtype.str, x.tobytes(), lambda: super(_SharingBuilder, self).CreateNumpyVector(x))

    def CreateString(self, s: bytes) -> int:
        return self._once("text", s, lambda: super(_SharingBuilder, self).CreateString(s))

    def _once(self, kind: str, content: bytes, write: Callable[[], int]) -> int:
        if (kind, content) not in self._written:
            self._written[kind, content] = write()
        return self._written[kind, content]
