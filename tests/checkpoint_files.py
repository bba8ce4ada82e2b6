"""Writes small checkpoints of every format, each by other means than the kit reads it."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import numpy as np

from mobilebert_kit.models.config import MobileBertConfig

SMALL = MobileBertConfig(
    vocab_size=50,
    embedding_size=8,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    intra_bottleneck_size=12,
    intermediate_size=20,
    num_feedforward_networks=3,
    max_position_embeddings=16,
    type_vocab_size=2,
)


def random_tensors(config: MobileBertConfig = SMALL, seed: int = 0) -> dict[str, np.ndarray]:
    """Canonical name -> float32 values that float16 and bfloat16 hold exactly."""
    rng = np.random.default_rng(seed)
    shapes = config.variable_shapes()
    return {name: rng.integers(-64, 64, shape).astype(np.float32) / 64 for name, shape in shapes.items()}


def huggingface_name(canonical: str) -> str:
    """The way of transformers' former load_tf_weights_in_mobilebert: by replacing words, not by a table."""
    if canonical.startswith("cls/squad/output_"):
        return "qa_outputs." + {"weights": "weight", "bias": "bias"}[canonical[len("cls/squad/output_") :]]
    words = ("mobile" + canonical).replace("ffn_layer_", "ffn/").replace("layer_", "layer/").split("/")
    words = [{"FakeLayerNorm": "LayerNorm"}.get(word, word) for word in words]
    words[-1] = {"kernel": "weight", "gamma": "weight", "beta": "bias"}.get(words[-1], words[-1])
    if words[-1].endswith("_embeddings"):
        words.append("weight")
    return ".".join(words)


def huggingface_tensors(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {huggingface_name(name): t.T if name.endswith("/kernel") else t for name, t in tensors.items()}


def huggingface_config(config: MobileBertConfig = SMALL, **changes: object) -> dict[str, object]:
    """The keys that transformers 5.23 writes, as far as a model's size and structure go."""
    raw = {
        key: value for key, value in config.to_dict().items() if key not in ("mask_semantics", "score_clip")
    }
    raw |= {
        "architectures": ["MobileBertForQuestionAnswering"],
        "classifier_activation": True,
        "layer_norm_eps": 1e-12,
        "model_type": "mobilebert",
        "true_hidden_size": config.intra_bottleneck_size,
    }
    return raw | changes


def write_config(directory: Path, raw: dict[str, object] | None = None) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(raw or huggingface_config()), encoding="utf-8")


def write_safetensors(
    directory: Path, tensors: dict[str, np.ndarray], name: str = "model.safetensors"
) -> None:
    from safetensors.numpy import save_file

    write_config(directory)
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, str(directory / name))


def write_tensorflow(prefix: Path, tensors: dict[str, np.ndarray]) -> None:
    import tensorflow as tf

    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )


# A pickle assembler: the instructions that torch.save emits, one function each.
STORAGE_CLASS = {"<f4": "FloatStorage", "<f8": "DoubleStorage", "<f2": "HalfStorage", "<i8": "LongStorage"}
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(kind: str, key: str, elements: int) -> bytes:
    return (
        b"("
        + text("storage")
        + f"ctorch\n{kind}\n".encode()
        + text(key)
        + text("cpu")
        + number(elements)
        + b"tQ"
    )


def tensor(stored: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    view = stored + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + ORDERED_DICT
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + view + b"tR"


def state_dict(items: dict[str, bytes]) -> bytes:
    metadata = b"}" + text("_metadata") + ORDERED_DICT + b"sb"
    return (
        b"\x80\x02"
        + ORDERED_DICT
        + b"("
        + b"".join(text(k) + v for k, v in items.items())
        + b"u"
        + metadata
        + b"."
    )


def write_archive(path: Path, program: bytes, storages: dict[str, bytes], **other: bytes) -> None:
    """The zip of torch.save; `other` are further entries by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = {"data.pkl": program, "byteorder": b"little", **{f"data/{k}": v for k, v in storages.items()}}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in (entries | {"version": b"3\n"} | other).items():
            archive.writestr(f"archive/{name}", value)


def write_bin(directory: Path, tensors: dict[str, np.ndarray], name: str = "pytorch_model.bin") -> None:
    write_config(directory)
    items, storages = {}, {}
    for key, (tensor_name, value) in enumerate(tensors.items()):
        # A transposed array is stored as it lies in memory, with strides: torch saves views like that.
        stored = storage(STORAGE_CLASS[value.dtype.str], str(key), value.size)
        strides = tuple(stride // value.itemsize for stride in value.strides)
        items[tensor_name] = tensor(stored, 0, value.shape, strides)
        storages[str(key)] = value.tobytes(order="A")
    write_archive(directory / name, state_dict(items), storages)
