"""MATLAB 5 files (`save -v7` and older): MatConvNet's nets, and ILSVRC's list of its classes.

Read here rather than by SciPy, which a damaged file makes crash or take all memory (docs/decisions/0013). Such a file
holds data; objects and functions in it are passed over.
"""

import math
import zlib
from collections.abc import Iterator
from mmap import MADV_DONTNEED, mmap
from typing import Any, NamedTuple

import numpy as np

MOST_ELEMENTS, DEEPEST, SLACK = 200_000, 12, 50_000_000  # of a file; bytes that inflated variables may take beyond it
PIECE = 1 << 14  # bytes inflated at a time, to at most 1,032 times as many
MATRIX, COMPRESSED = 14, 15
NUMBERS = {
    1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4",
    7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8", 16: "u1", 17: "<u2",
}  # fmt: skip
CELL, STRUCT, CHARACTERS, NUMERIC = 1, 2, 4, range(6, 16)  # classes of a matrix
NOTHING = (0, memoryview(b""))
Elements = Iterator[tuple[int, memoryview]]  # (type, bytes)


class Budget:
    """What a file may still cost: elements, and bytes inflated."""

    def __init__(self, size: int) -> None:
        self.elements, self.bytes = MOST_ELEMENTS, size + SLACK

    def spend(self, elements: int) -> None:
        self.elements -= elements
        if self.elements < 0:
            raise ValueError(f"more than {MOST_ELEMENTS:,} elements")


class Array(NamedTuple):
    """Numbers in the file's order, columns first; shaped when they are wanted."""

    data: Any
    sides: tuple[int, ...]

    def shaped(self) -> Any:
        return self.data.reshape(self.sides, order="F")


def is_mat(data: bytes) -> bool:
    return data.startswith(b"MATLAB 5.0 MAT-file") and data[126:128] == b"IM"


def variables_of(file: memoryview, left: Budget) -> Iterator[tuple[str, Any]]:
    """(name, value) of each variable: a dict of a struct, a list of a cell or of several structs, text, or an Array.

    Raises ValueError and zlib.error for damaged ones.
    """
    if not is_mat(bytes(file[:128])):
        raise ValueError("it is no MATLAB 5 file of a little-endian machine; save it again with -v7")
    for kind, data in elements_of(file[128:], left):
        for inner, matrix in elements_of(inflated(data, left), left) if kind == COMPRESSED else ((kind, data),):
            if inner == MATRIX:
                yield variable(matrix, left, 0)


def inflated(data: memoryview, left: Budget) -> memoryview:
    """A compressed variable, piece by piece, so that it lies in memory once; its part of the file is let go."""
    stream, found = zlib.decompressobj(), bytearray()
    for i in range(0, len(data), PIECE):
        found += stream.decompress(data[i : i + PIECE])
        if len(found) >= left.bytes:
            raise ValueError("its variables inflate to much more than the file")
        if stream.eof:
            break
    left.bytes -= len(found)
    if isinstance(data.obj, mmap):
        data.obj.madvise(MADV_DONTNEED)
    return memoryview(found)


def elements_of(data: memoryview, left: Budget) -> Elements:
    """Data elements one after the other, padded to 8 bytes; small ones lie inside their tag."""
    i = 0
    while i + 8 <= len(data):
        left.spend(1)
        kind, length = np.frombuffer(data[i : i + 8], "<u4").tolist()
        start = i + 8
        if kind >> 16:
            kind, length, start = kind & 0xFFFF, kind >> 16, i + 4
            if length > 4:
                raise ValueError("a small element of more than four bytes")
        if length > len(data) - start:
            raise ValueError("an element is longer than what holds it")
        yield kind, data[start : start + length]
        i = start + length if kind == COMPRESSED else start + length + -(start + length) % 8


def variable(data: memoryview, left: Budget, depth: int) -> tuple[str, Any]:
    """The name and value of a matrix."""
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if not len(data):
        return "", None
    parts = elements_of(data, left)
    flags, sides, name = (next(parts, NOTHING)[1] for _ in range(3))
    shape = tuple(np.frombuffer(sides, "<i4").tolist())
    if not flags or not 1 < len(shape) <= 8 or min(shape) < 0:
        raise ValueError("a matrix of odd sides")
    value: Any = None
    if flags[0] == CELL:
        value = [variable(part, left, depth + 1)[1] for _, part in parts]
    elif flags[0] == STRUCT:
        value = structs_of(parts, math.prod(shape), left, depth)
    elif flags[0] == CHARACTERS or flags[0] in NUMERIC:
        code, numbers = next(parts, NOTHING)
        if code not in NUMBERS:
            raise ValueError(f"numbers of the unknown type {code}")
        value = Array(np.frombuffer(numbers, NUMBERS[code]), shape)
        if flags[0] == CHARACTERS:
            text = value.data[:1000]
            value = text.tobytes().decode("utf-8" if text.itemsize == 1 else "utf-16-le")
    return bytes(name[:64]).decode("latin-1"), value


def structs_of(parts: Elements, count: int, left: Budget, depth: int) -> dict[str, Any] | list[dict[str, Any]]:
    """A dict of one struct or none, a list of dicts of several, whose fields follow one another struct by struct."""
    length, text = (next(parts, NOTHING)[1] for _ in range(2))
    width = int.from_bytes(length, "little")
    if not 0 < width <= 64:
        raise ValueError("a struct whose fields have no length")
    left.spend(-(-len(text) // width))
    fields = [bytes(text[i : i + width]).split(b"\0")[0].decode("latin-1") for i in range(0, len(text), width)]
    found = [variable(part, left, depth + 1)[1] for _, part in parts]
    if len(found) != count * len(fields):
        raise ValueError("an array of structs of another size than it says")
    rows = [dict(zip(fields, found[i : i + len(fields)], strict=True)) for i in range(0, len(found), len(fields) or 1)]
    return rows if count > 1 else dict(*rows)
