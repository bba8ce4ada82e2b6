"""BERT and DistilBERT checkpoints in every format: transformers and TensorFlow write, the kit reads.

Values are compared bit for bit, so that the zeros of a sparse model stay zeros. torch runs in a process of
its own, once; the canonical names come from replacing words here, not from the kit's tables.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from tiny_question_model import write_vocab

from mobilebert_kit.checkpoints import load_checkpoint, prove_complete
from mobilebert_kit.errors import InputError
from mobilebert_kit.inputs import checkpoint_config
from tools.transformers_reference import missing_packages

# Every width is another, so that a swapped axis cannot go unseen.
BERT = {
    "vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 40, "max_position_embeddings": 20, "type_vocab_size": 2,
}  # fmt: skip
DISTILBERT = {
    "vocab_size": 53, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": 20,
    "sinusoidal_pos_embds": True,
}  # fmt: skip
GOOGLE = BERT | {"hidden_act": "gelu", "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02}

# argv: folder, {family: configuration}. Weights of deviation 1, 85 % of every matrix zero, some of it -0.
MAKE = """
import json, sys, torch, transformers
from pathlib import Path
from safetensors.torch import save_file
torch.manual_seed(0)
for family, settings in json.loads(sys.argv[2]).items():
    title = {"bert": "Bert", "distilbert": "DistilBert"}[family]
    config = getattr(transformers, title + "Config")(**settings)
    model = getattr(transformers, title + "ForQuestionAnswering")(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()
            if p.ndim == 2:
                p *= torch.rand_like(p) > 0.85
    state, root = model.state_dict(), Path(sys.argv[1]) / family
    model.save_pretrained(root / "safetensors")
    model.save_pretrained(root / "shards", max_shard_size="6KB")
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        (root / name).mkdir()
        save_file({k: v.to(dtype).contiguous() for k, v in state.items()}, root / name / "model.safetensors")
    old = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
           for k, v in state.items()}
    ways = {"bin": (state, True), "old_bin": (old, False),
            "half_bin": ({k: v.half() for k, v in state.items()}, True),
            "bfloat16_old_bin": ({k: v.bfloat16() for k, v in state.items()}, False)}
    for name, (saved, new) in ways.items():
        (root / name).mkdir()
        torch.save(saved, root / name / "pytorch_model.bin", _use_new_zipfile_serialization=new)
    (root / "shards_bin").mkdir()
    names = sorted(state)
    for i in range(2):
        file = f"pytorch_model-0000{i + 1}-of-00002.bin"
        torch.save({k: state[k] for k in names[i::2]}, root / "shards_bin" / file)
    index = {k: f"pytorch_model-0000{i % 2 + 1}-of-00002.bin" for i, k in enumerate(names)}
    text = json.dumps({"metadata": {}, "weight_map": index})
    (root / "shards_bin" / "pytorch_model.bin.index.json").write_text(text)
    for folder in root.iterdir():
        config.save_pretrained(folder)
"""
DTYPES = {
    "safetensors": np.float32, "shards": np.float32, "bin": np.float32, "old_bin": np.float32,
    "shards_bin": np.float32, "float16": np.float16, "half_bin": np.float16,
    "bfloat16": ml_dtypes.bfloat16, "bfloat16_old_bin": ml_dtypes.bfloat16,
}  # fmt: skip

WORDS = {
    "distilbert.transformer": "bert.encoder", "distilbert": "bert",
    "attention.q_lin": "attention.self.query", "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value", "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm", "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense", "output_layer_norm": "output.LayerNorm",
    "embeddings.weight": "embeddings",
    "LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta",
    "qa_outputs.": "cls.squad.output_", "output_weight": "output_weights",
}  # fmt: skip


def canonical(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Hugging Face's tensors as Google names and stores them."""
    tensors = {}
    for name, value in state.items():
        for theirs, ours in WORDS.items():
            name = name.replace(theirs, ours)
        name = re.sub(r"layer\.(\d+)", r"layer_\1", name).replace(".", "/")
        kernel = name.endswith("/weight")
        tensors[name.replace("/weight", "/kernel") if kernel else name] = value.T if kernel else value
    return tensors


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    if missing := missing_packages():
        pytest.skip(f"not installed: {' '.join(missing)} (extra [distill])")
    folder = tmp_path_factory.mktemp("made")
    families = json.dumps({"bert": BERT, "distilbert": DISTILBERT})
    subprocess.run([sys.executable, "-c", MAKE, str(folder), families], check=True)
    return folder


