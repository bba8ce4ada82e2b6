"""What quantized training decided is in the files of an export, at the tensors that it was decided for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import published_quantized as published
import pytest
import small_export
import tensorflow as tf
from published_quantized import ACT, WEIGHT
from quantized_export import CONFIG, FILES, PUBLISHED, Quantized, make, seen, tokens

from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.checkpoints.names import quantizers
from mobilebert_kit.contract import MLPERF
from mobilebert_kit.delegates.tflite_file import Node, Subgraph, read_tflite
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.quantize.recipes import W8_A8, W8_A8_XNNPACK
from mobilebert_kit.quantize.trained_ranges import shared_tensors, trained_ranges
from mobilebert_kit.targets import INT8, NNAPI, Target


def is_used(name: str) -> bool:
    """All but NoNorm's input and product."""
    scope, _, kind = name.rpartition("/")
    inner = scope.endswith(("dense", "/query", "/key", "/value", "/self"))
    return kind == WEIGHT or inner or (scope.endswith("FakeLayerNorm") and kind != f"{ACT}_2")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    """Ranges a little wider than what is seen: nothing is clipped."""
    folder = tmp_path_factory.mktemp("wide")
    return make(folder, seen(1.1), "int8", "nnapi", keep_saved_model=True)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    """Half as wide, wherever the files can follow: clipping moves the logits far from the float model's."""
    ranges = seen(1.1)
    halved = {n: (low / 2, high / 2) if is_used(n) else (low, high) for n, (low, high) in ranges.items()}
    return make(tmp_path_factory.mktemp("narrow"), halved, "int8", "nnapi")


# What belongs to what


def test_every_published_quantizer_has_its_place() -> None:
    ranges = {name: (np.float32(-1), np.float32(1)) for name in quantizers(24, 4)}
    assert len(ranges) == 24 * 66
    trained = trained_ranges(PUBLISHED, small_export.weights(PUBLISHED), ranges)
    at_tensors = [name for tensor in shared_tensors(PUBLISHED) for name in tensor.quantizers]
    kinds = {"kernel": WEIGHT, "beta": ACT, "gamma": f"{ACT}_1"}
    parts = [name.rpartition("/") for name in trained.tensors]
    of_weights = [f"{scope}/{kinds[leaf]}" for scope, _, leaf in parts]
    assert sorted(at_tensors + of_weights) == sorted(filter(is_used, ranges))
    assert (len(at_tensors), len(of_weights)) == (24 * 19, 24 * (15 + 16))
    assert len(trained.kernel_steps) == 24 * 15


@pytest.mark.parametrize("target", [INT8, NNAPI])
def test_a_quantizer_saw_the_tensor_at_its_point(target: Target) -> None:
    """The values, of the published graph in NumPy and of the folded one; sorted, as layouts differ."""
    weights, window = small_export.weights(CONFIG), small_export.arrays()[0]
    quantized: dict[str, np.ndarray] = {}
    observed: dict[str, list[np.ndarray]] = {}

    def see(name: str, value: np.ndarray) -> np.ndarray:
        quantized[name] = value
        return value

    def keep(tensor: tf.Tensor, point: str) -> tf.Tensor:
        observed.setdefault(point, []).append(tensor.numpy())
        return tensor

    published.logits(CONFIG, weights, window, see)
    lowering = {"lowering": target.lowering_class(), "contract": MLPERF, "sequence_length": 96}
    serving_module(CONFIG, weights, observe=keep, **lowering).serve.python_function(
        *map(tf.constant, window.values())
    )
    checked = set()
    for point, values in observed.items():
        whole = point.replace("/head_0", "").replace("/head_1", "")
        for tensor in shared_tensors(CONFIG):
            if whole not in tensor.points or whole.endswith("/clipped_scores"):
                continue
            checked.add(whole)
            for name in tensor.quantizers:
                expected = quantized[name] * tensor.scale
                if point != whole:
                    expected = expected[int(point.partition("/head_")[2][0])]
                np.testing.assert_allclose(np.sort(values[-1].ravel()), np.sort(expected.ravel()), atol=1e-4)
    absent = {point for t in shared_tensors(CONFIG) for point in t.points} - checked
    # NNAPI's heads read the tensor that made them: it has no second name there.
    inputs = ("query/input", "key/input", "value/input") if target is NNAPI else ()
    assert {point for point in absent if not point.endswith((*inputs, "/clipped_scores"))} == set()


