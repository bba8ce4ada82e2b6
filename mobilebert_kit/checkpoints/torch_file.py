"""`pytorch_model.bin` without torch: the zip archive that torch.save has written since torch 1.6.

<any name>/data.pkl       names, shapes, strides: see torch_pickle.py
<any name>/data/<key>     one storage: raw little-endian values, never compressed
<any name>/byteorder      "little" where present
"""

from __future__ import annotations

import math
import struct
import zipfile
from pathlib import Path

import numpy as np

from mobilebert_kit.checkpoints.torch_pickle import read_state_dict
from mobilebert_kit.errors import InputError

MAX_PICKLE_BYTES = 4 * 2**20  # 1,113 tensors take a quarter of one
# Tied weights share a storage; a file that asks for more than this of its own size is out to fill the memory.
MAX_SHARING = 4
_DAMAGED = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    struct.error,
)


class TorchFile:
    """The tensors of one file: `names`, and `read(name)` as float32. Use it in a `with`."""

    def __init__(self, path: Path):
        self.path = path
        self._refuse_other_formats()
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGED as error:
            raise self._damaged(error) from error
        try:
            self._entries = self._check_entries()
            self._tensors = read_state_dict(self._bytes("data.pkl"), source=str(path))
            self._check_storages()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tensors)

    def read(self, name: str) -> np.ndarray:
        """The tensor as a float32 array (of half, bfloat16, float or double); InputError for other types."""
        tensor = self._tensors[name]
        dtype = {"bfloat16": "<u2"}.get(tensor.storage.dtype, tensor.storage.dtype)
        if dtype == tensor.storage.dtype and np.dtype(dtype).kind != "f":
            raise InputError(f"Expected floating-point values for {name} in {self.path}, got {dtype}.")
        itemsize = np.dtype(dtype).itemsize
        strides = tuple(stride * itemsize for stride in tensor.strides)
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, np.float32)
        data = self._bytes(f"data/{tensor.storage.key}")
        view = np.ndarray(tensor.shape, dtype, data, tensor.offset * itemsize, strides)
        if tensor.storage.dtype == "bfloat16":
            return (view.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):  # a double out of float's range becomes inf, which is reported later
            return np.asarray(view, dtype=np.float32, order="C")

    def _bytes(self, name: str) -> bytes:
        try:
            return self._zip.read(self._entries[name])
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        return InputError(
            f"Expected a file of torch.save, got a truncated or damaged one: {self.path} ({error}). Copy it "
            "again "
            "from its source."
        )

    def _refuse_other_formats(self) -> None:
        with self.path.open("rb") as file:
            head = file.read(2)
        if head[:1] == b"\x80" and head != b"\x80":
            raise InputError(
                "Expected the zip format of torch.save, got the one from before torch 1.6 (a bare pickle) "
                "in "
                f"{self.path}. Save it again with torch 1.6 or newer: state = torch.load(path, "
                "weights_only=True); "
                "safetensors.torch.save_file(state, 'model.safetensors')"
            )
        if head != b"PK":
            raise InputError(
                f"Expected a file of torch.save (a zip archive), got another or an empty file: {self.path}."
            )

    def _check_entries(self) -> dict[str, zipfile.ZipInfo]:
        """The archive's entries without their common folder, once they are seen to be plain."""
        infos = self._zip.infolist()
        roots = {info.filename.split("/", 1)[0] for info in infos}
        entries = {info.filename.split("/", 1)[-1]: info for info in infos}
        if len(roots) != 1 or len(entries) != len(infos) or "data.pkl" not in entries:
            raise InputError(
                f"Expected one folder with data.pkl and data/ in the archive {self.path}, got "
                f"{[info.filename for info in infos[:10]]}. Is it a torch.save file?"
            )
        for info in infos:
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
                raise InputError(
                    "Expected entries that are stored as they are, as torch.save writes them, got a "
                    "compressed or "
                    f"encrypted one in {self.path}: {info.filename}."
                )
        declared, size = sum(info.file_size for info in infos), self.path.stat().st_size
        if declared > size:
            raise InputError(
                f"Expected entries of {size} bytes at most, the file's size, got {declared} in {self.path}."
            )
        if entries["data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise InputError(
                f"Expected a data.pkl of {MAX_PICKLE_BYTES} bytes at most, got "
                f"{entries['data.pkl'].file_size} in "
                f"{self.path}: it holds more than tensors."
            )
        if "byteorder" in entries:
            try:
                order = self._zip.read(entries["byteorder"])
            except _DAMAGED as error:
                raise self._damaged(error) from error
            if order != b"little":
                raise InputError(f"Expected byteorder little in {self.path}, got {order[:20]!r}.")
        return entries

    def _check_storages(self) -> None:
        total = 0
        for name, tensor in self._tensors.items():
            entry = self._entries.get(f"data/{tensor.storage.key}")
            itemsize = 2 if tensor.storage.dtype == "bfloat16" else np.dtype(tensor.storage.dtype).itemsize
            expected = tensor.storage.elements * itemsize
            if entry is None or entry.file_size != expected:
                got = "no such entry" if entry is None else f"{entry.file_size} bytes"
                raise InputError(
                    f"Expected {expected} bytes in data/{tensor.storage.key} for {name} in {self.path}, got "
                    f"{got}."
                )
            total += math.prod(tensor.shape) * itemsize
        size = self.path.stat().st_size
        if total > MAX_SHARING * size:
            raise InputError(
                f"Expected tensors of about {size} bytes, the size of {self.path}, got {total} bytes."
            )
