"""TF1 checkpoints and SavedModels: values come back, damage and other models are named."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import SMALL, random_tensors, write_tensorflow

from mobilebert_kit.checkpoints import content_digest, load_checkpoint, prove_complete
from mobilebert_kit.checkpoints.names import quant_ranges
from mobilebert_kit.errors import InputError

STEP = {"global_step": np.int64(7)}
DATA = "variables.data-00000-of-00001"


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return random_tensors()


@pytest.fixture(scope="module")
def published(tmp_path_factory, tensors) -> Path:
    """A SavedModel directory without a graph, as the published archive's `variables` folder lies in one."""
    directory = tmp_path_factory.mktemp("saved_model")
    write_tensorflow(directory / "variables" / "variables", tensors | STEP)
    (directory / "assets").mkdir()
    (directory / "assets" / "vocab.txt").write_text("[PAD]\n")
    return directory


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == np.float32 and np.array_equal(found[name], expected[name]) for name in expected
    )


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("", "saved_model"),
        ("variables", "saved_model"),
        ("variables/variables", "tf1"),
        ("variables/" + DATA, "tf1"),
    ],
)
def test_every_way_to_name_it(published, tensors, part, kind):
    checkpoint = load_checkpoint(published / part)
    assert same(checkpoint.tensors, tensors)
    assert checkpoint.format == kind
    assert checkpoint.digest == content_digest(tensors)
    assert checkpoint.unused_names == ("global_step",)
    assert not checkpoint.quantized
    assert (checkpoint.vocab_path is not None) == (kind == "saved_model")
    prove_complete(checkpoint.tensors, SMALL.variable_shapes())


