"""BERT checkpoints that are refused, each by the name of what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import write_tensorflow
from safetensors.numpy import save_file

from mobilebert_kit.checkpoints import load_checkpoint, prove_complete
from mobilebert_kit.errors import InputError
from mobilebert_kit.inputs import checkpoint_config
from mobilebert_kit.models.bert_config import BertConfig
from tools.random_weights import huggingface_settings, huggingface_tensors, random_tensors

SIZES = {
    "vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 40, "max_position_embeddings": 20,
}  # fmt: skip
CONFIG = BertConfig.from_huggingface(SIZES)
TENSORS = random_tensors(CONFIG)
STATE = huggingface_tensors(TENSORS, CONFIG)


def whole(directory: Path, **flags: str) -> None:
    """What export does before anything else."""
    checkpoint = load_checkpoint(directory)
    prove_complete(checkpoint.tensors, checkpoint_config(checkpoint, **flags).variable_shapes())


def write(directory: Path, settings: dict[str, object], state: dict[str, np.ndarray]) -> None:
    save_file(state, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(settings))


# What is done to a good BERT's configuration and tensors, and what the error names.
def tensor_change(change):
    return lambda settings, state: (settings, change(dict(state)))


def settings_change(**changes):
    return lambda settings, state: (settings | changes, state)


def other_head(*names):
    def change(state):
        kept = {name: value for name, value in state.items() if "qa_outputs" not in name}
        return kept | {name: np.ones((3, 24), np.float32) for name in names}

    return tensor_change(change)


LAYER = "bert.encoder.layer.0."
ONES = np.ones((3, 24), np.float32)
BAD = {
    "a sequence or token classifier": (
        other_head("classifier.weight"),
        r"a head for classification \(classi",
    ),
    "a DistilBERT's classifier": (
        other_head("pre_classifier.weight"),
        r"a head for classification \(pre_classifier",
    ),
    "a masked language model": (
        other_head("cls.predictions.bias"),
        r"Expected a BERT fine-tuned for question answering .* got a head for pre-training \(cls\.\*\)",
    ),
    "a DistilBERT's language model": (
        other_head("vocab_projector.bias"),
        r"a head for pre-training \(vocab_\*\)",
    ),
    "no head": (other_head(), "got no such head in"),
    "three answers": (
        tensor_change(lambda t: t | {"qa_outputs.weight": ONES}),
        r"output_weights: expected \[2, 24",
    ),
    "another model": (settings_change(model_type="roberta"), "model_type mobilebert, bert, distilbert in"),
    "a list of models": (settings_change(model_type=["bert"]), r"model_type mobilebert, .*got \['bert'\]"),
    "a DistilBERT's configuration": (settings_change(model_type="distilbert"), "tensors of a DistilBERT for"),
    "relative positions": (
        settings_change(position_embedding_type="relative_key"),
        'position_embedding_type: expected "absolute", got "relative_key"',
    ),
    "a table of relative positions": (
        tensor_change(lambda t: t | {LAYER + "attention.self.distance_embedding.weight": ONES}),
        r"got 1 others of position_embedding_type relative_key:\s+bert",
    ),
    "cross-attention": (
        tensor_change(lambda t: t | {LAYER + "crossattention.self.query.weight": ONES}),
        "got 1 others of add_cross_attention",
    ),
    "a decoder": (settings_change(is_decoder=True), "is_decoder: expected false, got true"),
    "an activation": (settings_change(hidden_act="swish"), "hidden_act to be gelu or .*, got 'swish'"),
    "heads that do not divide": (settings_change(num_attention_heads=5), "multiple of num_attention_heads"),
    "fewer layers": (settings_change(num_hidden_layers=1), "num_hidden_layers: the configuration says 1"),
    "more positions": (settings_change(max_position_embeddings=512), "says 512, the checkpoint 20"),
    "no token types": (
        tensor_change(lambda t: {n: v for n, v in t.items() if "token_type" not in n}),
        r"1 missing:\s+bert/embeddings/token_type_embeddings",
    ),
    "a bias less": (
        tensor_change(lambda t: {n: v for n, v in t.items() if n != LAYER + "output.dense.bias"}),
        r"1 missing:\s+bert/encoder/layer_0/output/dense/bias",
    ),
    "a kernel not transposed": (
        tensor_change(
            lambda t: t | {LAYER + "output.dense.weight": t[LAYER + "output.dense.weight"].T.copy()}
        ),
        r"layer_0/output/dense/kernel: expected \[40, 24\], got \[24, 40\]",
    ),
    "a tensor too many": (
        tensor_change(lambda t: t | {"bert.adapter.weight": ONES}),
        r"1 others:\s+bert\.adapter\.weight",
    ),
    "an old and a new name": (
        tensor_change(lambda t: t | {LAYER + "output.LayerNorm.gamma": np.ones(24, np.float32)}),
        r"one name for each variable in .*\s.*LayerNorm\.gamma\s.*LayerNorm\.weight",
    ),
    "not a number": (
        tensor_change(lambda t: t | {"qa_outputs.bias": np.array([np.nan, 0], np.float32)}),
        r"1 not finite:\s+cls/squad/output_bias",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(tmp_path, case):
    change, message = BAD[case]
    write(tmp_path, *change(huggingface_settings(CONFIG), STATE))
    with pytest.raises(InputError, match=message):
        whole(tmp_path)


def test_the_good_one_is_taken(tmp_path):
    write(tmp_path, huggingface_settings(CONFIG), STATE)
    whole(tmp_path, mask="additive")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"mask": "multiplicative"}, "--mask additive for a bert, which has no other"),
        ({"activation": "relu"}, "no --activation for a bert"),
    ],
)
def test_flags_of_a_mobilebert(tmp_path, flags, message):
    write(tmp_path, huggingface_settings(CONFIG), STATE)
    with pytest.raises(InputError, match=message):
        whole(tmp_path, **flags)


def test_google_without_its_configuration(tmp_path):
    write_tensorflow(tmp_path / "model.ckpt", TENSORS)
    with pytest.raises(
        InputError, match="Expected the configuration of a bert beside the checkpoint, got none"
    ):
        whole(tmp_path)
    settings = {key: size for key, size in SIZES.items() if key != "hidden_size"}
    (tmp_path / "bert_config.json").write_text(json.dumps(settings | {"type_vocab_size": 2}))
    with pytest.raises(
        InputError, match="Expected hidden_size, hidden_act in the configuration beside the checkpoint"
    ):
        whole(tmp_path)
