"""`pytorch_model.bin` without torch: the tensors of a file of torch.save, whichever format it has."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mobilebert_kit.checkpoints.torch_legacy import LegacyArchive
from mobilebert_kit.checkpoints.torch_zip import ZipArchive
from mobilebert_kit.errors import InputError

# Tied weights share a storage; a file that asks for more than this of its own size is out to fill the memory.
MAX_SHARING = 4
# By the first bytes: a zip archive, or the opcode PROTO of a pickle.
FORMATS = {b"PK": ZipArchive, b"\x80": LegacyArchive}


class TorchFile:
    """The tensors of one file: `names`, and `read(name)` as float32. Use it in a `with`.

    Raises InputError for a file that is damaged, or holds anything but tensors; nothing in it is run.
    """

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            head = file.read(2)
        archive = next((kind for magic, kind in FORMATS.items() if head.startswith(magic)), None)
        if archive is None:
            raise InputError(
                "Expected a file of torch.save (a zip archive or a pickle), got another or an empty file: "
                f"{path}."
            )
        self._archive = archive(path)
        try:
            self._check_size()
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._archive.tensors)

    def read(self, name: str) -> np.ndarray:
        """The tensor as a float32 array (of half, bfloat16, float or double); InputError for other types."""
        tensor = self._archive.tensors[name]
        dtype = {"bfloat16": "<u2"}.get(tensor.storage.dtype, tensor.storage.dtype)
        if dtype == tensor.storage.dtype and np.dtype(dtype).kind != "f":
            raise InputError(f"Expected floating-point values for {name} in {self.path}, got {dtype}.")
        itemsize = np.dtype(dtype).itemsize
        strides = tuple(stride * itemsize for stride in tensor.strides)
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, np.float32)
        data = self._archive.storage(tensor.storage.key)
        view = np.ndarray(tensor.shape, dtype, data, tensor.offset * itemsize, strides)
        if tensor.storage.dtype == "bfloat16":
            return (view.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):  # a double out of float's range becomes inf, which is reported later
            return np.asarray(view, dtype=np.float32, order="C")

    def _check_size(self) -> None:
        tensors = self._archive.tensors.values()
        total = sum(math.prod(tensor.shape) * tensor.storage.itemsize for tensor in tensors)
        size = self.path.stat().st_size
        if total > MAX_SHARING * size:
            raise InputError(
                f"Expected tensors of about {size} bytes, the size of {self.path}, got {total} bytes."
            )
