"""The wire format of protocol buffers, in which Caffe and ONNX files are written: numbered fields, nothing more."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, from_numpy

MOST_FIELDS = 200_000  # of a whole file; VGG-19 has some 2,000
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Part: TypeAlias = bytes | memoryview
Parts: TypeAlias = dict[int, list[Any]]  # the values of a message by their number


def budget() -> Iterator[int]:
    """How many fields may be read of one file, so that no file of empty ones takes minutes."""
    return iter(range(MOST_FIELDS))


def fields(data: memoryview, left: Iterator[int]) -> Iterator[tuple[int, Any]]:
    """(number, value) of a message: an int for a varint, the bytes for everything else. Raises ValueError."""
    i = 0
    while i < len(data):
        if next(left, None) is None:
            raise ValueError(f"more than {MOST_FIELDS:,} fields")
        key, i = varint(data, i)
        kind = key & 7
        if key < 8 or kind not in (VARINT, BYTES, FIXED32, FIXED64):
            raise ValueError(f"a field of the number {key >> 3} and the kind {kind}")
        if kind == VARINT:
            value, i = varint(data, i)
            yield key >> 3, value
            continue
        length, i = varint(data, i) if kind == BYTES else (4 if kind == FIXED32 else 8, i)
        if length > len(data) - i:
            raise ValueError("a field is longer than what holds it")
        yield key >> 3, data[i : i + length]
        i += length


def message(data: memoryview, left: Iterator[int]) -> Parts:
    found = defaultdict(list)
    for number, value in fields(data, left):
        found[number].append(value)
    return found


def beginning(data: memoryview) -> dict[int, bool]:
    """Of the outermost fields, up to the first damaged one: number -> whether it is a varint."""
    found: dict[int, bool] = {}
    with suppress(ValueError):
        for number, value in fields(data, budget()):
            found.setdefault(number, isinstance(value, int))
    return found


def varint(data: memoryview, i: int) -> tuple[int, int]:
    """An unsigned number of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if i >= len(data):
            raise ValueError("it ends in the middle of a number")
        byte, i = data[i], i + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, i
    raise ValueError("a number of more than ten bytes")


def last_text(values: Sequence[memoryview], most: int = 200) -> str:
    """Of several values the last counts, up to so many bytes."""
    return values[-1][:most].tobytes().decode("utf-8") if values else ""


def numbers(values: Sequence[int | memoryview]) -> list[int]:
    """Numbers one by one, or packed into bytes."""
    found = list[int]()
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        if len(value) > 80:
            raise ValueError("a shape of more than eight sides")
        i = 0
        while i < len(value):
            number, i = varint(value, i)
            found.append(number)
    return found


def array(value: memoryview, kind: str, shape: Sequence[int]) -> Tensor:
    """A float32 tensor of its own memory, from packed numbers of a NumPy type, rounded where they are longer."""
    return from_numpy(np.frombuffer(value, np.dtype(kind)).astype(np.float32).reshape(shape))


# Writing


def encoded(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def bytes_field(number: int, *parts: Part) -> list[Part]:
    """A field of bytes in parts, so that large ones are not copied."""
    return [encoded(number << 3 | BYTES) + encoded(sum(len(p) for p in parts)), *parts]