def whole(directory: Path, **flags: str):
    """(checkpoint, configuration), once the tensors are proven to be that model's."""
    checkpoint = load_checkpoint(directory)
    config = checkpoint_config(checkpoint, **flags)
    prove_complete(checkpoint.tensors, config.variable_shapes())
    return checkpoint, config


def same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == np.float32
        and np.array_equal(
            found[name].view(np.uint32), np.ascontiguousarray(expected[name], np.float32).view(np.uint32)
        )
        for name in expected
    )


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("kind", DTYPES)
def test_huggingface(made, family, kind):
    from safetensors.numpy import load_file

    state = load_file(made / family / "safetensors" / "model.safetensors")
    expected = {name: value.astype(DTYPES[kind]) for name, value in canonical(state).items()}
    checkpoint, config = whole(made / family / kind)
    assert same_bits(checkpoint.tensors, expected)
    assert (checkpoint.format, config.family, config.has_segments) == (
        "huggingface",
        family,
        family == "bert",
    )
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (24, 3, 40)
    kernel = checkpoint.tensors["bert/encoder/layer_1/intermediate/dense/kernel"]
    assert 0.8 < np.mean(kernel == 0) < 0.9 and np.signbit(kernel[kernel == 0]).any()
    if kind.startswith("shards"):
        assert len(list((made / family / kind).glob("*-of-*"))) > 1


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_configuration_without_model_type(made, tmp_path, family):
    """As of 2019: the keys tell a DistilBERT, the scope of the tensors a BERT."""
    shutil.copytree(made / family / "bin", tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({k: v for k, v in settings.items() if k != "model_type"})
    )
    _, config = whole(tmp_path)
    assert (config.family, config.hidden_act) == (family, "gelu")


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """Canonical name -> values of a small BERT, most of them zero."""
    from mobilebert_kit.models.bert_config import BertConfig

    shapes = BertConfig.from_huggingface(BERT).variable_shapes()
    random = np.random.default_rng(0)
    return {
        name: (random.standard_normal(shape) * (random.random(shape) > 0.85)).astype(np.float32)
        for name, shape in shapes.items()
    }


UNUSED = {
    "bert/pooler/dense/kernel": (24, 24), "bert/pooler/dense/bias": (24,),
    "cls/predictions/output_bias": (53,), "cls/predictions/transform/dense/kernel": (24, 24),
    "cls/predictions/transform/dense/bias": (24,), "cls/predictions/transform/LayerNorm/gamma": (24,),
    "cls/predictions/transform/LayerNorm/beta": (24,), "cls/seq_relationship/output_weights": (2, 24),
    "cls/seq_relationship/output_bias": (2,),
}  # fmt: skip


