"""BertConfig: published sizes, what is refused and by which name, and which family a configuration is of."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from checkpoint_files import SMALL as SMALL_MOBILEBERT

from mobilebert_kit.errors import InputError
from mobilebert_kit.models.bert_config import BertConfig
from mobilebert_kit.models.config import resolve_config

# google-research/bert, uncased_L-12_H-768_A-12/bert_config.json
GOOGLE = {
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
    "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 512,
    "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 2, "vocab_size": 30522,
}  # fmt: skip
# distilbert-base-uncased-distilled-squad/config.json
DISTILBERT = {
    "activation": "gelu", "architectures": ["DistilBertForQuestionAnswering"], "attention_dropout": 0.1,
    "dim": 768, "dropout": 0.1, "hidden_dim": 3072, "initializer_range": 0.02, "max_position_embeddings": 512,
    "model_type": "distilbert", "n_heads": 12, "n_layers": 6, "pad_token_id": 0, "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": True, "tie_weights_": True, "vocab_size": 30522,
}  # fmt: skip
ZOO = {
    "model_type": "bert", "embedding_size": 1024, "hidden_size": 512, "output_size": 1024,
    "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 1024,
    "max_position_embeddings": 384,
}  # fmt: skip
SMALL = BertConfig("bert", 50, 24, 24, 2, 3, 20, 16, 2, 24)


def zeros(config) -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for name, shape in config.variable_shapes().items()}


TENSORS = zeros(SMALL)


# 108,893,186: bert-base-uncased with its question-answering head and without the pooler, as transformers
# counts; 66,364,418 distilbert-base-uncased-distilled-squad; 57,937,410 the zoo's 57.94 MParams.
@pytest.mark.parametrize(
    ("read", "raw", "parameters", "variables"),
    [
        (BertConfig.from_published, GOOGLE, 108_893_186, 5 + 16 * 12 + 2),
        (BertConfig.from_huggingface, {"model_type": "bert"}, 108_893_186, 5 + 16 * 12 + 2),
        (BertConfig.from_huggingface, DISTILBERT, 66_364_418, 4 + 16 * 6 + 2),
        (BertConfig.from_huggingface, {"model_type": "distilbert"}, 66_364_418, 4 + 16 * 6 + 2),
        (BertConfig.from_huggingface, ZOO, 57_937_410, 7 + 16 * 12 + 4),
    ],
)
def test_published_sizes(read, raw, parameters, variables):
    config = read(raw)
    assert config.parameter_count == parameters
    assert len(config.variable_shapes()) == variables
    assert config.attention_head_size == 64
    assert (config.mask_semantics, config.mask_value, config.score_clip) == ("additive", -10000, None)
    assert config.has_segments == ("bert/embeddings/token_type_embeddings" in config.variable_shapes())
    assert config.family == config.model_type
    assert BertConfig.from_huggingface(json.loads(json.dumps(config.to_dict()))) == config


def test_variables_are_in_the_order_of_the_forward_pass():
    names = list(BertConfig.from_huggingface(ZOO).variable_shapes())
    assert names[4:7] == [
        "bert/embeddings/LayerNorm/beta",
        "bert/embeddings/embedding_transformation/kernel",
        "bert/embeddings/embedding_transformation/bias",
    ]
    assert names[-3:] == [
        "bert/encoder/output_transformation/bias",
        "cls/squad/output_weights",
        "cls/squad/output_bias",
    ]


@pytest.mark.parametrize(
    ("word", "google", "huggingface"),
    [
        ("gelu", "gelu_tanh", "gelu"),
        ("gelu_python", None, "gelu"),
        ("gelu_new", None, "gelu_tanh"),
        ("gelu_fast", None, "gelu_tanh"),
        ("gelu_pytorch_tanh", None, "gelu_tanh"),
        ("relu", "relu", "relu"),
        ("swish", None, None),
        ("quick_gelu", None, None),
        ("gelu_10", None, None),
        ("relu6", None, None),
        (["gelu"], None, None),
        (None, None, None),
    ],
)
def test_activations(word, google, huggingface):
    """A function of the same name is another one in Google's code and in transformers."""
    readers = ((BertConfig.from_published, GOOGLE, google), (BertConfig.from_huggingface, {}, huggingface))
    for read, raw, expected in readers:
        if expected is None:
            with pytest.raises(InputError, match=r"Expected hidden_act to be gelu or .*Where: here"):
                read({**raw, "hidden_act": word}, source="here")
        else:
            assert read({**raw, "hidden_act": word}).hidden_act == expected


