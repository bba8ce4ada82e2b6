"""TFRecord files compressed as a whole with zlib, as the MLPerf Mobile app reads them.

    uint64 length | uint32 masked crc32c of the length | data | uint32 masked crc32c of the data

all little-endian: tensorflow/core/lib/io/record_writer.h. The checksums of all records are computed together,
since byte by byte in Python they would take longer than everything else.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobilebert_kit.errors import InputError
from mobilebert_kit.squad.files import read_bytes

MAX_RECORD_BYTES = 2**20  # a window is 3 KB, a long context 60 KB
MAX_FILE_BYTES = 2**29  # decompressed: 16 times the whole dev set

_LENGTH = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")


def _crc_tables() -> np.ndarray:
    """uint32 [4, 256]: CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), four bytes a step."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    tables = [table]
    for _ in range(3):
        tables.append((tables[-1] >> 8) ^ table[tables[-1] & 0xFF])
    return np.stack(tables)


_TABLES = _crc_tables()


def masked_crc32c(chunks: Sequence[bytes]) -> np.ndarray:
    """uint32 [len(chunks)]: the checksum that TFRecord stores for each chunk.

    The mask is record_writer.h's: rotate right by 15 bits, add 0xa282ead8.
    """
    lengths = np.array([len(chunk) for chunk in chunks], np.int64)
    crc = np.full(len(chunks), 0xFFFFFFFF, np.uint32)
    if len(chunks):
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        data = np.frombuffer(b"".join(chunks) + b"\0\0\0", np.uint8)
        order = np.argsort(-lengths, kind="stable")  # the chunks still running are always a prefix
        starts, words = starts[order], lengths[order] // 4
        for step in range(int(words[0])):
            active = int(np.searchsorted(-words, -step, side="left"))
            at = starts[:active] + 4 * step
            state = crc[:active]
            low, second = (state ^ data[at]) & 0xFF, ((state >> 8) ^ data[at + 1]) & 0xFF
            third, high = ((state >> 16) ^ data[at + 2]) & 0xFF, (state >> 24) ^ data[at + 3]
            crc[:active] = _TABLES[3][low] ^ _TABLES[2][second] ^ _TABLES[1][third] ^ _TABLES[0][high]
        rest = lengths[order] % 4
        for step in range(3):
            active = np.flatnonzero(rest > step)
            state = crc[active]
            byte = data[starts[active] + 4 * words[active] + step]
            crc[active] = (state >> 8) ^ _TABLES[0][(state ^ byte) & 0xFF]
        crc[order] = crc.copy()
    crc = ~crc
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)


def read_tfrecord(path: str | Path) -> list[bytes]:
    """The records of a zlib-compressed TFRecord file, every checksum verified.

    Raises:
        InputError: not such a file (other compression, truncated, damaged), or larger than the limits here.
    """
    data = _decompress(read_bytes(path, "a TFRecord file", max_bytes=MAX_FILE_BYTES), path)
    records: list[bytes] = []
    headers: list[bytes] = []
    stored: list[tuple[int, int]] = []
    offset = 0
    while offset < len(data):
        where = f"record {len(records)}, byte {offset} of the decompressed {path}"
        if offset + _LENGTH.size > len(data):
            raise InputError(f"Expected a record, got a truncated file: {where}. Copy the file again.")
        length, length_crc = _LENGTH.unpack_from(data, offset)
        start, end = offset + _LENGTH.size, offset + _LENGTH.size + length
        if length > MAX_RECORD_BYTES:
            raise InputError(
                f"Expected a record of {MAX_RECORD_BYTES} bytes at most, got a length of {length}: {where}. "
                "The file is damaged, or it is no TFRecord file."
            )
        if end + _CHECKSUM.size > len(data):
            raise InputError(
                f"Expected a record of {length} bytes, got {len(data) - start} bytes to the end of a "
                f"truncated file: {where}. Copy the file again."
            )
        headers.append(data[offset : offset + 8])
        records.append(data[start:end])
        stored.append((length_crc, _CHECKSUM.unpack_from(data, end)[0]))
        offset = end + _CHECKSUM.size
    computed = np.stack([masked_crc32c(headers), masked_crc32c(records)], axis=1)
    damaged = np.flatnonzero((computed != np.array(stored, np.uint32).reshape(-1, 2)).any(axis=1))
    if damaged.size:
        raise InputError(
            f"Expected records as written, got {damaged.size} with a wrong checksum, the first is record "
            f"{damaged[0]} of {path}. The file is damaged: copy it again."
        )
    return records


def tfrecord_bytes(records: Sequence[bytes]) -> bytes:
    """A zlib-compressed TFRecord file of `records`."""
    headers = [struct.pack("<Q", len(record)) for record in records]
    parts: list[bytes] = []
    checksums = zip(masked_crc32c(headers), masked_crc32c(records), strict=True)
    for header, record, (header_crc, record_crc) in zip(headers, records, checksums, strict=True):
        parts += (header, _CHECKSUM.pack(header_crc), record, _CHECKSUM.pack(record_crc))
    return zlib.compress(b"".join(parts))


def _decompress(compressed: bytes, path: str | Path) -> bytes:
    expected = "Expected a TFRecord file compressed as a whole with zlib (TFRecordOptions('ZLIB'))"
    if not compressed:
        raise InputError(f"{expected}, got an empty file: {path}.")
    if compressed.startswith(b"\x1f\x8b"):
        raise InputError(f"{expected}, got gzip: {path}. Write it again with ZLIB.")
    if len(compressed) >= _LENGTH.size:
        _, length_crc = _LENGTH.unpack_from(compressed)
        if masked_crc32c([compressed[:8]])[0] == length_crc:
            raise InputError(
                f"{expected}, got an uncompressed TFRecord file: {path}. Write it again with ZLIB."
            )
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(compressed, MAX_FILE_BYTES + 1)
    except zlib.error as error:
        raise InputError(f"{expected}, got something else or a damaged file ({error}): {path}.") from error
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{expected}, of {MAX_FILE_BYTES} bytes at most, got more: {path}.")
    if not stream.eof:
        raise InputError(f"{expected}, got a truncated one: {path}. Copy the file again.")
    if stream.unused_data:
        raise InputError(f"{expected}, got {len(stream.unused_data)} more bytes after its end: {path}.")
    return data
