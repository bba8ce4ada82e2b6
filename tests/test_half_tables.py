"""Tables of a float16 model, gathered as float16: the same values, without a float32 copy of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.quantize.conversion import convert
from mobilebert_kit.quantize.recipes import W16_A32

RNG = np.random.default_rng(11)
TABLE = RNG.normal(size=(50, 16)).astype(np.float32)
IDS = np.array([[3, 49, 0, 3, 7, 12]], np.int32)


def write(folder: Path, function: object) -> Path:
    module = tf.Module()
    module.serve = tf.function(function, input_signature=[tf.TensorSpec(IDS.shape, tf.int32, name="ids")])
    path = folder / "model.tflite"
    path.write_bytes(convert(module, W16_A32))
    return path


def run(path: Path) -> np.ndarray:
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], IDS)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize("masked", [False, True], ids=["no CAST before", "a CAST before"])
def test_gathers_float16_and_casts_the_rows(masked: bool, tmp_path: Path) -> None:
    def look_up(ids: tf.Tensor) -> tf.Tensor:
        rows = tf.gather(TABLE, ids)
        return rows * tf.cast(ids, tf.float32)[..., None] if masked else rows

    path = write(tmp_path, look_up)
    graph = read_tflite(path).main
    [gather] = [node for node in graph.nodes if node.op == "GATHER"]
    [cast] = [node for node in graph.nodes if node.op == "CAST" and node.inputs[0] == gather.outputs[0]]
    table, rows = graph.tensors[gather.inputs[0]], graph.tensors[gather.outputs[0]]
    assert (table.dtype, table.is_constant, table.shape) == ("float16", True, TABLE.shape)
    assert (rows.dtype, rows.shape) == ("float16", (*IDS.shape, 16))
    assert graph.tensors[cast.outputs[0]].dtype == "float32"
    expected = TABLE.astype(np.float16).astype(np.float32)[IDS]
    np.testing.assert_array_equal(run(path), expected * IDS[..., None] if masked else expected)


def test_a_table_that_others_read_too_is_left_alone(tmp_path: Path) -> None:
    """Such as an embedding that is also the output's weight: it is needed as float32 anyway."""

    def tied(ids: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.gather(TABLE, ids), TABLE, transpose_b=True)

    path = write(tmp_path, tied)
    kinds = [node.op for node in read_tflite(path).main.nodes]
    assert "CAST" not in kinds and "DEQUANTIZE" in kinds
    half = TABLE.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(run(path), half[IDS] @ half.T, rtol=1e-5, atol=1e-5)


def test_constants_are_aligned(tmp_path: Path) -> None:
    """The schema asks for 16 bytes (force_align), which Python's builder does not know of."""
    path = write(tmp_path, lambda ids: tf.gather(TABLE, ids))
    content = path.read_bytes()
    table = next(t for t in read_tflite(path).main.tensors if t.dtype == "float16" and t.is_constant)
    assert content.index(bytes(table.buffer)) % 16 == 0
