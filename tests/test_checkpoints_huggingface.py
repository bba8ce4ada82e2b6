"""Hugging Face directories, and what a path is taken for."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from checkpoint_files import (
    SMALL,
    huggingface_config,
    huggingface_tensors,
    random_tensors,
    write_bin,
    write_config,
    write_safetensors,
)

from mobilebert_kit.checkpoints import content_digest, load_checkpoint, prove_complete
from mobilebert_kit.errors import InputError

TENSORS = random_tensors()
THEIRS = huggingface_tensors(TENSORS)
BUFFERS = {
    "mobilebert.embeddings.position_ids": np.arange(16)[None],
    "mobilebert.pooler.dense.weight": np.zeros((24, 24), np.float32),
    "cls.seq_relationship.bias": np.zeros(2, np.float32),
}


def check(directory, unused=()):
    checkpoint = load_checkpoint(directory)
    prove_complete(checkpoint.tensors, SMALL.variable_shapes())
    assert all(np.array_equal(checkpoint.tensors[name], value) for name, value in TENSORS.items())
    assert {value.dtype for value in checkpoint.tensors.values()} == {np.dtype(np.float32)}
    assert checkpoint.format == "huggingface"
    assert checkpoint.digest == content_digest(TENSORS)
    assert checkpoint.settings == huggingface_config()
    assert checkpoint.unused_names == tuple(sorted(unused))
    assert not checkpoint.quantized
    return checkpoint


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
def test_safetensors(tmp_path, dtype):
    write_safetensors(tmp_path, {name: value.astype(dtype) for name, value in THEIRS.items()})
    assert check(tmp_path).vocab_path is None
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    assert check(tmp_path).vocab_path == tmp_path / "vocab.txt"


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_bin(tmp_path, dtype):
    write_bin(tmp_path, {name: value.astype(dtype) for name, value in THEIRS.items()})
    check(tmp_path)


@pytest.mark.parametrize("write", [write_safetensors, write_bin])
def test_unused_tensors_are_named(tmp_path, write):
    write(tmp_path, THEIRS | BUFFERS)
    check(tmp_path, unused=BUFFERS)


def test_safetensors_are_preferred(tmp_path):
    write_safetensors(tmp_path, THEIRS)
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    check(tmp_path)


@pytest.mark.parametrize(
    ("write", "stem", "suffix"),
    [(write_safetensors, "model", "safetensors"), (write_bin, "pytorch_model", "bin")],
)
def test_shards(tmp_path, write, stem, suffix):
    names = sorted(THEIRS)
    files = [f"{stem}-0000{i}-of-00002.{suffix}" for i in (1, 2)]
    for file, part in zip(files, (names[:40], names[40:]), strict=True):
        write(tmp_path, {name: THEIRS[name] for name in part}, file)
    index = tmp_path / f"{stem}.{suffix}.index.json"
    weight_map = {name: files[i >= 40] for i, name in enumerate(names)}
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    check(tmp_path)
    write(tmp_path, {name: THEIRS[name] for name in names[39:]}, files[1])
    with pytest.raises(InputError, match=f"each tensor in one file.*two of:\\s+{names[39]}"):
        load_checkpoint(tmp_path)
    (tmp_path / files[1]).unlink()
    with pytest.raises(InputError, match=f"2 weight shards in .*missing:\\s+{files[1]}"):
        load_checkpoint(tmp_path)
    for text, message in (
        (json.dumps({"weight_map": {"a": f"../{files[0]}"}}), "in the same directory"),
        (json.dumps({"weight_map": []}), "Expected a weight_map"),
        ("{", "index of weight shards as JSON"),
    ):
        index.write_text(text)
        with pytest.raises(InputError, match=message):
            load_checkpoint(tmp_path)


def changed(**changes):
    return lambda d: write_config(d, huggingface_config(**changes))


def weights(change):
    return lambda d: write_safetensors(d, change(dict(THEIRS)))


def truncate(name, size):
    return lambda d: (d / name).write_bytes((d / name).read_bytes()[:size])


def both_kinds(directory):
    (directory / "saved_model.pb").write_bytes(b"")


BAD = {
    "roberta": (
        changed(model_type="roberta"),
        r"model_type mobilebert, bert, distilbert in .*config\.json, got 'roberta'",
    ),
    "bert": (changed(model_type="bert"), r"Expected only tensors of a BERT .*got \d+ others"),
    "no config": (lambda d: (d / "config.json").unlink(), r"config\.json, got no such file"),
    "config is no JSON": (
        lambda d: (d / "config.json").write_text("{]"),
        r"as JSON, got something else in .*config",
    ),
    "config is a list": (lambda d: (d / "config.json").write_text("[]"), "as a JSON object, got a list"),
    "config is nested": (
        lambda d: (d / "config.json").write_text("[" * 10**6),
        r"got something else in .*config",
    ),
    "config is no UTF-8": (
        lambda d: (d / "config.json").write_bytes(b"\xff\xfe"),
        "UTF-8 JSON, got other bytes",
    ),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "in .*, got none of them"),
    "other weights": (
        lambda d: (d / "model.safetensors").rename(d / "tf_model.h5"),
        r"\['tf_model\.h5'\], which are not read",
    ),
    "no head": (weights(lambda t: {k: v for k, v in t.items() if "qa_" not in k}), "got no such head in"),
    "pre-trained": (
        weights(
            lambda t: {k: v for k, v in t.items() if "qa_" not in k} | {"cls.predictions.bias": np.ones(50)}
        ),
        r"got a head for pre-training \(cls\.\*\) in",
    ),
    "unknown": (weights(lambda t: t | {"adapter.weight": np.ones(1)}), r"1 others:\s+adapter\.weight"),
    "integers": (weights(lambda t: t | {"qa_outputs.bias": np.ones(2, int)}), r"values for qa_outputs\.bias"),
    "no matrix": (
        weights(lambda t: t | {"mobilebert.embeddings.embedding_transformation.weight": np.ones(3)}),
        "Expected a matrix for mobilebert.embeddings.embedding_transformation.weight",
    ),
    "empty file": (
        truncate("model.safetensors", 0),
        r"truncated, damaged or other one: .*model\.safetensors",
    ),
    "header only": (truncate("model.safetensors", 800), "truncated, damaged or other one"),
    "less a byte": (truncate("model.safetensors", -1), "truncated, damaged or other one"),
    "text": (
        lambda d: (d / "model.safetensors").write_text("hello" * 100),
        "truncated, damaged or other one",
    ),
    "two kinds": (both_kinds, "got Hugging Face and SavedModel"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_directory(tmp_path, case):
    spoil, message = BAD[case]
    write_safetensors(tmp_path, THEIRS)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        load_checkpoint(tmp_path)
    assert str(tmp_path) in str(caught.value)


def make(name, content=b""):
    def build(directory):
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    return build


def fifo(directory):
    os.mkfifo(directory / "pipe")
    return directory / "pipe"


PATHS = {
    "nothing there": (lambda d: d / "absent", "got nothing at .*absent"),
    "empty directory": (lambda d: d, "got an empty directory in"),
    "other files": (lambda d: make("notes.txt")(d).parent, r"got only notes\.txt in"),
    "a tflite file": (make("model.tflite"), r"another kind of file: .*model\.tflite"),
    "the weights file": (make("model.safetensors"), "Give its directory:"),
    "a pipe": (fifo, "neither a file nor a directory"),
    "a SavedModel without variables": (
        lambda d: make("saved_model.pb")(d).parent,
        r"variables\.index, got no such file",
    ),
    "a checkpoint file that names nothing": (lambda d: make("checkpoint", b"\xff")(d).parent, "got none"),
    "a checkpoint file of another folder": (
        lambda d: make("checkpoint", b'model_checkpoint_path: "gone"')(d).parent,
        r"gone\.index, as .* says",
    ),
}


@pytest.mark.parametrize("case", PATHS)
def test_bad_path(tmp_path, case):
    build, message = PATHS[case]
    with pytest.raises(InputError, match=message) as caught:
        load_checkpoint(build(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_importing_reads_no_tensorflow():
    code = (
        "import sys, mobilebert_kit.checkpoints; sys.exit(bool({'tensorflow', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
