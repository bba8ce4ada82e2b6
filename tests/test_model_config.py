"""MobileBertConfig: published sizes, variants that are refused, contradictions, and who has the last word."""

from __future__ import annotations

import ast
import json
from dataclasses import replace

import numpy as np
import pytest
from checkpoint_files import SMALL, huggingface_config, random_tensors

from mobilebert_kit.errors import InputError
from mobilebert_kit.models.config import SIZES, MobileBertConfig, resolve_config

# google-research/mobilebert, config/uncased_L-24_H-128_B-512_A-4_F-4_OPT.json
OPT = {
    "attention_probs_dropout_prob": 0.1, "hidden_act": "relu", "hidden_dropout_prob": 0.0, "hidden_size": 512,
    "initializer_range": 0.02, "intermediate_size": 512, "max_position_embeddings": 512,
    "num_attention_heads": 4, "num_hidden_layers": 24, "type_vocab_size": 2,
    "vocab_size": 30522, "embedding_size": 128,
    "trigram_input": True, "use_bottleneck": True, "intra_bottleneck_size": 128,
    "key_query_shared_bottleneck": True, "num_feedforward_networks": 4, "normalization_type": "no_norm",
    "classifier_activation": False,
}  # fmt: skip
TENSORS = random_tensors()
FOUR_HEADS = replace(SMALL, num_attention_heads=4)


def test_published():
    config = MobileBertConfig.from_published(OPT)
    assert config == MobileBertConfig.from_huggingface({"model_type": "mobilebert"})
    assert len(config.variable_shapes()) == 1113
    assert config.parameter_count == 24_582_914  # 24.58 M
    assert config.attention_head_size == 32
    assert MobileBertConfig.from_published(json.loads(json.dumps(config.to_dict()))) == config


def test_variables_are_the_published_ones(shared):
    lines = (shared / "data/mlcommons_checkpoint_index/float/variables.txt").read_text().splitlines()
    published = {name: tuple(ast.literal_eval(shape)) for name, shape in (line.split("\t") for line in lines)}
    del published["global_step"]
    assert MobileBertConfig.from_published(OPT).variable_shapes() == published


@pytest.mark.parametrize("networks", [1, 2, 5])
def test_shapes_tell_the_size(networks):
    config = replace(FOUR_HEADS, num_feedforward_networks=networks)
    assert MobileBertConfig.from_shapes(random_tensors(config)) == config
    assert MobileBertConfig.from_huggingface(huggingface_config(config)) == config


def test_shapes_do_not_tell_heads():
    tensors = random_tensors(replace(SMALL, intra_bottleneck_size=18))
    with pytest.raises(InputError, match=r"18\. Give the model's configuration with --config"):
        MobileBertConfig.from_shapes(tensors)
    with pytest.raises(InputError, match="none that tells vocab_size, embedding_size, hidden_size"):
        MobileBertConfig.from_shapes({})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("normalization_type", "layer_norm"),
        ("trigram_input", False),
        ("use_bottleneck", False),
        ("use_bottleneck_attention", True),
        ("key_query_shared_bottleneck", False),
    ],
)
def test_unsupported_variants(key, value):
    for read, raw in (
        (MobileBertConfig.from_published, OPT),
        (MobileBertConfig.from_huggingface, huggingface_config()),
    ):
        with pytest.raises(InputError, match=f"{key}: expected .*, got {json.dumps(value)}$"):
            read(raw | {key: value})
    if key != "use_bottleneck_attention":  # what modeling.py does without the key is not what this kit builds
        with pytest.raises(InputError, match=f"{key}: expected .*the key is absent"):
            MobileBertConfig.from_published({k: v for k, v in OPT.items() if k != key})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act to be relu or relu6, got 'gelu'"),
        ({"hidden_act": ["relu"]}, "hidden_act to be relu or relu6"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers to be a whole number from 1 to 512"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"vocab_size": "30522"}, "vocab_size"),
        ({"hidden_size": 512.0}, "hidden_size"),
        ({"type_vocab_size": True}, "type_vocab_size"),
        ({"intra_bottleneck_size": None}, "intra_bottleneck_size"),
        ({"num_attention_heads": 5}, "multiple of num_attention_heads"),
        ({"mask_semantics": "none"}, "mask_semantics to be additive or multiplicative"),
        ({"score_clip": [-6]}, "two finite numbers"),
        ({"score_clip": [-6, float("nan")]}, "two finite numbers"),
        ({"score_clip": [6, 60]}, "hold 0 between its ends"),
    ],
)
def test_values_that_no_model_has(changes, message):
    with pytest.raises(InputError, match=message + r"(.|\n)*Where: here"):
        MobileBertConfig.from_published(OPT | changes, source="here")


def test_huggingface_details():
    with pytest.raises(InputError, match="model_type mobilebert in the configuration, got 'bert'"):
        MobileBertConfig.from_huggingface({"model_type": "bert"})
    with pytest.raises(InputError, match="true_hidden_size to be intra_bottleneck_size"):
        MobileBertConfig.from_huggingface(huggingface_config(true_hidden_size=24))
    with pytest.raises(InputError, match=r"Expected vocab_size, embedding_size, .* Is it a MobileBERT"):
        MobileBertConfig.from_published({})


