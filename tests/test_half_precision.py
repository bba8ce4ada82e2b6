"""What float16 does to a model, told before a GPU shows it: headroom and a simulation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import small_export
import tensorflow as tf
from export_command import manifest_of

from mobilebert_kit import build
from mobilebert_kit.build import export
from mobilebert_kit.contract import MLPERF
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.lowering.cpu import Observe, unobserved
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.quantize.calibration import calibrate
from mobilebert_kit.quantize.conversion import convert
from mobilebert_kit.quantize.half_precision import headroom, round_to_half
from mobilebert_kit.quantize.recipes import W16_A32
from mobilebert_kit.runtime.scoring import run_windows
from mobilebert_kit.targets import GPU, GPU_FP16, TARGETS

CONFIG = small_export.CONFIG
Tensors = dict[str, np.ndarray]


def gpu_module(tensors: Tensors, observe: Observe) -> tf.Module:
    return serving_module(
        CONFIG,
        tensors,
        lowering=GPU.lowering_class(),
        contract=MLPERF,
        sequence_length=small_export.LENGTH,
        observe=observe,
    )


# The simulation


def half(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16).astype(np.float32)


def same(x: np.ndarray) -> np.ndarray:
    return x


def no_matrices(seed: int) -> Tensors:
    """Every matrix and bias is zero but the embeddings' and the head's: only gammas and betas are left. None
    of them is a float16."""
    rng = np.random.default_rng(seed)
    tensors = {
        name: np.zeros(tensor.shape, np.float32)
        if name.endswith(("/kernel", "/bias"))
        else rng.uniform(-2, 2, tensor.shape).astype(np.float32)
        for name, tensor in small_export.weights().items()
    }
    # Or the converter would merge queries and keys, and GPUs refuse the product of a tensor with itself.
    tensors |= {name: tensor + 1 for name, tensor in tensors.items() if name.endswith("query/bias")}
    # One channel is read: no sum whose order is the kernel's affair.
    tensors["cls/squad/output_weights"][:, 1:] = 0
    return tensors


def logits_without_matrices(
    tensors: Tensors, segment_ids: np.ndarray, rounded: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """[2, S] (start, end): a sum and a gamma at a time, each result `rounded`, and the weights."""
    w = {name: rounded(tensor) for name, tensor in tensors.items()}
    scope = "bert/embeddings"
    x = rounded(
        w[f"{scope}/token_type_embeddings"][segment_ids]
        + w[f"{scope}/position_embeddings"][: len(segment_ids)]
    )
    norms = [f"bert/encoder/layer_{i}/output/bottleneck/FakeLayerNorm" for i in range(2)]
    for norm in (f"{scope}/FakeLayerNorm", *norms):
        x = rounded(rounded(x * w[f"{norm}/gamma"]) + w[f"{norm}/beta"])
    y = x[:, :1] * w["cls/squad/output_weights"][:, 0] + w["cls/squad/output_bias"]
    return rounded(y).T


def test_simulation_rounds_weights_and_activations(tmp_path: Path) -> None:
    """To the bit what numpy computes of a model that is sums and gammas; and the manifest's difference."""
    tensors = no_matrices(3)
    small_export.write_checkpoint(tmp_path / "checkpoint", tensors)
    small_export.write_squad(tmp_path / "questions.json")
    export(small_export.request(tmp_path, "gpu", "gpu_fp16"))
    arrays = small_export.arrays()
    segments = [window["segment_ids"][0] for window in arrays]
    expected = np.stack([logits_without_matrices(tensors, s, half) for s in segments])
    exact = np.stack([logits_without_matrices(tensors, s, same) for s in segments])
    module = gpu_module(tensors, round_to_half())
    path = tmp_path / "simulated.tflite"
    path.write_bytes(convert(module, W16_A32))
    logits = np.stack(run_windows(path, small_export.windows(), progress=False), axis=1)
    np.testing.assert_array_equal(logits, expected)
    assert np.abs(expected - exact).max() > 1e-3
    for entry in manifest_of(tmp_path / "out")["targets"].values():
        told = entry["simulated_fp16"]["logit_difference"]
        assert told == pytest.approx(np.abs(expected - exact).max(), rel=6e-4)  # four digits, float sums


