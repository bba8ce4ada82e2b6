"""The NNAPI checker on what TensorFlow's converter makes of the ops that an integer MobileBERT is built of.

The recorded verdicts (test_delegates_nnapi.py) hold no SPLIT, SLICE, PAD, STRIDED_SLICE, TRANSPOSE, RESHAPE,
MAXIMUM or MINIMUM, and no FULLY_CONNECTED with runtime weights. Here each is converted, so that op versions,
operands and quantization are the converter's own; the verdicts are argued from the delegate's source.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mobilebert_kit.delegates import Model, Verdict, check_nnapi, read_tflite

tf = pytest.importorskip("tensorflow")


def _convert(folder: Path, name: str, signature: list, function: object, samples: object) -> Model:
    module = tf.Module()
    module.function = tf.function(function, input_signature=signature)
    concrete = module.function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    path = folder / f"{name}.tflite"
    path.write_bytes(converter.convert())
    return read_tflite(path)


@pytest.fixture(scope="module")
def attention_like(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Embedding, trigram by slices, one head by runtime weights, clip, mask, split logits; int8 inside."""
    rng = np.random.default_rng(0)
    table = tf.constant(rng.normal(size=(50, 16)).astype(np.float32))
    bias = tf.constant(rng.normal(size=8).astype(np.float32))

    def forward(ids, hidden):
        embedded = tf.gather(table, ids) + hidden
        after = tf.pad(embedded[:, 1:], [[0, 0], [0, 1], [0, 0]])
        before = tf.pad(tf.slice(embedded, [0, 0, 0], [1, 7, 16]), [[0, 0], [1, 0], [0, 0]])
        query = tf.reshape(tf.concat([after, embedded, before], -1), [8, 48])
        key = tf.nn.relu(query * 1.5)
        scores = tf.matmul(query, key, transpose_b=True)
        biased = tf.matmul(query, key * 0.7, transpose_b=True) + bias
        clipped = tf.minimum(tf.maximum(scores, -6.0), 60.0) + biased + tf.cast(ids, tf.float32)
        turned = tf.transpose(tf.reshape(clipped, [2, 4, 8]), [1, 0, 2])
        left, right = tf.split(turned, 2, axis=2)
        return {"left": left, "right": right}

    def samples():
        for _ in range(4):
            yield [
                rng.integers(0, 50, (1, 8)).astype(np.int32),
                rng.normal(size=(1, 8, 16)).astype(np.float32),
            ]

    signature = [tf.TensorSpec([1, 8], tf.int32), tf.TensorSpec([1, 8, 16], tf.float32)]
    return _convert(tmp_path_factory.mktemp("nnapi"), "attention_like", signature, forward, samples)


def _of(nodes: tuple[Verdict, ...], op: str) -> list[Verdict]:
    found = [node for node in nodes if node.op == op]
    assert found, f"the converter made no {op}; it made {Counter(node.op for node in nodes)}"
    return found


def test_taken_whole_at_api_30(attention_like: Model) -> None:
    report = check_nnapi(attention_like, api_level=30)
    assert report.refused == ()
    assert (report.partitions, report.whole) == (1, True)
    assert report.delegated == tuple(range(len(report.nodes)))


# op: (version, lowest level that accepts it, a word of the reason just below)
INT8_OPS = {
    "GATHER": (2, 29, "less than 29"),
    "CAST": (1, 29, "less than 29"),
    "QUANTIZE": (1, 30, "Output should be kTfLiteUInt8"),
    "SLICE": (2, 29, "less than 29"),
    "STRIDED_SLICE": (2, 28, "less than 28"),
    "PAD": (2, 29, "Only Float32 inputs"),
    "CONCATENATION": (2, 27, ""),
    "RESHAPE": (1, 27, ""),
    "FULLY_CONNECTED": (4, 29, "Float or UINT8"),
    "MAXIMUM": (2, 29, "less than 29"),
    "MINIMUM": (2, 29, "less than 29"),
    "TRANSPOSE": (2, 28, "less than 28"),
    "SPLIT": (2, 30, "not in expected list"),
    "DEQUANTIZE": (2, 30, "only for symmetric quantization"),
}


@pytest.mark.parametrize("op", sorted(INT8_OPS))
def test_lowest_level(op: str, attention_like: Model) -> None:
    version, lowest, says = INT8_OPS[op]
    for level in (27, 28, 29, 30, 31):
        for node in _of(check_nnapi(attention_like, api_level=level).nodes, op):
            assert node.version == version
            assert node.accepted is (level >= lowest), (level, node)
            if level == lowest - 1:
                assert any(says in reason for reason in node.reasons), node.reasons


def test_fully_connected_with_runtime_weights(attention_like: Model) -> None:
    """Three operands with and without a bias, the missing one marked -1: version 4, not the refused 6."""
    nodes = [node for node in attention_like.main.nodes if node.op == "FULLY_CONNECTED"]
    assert sorted(node.inputs[2] == -1 for node in nodes) == [False, True]
    for node in nodes:
        weights = attention_like.main.tensors[node.inputs[1]]
        assert not weights.is_constant and not weights.per_channel and weights.zero_point != 0


def test_clip_bounds_are_constant_scalars(attention_like: Model) -> None:
    for node in attention_like.main.nodes:
        if node.op in ("MAXIMUM", "MINIMUM"):
            bound = attention_like.main.tensors[node.inputs[1]]
            assert bound.rank == 0 and bound.is_constant and bound.dtype == "int8"


def test_naive_attention_is_cut_by_batch_matmul(tmp_path: Path) -> None:
    """And only by it; feature level 6 takes it."""
    rng = np.random.default_rng(0)

    def forward(hidden):
        scores = tf.matmul(hidden * 0.5, hidden, transpose_b=True)
        return tf.matmul(tf.nn.softmax(scores), hidden) + hidden

    def samples():
        for _ in range(4):
            yield [rng.normal(size=(2, 8, 16)).astype(np.float32)]

    model = _convert(tmp_path, "naive", [tf.TensorSpec([2, 8, 16], tf.float32)], forward, samples)
    report = check_nnapi(model, api_level=30)
    assert {node.op for node in report.refused} == {"BATCH_MATMUL"} and len(report.refused) == 2
    assert report.partitions == 3 and not report.whole
    assert check_nnapi(model, feature_level=6).whole


def test_ids_cannot_be_reshaped_at_api_30(tmp_path: Path) -> None:
    """The form that a GPU wants, ids flattened around GATHER, is what NNAPI refuses: int32 RESHAPE."""
    table = tf.constant(np.eye(16, dtype=np.float32))

    def forward(ids):
        return tf.reshape(tf.gather(table, tf.reshape(ids, [8])), [1, 8, 16]) * 2.0

    def samples():
        yield [np.arange(8, dtype=np.int32)[None]]

    model = _convert(tmp_path, "flat_ids", [tf.TensorSpec([1, 8], tf.int32)], forward, samples)
    refused = check_nnapi(model, api_level=30).refused
    assert [(node.op, node.reasons) for node in refused] == [
        ("RESHAPE", ("UnsupportedInputType: Input should be Float or Quant8",))
    ]
    assert check_nnapi(model, feature_level=6).whole
