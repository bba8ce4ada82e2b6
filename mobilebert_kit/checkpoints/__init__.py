"""Any published checkpoint of a MobileBERT, BERT or DistilBERT -> {canonical name: float32 array}.

locate.py            what kind of checkpoint a path is    family.py             which family it is of
tensorflow_format.py TF1 checkpoints and SavedModels     saved_model_graph.py  what a SavedModel's graph tells
huggingface.py       config.json with safetensors or torch weights
torch_file.py        pytorch_model.bin without torch      torch_pickle.py       its pickle, read as data
torch_zip.py         its format since torch 1.6           torch_legacy.py       its format before
names.py             the name tables, bert_names.py BERT's; name_table.py what a table is
integrity.py         completeness, digest
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.checkpoints.huggingface import read_huggingface
from mobilebert_kit.checkpoints.integrity import content_digest, prove_complete, prove_ranges
from mobilebert_kit.checkpoints.locate import locate
from mobilebert_kit.checkpoints.saved_model_graph import graph_hints
from mobilebert_kit.checkpoints.tensorflow_format import read_variables
from mobilebert_kit.errors import InputError
from mobilebert_kit.json_files import read_json_object

__all__ = ["Checkpoint", "content_digest", "load_checkpoint", "prove_complete", "prove_ranges"]

# A published TensorFlow checkpoint has no configuration beside it; people put one there under these names.
CONFIG_NAMES = ("config.json", "mobilebert_config.json", "bert_config.json")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        tensors: canonical name -> float32 array. Not yet proven complete: see `prove_complete`.
        settings: the configuration beside it as it is, or None.
        format: "tf1", "saved_model" or "huggingface".
        digest: `content_digest` of the tensors: the same for the same weights in any format.
        ranges: of quantized training: a quantizer's published name, without /min and /max -> (min, max), two
            float32 arrays. Scalars; a kernel's may be [outputs], from a training with per-channel weights.
            Empty for other checkpoints. Not yet proven sane: see `prove_ranges`.
        vocab_path: the vocab.txt beside it, or None.
        hints: what a SavedModel's graph says of `mask_semantics` and `hidden_act`, as far as it does.
        unused_names: training-only variables and other heads that the checkpoint also holds.
        step: the training step that it was saved at, where it says so in global_step.
    """

    tensors: dict[str, np.ndarray]
    settings: dict[str, Any] | None
    format: str
    digest: str
    ranges: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    vocab_path: Path | None = None
    hints: Mapping[str, str] = field(default_factory=dict)
    unused_names: tuple[str, ...] = ()
    step: int | None = None

    @property
    def quantized(self) -> bool:
        """Whether it was trained with fake quantization, in the published way."""
        return bool(self.ranges)

    @property
    def range_variables(self) -> dict[str, np.ndarray]:
        """The min and max variables of `ranges`, by their published names."""
        ends = ("min", "max")
        return {
            f"{scope}/{end}": value
            for scope, pair in self.ranges.items()
            for end, value in zip(ends, pair, strict=True)
        }


def load_checkpoint(path: str | Path, *, headless: bool = False) -> Checkpoint:
    """Reads a MobileBERT, BERT or DistilBERT that is fine-tuned for question answering.

    Args:
        path: a TF1 checkpoint prefix or its directory, a SavedModel directory or its `variables` folder, or a
            Hugging Face directory.
        headless: take one without the question-answering head too: a pre-trained one.
    Raises:
        InputError: nothing of that kind there, damaged or incomplete files, another model, or a pickle that
            does anything but rebuild tensors (which is not run).
    """
    try:
        place = locate(Path(path))
        vocab_path = next((p for d in place.vocab_directories if (p := d / "vocab.txt").is_file()), None)
        if place.format == "huggingface":
            tensors, settings, unused = read_huggingface(place.path, headless=headless)
            return Checkpoint(
                tensors,
                settings,
                place.format,
                content_digest(tensors),
                vocab_path=vocab_path,
                unused_names=unused,
            )
        variables = read_variables(place.path, headless=headless)
        config = next(
            (p for d in place.config_directories for n in CONFIG_NAMES if (p := d / n).is_file()), None
        )
        return Checkpoint(
            variables.tensors,
            read_json_object(config, "a model configuration") if config else None,
            place.format,
            content_digest(variables.tensors),
            variables.ranges,
            vocab_path,
            graph_hints(place.graph) if place.graph else {},
            variables.unused_names,
            variables.step,
        )
    except OSError as error:
        raise InputError(
            f"Cannot read the checkpoint {path}: {error}. Check the files' permissions."
        ) from error
