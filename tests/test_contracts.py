"""Contracts: what the files of an export call their tensors, and models whose family has no segments."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Stub

import numpy as np
import pytest
import small_export as small
import tensorflow as tf
from checkpoint_files import write_tensorflow
from conftest import REPOSITORY
from tiny_question_model import VOCAB, write_vocab

from mobilebert_kit.build import export
from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.comparison.models import open_model
from mobilebert_kit.contract import CONTRACTS, MLPERF, OPENVINO, TASK_LIBRARY, Contract
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.errors import InputError
from mobilebert_kit.lowering.cpu import CpuLowering
from mobilebert_kit.models.bert_config import BertConfig
from mobilebert_kit.models.serving import serving_module
from mobilebert_kit.runtime.interpreter import load
from mobilebert_kit.runtime.scoring import run_windows
from mobilebert_kit.runtime.segments import require_segments

WINDOWS = small.windows()
DISTILBERT = BertConfig(
    model_type="distilbert",
    vocab_size=len(VOCAB),
    embedding_size=24,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=20,
    max_position_embeddings=128,
    type_vocab_size=0,
    output_size=24,
)
# Written out once more, from the sources that contract.py names: inputs, outputs, in order.
EXPECTED = {
    "mlperf": (["input_ids", "input_mask", "segment_ids"], ["end_logits", "start_logits"]),
    "openvino": (["input_ids", "attention_mask", "token_type_ids"], ["output_s", "output_e"]),
    "task_library": (["ids", "mask", "segment_ids"], ["end_logits", "start_logits"]),
}


def evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_module("evaluate", *arguments)


def run_module(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"mobilebert_kit.{name}", *map(str, arguments)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def logits(file: Path) -> np.ndarray:
    return np.stack(run_windows(file, WINDOWS, progress=False))


@pytest.fixture(scope="module")
def renamed(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model of `exported` by other contracts: contract's name -> export."""
    folder = tmp_path_factory.mktemp("contracts")
    wanted = {"openvino": ("float", "int8", "nnapi"), "task_library": ("fp16",)}
    for name, targets in wanted.items():
        request = small.request(
            exported, *targets,
            contract=CONTRACTS[name], output_dir=folder / name, keep_saved_model=True,
        )  # fmt: skip
        export(request)
    return {name: folder / name for name in wanted}


def test_contracts_are_what_the_apps_expect() -> None:
    assert {
        name: (list(contract.input_names), list(contract.output_names))
        for name, contract in CONTRACTS.items()
    } == EXPECTED


@pytest.mark.parametrize(
    ("contract", "name"),
    [
        ("openvino", "mobilebert_float_96.tflite"),
        ("openvino", "mobilebert_int8_96.tflite"),
        ("openvino", "mobilebert_int8_96_nnapi.tflite"),
        ("task_library", "mobilebert_fp16_96.tflite"),
    ],
)
def test_a_file_has_the_names_by_position_and_computes_the_same(
    exported: Path, renamed: dict[str, Path], contract: str, name: str
) -> None:
    """Bit for bit the logits of the mlperf file: ranges and mask were measured on the same model."""
    model = read_tflite(renamed[contract] / name)
    (signature,) = model.signatures
    for by_name, by_position, names in (
        (signature.inputs, model.main.inputs, EXPECTED[contract][0]),
        (signature.outputs, model.main.outputs, EXPECTED[contract][1]),
    ):
        assert set(by_name) == set(names)
        assert [by_name[one] for one in names] == list(by_position)
    np.testing.assert_array_equal(logits(renamed[contract] / name), logits(exported / "all" / name))


