"""Inputs made up from a model's file: of the right dtype and shape, and within the tables that they index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from one_op_model import Graph, Op, Operand, constant, one_op, options, write

from mobilebert_kit.delegates import read_tflite
from mobilebert_kit.errors import InputError
from mobilebert_kit.runtime.accelerator import model_inputs

TABLE = Operand("float32", (10, 4), np.arange(40).reshape(10, 4))


def written(folder: Path, graph: Graph) -> Path:
    return write(folder / "model.tflite", graph)


def lookups() -> Graph:
    """ids (int32 [1, 64]) -> CAST -> RESHAPE -> GATHER of 10 rows; kinds -> EMBEDDING_LOOKUP of 2; a mask."""
    return Graph(
        [
            Operand("float32", (1, 64), name="ids"),
            Operand("int32", (1, 64)),
            constant([64]),
            Operand("int32", (64,)),
            TABLE,
            Operand("float32", (64, 4)),
            Operand("int32", (64,), name="kinds"),
            Operand("float32", (5, 4), 1.0),
            Operand("float32", (64, 4)),
            Operand("int32", (1, 64), name="mask"),
            Operand("float32", (1, 64)),
            Operand("int8", (1, 64), None, (0.5,), (3,), name="quantized"),
            Operand("float32", (1, 64)),
        ],
        [
            Op("CAST", [9], [10], options=options("CastOptions")),
            Op("RESHAPE", [1, 2], [3], options=options("ReshapeOptions", newShape=[64])),
            Op("GATHER", [4, 3], [5], options=options("GatherOptions")),
            Op("EMBEDDING_LOOKUP", [6, 7], [8]),
            Op("DEQUANTIZE", [11], [12]),
        ],
        [0, 1, 6, 9, 11],
        [5, 8, 10, 12],
    )


def test_inputs_lie_in_the_tables_that_they_index(tmp_path: Path) -> None:
    path = written(tmp_path, lookups())
    model = read_tflite(path)
    several = model_inputs(model, 8, seed=0)
    for inputs in several:
        for name, array in inputs.items():
            tensor = next(tensor for tensor in model.main.tensors if tensor.name == name)
            assert (array.dtype.name, array.shape) == (tensor.dtype, tensor.shape)

    def values(name: str) -> list[float]:
        return np.unique([inputs[name] for inputs in several]).tolist()

    # 512 draws: that one of 10 rows is never drawn has the odds 10 * 0.9**512, and the seed is fixed.
    assert values("t1") == list(range(10))
    assert values("kinds") == list(range(5))
    assert values("mask") == [0, 1]
    assert min(values("quantized")) < -100
    assert max(values("quantized")) > 100
    assert 0.8 < np.std([inputs["ids"] for inputs in several]) < 1.2
    again = model_inputs(model, 8, seed=0)
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(several, again, strict=True) for name in a)
    assert not np.array_equal(several[0]["t1"], model_inputs(model, 1, seed=1)[0]["t1"])


def test_an_axis_and_a_chain_of_forms_are_followed(tmp_path: Path) -> None:
    graph = Graph(
        [
            Operand("int64", (1, 64, 1)),
            Operand("int64", (1, 64)),
            Operand("int32", (1, 64)),
            Operand("float32", (9, 3), 1.0),
            Operand("float32", (9, 1, 64)),
        ],
        [
            Op("SQUEEZE", [0], [1], options=options("SqueezeOptions", squeezeDims=[2])),
            Op("CAST", [1], [2], options=options("CastOptions")),
            Op("GATHER", [3, 2], [4], options=options("GatherOptions", axis=-1)),
        ],
        outputs=[4],
    )
    (inputs,) = model_inputs(read_tflite(written(tmp_path, graph)), 1, seed=0)
    assert np.unique(inputs["t0"]).tolist() == [0, 1, 2]


def test_inputs_beyond_a_gigabyte_are_not_made(tmp_path: Path) -> None:
    path = written(
        tmp_path, one_op("EXP", [Operand("float32", (1 << 29,))], [Operand("float32", (1 << 29,))])
    )
    with pytest.raises(InputError, match="1073741824 bytes at most"):
        model_inputs(read_tflite(path), 1, seed=0)
