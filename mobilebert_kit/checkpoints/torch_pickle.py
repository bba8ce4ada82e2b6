"""The pickle inside a `pytorch_model.bin`, read as data.

Pickle is a program for a stack machine, and the usual reader runs whatever it calls. This is a machine of its
own with the 35 instructions that torch.save emits for a dict of tensors: none can import, call or build
anything of Python's. REDUCE knows three names and makes inert records of them; every other instruction or
name is refused, with its name. Nothing here uses the `pickle` module.
Source of the calls: torch/_utils.py (_rebuild_tensor_v2, _rebuild_parameter), torch/serialization.py.
"""

from __future__ import annotations

import pickletools
import struct
from dataclasses import dataclass
from typing import Any

from mobilebert_kit.errors import InputError

# numpy's name of what a storage class holds; bfloat16 has none.
STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1",
    "ByteStorage": "|u1", "BoolStorage": "|b1",
}  # fmt: skip
ORDERED_DICT = ("collections", "OrderedDict")
REBUILD_TENSOR = ("torch._utils", "_rebuild_tensor_v2")
REBUILD_PARAMETER = ("torch._utils", "_rebuild_parameter")
CALLABLE = (ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER)
MAX_RANK = 8
MAX_PICKLE_BYTES = 4 * 2**20  # 1,113 tensors take a quarter of one


@dataclass(frozen=True)
class Storage:
    """`elements` values of `dtype`, which the file keeps under `key`."""

    dtype: str
    key: str
    elements: int

    @property
    def itemsize(self) -> int:
        return 2 if self.dtype == "bfloat16" else int(self.dtype[-1])


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides count elements, and every element lies within the storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    module: str
    name: str


class _OrderedDict(dict):
    """What the pickle's collections.OrderedDict becomes."""


_MARK = object()