def test_quantizers_of_one_tensor_that_differ_are_united() -> None:
    ranges = {name: (np.float32(-1), np.float32(1)) for name in quantizers(2, 3)}
    scope = "bert/encoder/layer_1"
    ranges[f"{scope}/attention/self/key/{ACT}"] = (np.float32(-0.5), np.float32(3))
    ranges[f"{scope}/attention/self/{ACT}"] = (np.float32(-8), np.float32(4))
    trained = trained_ranges(CONFIG, small_export.weights(CONFIG), ranges)
    for point in (
        "bottleneck/attention/FakeLayerNorm",
        "attention/self/query/input",
        "attention/self/key/input",
    ):
        assert trained.at(f"{scope}/{point}") == (-1, 3)
    size = CONFIG.attention_head_size**0.5
    for head in ("", "/head_1"):
        assert trained.at(f"{scope}/attention/self/scores{head}") == pytest.approx((-8 / size, 4 / size))


def test_only_what_a_recipe_quantizes_is_known_to_it() -> None:
    ranges = {name: (np.float32(-1), np.float32(1)) for name in quantizers(2, 3)}
    trained = trained_ranges(CONFIG, small_export.weights(CONFIG), ranges)
    point = "bert/encoder/layer_0/attention/self/head_1/masked_scores"
    assert trained.known_to(W8_A8)(point) == (-1, 1)
    assert trained.known_to(W8_A8_XNNPACK)(point) is None
    additive = replace(CONFIG, mask_semantics="additive", score_clip=None)
    assert trained_ranges(additive, small_export.weights(CONFIG), ranges).known_to(W8_A8)(point) is None
    assert trained_ranges(CONFIG, small_export.weights(CONFIG), {}).known_to(W8_A8)(point) is None


# What is in the files


def integers(quantized: Quantized, name: str) -> np.ndarray:
    """[in, out]: the kernel as training stored it."""
    step = quantized.ranges[name.replace("/kernel", f"/{WEIGHT}")][1] / 127
    return np.floor(quantized.weights[name] / step + 0.5).clip(-127, 127).astype(int)