def test_output_0_of_openvino_is_the_start(renamed: dict[str, Path]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    path = renamed["openvino"] / "mobilebert_float_96.tflite"
    runtime = Interpreter(str(path))
    runtime.allocate_tensors()
    window = {name: value[0] for name, value in small.arrays()[0].items()}
    for detail, name in zip(runtime.get_input_details(), small.arrays()[0], strict=True):
        runtime.set_tensor(detail["index"], window[name][None])
    runtime.invoke()
    start, end = (runtime.get_tensor(detail["index"]) for detail in runtime.get_output_details())
    expected = load(path).run(**window)
    np.testing.assert_array_equal(start, expected["start_logits"])
    np.testing.assert_array_equal(end, expected["end_logits"])
    assert not np.array_equal(start, end)


@pytest.mark.parametrize("name", ["openvino", "task_library"])
def test_the_saved_model_and_the_manifest_say_so(renamed: dict[str, Path], name: str) -> None:
    inputs, outputs = EXPECTED[name]
    told = json.loads((renamed[name] / "manifest.json").read_text(encoding="utf-8"))["contract"]
    assert told["name"] == name
    assert [tensor["name"] for tensor in told["inputs"]] == inputs
    assert [tensor["name"] for tensor in told["outputs"]] == outputs
    loaded = tf.saved_model.load(str(renamed[name] / "saved_model")).signatures["serving_default"]
    assert set(loaded.structured_input_signature[1]) == set(inputs)
    assert set(loaded.structured_outputs) == set(outputs)
    # And `compare` reads it: 1e-5 is float rounding in another framework's order.
    start, end = open_model(renamed[name] / "saved_model").logits(WINDOWS)
    file = next(renamed["openvino"].glob("*float*.tflite"))
    np.testing.assert_allclose(np.stack([start, end]), logits(file), atol=1e-5)


def test_a_renamed_saved_model_is_the_same_checkpoint(exported: Path, renamed: dict[str, Path]) -> None:
    again = load_checkpoint(renamed["openvino"] / "saved_model")
    assert again.digest == load_checkpoint(exported / "checkpoint").digest


@pytest.mark.parametrize(
    ("name", "file", "target"),
    [
        ("openvino", "mobilebert_int8_96_nnapi.tflite", "nnapi"),
        ("task_library", "mobilebert_fp16_96.tflite", "fp16"),
    ],
)
def test_evaluate_scores_it_as_the_export_did(
    exported: Path, renamed: dict[str, Path], name: str, file: str, target: str
) -> None:
    done = evaluate("--model", renamed[name] / file, "--dataset", exported / "questions.json", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads((renamed[name] / "manifest.json").read_text(encoding="utf-8"))["targets"][target]
    assert json.loads(done.stdout)["f1"] == pytest.approx(told["f1"], abs=1e-3)
    assert told["f1"] > 0


def test_an_unknown_contract_lists_the_known_ones() -> None:
    done = run_module("export", "--target", "float", "--contract", "onnx")
    assert done.returncode == 2
    assert "mlperf" in done.stderr and "openvino" in done.stderr and "task_library" in done.stderr


# Models without segments


def weights(config: BertConfig) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {name: rng.normal(0, 0.3, shape) for name, shape in config.variable_shapes().items()}
    return {
        name: (value + name.endswith("/gamma")).astype(np.float32) for name, value in made.items()
    }  # gammas around 1


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small DistilBERT, questions, and `out`: its float file and SavedModel."""
    folder = tmp_path_factory.mktemp("distilbert")
    write_tensorflow(folder / "checkpoint" / "model.ckpt", weights(DISTILBERT))
    (folder / "checkpoint" / "config.json").write_text(json.dumps(DISTILBERT.to_dict()))
    write_vocab(folder / "checkpoint")
    small.write_squad(folder / "questions.json")
    export(small.request(folder, "float", contract=OPENVINO, keep_saved_model=True))
    return folder


@pytest.fixture(scope="module")
def distilbert_file(distilbert: Path) -> Path:
    return distilbert / "out" / "distilbert_float_96.tflite"


def test_a_distilbert_takes_two_inputs(distilbert: Path, distilbert_file: Path) -> None:
    model = read_tflite(distilbert_file)
    (signature,) = model.signatures
    names = ["input_ids", "attention_mask"]
    assert [signature.inputs[name] for name in names] == list(model.main.inputs)
    saved = open_model(distilbert / "out" / "saved_model")
    assert saved.inputs == load(distilbert_file).inputs == dict(zip(MLPERF.input_names, names, strict=False))
    require_segments([saved, open_model(distilbert_file)])
    np.testing.assert_allclose(np.stack(saved.logits(WINDOWS)), logits(distilbert_file), atol=1e-5)
    told = json.loads((distilbert / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert [tensor["name"] for tensor in told["contract"]["inputs"]] == names


def test_evaluate_runs_it_where_its_manifest_says_that_it_has_no_segments(
    distilbert: Path, distilbert_file: Path, tmp_path: Path
) -> None:
    more = ("--dataset", distilbert / "questions.json", "--vocab", distilbert / "out" / "vocab.txt", "--json")
    done = evaluate("--model", distilbert_file, *more)
    assert done.returncode == 0, done.stderr
    told = json.loads((distilbert / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert json.loads(done.stdout)["f1"] == pytest.approx(told["evaluation"]["float"]["f1"], abs=1e-3)
    alone = tmp_path / distilbert_file.name
    alone.write_bytes(distilbert_file.read_bytes())
    done = evaluate("--model", alone, *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert "segment_ids would be left out" in done.stderr and "config.json" in done.stderr


def test_segments_are_not_fed_to_a_model_without(distilbert_file: Path) -> None:
    window = {name: value[0] for name, value in small.arrays()[0].items()}
    with pytest.raises(ValueError, match="Expected input_ids, input_mask, got input_ids, input_mask, segm"):
        load(distilbert_file).run(**window)


@pytest.mark.parametrize(
    ("beside", "takes", "message"),
    [
        ({}, False, "would be left out"),
        ({}, True, None),
        ({"config.json": {"model_type": "distilbert"}}, False, None),
        (
            {"config.json": {"model_type": "distilbert"}},
            True,
            "for a distilbert has none, got token_type_ids",
        ),
        ({"config.json": {"model_type": "bert"}}, False, "would be left out"),
        ({"config.json": {"model_type": ["distilbert"]}}, False, "would be left out"),
        ({"manifest.json": {"checkpoint": {"config": {"model_type": "distilbert"}}}}, False, None),
        ({"manifest.json": {"checkpoint": {"config": {"vocab_size": 5}}}}, False, "would be left out"),
        ({"manifest.json": {"name": "a web app's"}}, False, "would be left out"),
        ({"manifest.json": {"checkpoint": "model.ckpt"}}, True, None),
        (  # the configuration is the checkpoint's own
            {
                "config.json": {"model_type": "bert"},
                "manifest.json": {"checkpoint": {"config": {"model_type": "distilbert"}}},
            },
            False,
            "would be left out",
        ),
    ],
)
def test_what_lies_beside_a_file_decides(
    tmp_path: Path, beside: dict[str, dict], takes: bool, message: str | None
) -> None:
    for name, content in beside.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "m.tflite").touch()
    inputs = {"input_ids": "ids", "input_mask": "mask"} | ({"segment_ids": "token_type_ids"} if takes else {})
    model = Stub(path=tmp_path / "m.tflite", inputs=inputs)
    if message is None:
        require_segments([model])
    else:
        with pytest.raises(InputError, match=message):
            require_segments([model])


@pytest.mark.parametrize(
    ("config", "contract", "message"),
    [
        (DISTILBERT, MLPERF, "contract mlperf has them, a distilbert has none"),
        (small.CONFIG, TASK_LIBRARY.for_model(has_segments=False), "mobilebert has them, the contract task_"),
    ],
)
def test_contract_and_model_must_agree_on_segments(
    config: BertConfig, contract: Contract, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        serving_module(config, {}, lowering=CpuLowering, contract=contract, sequence_length=96)


def test_a_contract_for_a_model_with_segments_is_the_contract() -> None:
    for contract in CONTRACTS.values():
        assert contract.for_model(has_segments=True) == contract
        without = contract.for_model(has_segments=False)
        assert without == replace(contract, inputs=contract.inputs[:2])
        assert contract.has_segments and not without.has_segments