# Who has the last word.
KIT = huggingface_config(mask_semantics="multiplicative", score_clip=[-6, 60], hidden_act="relu6")


@pytest.mark.parametrize(
    ("settings", "kind", "options", "expected"),
    [
        (None, "tf1", {}, ("relu", "additive", None)),
        (None, "saved_model", {}, ("relu", "multiplicative", None)),
        (None, "tf1", {"quantized": True}, ("relu6", "multiplicative", (-6, 60))),
        (None, "saved_model", {"quantized": True}, ("relu6", "multiplicative", (-6, 60))),
        (
            None,
            "saved_model",
            {"hints": {"mask_semantics": "additive", "hidden_act": "relu6"}},
            ("relu6", "additive", None),
        ),
        (None, "saved_model", {"mask": "additive"}, ("relu", "additive", None)),
        (None, "tf1", {"quantized": True, "mask": "additive"}, ("relu6", "additive", None)),
        (None, "tf1", {"quantized": True, "activation": "relu"}, ("relu", "multiplicative", (-6, 60))),
        (huggingface_config(), "huggingface", {}, ("relu", "additive", None)),
        (huggingface_config(), "huggingface", {"mask": "multiplicative"}, ("relu", "multiplicative", None)),
        (huggingface_config(), "huggingface", {"activation": "relu6"}, ("relu6", "additive", None)),
        (KIT, "huggingface", {}, ("relu6", "multiplicative", (-6, 60))),
        (KIT, "huggingface", {"mask": "additive"}, ("relu6", "additive", None)),
        (SMALL.to_dict(), "saved_model", {}, ("relu", "additive", None)),
        (
            None,
            "saved_model",
            {"quantized": True, "hints": {"mask_semantics": "additive"}},
            ("relu6", "additive", None),
        ),
    ],
)
def test_last_word(settings, kind, options, expected):
    config = resolve_config(settings, TENSORS, kind, **options)
    assert (config.hidden_act, config.mask_semantics, config.score_clip) == expected
    sizes = SMALL if settings else FOUR_HEADS
    assert all(getattr(config, key) == getattr(sizes, key) for key in SIZES)


def test_config_file(tmp_path):
    path = tmp_path / "given.json"
    path.write_text(json.dumps(SMALL.to_dict()))
    assert resolve_config({"model_type": "bert"}, TENSORS, "tf1", str(path)) == SMALL
    path.write_text("nonsense")
    with pytest.raises(InputError, match=r"given\.json"):
        resolve_config(None, TENSORS, "tf1", str(path))
    with pytest.raises(InputError, match=r"absent\.json, got no such file"):
        resolve_config(None, TENSORS, "tf1", str(tmp_path / "absent.json"))


@pytest.mark.parametrize("key", [key for key in SIZES if key != "num_attention_heads"])
def test_configuration_that_contradicts_the_weights(key):
    changed = huggingface_config(replace(SMALL, **{key: getattr(SMALL, key) * 2}))
    with pytest.raises(
        InputError, match=f"\n    {key}: the configuration says .*, the checkpoint {getattr(SMALL, key)}$"
    ):
        resolve_config(changed, TENSORS, "huggingface")


def test_activation_that_contradicts_the_weights():
    with pytest.raises(InputError, match="hidden_act: the configuration says relu, the checkpoint relu6"):
        resolve_config(SMALL.to_dict(), TENSORS, "tf1", quantized=True)
    assert (
        resolve_config(SMALL.to_dict(), TENSORS, "tf1", quantized=True, activation="relu").hidden_act
        == "relu"
    )
    with pytest.raises(InputError, match="--activation to be relu or relu6, got 'gelu'"):
        resolve_config(None, TENSORS, "tf1", activation="gelu")
    with pytest.raises(InputError, match="--mask to be additive or multiplicative, got 'none'"):
        resolve_config(None, TENSORS, "tf1", mask="none")


SELF = "bert/encoder/layer_0/attention/self"
VARIANT_SHAPES = {
    "use_bottleneck true": lambda t: {k: v for k, v in t.items() if "bottleneck" not in k},
    "key_query_shared_bottleneck true": lambda t: {
        k: v for k, v in t.items() if "bottleneck/attention" not in k
    },
    "use_bottleneck_attention false": lambda t: t | {f"{SELF}/value/kernel": np.zeros((12, 12))},
    "trigram_input true": lambda t: (
        t | {"bert/embeddings/embedding_transformation/kernel": np.zeros((8, 24))}
    ),
}


@pytest.mark.parametrize("variant", VARIANT_SHAPES)
def test_shapes_of_other_variants(variant):
    with pytest.raises(InputError, match=f"Expected a MobileBERT with {variant}"):
        MobileBertConfig.from_shapes(VARIANT_SHAPES[variant](TENSORS))
