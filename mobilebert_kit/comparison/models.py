"""Any model that the kit can run, opened by what its path holds; and what two of them must agree on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mobilebert_kit.comparison.batches import Logits
from mobilebert_kit.comparison.huggingface import HuggingFaceModel
from mobilebert_kit.comparison.onnx import OnnxBatches
from mobilebert_kit.comparison.runtime_file import RuntimeFile
from mobilebert_kit.comparison.saved_model import SavedModel
from mobilebert_kit.errors import InputError
from mobilebert_kit.squad.tokenizer import load_vocab
from mobilebert_kit.squad.windows import MAX_SEQ_LENGTH, Window

FILES = {".tflite": RuntimeFile, ".xml": RuntimeFile, ".onnx": OnnxBatches}  # by suffix
FOLDERS = {  # by a file in it
    "saved_model.pb": SavedModel,
    "*.safetensors": HuggingFaceModel,
    "*.bin": HuggingFaceModel,
}


class Model(Protocol):
    """A model that gives logits; it is loaded when it is made."""

    kind: str
    path: Path
    inputs: dict[str, str]  # all of them: {the kit's name: the model's own}
    sequence_length: int | None  # that it is fixed to; None: any

    def logits(self, windows: Sequence[Window]) -> Logits:
        """(start, end), float32 [N, S] each. InputError where the model cannot take these windows."""
        ...


def open_model(path: str | Path) -> Model:
    """The model at `path`: a .tflite, .xml or .onnx file, a SavedModel or a Hugging Face directory.

    Raises:
        InputError: none of these, one that cannot be loaded, or whose tensors are not known by name; or what
            runs it is not installed.
    """
    path = Path(path)
    accepted = "a .tflite, .xml or .onnx file, a SavedModel directory, or a Hugging Face directory"
    if path.is_dir():
        found = {reader for pattern, reader in FOLDERS.items() if any(path.glob(pattern))}
        if len(found) == 1:
            return found.pop()(path)
        got = "a folder that is both of the latter" if found else f"one without {' or '.join(FOLDERS)}"
        raise InputError(f"Expected {accepted}, got {got}: {path}. Give the folder of one model.")
    if path.with_name(path.name + ".index").is_file():
        raise InputError(
            f"Expected {accepted}, got a TF1 checkpoint: {path}. Export it first (mobilebert_kit.export "
            "--target float) and compare the .tflite file."
        )
    if not path.is_file() or path.suffix not in FILES:
        got = "another kind of file" if path.is_file() else "no such file"
        raise InputError(f"Expected {accepted}, got {got}: {path}. Check the path.")
    return FILES[path.suffix](path)


def _folder(model: Model) -> Path:
    return model.path if model.path.is_dir() else model.path.parent


def common_length(models: Sequence[Model], wanted: int | None) -> int:
    """The sequence length that both take.

    Args:
        wanted: where given, it must be that of every model with a fixed one; None: theirs, else 384.
    Raises:
        InputError: there is none.
    """
    asked = {} if wanted is None else {"--max_seq_length": wanted}
    fixed = {str(m.path): m.sequence_length for m in models if m.sequence_length is not None}
    lengths = set((asked | fixed).values())
    if len(lengths) > 1:
        got = ", ".join(f"{length} ({where})" for where, length in (asked | fixed).items())
        raise InputError(
            f"Expected one sequence length, for both must read the same windows, got {got}. Export one of "
            "the models for the other's."
        )
    return next(iter(lengths), MAX_SEQ_LENGTH)


def common_vocab(models: Sequence[Model], path: str | None) -> dict[str, int]:
    """The vocabulary in `path`, else that beside the models.

    Raises:
        InputError: none is there, or each model has its own and they differ.
    """
    paths = [Path(path)] if path else [place for model in models if (place := _vocab_beside(model))]
    if not paths:
        where = " or ".join(str(model.path) for model in models)
        raise InputError(f"Expected a vocabulary, got no vocab.txt beside {where}. Name one with --vocab.")
    vocabs = [load_vocab(place) for place in dict.fromkeys(paths)]
    if any(vocab != vocabs[0] for vocab in vocabs):
        raise InputError(
            f"Expected one vocabulary, for both must read the same tokens, got two that differ: {paths[0]} "
            f"and {paths[1]}. Name the right one with --vocab, if one of them is there by mistake."
        )
    return vocabs[0]


def _vocab_beside(model: Model) -> Path | None:
    """A SavedModel may carry it in assets/, or lie in the folder of an export."""
    folder = _folder(model)
    places = [folder, folder / "assets"] + ([folder.parent] if isinstance(model, SavedModel) else [])
    return next((place / "vocab.txt" for place in places if (place / "vocab.txt").is_file()), None)
