"""pytorch_model.bin without torch: values and strides, and everything that is not a plain dict of tensors."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import zipfile

import numpy as np
import pytest
from checkpoint_files import ORDERED_DICT, number, numbers, state_dict, storage, tensor, text, write_archive

from mobilebert_kit.checkpoints.torch_file import TorchFile
from mobilebert_kit.errors import InputError

VALUES = np.arange(24, dtype=np.float32)
FLOATS = storage("FloatStorage", "0", 24)


def read(
    tmp_path, program: bytes, storages: dict[str, bytes] | None = None, **other: bytes
) -> dict[str, np.ndarray]:
    path = tmp_path / "pytorch_model.bin"
    write_archive(path, program, {"0": VALUES.tobytes()} if storages is None else storages, **other)
    with TorchFile(path) as file:
        return {name: file.read(name) for name in file.names}


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "expected"),
    [
        (0, (4, 6), (6, 1), VALUES.reshape(4, 6)),
        (0, (6, 4), (1, 6), VALUES.reshape(4, 6).T),
        (0, (2, 3, 4), (12, 1, 3), VALUES.reshape(2, 4, 3).transpose(0, 2, 1)),
        (7, (3,), (2,), VALUES[7:12:2]),
        (23, (), (), VALUES[23]),
        (0, (0, 5), (5, 1), np.zeros((0, 5))),
        (5, (1, 4), (0, 1), VALUES[None, 5:9]),  # as position_ids are: arange(n).expand(1, n)
    ],
)
def test_views(tmp_path, offset, shape, strides, expected):
    items = {"a": tensor(FLOATS, offset, shape, strides), "whole": tensor(FLOATS, 0, (24,), (1,))}
    found = read(tmp_path, state_dict(items))
    assert found["a"].dtype == np.float32 and found["a"].shape == np.shape(expected)
    assert np.array_equal(found["a"], expected)
    assert np.array_equal(found["whole"], VALUES)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("HalfStorage", VALUES.astype("<f2").tobytes()),
        ("DoubleStorage", VALUES.astype("<f8").tobytes()),
        ("BFloat16Storage", (VALUES.view("<u4") >> 16).astype("<u2").tobytes()),
    ],
)
def test_float_types(tmp_path, kind, data):
    found = read(tmp_path, state_dict({"a": tensor(storage(kind, "0", 24), 0, (4, 6), (6, 1))}), {"0": data})
    assert found["a"].dtype == np.float32
    assert np.array_equal(found["a"], VALUES.reshape(4, 6))


def test_parameters_newer_protocols_and_memo(tmp_path):
    one = tensor(FLOATS, 0, (24,), (1,))
    parameter = b"ctorch._utils\n_rebuild_parameter\n(" + one + b"\x88" + ORDERED_DICT + b"tR"
    program = b"\x80\x04\x95" + bytes(8) + b"}\x94(\x8c\x01a" + parameter + b"r\x00\xff\xff\x7f"
    program += b"\x8c\x01bj\x00\xff\xff\x7fu."
    found = read(tmp_path, program)
    assert np.array_equal(found["a"], VALUES) and np.array_equal(found["b"], VALUES)


class Call:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def nested(depth: int) -> bytes:
    """A tuple that would print as 2**depth items."""
    return b")" + b"q\x00h\x00\x86" * depth


BAD = {
    "os.system": (
        lambda p: pickle.dumps({"a": Call(os.system, f"touch {p}")}),
        r"a reference to \w+\.system",
    ),
    "os.system, protocol 0": (
        lambda p: pickle.dumps(Call(os.system, f"touch {p}"), 0),
        r"reference to \w+\.system",
    ),
    "subprocess": (
        lambda p: pickle.dumps(Call(subprocess.call, ["touch", str(p)])),
        r"reference to subprocess\.call",
    ),
    "eval": (lambda p: pickle.dumps(Call(eval, f"open({str(p)!r}, 'w')")), r"reference to builtins\.eval"),
    "INST": (lambda p: f"(S'touch {p}'\nios\nsystem\n.".encode(), "the instruction STRING"),
    "OBJ": (lambda p: b"(cos\nsystem\n" + text(f"touch {p}") + b"o.", r"reference to os\.system"),
    "NEWOBJ": (lambda p: b"ccollections\nOrderedDict\n)\x81.", "the instruction NEWOBJ"),
    "EXT1": (lambda p: b"\x82\x01.", "the instruction EXT1"),
    "PERSID": (lambda p: b"P0\n.", "the instruction PERSID"),
    "dotted name": (
        lambda p: b"\x80\x04\x8c\x05torch\x8c\x0fstorage.os.path\x93.",
        r"torch\.storage\.os\.path",
    ),
    "unknown torch name": (
        lambda p: b"ctorch._utils\n_rebuild_wrapper_subclass\n.",
        "_rebuild_wrapper_subclass",
    ),
    "load from bytes": (lambda p: b"ctorch.storage\n_load_from_bytes\n.", "_load_from_bytes"),
    "call of a storage class": (
        lambda p: b"ctorch\nFloatStorage\n)R.",
        r"call of torch\.FloatStorage with 0",
    ),
    "call of a string": (lambda p: text("os.system") + b")R.", "a str where it does not belong"),
    "OrderedDict of something": (lambda p: b"ccollections\nOrderedDict\n(K\x01tR.", "OrderedDict with 1"),
    "attributes of a dict": (lambda p: b"}}b.", "attributes set on something else"),
    "attributes of a tensor": (
        lambda p: tensor(FLOATS, 0, (1,), (1,)) + b"}b.",
        "attributes set on something else",
    ),
    "attributes of nothing": (lambda p: b"}b.", "attributes set on something else"),
    "persistent id": (lambda p: text("0") + b"Q.", "persistent id that is not a storage"),
    "persistent id of five": (
        lambda p: numbers((1, 2, 3, 4, 5)) + b"Q.",
        "persistent id that is not a storage",
    ),
    "negative elements": (lambda p: storage("FloatStorage", "0", -1) + b".", "not a natural number"),
    "storage without an entry": (
        lambda p: state_dict({"a": tensor(storage("FloatStorage", "9", 24), 0, (1,), (1,))}),
        r"data/9 for a in .*, got no such entry",
    ),
    "key out of its folder": (
        lambda p: state_dict({"a": tensor(storage("FloatStorage", "../../etc/passwd", 24), 0, (1,), (1,))}),
        "no such entry",
    ),
    "storage of another size": (
        lambda p: state_dict({"a": tensor(storage("FloatStorage", "0", 25), 0, (1,), (1,))}),
        "Expected 100 bytes in data/0 for a in .*, got 96 bytes",
    ),
    "shape past the end": (lambda p: state_dict({"a": tensor(FLOATS, 0, (25,), (1,))}), r"shape \(25,\)"),
    "offset past the end": (lambda p: state_dict({"a": tensor(FLOATS, 20, (5,), (1,))}), "offset 20"),
    "stride past the end": (
        lambda p: state_dict({"a": tensor(FLOATS, 0, (3, 2), (12, 1))}),
        r"strides \(12, 1\)",
    ),
    "one value a million times": (
        lambda p: state_dict({"a": tensor(FLOATS, 0, (10**6,), (0,))}),
        r"strides \(0,\)",
    ),
    "negative stride": (lambda p: state_dict({"a": tensor(FLOATS, 9, (2,), (-1,))}), "not a natural number"),
    "negative size": (
        lambda p: state_dict({"a": tensor(FLOATS, 0, (-2, -2), (1, 1))}),
        "not a natural number",
    ),
    "strides of another rank": (
        lambda p: state_dict({"a": tensor(FLOATS, 0, (2, 2), (1,))}),
        r"strides \(1,\)",
    ),
    "rank 9": (lambda p: state_dict({"a": tensor(FLOATS, 0, (1,) * 9, (1,) * 9)}), "at most 8"),
    "shape that never ends": (
        lambda p: b"ctorch._utils\n_rebuild_tensor_v2\n(" + FLOATS + number(0) + nested(60) + b"}}}tR.",
        "not a natural number",
    ),
    "no tensor of its own": (
        lambda p: b"ctorch._utils\n_rebuild_parameter\n(NNNtR.",
        "parameter that is not a tensor",
    ),
    "a list": (lambda p: b"](K\x01K\x02e.", "a dict of tensors in .*, got a list"),
    "appended to nothing": (lambda p: b"K\x01a.", "an instruction without its operand"),
    "appended to a dict": (lambda p: b"}K\x01a.", "a dict where it does not belong"),
    "a trainer's state": (lambda p: b"}" + text("epoch") + b"K\x03s.", r"something else under \['epoch'\]"),
    "a tensor alone": (
        lambda p: tensor(FLOATS, 0, (1,), (1,)) + b".",
        "a dict of tensors in .*, got a Tensor",
    ),
    "keys that are no strings": (lambda p: b"}K\x01K\x02s.", "keys are not strings"),
    "an unhashable key": (lambda p: b"}}K\x02s.", "keys are not strings"),
    "memo entry not set": (lambda p: b"j\xff\xff\xff\x7f.", "memo entry 2147483647"),
    "nothing": (lambda p: b"", "a truncated pickle"),
    "stack underflow": (lambda p: b"\x85.", "an instruction without its operand"),
    "no mark": (lambda p: b"t.", "an instruction without its operand"),
    "left over": (lambda p: b"}}.", "values left over"),
    "string past the end": (lambda p: b"X\xff\xff\xff\xff.", "a truncated pickle"),
    "line without an end": (lambda p: b"ctorch", "a truncated pickle"),
    "no UTF-8": (lambda p: b"X\x01\x00\x00\x00\xff.", "not UTF-8"),
    "protocol 9": (lambda p: b"\x80\x09.", "protocol newer than 5"),
    "no opcode": (lambda p: b"\xfe.", r"the instruction b'\\xfe'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pickle_is_refused_and_nothing_runs(tmp_path, case):
    program, message = BAD[case]
    sentinel = tmp_path / "ran"
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, program(sentinel))
    assert "pytorch_model.bin" in str(caught.value)
    assert not sentinel.exists()


def test_sharing_has_a_limit(tmp_path):
    data = {"0": bytes(4 * 10**6)}
    items = {f"t{i}": tensor(storage("FloatStorage", "0", 10**6), 0, (10**6,), (1,)) for i in range(5)}
    with pytest.raises(InputError, match="Expected tensors of about"):
        read(tmp_path, state_dict(items), data)
    assert len(read(tmp_path, state_dict(dict(list(items.items())[:2])), data)) == 2


def test_integers_are_not_weights(tmp_path):
    program = state_dict({"a": tensor(storage("LongStorage", "0", 12), 0, (12,), (1,))})
    with pytest.raises(InputError, match="floating-point values for a in"):
        read(tmp_path, program)


def test_state_dict_alone_is_truncated_anywhere(tmp_path):
    program = state_dict({"a": tensor(FLOATS, 0, (4, 6), (6, 1))})
    for size in range(len(program) - 1):
        with pytest.raises(InputError):
            read(tmp_path, program[:size])


GOOD = state_dict({"a": tensor(FLOATS, 0, (4, 6), (6, 1))})


def archive(path, compression=zipfile.ZIP_STORED, names=("x/data.pkl", "x/data/0")) -> bytearray:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name in names:
            file.writestr(name, GOOD if name.endswith("pkl") else VALUES.tobytes())
    return bytearray(path.read_bytes())


def patched(data: bytearray, signature: bytes, offset: int, value: bytes) -> bytearray:
    """`value` at `offset` of every zip header of that signature."""
    at = data.find(signature)
    while at >= 0:
        data[at + offset : at + offset + len(value)] = value
        at = data.find(signature, at + 4)
    return data


CENTRAL = b"PK\x01\x02"
BAD_FILES = {
    "empty": (lambda p: b"", "got another or an empty file"),
    "text": (lambda p: b"hello", "got another or an empty file"),
    "compressed": (lambda p: archive(p, zipfile.ZIP_DEFLATED), "compressed or encrypted one"),
    "encrypted": (lambda p: patched(archive(p), CENTRAL, 8, b"\x01"), "compressed or encrypted one"),
    "declares too much": (
        lambda p: patched(archive(p), CENTRAL, 24, struct.pack("<I", 2**31)),
        "bytes at most",
    ),
    "checksum": (lambda p: patched(archive(p), CENTRAL, 16, b"\0\0\0\0"), "truncated or damaged"),
    "no data.pkl": (lambda p: archive(p, names=("x/other",)), "one folder with data.pkl"),
    "two folders": (lambda p: archive(p, names=("x/data.pkl", "y/data.pkl")), "one folder with data.pkl"),
    "truncated": (lambda p: archive(p)[:-30], "truncated or damaged"),
    "half": (lambda p: archive(p)[:300], "truncated or damaged"),
    "magic only": (lambda p: b"PK", "truncated or damaged"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file(tmp_path, case):
    make, message = BAD_FILES[case]
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(make(path))
    with pytest.raises(InputError, match=message) as caught, TorchFile(path) as file:
        file.read("a")
    assert str(path) in str(caught.value)


def test_same_name_twice(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive(path, names=("x/data.pkl", "x/data.pkl", "x/data/0"))
    with pytest.raises(InputError, match=r"one folder with data\.pkl"):
        TorchFile(path)


def test_big_endian(tmp_path):
    with pytest.raises(InputError, match="byteorder little"):
        read(tmp_path, GOOD, byteorder=b"big")


def test_pickle_of_many_megabytes(tmp_path):
    with pytest.raises(InputError, match=r"data\.pkl of 4194304 bytes at most"):
        read(tmp_path, b"N" * (2**22 + 1))


def test_against_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="no torch (extra [distill])")
    table = torch.randn(6, 4)
    state = {"tied": table, "table": table, "view": table.T, "row": table[2], "step": table[::2, 1:3]}
    state |= {kind: table.to(getattr(torch, kind)) for kind in ("float16", "bfloat16", "float64")}
    state |= {"parameter": torch.nn.Parameter(table), "scalar": torch.tensor(3.5), "empty": torch.zeros(0, 3)}
    for protocol in (2, 3, 4, 5):
        torch.save(state, tmp_path / "x.bin", pickle_protocol=protocol)
        with TorchFile(tmp_path / "x.bin") as file:
            assert set(file.names) == set(state)
            for name, value in state.items():
                assert np.array_equal(file.read(name), value.detach().float().numpy()), (protocol, name)
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    with TorchFile(tmp_path / "old.bin") as file:
        assert set(file.names) == set(state)
        for name, value in state.items():
            assert np.array_equal(file.read(name), value.detach().float().numpy()), name


# The format from before torch 1.6, spoiled.
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def legacy(
    magic=0x1950A86A20F9469CFC6C, protocol=1001, system=SYSTEM, keys=("0",), elements=24, program=None
):
    stored = storage("FloatStorage", "0", 24)[:-2] + b"NtQ"
    program = program or state_dict({"a": tensor(stored, 0, (4, 6), (6, 1))})
    head = b"".join(pickle.dumps(value, 2) for value in (magic, protocol, system))
    return head + program + pickle.dumps(list(keys), 2) + struct.pack("<q", elements) + VALUES.tobytes()


def read_legacy(path, data: bytes) -> np.ndarray:
    path.write_bytes(data)
    with TorchFile(path) as file:
        return file.read("a")


def test_legacy(tmp_path):
    assert np.array_equal(read_legacy(tmp_path / "old.bin", legacy()), VALUES.reshape(4, 6))


BAD_LEGACY = {
    "another number": (lambda p: legacy(magic=1), "the head of a little-endian torch.save file"),
    "another protocol": (lambda p: legacy(protocol=1002), "the head of a little-endian torch.save file"),
    "big-endian": (lambda p: legacy(system=SYSTEM | {"little_endian": False}), "the head of a little-endian"),
    "a system of another kind": (lambda p: legacy(system=[1]), "the head of a little-endian"),
    "os.system in the head": (
        lambda p: legacy(system=Call(os.system, f"touch {p}")),
        r"a reference to \w+\.system",
    ),
    "os.system in the tensors": (
        lambda p: legacy(program=pickle.dumps({"a": Call(os.system, f"touch {p}")}, 2)),
        r"a reference to \w+\.system",
    ),
    "os.system in the keys": (
        lambda p: legacy(keys=[Call(os.system, f"touch {p}")]),
        r"a reference to \w+\.system",
    ),
    "a module": (lambda p: legacy(program=pickle.dumps([1], 2)), "a dict of tensors in .*, got a list"),
    "no keys": (lambda p: legacy(keys=()), "the keys of 1 storages"),
    "another key": (lambda p: legacy(keys=("1",)), "the keys of 1 storages"),
    "a key twice": (lambda p: legacy(keys=("0", "0")), "the keys of 1 storages"),
    "a number as key": (lambda p: legacy(keys=(0,)), "the keys of 1 storages"),
    "another size": (lambda p: legacy(elements=23), "not 24 values in storage 0"),
    "a view of a storage": (
        lambda p: legacy(
            program=state_dict(
                {"a": tensor(storage("FloatStorage", "0", 24)[:-2] + b"K\x01tQ", 0, (1,), (1,))}
            )
        ),
        "a persistent id that is not a storage",
    ),
    "more elements than any file has": (
        lambda p: legacy(
            program=b"\x80\x02}" + text("a") + tensor(
                b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
                + b"\x8a\x0a" + b"\xff" * 9 + b"\x00NtQ", 0, (1,), (1,)
            ) + b"s."
        ),
        "truncated or damaged",
    ),
    "bytes after the end": (lambda p: legacy() + b"x", "1 bytes more than its tensors take"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_LEGACY)
def test_bad_legacy_file(tmp_path, case):
    make, message = BAD_LEGACY[case]
    sentinel = tmp_path / "ran"
    with pytest.raises(InputError, match=message) as caught:
        read_legacy(tmp_path / "old.bin", make(sentinel))
    assert "old.bin" in str(caught.value)
    assert not sentinel.exists()


def test_legacy_file_is_truncated_anywhere(tmp_path):
    whole = legacy()
    for size in range(2, len(whole)):
        with pytest.raises(InputError):
            read_legacy(tmp_path / "old.bin", whole[:size])
