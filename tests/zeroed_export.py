"""Exports of small models most of whose dense weights are zero, of either family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import small_bert
import small_export
from safetensors.numpy import load_file, save_file
from small_export import request, write_squad

from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.models.bert_config import BertConfig
from mobilebert_kit.models.config import MobileBertConfig

SHARE = 0.6
# Kernels of 1,024 elements at least: smaller ones the converter leaves float in a dynamic range file.
MOBILEBERT = replace(small_export.CONFIG, hidden_size=64, intra_bottleneck_size=32, intermediate_size=64)


def _write_mobilebert(folder: Path) -> None:
    small_export.write_checkpoint(folder, small_export.weights(MOBILEBERT), MOBILEBERT)


@dataclass(frozen=True)
class Family:
    config: MobileBertConfig | BertConfig
    write: Callable[[Path], object]
    targets: tuple[str, ...]


FAMILIES = {
    "mobilebert": Family(MOBILEBERT, _write_mobilebert, ("float", "fp16", "dynamic", "int8", "nnapi")),
    "bert": Family(small_bert.BERT, small_bert.write_checkpoint, ("float", "dynamic", "int8")),
}


def in_layer(name: str) -> bool:
    """Whether a variable is a kernel of attention or feed-forward, by its canonical or transformers' name."""
    return "encoder" in name and name.endswith(("/kernel", ".weight")) and "LayerNorm" not in name


def zeroed(tensors: dict[str, np.ndarray], share: float = SHARE) -> dict[str, np.ndarray]:
    """`tensors`; of every kernel of an encoder layer that share is zero, at random, and no other weight.

    Folded into a kernel, a gamma of 0 would make a whole output zero.
    """
    random = np.random.default_rng(1)
    pruned = {name: np.where(value == 0, value.dtype.type(0.01), value) for name, value in tensors.items()}
    for name in filter(in_layer, pruned):
        value = pruned[name]
        value.flat[random.permutation(value.size)[: round(share * value.size)]] = 0
    return pruned


def export_zeroed(folder: Path, family: Family) -> dict[str, np.ndarray]:
    """Exports the targets of `family` to `folder`/out, of `folder`/checkpoint; its canonical tensors."""
    from mobilebert_kit.build import export

    folder.mkdir()
    family.write(folder / "checkpoint")
    file = folder / "checkpoint" / "model.safetensors"
    save_file(zeroed(load_file(file)), file, metadata={"format": "pt"})
    write_squad(folder / "questions.json")
    export(request(folder, *family.targets))
    return load_checkpoint(folder / "checkpoint").tensors