def test_google(tmp_path, tensors):
    """As run_squad.py leaves it: with the optimizer's slots, the pooler, and the pre-training heads."""
    import tensorflow as tf

    v1 = tf.compat.v1
    unused = {name: np.ones(shape, np.float32) for name, shape in UNUSED.items()}
    slots = {f"{name}/{slot}": value for name, value in tensors.items() for slot in ("adam_m", "adam_v")}
    values = {**tensors, **unused, **slots, "global_step": np.int64(30)}
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [v1.get_variable(name, initializer=value) for name, value in values.items()]
        session.run(v1.global_variables_initializer())
        v1.train.Saver(variables).save(session, str(tmp_path / "model.ckpt"), global_step=30)
    (tmp_path / "bert_config.json").write_text(json.dumps(GOOGLE))
    checkpoint, config = whole(tmp_path)
    assert same_bits(checkpoint.tensors, tensors)
    assert set(checkpoint.unused_names) == {"global_step", *unused, *slots}
    assert (checkpoint.format, checkpoint.step, config.family) == ("tf1", 30, "bert")
    assert config.hidden_act == "gelu_tanh"


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_saved_model(made, tmp_path, family):
    """As the kit writes it; the configuration lies beside it, for its variables do not tell the heads."""
    from mobilebert_kit.contract import MLPERF
    from mobilebert_kit.models.saved_model import write_saved_model

    source, config = whole(made / family / "safetensors")
    contract = MLPERF.for_model(has_segments=config.has_segments)
    folder, vocab = tmp_path / "saved_model", write_vocab(tmp_path)
    write_saved_model(folder, config, source, contract=contract, sequence_length=20, vocab=vocab)
    checkpoint, found = whole(folder)
    assert same_bits(checkpoint.tensors, source.tensors)
    assert (checkpoint.format, checkpoint.digest, found) == ("saved_model", source.digest, config)
    assert checkpoint.hints.get("hidden_act", "gelu") == "gelu"
    (folder / "assets.extra" / "config.json").unlink()
    with pytest.raises(InputError, match=f"Expected the configuration of a {family} beside the checkpoint"):
        whole(folder)


def test_real_model(shared):
    """MiniLM, 6 layers, fine-tuned on SQuAD: every value, against safetensors' own reader."""
    from safetensors.numpy import load_file

    directory = shared / "models" / "minilm-l6-squad"
    if not directory.is_dir():
        pytest.skip(f"{directory} does not exist")
    checkpoint, config = whole(directory)
    state = load_file(directory / "model.safetensors")
    expected = canonical({n: v for n, v in state.items() if "pooler" not in n and "position_ids" not in n})
    assert same_bits(checkpoint.tensors, {name: value.astype(np.float32) for name, value in expected.items()})
    assert (config.num_hidden_layers, config.hidden_size, config.attention_head_size) == (6, 384, 32)
    assert config.hidden_act == "gelu" and checkpoint.vocab_path == directory / "vocab.txt"


def test_small_bert_of_the_openvino_zoo(tmp_path):
    """embedding_size and output_size are the kit's own keys, and the two transformations its own names."""
    from safetensors.numpy import save_file

    from mobilebert_kit.models.bert_config import BertConfig

    settings = BERT | {"model_type": "bert", "embedding_size": 32, "output_size": 36}
    shapes = BertConfig.from_huggingface(settings).variable_shapes()
    random = np.random.default_rng(0)
    expected = {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    theirs = {}
    for name, value in expected.items():
        name = re.sub(r"layer_(\d+)", r"layer.\1", name).replace("/", ".")
        for leaf, torch_leaf in (
            ("gamma", "weight"),
            ("beta", "bias"),
            ("_embeddings", "_embeddings.weight"),
        ):
            name = re.sub(f"{leaf}$", torch_leaf, name)
        name = name.replace("cls.squad.output_weights", "qa_outputs.weight")
        name = name.replace("cls.squad.output_bias", "qa_outputs.bias")
        value = value.T if name.endswith(".kernel") else value
        theirs[name.replace(".kernel", ".weight")] = np.ascontiguousarray(value)
    save_file(theirs, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    checkpoint, config = whole(tmp_path)
    assert same_bits(checkpoint.tensors, expected)
    assert (config.embedding_size, config.hidden_size, config.output_size) == (32, 24, 36)


def test_shards_of_an_index(made, tmp_path):
    directory = tmp_path / "shards"
    shutil.copytree(made / "bert" / "shards_bin", directory)
    (directory / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(
        InputError, match=r"2 weight shards in .*missing:\s+pytorch_model-00002-of-00002\.bin"
    ):
        load_checkpoint(directory)
