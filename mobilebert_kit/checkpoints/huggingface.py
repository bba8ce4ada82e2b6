"""A Hugging Face directory of a MobileBertForQuestionAnswering: config.json and its weights."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from mobilebert_kit.checkpoints import names
from mobilebert_kit.checkpoints.integrity import listing
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
    model_type = settings.get("model_type", "mobilebert")
    if model_type != "mobilebert":
        raise InputError(
            f"Expected model_type mobilebert in {directory / 'config.json'}, got {model_type!r}. This kit "
            "takes "
            "MobileBertForQuestionAnswering."
        )
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
        targets = map_names(source, where=str(directory), headless=headless)
        tensors = {}
        for name, (canonical, transpose) in targets.items():
            tensor = source[name].read(name)
            if transpose and tensor.ndim != 2:
                raise InputError(
                    f"Expected a matrix for {name} in {directory}, got shape {list(tensor.shape)}."
                )
            tensors[canonical] = np.ascontiguousarray(tensor.T) if transpose else tensor
    return tensors, settings, tuple(sorted(source.keys() - targets.keys()))


def map_names(found: Any, *, where: str, headless: bool = False) -> dict[str, tuple[str, bool]]:
    """Hugging Face name -> (canonical name, transpose), for all names that are not unused heads or buffers.

    Raises:
        InputError: unknown names, or no question-answering head unless `headless`.
    """
    if "qa_outputs.weight" not in found and not headless:
        raise InputError(
            "Expected a MobileBERT fine-tuned for question answering (qa_outputs.weight), got no such head "
            f"in {where}"
            + (
                " but pre-training heads (cls.*): it is not fine-tuned for QA"
                if any(name.startswith("cls.") for name in found)
                else ""
            )
            + ". Fine-tune it on SQuAD first."
        )
    mapped = {name: names.from_huggingface(name) for name in found if name not in names.HUGGINGFACE_UNUSED}
    unknown = [name for name, target in mapped.items() if target is None]
    if unknown:
        raise InputError(
            f"Expected only tensors of a MobileBertForQuestionAnswering in {where}, got {len(unknown)} "
            f"others:{listing(sorted(unknown))}"
        )
    return {name: target for name, target in mapped.items() if target is not None}


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
