"""Tables of a float16 model are gathered as float16: GATHER reads them as they lie in the file. EXACT.

    before:  DEQUANTIZE table float16 -> float32 [V, C];  GATHER -> float32 [S, C]
    after:   GATHER table float16 -> float16 [S, C];      CAST   -> float32 [S, C]

A GPU delegate reads float16 constants past their DEQUANTIZE, and then refuses the GATHER, whose input and
output would be of two types. On a CPU it spares the float32 copy of the word table (15.6 MB at full size).
The converter cannot be asked for it: it has no float16 GATHER, though the runtimes do.
"""

from __future__ import annotations

from collections import defaultdict

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

ALIGNMENT = 16  # of constant data, by the schema (force_align)
IDENTIFIER = b"TFL3"


def gather_half_tables(model: bytes) -> bytes:
    """The .tflite `model` with every table whose only readers are GATHER read as float16."""
    tree = schema.ModelT.InitFromPackedBuf(model)
    graph, codes = tree.subgraphs[0], [code.builtinCode for code in tree.operatorCodes]
    readers = defaultdict(list)
    for operator in graph.operators:
        for index in set(operator.inputs):
            readers[index].append(operator)
    operators = []
    casts: dict[int, schema.OperatorT] = {}
    for operator in graph.operators:
        if codes[operator.opcodeIndex] == schema.BuiltinOperator.DEQUANTIZE:
            [given], [made] = operator.inputs, operator.outputs
            users = readers[made]
            if (
                graph.tensors[given].type == schema.TensorType.FLOAT16
                and len(users) == 1
                and codes[users[0].opcodeIndex] == schema.BuiltinOperator.GATHER
            ):
                casts[id(users[0])] = _gather_half(tree, users[0], given, made)
                continue
        operators.append(operator)
        if id(operator) in casts:
            operators.append(casts[id(operator)])
    graph.operators = operators
    builder = AlignedBuilder(len(model))
    builder.Finish(tree.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _gather_half(tree: schema.ModelT, gather: schema.OperatorT, table: int, spare: int) -> schema.OperatorT:
    """Makes `gather` read `table` into the tensor `spare`; the CAST to what it made before."""
    tensors = tree.subgraphs[0].tensors
    [rows] = gather.outputs
    tensors[spare].type = schema.TensorType.FLOAT16
    tensors[spare].shape = tensors[rows].shape
    gather.inputs = np.array([table, *gather.inputs[1:]], np.int32)
    gather.outputs = np.array([spare], np.int32)
    cast = schema.OperatorT()
    cast.opcodeIndex = _code_of_cast(tree)
    cast.inputs, cast.outputs = np.array([spare], np.int32), np.array([rows], np.int32)
    cast.builtinOptionsType = schema.BuiltinOptions.CastOptions
    cast.builtinOptions = schema.CastOptionsT()
    cast.builtinOptions.inDataType = schema.TensorType.FLOAT16
    cast.builtinOptions.outDataType = schema.TensorType.FLOAT32
    return cast


def _code_of_cast(tree: schema.ModelT) -> int:
    cast = schema.BuiltinOperator.CAST
    for index, code in enumerate(tree.operatorCodes):
        if code.builtinCode == cast and code.version == 1:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = cast
    code.version = 1
    tree.operatorCodes.append(code)
    return len(tree.operatorCodes) - 1


class AlignedBuilder(flatbuffers.Builder):
    """Python's builder knows no force_align: constant data would lie where the file happens to be."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        return super().StartVector(elemSize, numElems, ALIGNMENT if elemSize == 1 else alignment)
