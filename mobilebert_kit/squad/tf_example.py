"""tf.train.Example, read and written without TensorFlow or protobuf (a device has neither).

    Example      1: Features
    Features     1: map entry, repeated      entry: 1: key, 2: Feature
    Feature      1: BytesList | 2: FloatList | 3: Int64List
    ...List      1: value, repeated (numbers packed, or one by one in old files)

tensorflow/core/example/{example,feature}.proto; the encoding is protobuf's wire format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

Feature = np.ndarray | list[bytes]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


class MalformedExample(ValueError):
    """The bytes are no tf.train.Example; the caller says of which file and record."""


def parse_example(data: bytes) -> dict[str, Feature]:
    """{feature name: int64 [n], float32 [n], or a list of bytes}; a feature without a value is an empty list.

    Raises:
        MalformedExample: truncated or not of this form.
    """
    features: dict[str, Feature] = {}
    for number, body in _fields(data):
        if number != 1:
            continue
        for entry_number, entry in _fields(body):
            if entry_number != 1:
                continue
            name, feature = b"", b""
            for field, value in _fields(entry):
                if field == 1:
                    name = value
                elif field == 2:
                    feature = value
            try:
                features[name.decode("utf-8")] = _parse_feature(feature)
            except UnicodeDecodeError as error:
                raise MalformedExample(f"a feature name that is not UTF-8: {name!r}") from error
    return features


def encode_example(features: Mapping[str, Sequence[int] | np.ndarray | Sequence[bytes]]) -> bytes:
    """The Example, features in the order of their names: what TensorFlow's deterministic serializer gives.

    A feature is either bytes (a list of them) or whole numbers of 64 bits.
    """
    entries = b"".join(
        _field(1, _field(1, name.encode("utf-8")) + _field(2, _encode_feature(features[name])))
        for name in sorted(features)
    )
    return _field(1, entries)


def _encode_feature(values: Sequence[int] | np.ndarray | Sequence[bytes]) -> bytes:
    if len(values) and isinstance(values[0], bytes):
        return _field(1, b"".join(_field(1, value) for value in values))
    numbers = np.asarray(values, np.int64)
    if numbers.size and (numbers.min() < 0 or numbers.max() > 0x7F):
        packed = b"".join(_encode_varint(int(number) % 2**64) for number in numbers)
    else:
        packed = numbers.astype(np.uint8).tobytes()
    return _field(3, _field(1, packed) if packed else b"")


def _field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | _LENGTH]) + _encode_varint(len(body)) + body


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _decode_varint(data: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for position in range(_MAX_VARINT_BYTES):
        if offset + position >= len(data):
            raise MalformedExample("it ends inside a number")
        byte = data[offset + position]
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value, offset + position + 1
    raise MalformedExample("a number of more than ten bytes")


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(field number, bytes) of each length-delimited field; the others are skipped, as protobuf does."""
    offset, end = 0, len(data)
    while offset < end:
        # Nearly all keys and lengths are one byte; a file has millions, so those are read in place.
        key = data[offset]
        offset += 1
        if key >= 0x80:
            key, offset = _decode_varint(data, offset - 1)
        wire_type = key & 7
        if wire_type == _LENGTH:
            length = data[offset] if offset < end else 0x80
            offset += 1
            if length >= 0x80:
                length, offset = _decode_varint(data, offset - 1)
            if length > end - offset:
                raise MalformedExample(f"a field of {length} bytes where {end - offset} are left")
            yield key >> 3, data[offset : offset + length]
            offset += length
        elif wire_type == _VARINT:
            _, offset = _decode_varint(data, offset)
        elif wire_type in (_FIXED64, _FIXED32):
            offset += 8 if wire_type == _FIXED64 else 4
            if offset > end:
                raise MalformedExample("it ends inside a number")
        else:
            raise MalformedExample(f"a field of unknown wire type {wire_type}")


def _parse_feature(data: bytes) -> Feature:
    feature: Feature = []
    for kind, body in _fields(data):
        if kind == 1:
            feature = [value for number, value in _fields(body) if number == 1]
        elif kind == 2:
            packed = b"".join(value for number, value in _fields(body) if number == 1)
            if len(packed) % 4:
                raise MalformedExample("a float list that is no multiple of four bytes")
            feature = np.frombuffer(packed, "<f4")
        elif kind == 3:
            feature = _parse_int64_list(body)
    return feature


def _parse_int64_list(body: bytes) -> np.ndarray:
    packed = bytearray()
    offset = 0
    while offset < len(body):
        key, offset = _decode_varint(body, offset)
        if key == 1 << 3 | _LENGTH:
            length, start = _decode_varint(body, offset)
            offset = start + length
        elif key == 1 << 3 | _VARINT:  # not packed: one number
            start = offset
            _, offset = _decode_varint(body, start)
        else:
            raise MalformedExample(f"field key {key} in a list of whole numbers")
        if offset > len(body):
            raise MalformedExample("it ends inside a list of numbers")
        packed += body[start:offset]
    return _decode_varints(np.frombuffer(packed, np.uint8))


def _decode_varints(encoded: np.ndarray) -> np.ndarray:
    """int64 [n] of n varints one after the other (uint8)."""
    last = encoded < 0x80
    if last.all():  # masks, segments, flags: one byte each
        return encoded.astype(np.int64)
    if not last[-1]:
        raise MalformedExample("it ends inside a number")
    ends = np.flatnonzero(last) + 1
    starts = np.concatenate([[0], ends[:-1]])
    if (ends - starts).max() > _MAX_VARINT_BYTES:
        raise MalformedExample("a number of more than ten bytes")
    place = np.arange(len(encoded)) - np.repeat(starts, ends - starts)
    septets = (encoded & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(septets, starts).astype(np.int64)