def test_every_computed_tensor_is_rounded(tmp_path: Path) -> None:
    """In the simulated file, what an op computes is read by CAST only; but the mask before its addition."""
    path = tmp_path / "simulated.tflite"
    path.write_bytes(convert(gpu_module(small_export.weights(), round_to_half()), W16_A32))
    graph = read_tflite(path).main
    readers: dict[int, list[str]] = {index: [] for index in graph.outputs}
    for node in graph.nodes:
        for index in node.inputs:
            readers.setdefault(index, []).append(node.op)
    moves = {"CAST", "DEQUANTIZE", "RESHAPE", "TRANSPOSE", "SLICE"}
    computed = [node for node in graph.nodes if node.op not in moves]
    assert {"ADD", "BATCH_MATMUL", "CONV_2D", "GATHER", "MUL", "SOFTMAX"} == {node.op for node in computed}
    others = [
        (node.op, *readers[index])
        for node in computed
        for index in node.outputs
        if set(readers[index]) != {"CAST"}
    ]
    assert others == [("MUL", "ADD")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.1, 0.0999755859375), (2049, 2048), (65519, 65504), (65520, np.inf), (-1e6, -np.inf), (6e-8, 2**-24)],
)
def test_rounding_of_one_number(value: float, expected: float) -> None:
    """IEEE 754: to even between two, infinite from halfway beyond the largest, subnormals kept."""
    got = round_to_half()(tf.constant([value], tf.float32), "point")
    np.testing.assert_array_equal(got.numpy(), np.float32([expected]))


def test_a_tensor_observed_twice_is_rounded_once() -> None:
    observe = round_to_half()
    once = observe(tf.constant([0.1]), "norm")
    assert observe(once, "dense/input") is once


def test_files_are_not_touched_by_the_simulation(exported: Path) -> None:
    for target in (GPU, GPU_FP16):
        file = exported / "all" / target.file_for(small_export.LENGTH)
        made = convert(gpu_module(small_export.weights(), unobserved), target.recipe)
        assert file.read_bytes() == made, target.name
    assert not list((exported / "all").glob("*simulated*"))


# The table


def first_layer(tensors: Tensors, window: dict[str, np.ndarray]) -> Tensors:
    """Point -> values, in float64, by the published formulas: up to the first attention's context."""
    w = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    ids, mask, segments = (window[name][0] for name in ("input_ids", "input_mask", "segment_ids"))
    e, a = "bert/embeddings", "bert/encoder/layer_0/attention/self"
    out = {f"{e}/word_embeddings": (word := w[f"{e}/word_embeddings"][ids])}
    zero = np.zeros_like(word[:1])
    trigram = np.concatenate([np.r_[word[1:], zero], word, np.r_[zero, word[:-1]]], axis=1)

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x * w[f"{name}/FakeLayerNorm/gamma"] + w[f"{name}/FakeLayerNorm/beta"]

    place = w[f"{e}/token_type_embeddings"][segments] + w[f"{e}/position_embeddings"][: len(ids)]
    out[f"{e}/position_embeddings"] = place
    x = norm(dense(trigram, f"{e}/embedding_transformation") + place, e)
    out[f"{e}/FakeLayerNorm"] = x
    b = "bert/encoder/layer_0/bottleneck/attention"
    shared = out[f"{b}/FakeLayerNorm"] = norm(dense(x, f"{b}/dense"), b)
    size = CONFIG.attention_head_size

    def heads(x: np.ndarray, name: str) -> np.ndarray:
        return dense(x, f"{a}/{name}").reshape(len(ids), -1, size).swapaxes(0, 1)

    query, key, value = heads(shared, "query"), heads(shared, "key"), heads(x, "value")
    scores = query @ key.swapaxes(1, 2) / np.sqrt(size)
    masked = scores + (1.0 - mask) * -10000
    probabilities = np.exp(masked - masked.max(axis=-1, keepdims=True))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    out |= {f"{a}/key": key, f"{a}/value": value, f"{a}/scores": scores, f"{a}/masked_scores": masked}
    out |= {f"{a}/probabilities": probabilities, f"{a}/context": probabilities @ value}
    return out


