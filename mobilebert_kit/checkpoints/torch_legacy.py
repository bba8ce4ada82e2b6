"""The file that torch.save wrote before torch 1.6: five pickles, then the storages, one after the other.

    magic number | protocol 1001 | {"little_endian": True, ...} | dict of tensors | [storage key, ...]
    int64 elements, values | int64 elements, values | ...        in the order of the keys
Source: torch/serialization.py, _legacy_save.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobilebert_kit.checkpoints.torch_pickle import MAX_PICKLE_BYTES, Tensor, read_pickle, read_state_dict
from mobilebert_kit.errors import InputError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


class LegacyArchive:
    """`tensors` by name, and the bytes of a `storage`."""

    def __init__(self, path: Path):
        self.path = path
        self._file = path.open("rb")
        try:
            program = self._file.read(MAX_PICKLE_BYTES)
            self.tensors, keys, end = self._read_pickles(program)
            self._places = self._locate_storages(keys, end)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def storage(self, key: str) -> bytes:
        """The values of a tensor's storage, as they are stored."""
        start, size = self._places[key]
        self._file.seek(start)
        return self._file.read(size)

    def _read_pickles(self, program: bytes) -> tuple[dict[str, Tensor], Any, int]:
        """(tensors by name, what stands in the place of the storages' keys, where the storages begin)."""
        source, at, head = str(self.path), 0, []
        for _ in range(3):
            value, at = read_pickle(program, at, source=source)
            head.append(value)
            if head[0] != MAGIC:
                break
        system = head[2] if len(head) == 3 and head[1] == PROTOCOL and isinstance(head[2], dict) else {}
        if system.get("little_endian") is not True:
            raise InputError(
                f"Expected the head of a little-endian torch.save file in {source}, got another pickle. Save "
                "the weights again with torch.save(model.state_dict(), ...)."
            )
        tensors, at = read_state_dict(program, at, source=source)
        keys, at = read_pickle(program, at, source=source)
        return tensors, keys, at

    def _locate_storages(self, keys: Any, at: int) -> dict[str, tuple[int, int]]:
        """Storage key -> (first byte, bytes), once they are seen to fill the rest of the file exactly."""
        storages = {tensor.storage for tensor in self.tensors.values()}
        by_key = {storage.key: storage for storage in storages}
        plain = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        if not plain or sorted(keys) != sorted(storage.key for storage in storages):
            raise InputError(
                f"Expected the keys of {len(storages)} storages after the tensors in {self.path}, got others."
            )
        size, places = self.path.stat().st_size, {}
        for storage in (by_key[key] for key in keys):
            self._file.seek(at)
            head, values = self._file.read(8), storage.elements * storage.itemsize
            at += 8 + values
            if at > size or int.from_bytes(head, "little") != storage.elements:
                raise self._damaged(f"not {storage.elements} values in storage {storage.key}")
            places[storage.key] = at - values, values
        if at != size:
            raise self._damaged(f"{size - at} bytes more than its tensors take")
        return places

    def _damaged(self, found: str) -> InputError:
        return InputError(
            f"Expected a file of torch.save, got a truncated or damaged one: {self.path} ({found}). Copy it "
            "again from its source."
        )