def folded(quantized: Quantized, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(integers [out, in], scales [out]) that a file must hold for a kernel, with what is folded into it."""
    scope = name.removesuffix("/dense/kernel")
    norm = f"{scope}/FakeLayerNorm"
    factor = np.ones(quantized.weights[name].shape[1])
    if f"{norm}/gamma" in quantized.weights and scope != name:
        factor = published.quantizer(quantized.ranges)(f"{norm}/{ACT}_1", quantized.weights[f"{norm}/gamma"])
    if name.endswith("/query/kernel"):
        factor = factor * CONFIG.attention_head_size**-0.5
    step = quantized.ranges[name.replace("/kernel", f"/{WEIGHT}")][1] / 127
    scales = step * np.where(factor == 0, 1, np.abs(factor))
    return (integers(quantized, name) * np.sign(factor)).astype(int).T, scales


def in_pieces(quantized: Quantized, name: str, target: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """`folded`, by convolution: NNAPI has one a head."""
    values, scales = folded(quantized, name)
    split = target == "nnapi" and name.endswith(("/query/kernel", "/key/kernel", "/value/kernel"))
    count = CONFIG.num_attention_heads if split else 1
    return list(zip(np.split(values, count), np.split(scales, count), strict=True))


def is_on(graph: Subgraph, index: int, low: float, high: float) -> bool:
    """Whether the tensor is int8 with the scale and zero point of that range."""
    scale, zero_point = published.grid(low, high)
    tensor = graph.tensors[index]
    # The range is a float32 attribute in the graph, and the scale a float32 in the file.
    same = tensor.dtype == "int8" and tensor.zero_point == zero_point
    return same and bool(np.isclose(tensor.scale, scale, rtol=1e-6, atol=0))


@pytest.mark.parametrize("target", FILES)
@pytest.mark.parametrize("kind", ["wide", "narrow"])
def test_kernels_are_the_trained_integers_and_inputs_have_the_trained_ranges(
    kind: str, target: str, request: pytest.FixtureRequest
) -> None:
    quantized = request.getfixturevalue(kind)
    graph = read_tflite(quantized.out / FILES[target]).main
    convolutions: dict[bytes, Node] = {}
    for node in graph.nodes:
        if node.op == "CONV_2D":
            values = graph.tensors[node.inputs[1]].data()
            convolutions[values.reshape(values.shape[0], -1).astype(int).tobytes()] = node
    names = [n for n in quantized.weights if n.endswith("/kernel") and n.startswith("bert/encoder/")]
    assert len(names) == 26
    for name in names:
        for values, scales in in_pieces(quantized, name, target):
            node = convolutions.pop(np.ascontiguousarray(values).tobytes(), None)
            assert node is not None, f"no convolution holds the integers of {name}"
            kernel = graph.tensors[node.inputs[1]]
            assert set(kernel.zero_points) == {0}
            np.testing.assert_allclose(kernel.scales, scales, rtol=1e-6)
            assert is_on(graph, node.inputs[0], *quantized.ranges[name.replace("/kernel", f"/{ACT}")]), name
    assert len(convolutions) == 2  # the trigram's and the head's, which training left open


def producer(graph: Subgraph, index: int, op: str) -> Node:
    """What makes the tensor, which must be `op`; moves of its elements aside."""
    (node,) = [node for node in graph.nodes if index in node.outputs]
    if node.op in ("RESHAPE", "TRANSPOSE", "DEQUANTIZE"):
        return producer(graph, node.inputs[0], op)
    assert node.op == op
    return node


def attention_range(quantized: Quantized, layer: int, number: str, scale: float = 1.0) -> tuple[float, float]:
    low, high = quantized.ranges[f"bert/encoder/layer_{layer}/attention/self/{ACT}{number}"]
    return low * scale, high * scale


@pytest.mark.parametrize("kind", ["wide", "narrow"])
def test_attention_of_nnapi_has_the_trained_ranges(kind: str, request: pytest.FixtureRequest) -> None:
    quantized, heads = request.getfixturevalue(kind), CONFIG.num_attention_heads
    graph = read_tflite(quantized.out / FILES["nnapi"]).main
    softmaxes = [node for node in graph.nodes if node.op == "SOFTMAX"]
    assert len(softmaxes) == 2 * heads
    for number, softmax in enumerate(softmaxes):
        layer = number // heads
        minimum = producer(graph, softmax.inputs[0], "MINIMUM")
        maximum = producer(graph, minimum.inputs[0], "MAXIMUM")
        masked = producer(graph, maximum.inputs[0], "ADD")
        for node in (minimum, maximum, masked):
            assert is_on(graph, node.outputs[0], *attention_range(quantized, layer, "_2"))
        kept = producer(graph, masked.inputs[0], "MUL")
        assert is_on(graph, kept.outputs[0], *attention_range(quantized, layer, "_1"))
        scores = producer(graph, kept.inputs[0], "FULLY_CONNECTED")
        scaled = attention_range(quantized, layer, "", CONFIG.attention_head_size**-0.5)
        assert is_on(graph, scores.outputs[0], *scaled)
        (context,) = [node for node in graph.nodes if softmax.outputs[0] in node.inputs]
        assert context.op == "FULLY_CONNECTED"
        assert is_on(graph, context.outputs[0], *attention_range(quantized, layer, "_3"))


@pytest.mark.parametrize("kind", ["wide", "narrow"])
def test_attention_on_the_cpu_has_the_trained_ranges(kind: str, request: pytest.FixtureRequest) -> None:
    """Of those that its recipe leaves in int8: what is between scores and SOFTMAX is float32."""
    quantized = request.getfixturevalue(kind)
    graph = read_tflite(quantized.out / FILES["int8"]).main
    products = [node for node in graph.nodes if node.op == "BATCH_MATMUL"]
    assert len(products) == 4
    scale = CONFIG.attention_head_size**-0.5
    for number, node in enumerate(products):
        kind_of = ("", scale) if number % 2 == 0 else ("_3", 1.0)
        assert is_on(graph, node.outputs[0], *attention_range(quantized, number // 2, *kind_of))


@pytest.mark.parametrize("target", FILES)
def test_the_file_follows_the_fake_quantized_model(wide: Quantized, target: str) -> None:
    """Nothing is clipped, so all that differs is what rounds where.

    Each tensor that either side rounds may come out differently by a step, with a root mean square of
    1/sqrt(12). If all of them reached the logits as they are, independently: sqrt(N / 12) steps.
    """
    expected = wide.logits(published.quantizer(wide.ranges))
    counts = wide.manifest()["targets"][target]["ranges"]
    not_in_the_file = sum(not is_used(name) for name in wide.ranges)
    rounded = counts["trained"] + counts["calibrated"] + not_in_the_file
    step = np.ptp(expected) / 255
    error = np.sqrt(np.mean((wide.file_logits(target) - expected) ** 2))
    assert error < np.sqrt(rounded / 12) * step


@pytest.mark.parametrize("target", FILES)
def test_the_file_follows_the_clipping_too(narrow: Quantized, target: str) -> None:
    """Where training clips, the file is ten times closer to the fake-quantized model than float is."""
    expected = narrow.logits(published.quantizer(narrow.ranges))
    far = np.sqrt(np.mean((narrow.logits(published.not_quantized) - expected) ** 2))
    error = np.sqrt(np.mean((narrow.file_logits(target) - expected) ** 2))
    assert error < far / 10


def test_the_manifest_counts_them(wide: Quantized) -> None:
    """NNAPI's file by point: what each head has of its own counts once a head."""
    manifest = wide.manifest()
    assert manifest["checkpoint"]["quantized_training_ranges"] == list(
        load_checkpoint(wide.folder / "checkpoint").range_variables
    )
    assert len(manifest["checkpoint"]["sha256_of_ranges"]) == 64
    for target, heads in (("int8", 1), ("nnapi", 2)):
        counts = manifest["targets"][target]["ranges"]
        assert counts["fixed"] == CONFIG.num_hidden_layers * heads
        assert counts["trained_kernels"] == 26
    nnapi = {point for tensor in shared_tensors(CONFIG) for point in tensor.points}
    by_head = ("/scores", "/kept_scores", "/masked_scores", "/clipped_scores")
    expected = sum(2 if p.endswith(by_head) else 1 for p in nnapi)
    assert manifest["targets"]["nnapi"]["ranges"]["trained"] == expected
    assert {entry["mask_value"] for entry in manifest["targets"].values()} == {-6.0}


# The SavedModel


def test_saved_model_is_the_quantized_checkpoint_again(wide: Quantized) -> None:
    first, again = load_checkpoint(wide.folder / "checkpoint"), load_checkpoint(wide.out / "saved_model")
    assert (again.digest, again.step, again.unused_names) == (first.digest, 12345, ("global_step",))
    assert again.range_variables.keys() == first.range_variables.keys()
    assert all(np.array_equal(again.range_variables[n], v) for n, v in first.range_variables.items())
    assert tf.train.list_variables(str(wide.out / "saved_model" / "variables" / "variables")) == (
        tf.train.list_variables(str(wide.folder / "checkpoint" / "model.ckpt"))
    )


def test_saved_model_computes_the_published_graph(wide: Quantized) -> None:
    """float32 against float64: 1e-4 of the logits' width, some 1e-3 of a rounding step."""
    serve = tf.saved_model.load(str(wide.out / "saved_model")).signatures["serving_default"]
    outputs = [serve(**{n: tf.constant(v) for n, v in window.items()}) for window in small_export.arrays()]
    names = ("start_logits", "end_logits")
    found = np.stack([[output[name].numpy()[0] for output in outputs] for name in names])[:, tokens()]
    expected = wide.logits(published.quantizer(wide.ranges))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.ptp(expected))


def test_saved_model_gives_the_same_files(wide: Quantized, tmp_path: Path) -> None:
    from mobilebert_kit.build import export

    changes = {"checkpoint": wide.out / "saved_model", "output_dir": tmp_path / "out"}
    export(small_export.request(wide.folder, "int8", **changes))
    assert (tmp_path / "out" / FILES["int8"]).read_bytes() == (wide.out / FILES["int8"]).read_bytes()
