"""The zip archive that torch.save has written since torch 1.6.

<any name>/data.pkl       names, shapes, strides: see torch_pickle.py
<any name>/data/<key>     one storage: raw little-endian values, never compressed
<any name>/byteorder      "little" where present
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from mobilebert_kit.checkpoints.torch_pickle import MAX_PICKLE_BYTES, read_state_dict
from mobilebert_kit.errors import InputError

_DAMAGED = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    struct.error,
)


class ZipArchive:
    """`tensors` by name, and the bytes of a `storage`."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGED as error:
            raise self._damaged(error) from error
        try:
            self._entries = self._check_entries()
            self.tensors, _ = read_state_dict(self._bytes("data.pkl"), source=str(path))
            self._check_storages()
        except BaseException:
            self._zip.close()
            raise

    def close(self) -> None:
        self._zip.close()

    def storage(self, key: str) -> bytes:
        """The values of a tensor's storage, as they are stored."""
        return self._bytes(f"data/{key}")

    def _bytes(self, name: str) -> bytes:
        try:
            return self._zip.read(self._entries[name])
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        return InputError(
            f"Expected a file of torch.save, got a truncated or damaged one: {self.path} ({error}). Copy it "
            "again from its source."
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
                    f"compressed or encrypted one in {self.path}: {info.filename}."
                )
        declared, size = sum(info.file_size for info in infos), self.path.stat().st_size
        if declared > size:
            raise InputError(
                f"Expected entries of {size} bytes at most, the file's size, got {declared} in {self.path}."
            )
        if entries["data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise InputError(
                f"Expected a data.pkl of {MAX_PICKLE_BYTES} bytes at most, got "
                f"{entries['data.pkl'].file_size} in {self.path}: it holds more than tensors."
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
        for name, tensor in self.tensors.items():
            entry = self._entries.get(f"data/{tensor.storage.key}")
            expected = tensor.storage.elements * tensor.storage.itemsize
            if entry is None or entry.file_size != expected:
                got = "no such entry" if entry is None else f"{entry.file_size} bytes"
                raise InputError(
                    f"Expected {expected} bytes in data/{tensor.storage.key} for {name} in {self.path}, got "
                    f"{got}."
                )
