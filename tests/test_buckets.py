"""One file of several lengths: the same numbers as a file of each length, and each window by the shortest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import small_export

from mobilebert_kit.build import export
from mobilebert_kit.delegates.model_card import model_card
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.errors import InputError
from mobilebert_kit.quantize.buckets import merge_buckets
from mobilebert_kit.runtime.interpreter import LOWEST, Interpreter
from mobilebert_kit.runtime.scoring import run_windows

BUCKETS = (16, 32, 48, small_export.LENGTH)
TARGETS = ("float", "fp16", "int8")
KEYS = ("serving_default", *(f"serving_default_{length}" for length in BUCKETS[:-1]))


@pytest.fixture(scope="module")
def bucketed(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all BUCKETS for the checkpoint of `exported`."""
    folder = tmp_path_factory.mktemp("bucketed") / "out"
    export(small_export.request(exported, *TARGETS, output_dir=folder, buckets=BUCKETS))
    return folder


def file_of(folder: Path, target: str, lengths: str = "16_32_48_96") -> Path:
    return folder / f"mobilebert_{target}_{lengths}.tflite"


def signatures(file: Path) -> Iterator[tuple[str, object]]:
    from ai_edge_litert.interpreter import Interpreter as Runtime

    runtime = Runtime(model_path=str(file))
    for key in runtime.get_signature_list():
        yield key, runtime.get_signature_runner(key)


@pytest.mark.parametrize("target", TARGETS)
def test_a_signature_for_each_length_and_the_longest_is_the_main_graph(bucketed: Path, target: str) -> None:
    model = read_tflite(file_of(bucketed, target))
    assert {
        s.key: model.subgraphs[s.subgraph].tensors[s.inputs["input_ids"]].shape[1] for s in model.signatures
    } == dict(zip(KEYS, (BUCKETS[-1], *BUCKETS[:-1]), strict=True))
    [main] = [signature for signature in model.signatures if signature.subgraph == 0]
    assert main.key == "serving_default"
    graph = model.subgraphs[0]
    assert [graph.tensors[index].shape for index in graph.inputs] == [(1, BUCKETS[-1])] * 3
    # By position, as the MLPerf app reads them: end_logits first.
    assert graph.outputs == (main.outputs["end_logits"], main.outputs["start_logits"])


@pytest.mark.parametrize("target", TARGETS)
def test_the_longest_computes_what_the_file_of_one_length_does(
    exported: Path, bucketed: Path, target: str
) -> None:
    inputs = small_export.arrays()[0]
    logits = []
    for file in (file_of(bucketed, target), file_of(exported / "all", target, str(BUCKETS[-1]))):
        runner = dict(signatures(file))["serving_default"]
        logits.append(runner(**inputs))
    for name in ("start_logits", "end_logits"):
        np.testing.assert_array_equal(logits[0][name], logits[1][name])


@pytest.mark.parametrize("target", TARGETS)
def test_every_length_gives_the_logits_of_the_longest(bucketed: Path, target: str) -> None:
    """Padding is masked by -10000, whose exp is 0: only the order of sums differs, and by that an int8 value
    at the edge between two steps may fall to the other."""
    runners = dict(signatures(file_of(bucketed, target)))
    inputs = small_export.arrays()[0]
    tokens = int(inputs["input_mask"].sum())
    assert tokens < 48
    whole = runners["serving_default"](**inputs)
    cut = runners["serving_default_48"](**{name: array[:, :48] for name, array in inputs.items()})
    for name, logits in whole.items():
        spread = np.ptp(logits)
        assert np.abs(cut[name] - logits[:, :48])[:, :tokens].max() <= spread * (
            2 / 255 if target == "int8" else 1e-5
        )


def test_a_window_is_run_by_the_shortest_graph_that_holds_it(bucketed: Path) -> None:
    model = Interpreter(file_of(bucketed, "float"))
    assert model.sequence_length == BUCKETS[-1]
    inputs = {name: array[0].copy() for name, array in small_export.arrays()[0].items()}
    for tokens, length in ((1, 16), (15, 16), (16, 32), (32, 48), (48, 96), (96, 96)):
        inputs["input_mask"][:] = np.arange(BUCKETS[-1]) < tokens
        for logits in model.run(**inputs).values():
            assert logits.shape == (1, BUCKETS[-1])
            np.testing.assert_array_equal(logits[0] == LOWEST, np.arange(BUCKETS[-1]) >= length)


@pytest.mark.parametrize("target", TARGETS)
def test_the_answers_are_those_of_one_length(exported: Path, bucketed: Path, target: str) -> None:
    windows = small_export.windows()
    one = run_windows(file_of(exported / "all", target, str(BUCKETS[-1])), windows)
    several = run_windows(file_of(bucketed, target), windows)
    for logits, other in zip(one, several, strict=True):
        for row, window in enumerate(windows):
            tokens = int(window.input_mask.sum())
            steps = np.ptp(logits[row]) * (2 / 255 if target == "int8" else 1e-5)
            assert np.abs(logits - other)[row, :tokens].max() <= steps


def test_the_weights_are_there_once(exported: Path, bucketed: Path) -> None:
    """All kernels, that is; the position tables differ in length, and the nodes are each graph's own."""
    model = read_tflite(file_of(bucketed, "float"))
    kernels = [
        {bytes(graph.tensors[node.inputs[1]].buffer) for node in graph.nodes if node.op == "CONV_2D"}
        for graph in model.subgraphs
    ]
    content = model.path.read_bytes()
    assert len(kernels[0]) > 20
    assert kernels.count(kernels[0]) == len(BUCKETS)
    assert {content.count(kernel) for kernel in kernels[0] if len(kernel) > 256} == {1}
    card = model_card(model)
    other = model_card(read_tflite(file_of(exported / "all", "float", str(BUCKETS[-1]))))
    assert (card.parameters, card.gops) == (other.parameters, other.gops)


def test_merging_twice_gives_the_same_bytes(exported: Path) -> None:
    single = file_of(exported / "all", "int8", str(BUCKETS[-1])).read_bytes()
    models = {96: single, 48: single}
    assert merge_buckets(models) == merge_buckets(dict(reversed(models.items())))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"buckets": (48, 32, 96)}, "ascend"),
        ({"buckets": (32, 32, 96)}, "ascend"),
        ({"buckets": (0, 96)}, "ascend"),
        ({"buckets": (32, 48)}, "end with --max_seq_length, 96"),
        ({"buckets": (96, 256), "sequence_length": 256}, "to 128"),
    ],
)
def test_lengths_that_make_no_file(exported: Path, tmp_path: Path, changes: dict, message: str) -> None:
    request = small_export.request(exported, "float", output_dir=tmp_path / "out", **changes)
    with pytest.raises(InputError, match=message):
        export(request)
    assert not list(tmp_path.iterdir())


def test_the_command_takes_whole_numbers_only(tmp_path: Path) -> None:
    arguments = ["--target", "float", "--buckets", "64,x,384", "--output_dir", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "mobilebert_kit.export", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Expected --buckets of whole numbers like 64,128,256,384, got 64,x,384." in done.stderr