def test_tf1_directory_of_a_training(tmp_path, tensors):
    slots = {f"{name}/{slot}": value for name, value in tensors.items() for slot in ("adam_m", "adam_v")}
    write_tensorflow(tmp_path / "model.ckpt-100", {**tensors, **slots, **STEP})
    write_tensorflow(tmp_path / "model.ckpt-50", tensors)
    with pytest.raises(InputError, match=r"2: model\.ckpt-100, model\.ckpt-50"):
        load_checkpoint(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/trainer/model.ckpt-100"\n')
    checkpoint = load_checkpoint(tmp_path)
    assert same(checkpoint.tensors, tensors)
    assert len(checkpoint.unused_names) == 2 * len(tensors) + 1


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types(tmp_path, tensors, dtype):
    write_tensorflow(
        tmp_path / "mobilebert.ckpt", {name: value.astype(dtype) for name, value in tensors.items()}
    )
    assert same(load_checkpoint(tmp_path / "mobilebert.ckpt").tensors, tensors)


def test_quantized(tmp_path, tensors):
    ranges = {name: np.float32(number) for number, name in enumerate(sorted(quant_ranges(2, 3)))}
    write_tensorflow(tmp_path / "q", tensors | ranges | STEP)
    checkpoint = load_checkpoint(tmp_path / "q")
    assert checkpoint.quantized
    assert same(checkpoint.range_variables, ranges)
    assert len(checkpoint.ranges) == len(ranges) / 2
    for name, (low, high) in checkpoint.ranges.items():
        assert (low, high) == (ranges[f"{name}/min"], ranges[f"{name}/max"])
    assert same(checkpoint.tensors, tensors)
    assert (checkpoint.step, checkpoint.digest) == (7, content_digest(tensors))


def test_kernel_ranges_by_output(tmp_path, tensors):
    kernel = "bert/encoder/layer_1/intermediate/dense/"
    names = {f"{kernel}MobileBertWeightFakeQuantWithMinMaxVars/{end}" for end in ("min", "max")}
    size = tensors[f"{kernel}kernel"].shape[1]
    ranges = {
        name: np.arange(size, dtype=np.float32) if name in names else np.float32(1)
        for name in quant_ranges(2, 3)
    }
    write_tensorflow(tmp_path / "q", tensors | ranges)
    assert same(load_checkpoint(tmp_path / "q").range_variables, ranges)


def test_all_published_names(tmp_path, shared):
    """All 4,282 names, in the real order of things; values of one row each to stay small."""
    lines = (shared / "data/mlcommons_checkpoint_index/quant/variables.txt").read_text().splitlines()
    rng = np.random.default_rng(0)
    written = {}
    for name, shape in (line.split("\t") for line in lines):
        written[name] = rng.random([min(size, 4) for size in ast.literal_eval(shape)], dtype=np.float32)
    written["global_step"] = np.int64(0)
    write_tensorflow(tmp_path / "model.ckpt", written)
    checkpoint = load_checkpoint(tmp_path / "model.ckpt")
    ranges = {n: v for n, v in written.items() if "FakeQuant" in n}
    weights = {n: v for n, v in written.items() if n not in ranges and n != "global_step"}
    assert (len(written), len(weights), len(ranges)) == (4282, 1113, 3168)
    assert same(checkpoint.tensors, weights)
    assert same(checkpoint.range_variables, ranges)
    assert checkpoint.step == 0


@pytest.mark.parametrize(("kind", "size"), [("float", 98331656 + 8), ("quant", 98331656 + 8 + 3168 * 4)])
def test_real_index_without_its_values(shared, tmp_path, kind, size):
    index = shared / "data/mlcommons_checkpoint_index" / kind / "variables.index"
    with pytest.raises(InputError, match=r"variables\.data-00000-of-00001 beside it, got no such file"):
        load_checkpoint(index)
    # With a shard that is too short, the index is read: it says how many bytes the weights take.
    shutil.copy(index, tmp_path)
    (tmp_path / DATA).write_bytes(bytes(1000))
    with pytest.raises(InputError, match=rf"Expected at least {size} bytes of values.*got 1000 bytes"):
        load_checkpoint(tmp_path / "variables")


def without(tensors: dict[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    return {name: value for name, value in tensors.items() if part not in name}


ONE = np.ones(3, np.float32)
DENSE = "bert/encoder/layer_0/intermediate/dense"
OTHER_MODELS = {
    "pre-trained": (
        lambda t: (
            without(t, "cls/") | {"cls/predictions/output_bias": ONE, "cls/seq_relationship/output_bias": ONE}
        ),
        "not fine-tuned for QA",
    ),
    "no head": (lambda t: without(t, "cls/"), "no such head"),
    "BERT with more feed-forward networks": (
        lambda t: {n.replace("FakeLayerNorm", "LayerNorm"): v for n, v in without(t, "bottleneck").items()},
        r"variables of a BERT for question answering in .*others:\s+bert/encoder/layer_0/ffn_layer_0/",
    ),
    "a classifier": (
        lambda t: without(t, "cls/") | {"output_weights": np.ones((2, 24), np.float32), "output_bias": ONE},
        r"got a head for classification \(output_weights\)",
    ),
    "layer_norm": (
        lambda t: {n.replace("FakeLayerNorm", "LayerNorm"): v for n, v in t.items()},
        "MobileBERT with layer_norm",
    ),
    "object-based": (lambda t: t | {"model/w/.ATTRIBUTES/VARIABLE_VALUE": ONE}, "object-based"),
    "extra": (
        lambda t: t | {"bert/encoder/layer_0/adapter/kernel": ONE},
        r"1 others:\s+bert/encoder/layer_0/adapter",
    ),
    "slot of nothing": (lambda t: t | {"nothing/adam_m": ONE}, "nothing/adam_m"),
    "integers": (lambda t: t | {"cls/squad/output_bias": np.ones(2, np.int32)}, "output_bias: int32"),
    "one range": (
        lambda t: (
            t
            | {"bert/encoder/layer_0/attention/self/MobileBertActFakeQuantWithMinMaxVars/min": np.float32(0)}
        ),
        r"231 missing",
    ),
    "a range too many": (
        lambda t: (
            t
            | {name: np.float32(0) for name in quant_ranges(2, 3)}
            | {
                "bert/encoder/layer_0/attention/self/MobileBertActFakeQuantWithMinMaxVars_4/min": np.float32(
                    0
                )
            }
        ),
        r"1 extra:\s+bert/encoder/layer_0/attention/self/MobileBertActFakeQuantWithMinMaxVars_4/min",
    ),
    "ranges per channel": (
        lambda t: t | {name: np.zeros(2, np.float32) for name in quant_ranges(2, 3)},
        r"232 not scalar:\s+.*/attention/output/FakeLayerNorm/.*max: \[2\]\n",
    ),
    "ranges per channel of another size": (
        lambda t: (
            t
            | {name: np.float32(0) for name in quant_ranges(2, 3)}
            | {f"{DENSE}/MobileBertWeightFakeQuantWithMinMaxVars/max": np.zeros(5, np.float32)}
        ),
        rf"1 not scalar:\s+{DENSE}/.*max: \[5\], expected \[\] or \[20\]",
    ),
    "integer ranges": (
        lambda t: t | {name: np.int32(0) for name in quant_ranges(2, 3)},
        "/min: int32",
    ),
}


@pytest.mark.parametrize("case", OTHER_MODELS)
def test_other_models(tmp_path, tensors, case):
    change, message = OTHER_MODELS[case]
    write_tensorflow(tmp_path / "model.ckpt", change(tensors))
    with pytest.raises(InputError, match=message) as caught:
        load_checkpoint(tmp_path / "model.ckpt")
    assert str(tmp_path) in str(caught.value)


def cut(path: Path, size: float) -> None:
    path.write_bytes(path.read_bytes()[: int(size if size >= 1 else path.stat().st_size * size)])


def flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "empty index": lambda v: cut(v / "variables.index", 0),
    "short index": lambda v: cut(v / "variables.index", 0.5),
    "index less a byte": lambda v: cut(v / "variables.index", 0.9999),
    "index bit": lambda v: flip(v / "variables.index", 0.3),
    "empty data": lambda v: cut(v / DATA, 0),
    "short data": lambda v: cut(v / DATA, 0.5),
    "data less a byte": lambda v: cut(v / DATA, 0.99999),
    "data bit": lambda v: flip(v / DATA, 0.5),
    "no data": lambda v: (v / DATA).unlink(),
    "missing shard": lambda v: (v / DATA).rename(v / "variables.data-00000-of-00002"),
    "two sets of shards": lambda v: shutil.copy(v / DATA, v / "variables.data-00000-of-00002"),
    "no index": lambda v: (v / "variables.index").unlink(),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage(tmp_path, published, case):
    directory = tmp_path / "copy"
    shutil.copytree(published, directory)
    (directory / "saved_model.pb").write_bytes(b"")
    DAMAGE[case](directory / "variables")
    with pytest.raises(InputError, match="variables"):
        load_checkpoint(directory)


def graph(directory: Path, mask: float, activation: str, clip: bool) -> None:
    """A SavedModel's graph with the parts that modeling.py puts into the scope of attention."""
    import tensorflow as tf

    with tf.Graph().as_default() as made, tf.name_scope("bert/encoder/layer_0/"):
        scores = tf.compat.v1.placeholder(tf.float32, [1, 4])
        with tf.name_scope("attention/self/"):
            scores = scores + (1.0 - scores) * mask
            if clip:
                scores = tf.clip_by_value(scores, -6.0, 60.0)
        getattr(tf.nn, activation)(scores, name="intermediate/dense/" + activation.title())
        definition = made.as_graph_def()
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel()
    saved_model.meta_graphs.add().graph_def.CopyFrom(definition)
    (directory / "saved_model.pb").write_bytes(saved_model.SerializeToString())


@pytest.mark.parametrize(
    ("mask", "activation", "clip", "semantics"),
    [
        (-10000.0, "relu", False, {"mask_semantics": "additive", "hidden_act": "relu"}),
        (-6.0, "relu", False, {"mask_semantics": "multiplicative", "hidden_act": "relu"}),
        (-6.0, "relu6", True, {"mask_semantics": "multiplicative", "hidden_act": "relu6"}),
        (-5.0, "relu6", True, {"hidden_act": "relu6"}),
    ],
)
def test_graph_tells_mask_and_activation(tmp_path, published, mask, activation, clip, semantics):
    directory = tmp_path / "copy"
    shutil.copytree(published, directory)
    graph(directory, mask, activation, clip)
    assert load_checkpoint(directory).hints == semantics
    cut(directory / "saved_model.pb", 0.7)
    with pytest.raises(InputError, match=r"truncated or damaged file: .*saved_model\.pb"):
        load_checkpoint(directory)


def test_configuration_beside_it(tmp_path, tensors):
    write_tensorflow(tmp_path / "model.ckpt", tensors)
    (tmp_path / "bert_config.json").write_text('{"vocab_size": 50}')
    assert load_checkpoint(tmp_path).settings == {"vocab_size": 50}
    (tmp_path / "bert_config.json").write_text("{")
    with pytest.raises(InputError, match=r"bert_config\.json"):
        load_checkpoint(tmp_path)