class _Machine:
    def __init__(self, program: bytes, source: str):
        self.program, self.source = program, source
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    # What goes wrong.
    def refuse(self, found: str) -> InputError:
        return InputError(
            f"Expected nothing but a dict of tensors in the pickle of {self.source}, got {found} (byte "
            f"{self.at}). "
            "Nothing was run. Save the weights with safetensors, or torch.save(model.state_dict(), ...)."
        )

    # Bytes and stack.
    def take(self, count: int) -> bytes:
        if count > len(self.program) - self.at:
            raise self.refuse("a truncated pickle")
        self.at += count
        return self.program[self.at - count : self.at]

    def number(self, layout: str) -> Any:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))[0]

    def line(self) -> str:
        end = self.program.find(b"\n", self.at)
        if end < 0:
            raise self.refuse("a truncated pickle")
        return self.take(end + 1 - self.at)[:-1].decode("ascii", "backslashreplace")

    def text(self, count: int) -> str:
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError:
            raise self.refuse("a string that is not UTF-8") from None

    def pop(self, kind: type | tuple[type, ...] = object) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise self.refuse("an instruction without its operand")
        value = self.stack.pop()
        if not isinstance(value, kind):
            raise self.refuse(f"a {type(value).__name__} where it does not belong")
        return value

    def pop_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                values = self.stack[index + 1 :]
                del self.stack[index:]
                return values
        raise self.refuse("an instruction without its operand")

    # Instructions with a meaning of their own.
    def set_items(self, pairs: list[Any]) -> None:
        target = self.pop(dict)
        if len(pairs) % 2 or not all(isinstance(key, str) for key in pairs[::2]):
            raise self.refuse("a dict whose keys are not strings")
        target.update(zip(pairs[::2], pairs[1::2], strict=True))
        self.stack.append(target)

    def name(self, module: str, name: str) -> _Name:
        if (module, name) not in CALLABLE and not (module in ("torch", "torch.storage") and name in STORAGES):
            raise self.refuse(f"a reference to {module}.{name}")
        return _Name(module, name)

    def storage(self, identity: Any) -> Storage:
        if isinstance(identity, tuple) and len(identity) == 6 and identity[5] is None:
            identity = identity[:5]  # before torch 1.6: whether the storage is a part of another one
        if not (isinstance(identity, tuple) and len(identity) == 5 and identity[0] == "storage"):
            raise self.refuse("a persistent id that is not a storage")
        _, kind, key, device, elements = identity
        if not (
            isinstance(kind, _Name)
            and kind.name in STORAGES
            and isinstance(key, str)
            and isinstance(device, str)
        ):
            raise self.refuse("a persistent id that is not a storage")
        return Storage(STORAGES[kind.name], key, self.count(elements))

    def count(self, value: Any) -> int:
        if type(value) is not int or value < 0:
            raise self.refuse("a size, offset or stride that is not a natural number")
        return value

    def counts(self, values: Any) -> tuple[int, ...]:
        if not isinstance(values, tuple) or len(values) > MAX_RANK:
            raise self.refuse("a shape that is not a tuple of at most 8 sizes")
        return tuple(self.count(value) for value in values)

    def call(self, function: _Name, arguments: tuple[Any, ...]) -> Any:
        if (function.module, function.name) == ORDERED_DICT and arguments == ():
            return _OrderedDict()
        if (function.module, function.name) == REBUILD_PARAMETER and len(arguments) == 3:
            if not isinstance(arguments[0], Tensor):
                raise self.refuse("a parameter that is not a tensor")
            return arguments[0]
        if (function.module, function.name) == REBUILD_TENSOR and len(arguments) in (6, 7):
            return self.tensor(*arguments[:4])
        raise self.refuse(f"a call of {function.module}.{function.name} with {len(arguments)} arguments")

    def tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
        if not isinstance(storage, Storage):
            raise self.refuse("a tensor without a storage")
        tensor = Tensor(storage, self.count(offset), self.counts(shape), self.counts(strides))
        if len(tensor.shape) != len(tensor.strides):
            raise self.refuse(f"a tensor with shape {tensor.shape} and strides {tensor.strides}")
        elements, last = 1, tensor.offset
        for size, stride in zip(tensor.shape, tensor.strides, strict=True):
            elements, last = elements * size, last + (size - 1) * stride
        # More elements than the storage has would be one value repeated: a small file that fills the memory.
        if elements and (last >= storage.elements or elements > storage.elements):
            raise self.refuse(
                f"a tensor with shape {tensor.shape}, strides {tensor.strides} and offset {tensor.offset} "
                "in a "
                f"storage of {storage.elements} elements"
            )
        return tensor

    # The program.
    def run(self) -> Any:
        while True:
            code = self.take(1)
            if code == b".":
                result = self.pop()
                if self.stack:
                    raise self.refuse("values left over")
                return result
            self.step(code)

    def step(self, code: bytes) -> None:
        push, stack = self.stack.append, self.stack
        if code == b"\x80":
            if self.number("B") > 5:
                raise self.refuse("a pickle protocol newer than 5")
        elif code == b"\x95":
            self.take(8)
        elif code == b"(":
            push(_MARK)
        elif code == b"}":
            push({})
        elif code == b"]":
            push([])
        elif code == b")":
            push(())
        elif code == b"N":
            push(None)
        elif code in b"\x88\x89":
            push(code == b"\x88")
        elif code in _NUMBERS:
            push(self.number(_NUMBERS[code]))
        elif code == b"\x8a":
            push(int.from_bytes(self.take(self.number("B")), "little", signed=True))
        elif code == b"G":
            push(struct.unpack(">d", self.take(8))[0])
        elif code == b"X":
            push(self.text(self.number("I")))
        elif code == b"\x8c":
            push(self.text(self.number("B")))
        elif code == b"t":
            push(tuple(self.pop_mark()))
        elif code in b"\x85\x86\x87":
            push(tuple([self.pop() for _ in range(code[0] - 0x84)][::-1]))
        elif code == b"s":
            value, key = self.pop(), self.pop()
            self.set_items([key, value])
        elif code == b"u":
            self.set_items(self.pop_mark())
        elif code in b"ae":
            values = [self.pop()] if code == b"a" else self.pop_mark()
            push(target := self.pop(list))
            target.extend(values)
        elif code in b"qr\x94":
            index = len(self.memo) if code == b"\x94" else self.number("B" if code == b"q" else "I")
            push(value := self.pop())
            self.memo[index] = value
        elif code in b"hj":
            index = self.number("B" if code == b"h" else "I")
            if index not in self.memo:
                raise self.refuse(f"a reference to memo entry {index}, which is not set")
            push(self.memo[index])
        elif code == b"c":
            push(self.name(self.line(), self.line()))
        elif code == b"\x93":
            name, module = self.pop(str), self.pop(str)
            push(self.name(module, name))
        elif code == b"Q":
            push(self.storage(self.pop()))
        elif code == b"R":
            arguments, function = self.pop(tuple), self.pop(_Name)
            push(self.call(function, arguments))
        elif code == b"b":
            # torch leaves a state dict's `_metadata` attribute here; it says nothing about the weights.
            self.pop(dict)
            if not isinstance(stack[-1] if stack else None, _OrderedDict):
                raise self.refuse("attributes set on something else than an OrderedDict")
        else:
            opcode = pickletools.code2op.get(code.decode("latin-1"))
            raise self.refuse(f"the instruction {opcode.name if opcode else repr(code)}")


_NUMBERS = {b"J": "i", b"K": "B", b"M": "H"}


def read_pickle(program: bytes, at: int = 0, *, source: str) -> tuple[Any, int]:
    """(what the pickle that starts at byte `at` describes, where it ends); nothing in it is run.

    Numbers, strings, tuples, lists, dicts and `Tensor`s. Raises InputError for all else.
    """
    machine = _Machine(program, source)
    machine.at = at
    return machine.run(), machine.at


def read_state_dict(program: bytes, at: int = 0, *, source: str) -> tuple[dict[str, Tensor], int]:
    """(the tensors that a pickle describes, by name; where it ends); nothing in it is run.

    Args:
        program: bytes with the pickle.
        at: the byte that it starts at.
        source: the file's name, for messages.
    Raises:
        InputError: anything but a flat dict of tensors, each within its storage.
    """
    result, end = read_pickle(program, at, source=source)
    if not isinstance(result, dict):
        raise InputError(f"Expected a dict of tensors in {source}, got a {type(result).__name__}.")
    others = [name for name, value in result.items() if not isinstance(value, Tensor)]
    if others:
        raise InputError(
            f"Expected a tensor under every name in {source}, got something else under {others[:10]}. Save "
            "it "
            "again with torch.save(model.state_dict(), ...)."
        )
    return dict(result), end
