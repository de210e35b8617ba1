"""The wire format of protocol buffers, which Caffe and ONNX files are written in: numbered fields, nothing more.

Generated code breaks with each major version of its library and copies everything; these files need seven kinds of message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TypeAlias

import numpy as np
from torch import Tensor, from_numpy

MOST_FIELDS = 200_000  # of a whole file; VGG-19 has some 2,000
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Part: TypeAlias = bytes | memoryview
Field: TypeAlias = tuple[int, int | memoryview]


def budget() -> Iterator[int]:
    """How many fields may be read of one file, so that no file of empty ones takes minutes."""
    return iter(range(MOST_FIELDS))


def fields(message: memoryview, left: Iterator[int]) -> Iterator[Field]:
    """(number, value) of a message: an int for a varint, the bytes for everything else. Raises ValueError."""
    i = 0
    while i < len(message):
        if next(left, None) is None:
            raise ValueError(f"more than {MOST_FIELDS:,} fields")
        key, i = varint(message, i)
        if key >> 3 == 0:
            raise ValueError("a field of the number 0")
        if key & 7 == VARINT:
            value, i = varint(message, i)
            yield key >> 3, value
            continue
        if key & 7 == BYTES:
            length, i = varint(message, i)
        elif key & 7 in (FIXED32, FIXED64):
            length = 4 if key & 7 == FIXED32 else 8
        else:
            raise ValueError(f"a field of the unknown kind {key & 7}")
        if length > len(message) - i:
            raise ValueError("a field is longer than what holds it")
        yield key >> 3, message[i : i + length]
        i += length


def beginning(data: memoryview) -> dict[int, bool]:
    """Of the outermost fields, up to the first damaged one: number -> whether it is a varint."""
    found: dict[int, bool] = {}
    with suppress(ValueError):
        for number, value in fields(data, budget()):
            found.setdefault(number, isinstance(value, int))
    return found


def varint(message: memoryview, i: int) -> tuple[int, int]:
    """An unsigned number of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if i >= len(message):
            raise ValueError("it ends in the middle of a number")
        byte, i = message[i], i + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, i
    raise ValueError("a number of more than ten bytes")


def text(value: int | memoryview) -> str:
    return whole(value).tobytes()[:200].decode("utf-8")


def whole(value: int | memoryview) -> memoryview:
    """The value of a field that must be bytes."""
    if isinstance(value, int):
        raise ValueError("a number where bytes were expected")
    return value


def numbers(value: int | memoryview) -> list[int]:
    """One number, or as many as are packed into the bytes; a shape has eight at most."""
    if isinstance(value, int):
        return [value]
    found, i = list[int](), 0
    while i < len(value):
        if len(found) == 8:
            raise ValueError("a shape of more than eight sides")
        number, i = varint(value, i)
        found.append(number)
    return found


def array(value: memoryview, kind: str, shape: Sequence[int]) -> Tensor:
    """A float32 tensor of its own memory, from packed little-endian numbers of a NumPy type, rounded where they are longer."""
    found = np.frombuffer(value, np.dtype(kind))
    count = 1
    for side in shape:
        count *= side
    if count != found.size:
        raise ValueError(f"{found.size:,} numbers for the shape {list(shape)}")
    return from_numpy(found.astype(np.float32).reshape(shape))


# Writing


def encoded(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def number_field(number: int, value: int) -> bytes:
    return encoded(number << 3 | VARINT) + encoded(value)


def bytes_field(number: int, *parts: Part) -> list[Part]:
    """A field of bytes in parts, so that large ones are not copied."""
    return [encoded(number << 3 | BYTES) + encoded(sum(len(p) for p in parts)), *parts]
