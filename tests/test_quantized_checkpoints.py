"""Quantized checkpoints out of the ordinary, damaged ones, and all 4,282 names, through export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import published_quantized as published
import pytest
import small_export
from published_quantized import ACT, WEIGHT
from quantized_export import CONFIG, FILES, PUBLISHED, make, seen, write

from mobilebert_kit.checkpoints import prove_ranges
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.errors import InputError


def test_per_channel_ranges_of_kernels(tmp_path: Path) -> None:
    """One range an output: the file holds the integers of each output's own grid."""
    weights, ranges = small_export.weights(CONFIG), seen(1.1)
    variables = published.variables(weights, ranges)
    steps = {}
    for name in ranges:
        if name.endswith(WEIGHT):
            kernel = name.replace(WEIGHT, "kernel")
            high = 1.17 * np.abs(weights[kernel]).max(axis=0)
            variables[f"{name}/min"], variables[f"{name}/max"] = -high, high
            steps[kernel] = high / 127
    write(tmp_path, variables)
    from mobilebert_kit.build import export

    export(small_export.request(tmp_path, "nnapi"))
    graph = read_tflite(tmp_path / "out" / FILES["nnapi"]).main
    held = [graph.tensors[node.inputs[1]] for node in graph.nodes if node.op == "CONV_2D"]
    for kernel, step in steps.items():
        if "/intermediate/" not in kernel:  # the others have gamma, or a head, in them
            continue
        expected = np.floor(weights[kernel] / step + 0.5).T
        found = [t for t in held if np.array_equal(t.data().reshape(t.shape[0], -1), expected)]
        assert len(found) == 1
        np.testing.assert_allclose(found[0].scales, step, rtol=1e-6)


def test_outputs_that_gamma_turns_off_or_round(tmp_path: Path) -> None:
    """gamma is as coarse as its trained grid: what rounds to zero gives beta, in the file as in training."""
    ranges = seen(1.1)
    for name, (low, high) in ranges.items():
        if name.endswith(f"FakeLayerNorm/{ACT}_1"):
            ranges[name] = (32 * low, 32 * high)
    quantized = make(tmp_path, ranges, "int8", "nnapi")
    quantize = published.quantizer(ranges)
    gammas = [n for n in quantized.weights if n.endswith("/gamma") and n.startswith("bert/encoder/")]
    rounded = [quantize(f"{n.removesuffix('/gamma')}/{ACT}_1", quantized.weights[n]) for n in gammas]
    assert sum((gamma == 0).sum() for gamma in rounded) > 10
    expected = quantized.logits(quantize)
    far = np.sqrt(np.mean((quantized.logits(published.not_quantized) - expected) ** 2))
    for target in FILES:
        error = np.sqrt(np.mean((quantized.file_logits(target) - expected) ** 2))
        assert error < max(4 * np.ptp(expected) / 255, far / 10)


BAD = {
    "NaN": (lambda low, high: (low, np.float32("nan")), "1 not finite"),
    "without zero": (lambda low, high: (np.float32(0.5), high), "1 without zero"),
    "turned": (lambda low, high: (high, low), "1 without zero"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_range(case: str, tmp_path: Path) -> None:
    from mobilebert_kit.build import export

    change, message = BAD[case]
    ranges = seen(1.1)
    name = f"bert/encoder/layer_0/attention/self/{ACT}_2"
    ranges[name] = change(*ranges[name])
    write(tmp_path, published.variables(small_export.weights(CONFIG), ranges))
    with pytest.raises(InputError, match=rf"{message}:\s+{name}"):
        export(small_export.request(tmp_path, "nnapi"))
    assert not (tmp_path / "out").exists()


def test_kernels_need_symmetric_ranges() -> None:
    name = f"bert/encoder/layer_0/intermediate/dense/{WEIGHT}"
    prove_ranges({name: (np.float32([-1, -2]), np.float32([1, 2]))})
    with pytest.raises(InputError, match=rf"1 of kernels, not symmetric:\s+{name}: -2 to 3"):
        prove_ranges({name: (np.float32([-1, -2]), np.float32([1, 3]))})


def test_all_published_names_go_to_nnapi(tmp_path: Path, shared: Path) -> None:
    """4,282 names, as in the published index; the layers are small."""
    from mobilebert_kit.build import export

    weights = small_export.weights(PUBLISHED)
    ranges = published.seen_ranges(PUBLISHED, weights, small_export.arrays()[:1], 1.1)
    variables = published.variables(weights, ranges)
    index = (shared / "data/mlcommons_checkpoint_index/quant/variables.txt").read_text().splitlines()
    assert len(variables) == 4282
    assert set(variables) == {line.split("\t")[0] for line in index}
    write(tmp_path, variables, PUBLISHED)
    export(small_export.request(tmp_path, "nnapi", calibration_questions=1, eval_questions=1))
    entry = json.loads((tmp_path / "out" / "manifest.json").read_text())["targets"]["nnapi"]
    assert entry["delegated_nodes"] == entry["nodes"]
    assert (entry["partitions"], entry["ranges"]["trained_kernels"]) == (1, 24 * 15)
