"""A Hugging Face directory of a model for question answering, of any family: config.json and its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.checkpoints.family import family_of_settings, family_of_tensors
from mobilebert_kit.checkpoints.integrity import listing
from mobilebert_kit.checkpoints.name_table import NameTable, modern
from mobilebert_kit.checkpoints.names import TABLES
from mobilebert_kit.checkpoints.torch_file import TorchFile
from mobilebert_kit.errors import InputError
from mobilebert_kit.json_files import read_json_object

# In the order of preference: safetensors cannot hold code, and is checked by its own library.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# What other heads are called, and what they are for.
OTHER_HEADS = {
    "cls.": "pre-training",
    "vocab_": "pre-training",
    "classifier.": "classification",
    "pre_classifier.": "classification",
}
# What tensors are called that belong to a variant of BERT.
OTHER_VARIANTS = {
    ".distance_embedding.": "position_embedding_type relative_key",
    ".crossattention.": "add_cross_attention",
}
OTHER_WEIGHT_FILES = ("tf_model.h5", "flax_model.msgpack", "model.onnx", "adapter_model.safetensors")


class SafetensorsFile:
    """The tensors of one file: `names`, and `read(name)` as float32. Use it in a `with`."""

    def __init__(self, path: Path):
        import safetensors

        self.path = path
        self._error = safetensors.SafetensorError
        try:
            self._file = safetensors.safe_open(str(path), framework="np")
        except (self._error, OSError, ValueError) as error:
            raise InputError(
                f"Expected a safetensors file, got a truncated, damaged or other one: {path} ({error}). "
                "Copy it again "
                "from its source."
            ) from error
        self.names: tuple[str, ...] = tuple(self._file.keys())

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(self, *_: object) -> None:
        del self._file

    def read(self, name: str) -> np.ndarray:
        """The tensor as a float32 array (of F16, BF16, F32 or F64); InputError for other types."""
        dtype = str(self._file.get_slice(name).get_dtype())
        if dtype not in ("F16", "BF16", "F32", "F64"):
            raise InputError(f"Expected floating-point values for {name} in {self.path}, got {dtype}.")
        with np.errstate(over="ignore"):  # a double out of float's range becomes inf, which is reported later
            return np.asarray(self._file.get_tensor(name)).astype(np.float32, copy=False)


def read_huggingface(
    directory: Path, *, headless: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, Any], tuple[str, ...]]:
    """(canonical name -> float32 array, config.json as it is, names left unused).

    Args:
        headless: allow that the question-answering head is absent.
    Raises:
        InputError: another kind of model, missing or damaged files, or names that the mapping does not know.
    """
    settings = read_json_object(directory / "config.json", "the Hugging Face model configuration")
    family = family_of_settings(settings, directory / "config.json")
    with ExitStack() as stack:
        source = {}
        for path in weight_paths(directory):
            file = stack.enter_context(
                SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)
            )
            repeated = [name for name in file.names if name in source]
            if repeated:
                raise InputError(
                    f"Expected each tensor in one file of {directory}, got two of:{listing(repeated)}"
                )
            source.update(dict.fromkeys(file.names, file))
        table = TABLES[family or family_of_tensors(source) or "mobilebert"]
        targets = map_names(table, source, where=str(directory), headless=headless)
        tensors = {}
        for name, (canonical, transpose) in targets.items():
            tensor = source[name].read(name)
            if transpose and tensor.ndim != 2:
                raise InputError(
                    f"Expected a matrix for {name} in {directory}, got shape {list(tensor.shape)}."
                )
            tensors[canonical] = np.ascontiguousarray(tensor.T) if transpose else tensor
    return tensors, settings, tuple(sorted(source.keys() - targets.keys()))


def map_names(
    table: NameTable, found: Iterable[str], *, where: str, headless: bool = False
) -> dict[str, tuple[str, bool]]:
    """Hugging Face name -> (canonical name, transpose), for all names that are not unused heads or buffers.

    Raises:
        InputError: unknown names, two names of one variable, or no question-answering head unless `headless`.
    """
    if "qa_outputs.weight" not in found and not headless:
        others = {task: f"{p}*" for p, task in OTHER_HEADS.items() for name in found if name.startswith(p)}
        heads = " and ".join(f"a head for {task} ({prefix})" for task, prefix in others.items())
        raise InputError(
            f"Expected a {table.title} fine-tuned for question answering (qa_outputs.weight), got "
            f"{heads or 'no such head'} in {where}. Fine-tune it on SQuAD first."
        )
    mapped = {
        name: table.from_huggingface(modern(name)) for name in found if modern(name) not in table.unused
    }
    unknown = [name for name, target in mapped.items() if target is None]
    if unknown:
        variants = sorted({v for part, v in OTHER_VARIANTS.items() if any(part in name for name in unknown)})
        raise InputError(
            f"Expected only tensors of a {table.title} for question answering in {where}, got {len(unknown)} "
            f"others{' of ' + ' and '.join(variants) if variants else ''}:{listing(sorted(unknown))}"
        )
    twice = [name for name, count in Counter(mapped.values()).items() if count > 1]
    if twice:
        names = sorted(name for name, target in mapped.items() if target in twice)
        raise InputError(f"Expected one name for each variable in {where}, got two of:{listing(names)}")
    return mapped


def weight_paths(directory: Path) -> list[Path]:
    """The weight files to read: one, or the shards that an index names."""
    found = next((directory / name for name in WEIGHT_FILES if (directory / name).is_file()), None)
    if found is None:
        others = [name for name in OTHER_WEIGHT_FILES if (directory / name).is_file()]
        raise InputError(
            f"Expected one of {', '.join(WEIGHT_FILES)} in {directory}, got "
            + (
                f"{others}, which are not read. Convert them with transformers."
                if others
                else "none of them."
            )
        )
    if found.suffix != ".json":
        return [found]
    weight_map = read_json_object(found, "an index of weight shards").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"Expected a weight_map (tensor name -> file) in {found}, got {weight_map!r:.60}.")
    suffix = found.name.split(".")[1]
    shards = sorted({str(name) for name in weight_map.values()})
    odd = [name for name in shards if Path(name).name != name or not name.endswith(f".{suffix}")]
    if odd:
        raise InputError(
            f"Expected names of .{suffix} files in the same directory in {found}, got:{listing(odd)}"
        )
    missing = [name for name in shards if not (directory / name).is_file()]
    if missing:
        raise InputError(
            f"Expected {len(shards)} weight shards in {directory}, as {found.name} says; "
            f"missing:{listing(missing)}"
        )
    return [directory / name for name in shards]
