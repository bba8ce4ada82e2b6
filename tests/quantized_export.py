"""Small quantized checkpoints in the published layout, their export, and what NumPy makes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import published_quantized as published
import small_export
from checkpoint_files import write_tensorflow
from tiny_question_model import write_vocab

from mobilebert_kit.models.config import MobileBertConfig
from mobilebert_kit.runtime.scoring import run_windows

CONFIG = published.CONFIG
# The published names; not the published sizes.
PUBLISHED = replace(CONFIG, num_hidden_layers=24, num_feedforward_networks=4, num_attention_heads=1)
FILES = {"int8": "mobilebert_int8_96.tflite", "nnapi": "mobilebert_int8_96_nnapi.tflite"}
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Quantized:
    """A quantized checkpoint and its export."""

    weights: Arrays
    ranges: published.Ranges
    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def manifest(self) -> dict:
        return json.loads((self.out / "manifest.json").read_text())

    def logits(self, quantize: published.Quantize) -> np.ndarray:
        """[start or end, real tokens of all windows], of the published graph in NumPy."""
        rows = [published.logits(CONFIG, self.weights, window, quantize) for window in small_export.arrays()]
        return np.stack(rows, axis=1)[:, tokens()]

    def file_logits(self, target: str) -> np.ndarray:
        path = self.out / FILES[target]
        return np.stack(run_windows(path, small_export.windows(), progress=False))[:, tokens()]


def tokens() -> np.ndarray:
    return np.stack([window.input_mask for window in small_export.windows()]) == 1


def write(folder: Path, variables: Arrays, config: MobileBertConfig = CONFIG) -> Path:
    """As training leaves it: the mask, the clip and relu6 follow from there being ranges."""
    write_tensorflow(folder / "checkpoint" / "model.ckpt", variables)
    write_vocab(folder / "checkpoint")
    told = config.to_dict()
    del told["mask_semantics"], told["score_clip"]
    (folder / "checkpoint" / "config.json").write_text(json.dumps(told))
    small_export.write_squad(folder / "questions.json")
    return folder


def make(folder: Path, ranges: published.Ranges, *targets: str, **changes: object) -> Quantized:
    from mobilebert_kit.build import export

    weights = small_export.weights(CONFIG)
    write(folder, published.variables(weights, ranges))
    export(small_export.request(folder, *targets, **changes))
    return Quantized(weights, ranges, folder)


def seen(margin: float) -> published.Ranges:
    return published.seen_ranges(CONFIG, small_export.weights(CONFIG), small_export.arrays(), margin)
