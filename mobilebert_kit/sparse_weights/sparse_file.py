"""Writes a .tflite again with its kernels in TFLite's sparse encoding, where that is smaller.

    before: CONV_2D(x, kernel)
    after:  CONV_2D(x, DENSIFY(sparse kernel))

EXACT: LiteRT makes the same dense kernel of it when it loads the model. By the schema code of ai-edge-litert,
as every option of every op must be carried over, those too that the kit's own reader does not know.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mobilebert_kit.delegates.tflite_file import IDENTIFIER, Tensor, read_tflite
from mobilebert_kit.errors import InputError
from mobilebert_kit.sparse_weights.encoding import SparseMatrix, encode
from mobilebert_kit.sparse_weights.kernels import dense_kernels, runs_densified, zeros_of
from mobilebert_kit.sparse_weights.patterns import recognize
from mobilebert_kit.sparse_weights.report import TABLE_BYTES

_INDEX_VECTORS = {  # enum SparseIndexVector
    np.dtype(np.int32): (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
    np.dtype(np.uint16): (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
    np.dtype(np.uint8): (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
}
_DENSE, _SPARSE = schema.DimensionType.DENSE, schema.DimensionType.SPARSE_CSR


def sparse_tflite(path: str | Path) -> bytes:
    """The bytes of the .tflite at `path`, kernels sparse. InputError for no .tflite, or a damaged one."""
    graphs = read_tflite(path).subgraphs  # which checks what the schema code does not
    try:
        model = schema.ModelT.InitFromPackedBuf(Path(path).read_bytes())
    except (struct.error, ValueError, TypeError, IndexError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(f"Expected a well-formed .tflite model in {path}, got {error}.") from error
    for graph, read in zip(model.subgraphs, graphs, strict=True):
        sparse = {}
        kernels = {tensor.index: runs_densified(read, node, tensor) for node, tensor in dense_kernels(read)}
        for index in (index for index, runs in kernels.items() if runs):
            if matrix := smallest(read.tensors[index]):
                sparse[index] = matrix
        _densify(model, graph, sparse)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def smallest(tensor: Tensor) -> SparseMatrix | None:
    """The smaller of its encodings, element by element or in the blocks of its pattern; None: neither is."""
    matrix = tensor.data().reshape(-1, tensor.shape[-1])
    blocks = {(1, 1)}
    if len(matrix) == tensor.shape[0]:  # taps of a convolution lie between outputs and inputs
        blocks.add(recognize(zeros_of(tensor).reshape(matrix.shape)).block)
    best = min((encode(matrix, block) for block in blocks), key=lambda sparse: sparse.nbytes)
    return best if best.nbytes + TABLE_BYTES < matrix.nbytes else None


def _densify(model: Any, graph: Any, sparse: dict[int, SparseMatrix]) -> None:
    """Puts a DENSIFY in front of the first reader of each tensor of `sparse`."""
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = schema.BuiltinOperator.DENSIFY, 1
    code.deprecatedBuiltinCode = code.builtinCode
    operators, dense = [], {}
    for operator in graph.operators:
        for index in operator.inputs if operator.inputs is not None else ():
            if index in sparse and index not in dense:
                dense[index] = _make_sparse(model, graph, index, sparse[index])
                node = schema.OperatorT()
                node.opcodeIndex = len(model.operatorCodes)
                node.inputs, node.outputs = [index], [dense[index]]
                node.builtinOptionsType = schema.BuiltinOptions.DensifyOptions
                node.builtinOptions = schema.DensifyOptionsT()
                operators.append(node)
        if operator.inputs is not None:
            operator.inputs = [dense.get(index, index) for index in operator.inputs]
        operators.append(operator)
    if dense:
        model.operatorCodes.append(code)
    graph.operators = operators


def _make_sparse(model: Any, graph: Any, index: int, matrix: SparseMatrix) -> int:
    """Encodes a tensor in place; the index of the new, dense one, which takes over its quantization."""
    tensor = graph.tensors[index]
    dense = schema.TensorT()
    dense.name, dense.shape, dense.type, dense.hasRank = tensor.name, tensor.shape, tensor.type, True
    dense.quantization, tensor.quantization = tensor.quantization, None
    tensor.sparsity = _sparsity(tuple(map(int, tensor.shape)), matrix)
    if sum(other.buffer == tensor.buffer for each in model.subgraphs for other in each.tensors) > 1:
        tensor.buffer = len(model.buffers)  # the others keep the dense one
        model.buffers.append(schema.BufferT())
    model.buffers[tensor.buffer].data = matrix.values.reshape(-1).view(np.uint8)
    graph.tensors.append(dense)
    return len(graph.tensors) - 1


def _sparsity(shape: tuple[int, ...], matrix: SparseMatrix) -> Any:
    """Rows are all dimensions but the last, dense; columns the last, compressed."""
    high, wide = matrix.block
    blocked = [(axis, size) for axis, size in ((0, high), (len(shape) - 1, wide)) if size > 1]
    dimensions = [_dimension(_DENSE, shape[0] // high)]
    dimensions += [_dimension(_DENSE, size) for size in shape[1:-1]]
    compressed = _dimension(_SPARSE, 0)
    compressed.arraySegmentsType, compressed.arraySegments = _vector(matrix.segments)
    compressed.arrayIndicesType, compressed.arrayIndices = _vector(matrix.indices)
    dimensions += [compressed, *(_dimension(_DENSE, size) for _, size in blocked)]
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = list(range(len(dimensions)))
    sparsity.blockMap = [axis for axis, _ in blocked] or None
    sparsity.dimMetadata = dimensions
    return sparsity


def _dimension(kind: int, size: int) -> Any:
    dimension = schema.DimensionMetadataT()
    dimension.format, dimension.denseSize = kind, size
    return dimension


def _vector(numbers: np.ndarray) -> tuple[int, Any]:
    kind, make = _INDEX_VECTORS[numbers.dtype]
    vector = make()
    vector.values = numbers
    return kind, vector