def test_table_holds_the_largest_magnitudes(exported: Path) -> None:
    table = manifest_of(exported / "all")["targets"]["gpu"]["fp16_headroom"]
    expected: dict[str, float] = {"mask/fill": 10_000.0, "mask/keep": 1.0}
    for window in small_export.arrays():
        for point, values in first_layer(small_export.weights(), window).items():
            expected[point] = max(expected.get(point, 0.0), np.abs(values).max())
    assert len(expected) == 12
    for point, size in expected.items():
        assert table["tensors"][point] == pytest.approx(size, rel=6e-4), point  # four digits
    sizes = list(table["tensors"].values())
    assert sizes == sorted(sizes, reverse=True)
    mask = ("mask/fill", "/masked_scores")  # a constant: it leads the table, and says nothing of the model
    assert next(iter(table["tensors"])).endswith(mask)
    unmasked = [item for item in table["tensors"].items() if not item[0].endswith(mask)]
    assert (table["tensor"], table["largest"]) == unmasked[0]
    assert table["headroom"] == pytest.approx(65504 / table["largest"], rel=6e-4)


def test_what_the_table_leaves_out_is_in_it_under_another_name() -> None:
    """A layer's input is an earlier output, to the bit."""
    ranges = calibrate(partial(gpu_module, small_export.weights()), small_export.arrays()[:2])
    table = headroom(ranges).magnitudes
    left_out = ranges.keys() - table.keys()
    assert left_out == {point for point in ranges if point.endswith("/input")}
    assert len(left_out) > 20
    assert {ranges[point] for point in left_out} <= {ranges[point] for point in table}


def test_headroom_of_ranges() -> None:
    room = headroom({"a": (0.0, 1.0), "b": (-70_000.0, 2.0), "c/input": (0.0, 1e6), "d": (-1.0, 80_000.0)})
    assert (room.tensor, room.largest, room.factor, room.overflow) == ("d", 80_000.0, 65504 / 80_000, "b")
    room = headroom({"a": (0.0, 65504.0)})
    assert (room.overflow, room.factor) == (None, 1.0)
    assert headroom({"a": (0.0, 0.0)}).factor == float("inf")


# The manifest


def test_manifest_tells_of_float16_where_a_gpu_runs_the_target(exported: Path) -> None:
    targets = manifest_of(exported / "all")["targets"]
    for name, entry in targets.items():
        assert ("simulated_fp16" in entry, "fp16_headroom" in entry) == (TARGETS[name].half_precision,) * 2
    assert {name for name in targets if TARGETS[name].half_precision} == {"gpu", "gpu_fp16"}
    told = targets["gpu"]["simulated_fp16"]
    assert told.keys() == {
        "exact_match", "f1", "f1_drop", "logit_difference", "overflow", "windows_lost"
    }  # fmt: skip
    assert (told["overflow"], told["windows_lost"]) == (None, 0)
    assert told["f1_drop"] == pytest.approx(100 - told["f1"], abs=1e-3)
    assert 0 < told["logit_difference"] < 0.1
    assert targets["gpu_fp16"]["simulated_fp16"] == told


def test_a_gpu_target_alone_is_calibrated_and_every_step_counted(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals, steps, counted = [], [], []
    enter, after, counter = build.Steps.__enter__, build.Steps.next, build.Steps.counter

    def entered(self):
        totals.append(self._total)
        return enter(self)

    def stepped(self, step):
        steps.append(step)
        after(self, step)

    def counting(self, total, unit):
        counted.append([0, total])
        mine, count = counted[-1], counter(self, total, unit)

        def done():
            mine[0] += 1
            count()

        return done

    monkeypatch.setattr(build.Steps, "__enter__", entered)
    monkeypatch.setattr(build.Steps, "next", stepped)
    monkeypatch.setattr(build.Steps, "counter", counting)
    export(small_export.request(exported, "gpu", "gpu_fp16", output_dir=tmp_path / "out"))
    assert totals == [len(steps)], steps
    assert counted == [[9, 9]] * 4  # F1 of float, gpu, its simulation, gpu_fp16
    assert manifest_of(tmp_path / "out")["calibration"]["questions"] == 9