def test_activations_are_those_of_transformers():
    """Each word means the function that we say it means: in torch, over [-6, 6], in float64."""
    torch = pytest.importorskip("torch", reason="no torch (extra [distill])")
    activations = pytest.importorskip("transformers.activations", reason="no transformers (extra [distill])")
    from mobilebert_kit.models.bert_config import HUGGINGFACE_ACTIVATIONS

    x = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    ours = {
        "gelu": x * (1 + torch.erf(x / 2**0.5)) / 2,
        "gelu_tanh": x * (1 + torch.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2,
        "relu": x.clamp_min(0),
    }
    for word, meaning in HUGGINGFACE_ACTIVATIONS.items():
        if word != "gelu_tanh":  # the kit's own
            difference = (activations.ACT2FN[word](x) - ours[meaning]).abs().max().item()
            assert difference < 1e-9, word  # FastGELU rounds sqrt(2/pi) to ten digits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"position_embedding_type": "relative_key"},
            'position_embedding_type: expected "absolute", got "rel',
        ),
        ({"position_embedding_type": "relative_key_query"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder: expected false, got true"),
        ({"add_cross_attention": True}, "add_cross_attention: expected false, got true"),
        ({"pruned_heads": {"0": [1, 2]}}, "pruned_heads: expected {}, got"),
        ({"model_type": "roberta"}, "model_type to be bert or distilbert, got 'roberta'"),
        ({"hidden_size": 770}, "hidden_size to be a multiple of num_attention_heads, got 770 and 12"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers to be a whole number from 1 to 512"),
        ({"num_attention_heads": 0}, "num_attention_heads to be a whole number from 1"),
        ({"vocab_size": "30522"}, "vocab_size"),
        ({"intermediate_size": 3072.0}, "intermediate_size"),
        ({"type_vocab_size": -1}, "type_vocab_size to be a whole number from 0"),
        ({"embedding_size": None}, "embedding_size"),
        ({"output_size": 2**17}, "output_size to be a whole number from 1 to 65536"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps to be a number from 0 to 1"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps to be a number from 0 to 1"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(InputError, match=message + r"(.|\n)*Where: here"):
        BertConfig.from_huggingface({"model_type": "bert", **changes}, source="here")


def test_distilbert_has_no_segments_and_no_epsilon_of_its_own():
    config = BertConfig.from_huggingface(DISTILBERT | {"type_vocab_size": 2, "layer_norm_eps": 1e-5})
    assert (config.has_segments, config.layer_norm_eps) == (False, 1e-12)  # as transformers reads it
    with pytest.raises(InputError, match="type_vocab_size 0 for a DistilBERT"):
        replace(config, type_vocab_size=2)
    with pytest.raises(InputError, match=r"Expected hidden_size, num_hidden_layers.* Is it a BERT"):
        BertConfig.from_published({"vocab_size": 5})


# Which family, and who has the last word.
OLD_GOOGLE = {
    key: value for key, value in SMALL.to_dict().items() if key not in ("model_type", "output_size")
}


def test_family_without_model_type():
    expected = replace(SMALL, hidden_act="gelu_tanh")
    assert resolve_config(OLD_GOOGLE, TENSORS, "tf1") == expected
    assert resolve_config(OLD_GOOGLE, TENSORS, "huggingface") == SMALL
    small = replace(SMALL, model_type="distilbert", type_vocab_size=0)
    theirs = {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 20, "vocab_size": 50}
    theirs["max_position_embeddings"] = 16
    assert resolve_config(theirs, zeros(small), "huggingface") == small
    assert resolve_config(small.to_dict(), zeros(small), "saved_model") == small


def test_configuration_of_a_file(tmp_path):
    path = tmp_path / "given.json"
    path.write_text(json.dumps(SMALL.to_dict()))
    assert resolve_config(None, TENSORS, "tf1", str(path), mask="additive") == SMALL
    assert resolve_config({"model_type": "roberta"}, TENSORS, "tf1", str(path)) == SMALL


CASES = {
    "no configuration": (
        None,
        TENSORS,
        {},
        "Expected the configuration of a bert beside the checkpoint, got none",
    ),
    "multiplicative": (
        SMALL.to_dict(),
        TENSORS,
        {"mask": "multiplicative"},
        "Expected --mask additive for a bert",
    ),
    "relu6": (
        SMALL.to_dict(),
        TENSORS,
        {"activation": "relu6"},
        "Expected no --activation for a bert, got relu6",
    ),
    "roberta": (SMALL.to_dict() | {"model_type": "roberta"}, TENSORS, {}, "got 'roberta'"),
    "a MobileBERT's": (
        SMALL_MOBILEBERT.to_dict(),
        TENSORS,
        {},
        "whose variables are of a bert, got one of a mobilebert in the configuration beside",
    ),
    "a BERT's, of a MobileBERT": (
        SMALL.to_dict(),
        zeros(SMALL_MOBILEBERT),
        {},
        "whose variables are of a mobilebert, got one of a bert",
    ),
    "of a graph with another activation": (
        SMALL.to_dict(),
        TENSORS,
        {"hints": {"hidden_act": "gelu_tanh"}},
        "hidden_act: the configuration says gelu, the checkpoint gelu_tanh",
    ),
    **{
        key: (
            replace(SMALL, **{key: getattr(SMALL, key) * 3}).to_dict(),
            TENSORS,
            {},
            f"\n    {key}: the configuration says .*, the checkpoint {getattr(SMALL, key)}$",
        )
        for key in SMALL.to_dict()
        if key not in ("model_type", "num_attention_heads", "hidden_act", "layer_norm_eps")
    },
}


@pytest.mark.parametrize("case", CASES)
def test_contradictions(case):
    settings, tensors, options, message = CASES[case]
    with pytest.raises(InputError, match=message):
        resolve_config(settings, tensors, "tf1", **options)
