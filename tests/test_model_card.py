"""Parameters, operations and bytes of a .tflite from its graph, as `check` and the manifest tell them."""

from __future__ import annotations

import json
import subprocess
import sys
from math import prod
from pathlib import Path

import one_op_model as make
import pytest
from conftest import REPOSITORY
from one_op_model import (
    BIAS,
    CONV,
    F32,
    IMAGE,
    KERNEL,
    MAP,
    Graph,
    Op,
    Operand,
    constant,
    one_op,
    options,
    with_,
)
from small_export import CONFIG, LENGTH

from mobilebert_kit.delegates.model_card import model_card
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.models.bert_config import BertConfig
from mobilebert_kit.models.config import SIZES, MobileBertConfig
from mobilebert_kit.targets import TARGETS

# bert-small-uncased-whole-word-masking-squad-0001 of the OpenVINO zoo.
ZOO_SMALL_BERT = BertConfig(
    model_type="bert",
    vocab_size=30522,
    embedding_size=1024,
    hidden_size=512,
    num_hidden_layers=12,
    num_attention_heads=8,
    intermediate_size=1024,
    max_position_embeddings=384,
    type_vocab_size=2,
    output_size=1024,
)
BERT_BASE = BertConfig("bert", 30522, 768, 768, 12, 12, 3072, 512, 2, 768)
MOBILEBERT = MobileBertConfig(**{key: default for key, (_, default) in SIZES.items()})

GRAPHS = {  # what it holds: (graph, parameters, operations)
    "a convolution of int8, its bias int32": (
        one_op("CONV_2D", [IMAGE, KERNEL, BIAS], [MAP], options=CONV),
        2 * 4 + 2,
        2 * 8 * 2 * 4,
    ),
    "a shape is no parameter": (
        one_op("RESHAPE", [with_(F32, shape=(1, 4)), constant([2, 2])], [with_(F32, shape=(2, 2))]),
        0,
        0,
    ),
    "a number is none, a vector is": (
        Graph(
            [F32, Operand("float32", (), -10000.0), F32, Operand("float32", (4,), 0.5), F32],
            [Op("ADD", [0, 1], [2]), Op("MUL", [2, 3], [4])],
            [0],
            [4],
        ),
        4,
        0,
    ),
    "a kernel read twice counts once, one never read not at all": (
        Graph(
            [F32, Operand("float32", (4, 4), 1.0), Operand("float32", (9, 9), 1.0), F32, F32],
            [
                Op("FULLY_CONNECTED", [0, 1, -1], [3], options=options("FullyConnectedOptions")),
                Op("FULLY_CONNECTED", [3, 1, -1], [4], options=options("FullyConnectedOptions")),
            ],
            [0],
            [4],
        ),
        16,
        2 * 2 * 16,
    ),
    "float16, before a DEQUANTIZE": (
        Graph([Operand("float16", (3, 4), 1.0), with_(F32, shape=(3, 4))], [Op("DEQUANTIZE", [0], [1])]),
        12,
        0,
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_of_made_graphs(name: str, tmp_path: Path) -> None:
    graph, parameters, operations = GRAPHS[name]
    path = make.write(tmp_path / "m.tflite", graph)
    card = model_card(read_tflite(path))
    assert (card.parameters, card.gops, card.bytes) == (parameters, operations / 1e9, path.stat().st_size)


def in_the_file(config: MobileBertConfig, length: int) -> int:
    """Parameters of the float file: fewer than the checkpoint's, for the graph needs fewer.

    Positions beyond the window are left out. beta, and gamma where no residual meets it, are folded into the
    dense layer before; so is the gamma of the first residual, which itself comes from such a layer.
    """
    hidden, width, networks = (
        config.hidden_size,
        config.intra_bottleneck_size,
        config.num_feedforward_networks,
    )
    betas = (3 + networks) * width + hidden
    gammas = 2 * width + width
    positions = (config.max_position_embeddings - length) * hidden
    return config.parameter_count - positions - config.num_hidden_layers * (betas + gammas) - hidden


def test_the_published_counts() -> None:
    assert ZOO_SMALL_BERT.parameter_count == 57_937_410
    assert BERT_BASE.parameter_count == 108_893_186
    assert MOBILEBERT.parameter_count == 24_582_914
    assert f"{in_the_file(MOBILEBERT, 384) / 1e6:.2f}" == "24.47"


def operations(config: BertConfig, length: int) -> int:
    """Two for each multiply-accumulate: one for each kernel's weight and token, and attention's products."""
    kernels = sum(
        prod(shape)
        for name, shape in config.variable_shapes().items()
        if name.endswith(("/kernel", "/output_weights"))
    )
    return 2 * length * (kernels + config.num_hidden_layers * 2 * length * config.hidden_size)


def test_the_zoos_operations() -> None:
    """23.9 GOps are published; the zoo counts softmax, gelu and LayerNorm too, which are 0.6 % here."""
    assert operations(ZOO_SMALL_BERT, 384) / 1e9 == pytest.approx(23.76, abs=0.01)
    assert operations(ZOO_SMALL_BERT, 384) / 1e9 == pytest.approx(23.9, rel=0.01)


def test_the_manifest_and_the_checker_tell_it(exported: Path) -> None:
    folder = exported / "all"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name, told in manifest["targets"].items():
        path = folder / TARGETS[name].file_for(LENGTH)
        if path.suffix != ".tflite":
            continue
        card = model_card(read_tflite(path))
        assert (told["parameters"], told["gops"], told["bytes"]) == (card.parameters, card.gops, card.bytes)
        assert told["bytes"] == manifest["files"][path.name]["bytes"]
    assert manifest["targets"]["float"]["parameters"] == in_the_file(CONFIG, LENGTH)
    path = folder / TARGETS["float"].file_for(LENGTH)
    command = [sys.executable, "-m", "mobilebert_kit.check", str(path), "--delegate", "gpu"]
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stdout
    assert said.splitlines()[1] == str(model_card(read_tflite(path)))
    said = subprocess.run([*command, "--json"], cwd=REPOSITORY, capture_output=True, text=True).stdout
    assert json.loads(said)["parameters"] == in_the_file(CONFIG, LENGTH)
    assert json.loads(said)["bytes"] == path.stat().st_size
