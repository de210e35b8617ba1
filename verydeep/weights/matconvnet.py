"""MatConvNet's `imagenet-vgg-*.mat`: a MATLAB 5 file, kernels H x W x C x K in columns, FC layers as convolutions.

Read here rather than by SciPy, which inflates compressed variables without a bound. Such a file holds data;
objects and functions in it are passed over.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from mmap import MADV_DONTNEED, mmap
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import from_numpy

from verydeep.data.ilsvrc import SYNSET, class_names
from verydeep.weights import caffe
from verydeep.weights.shapes import FC, Found, reading, rename
from verydeep.weights.wire import mapped

MOST_ELEMENTS, DEEPEST, SLACK = 200_000, 12, 50_000_000  # of a file; bytes that inflated variables may take beyond it
PIECE = 1 << 20  # bytes inflated at a time
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8", 16: "u1", 17: "<u2"}
CELL, STRUCT, CHARACTERS, NUMERIC = 1, 2, 4, range(6, 16)  # classes of a matrix

names = caffe.names  # converted from Caffe with the names of its layers: conv1_1.weight <-> weights{1} of layer conv1_1


class Budget:
    """What a file may still cost: elements, and bytes inflated."""

    def __init__(self, size: int) -> None:
        self.elements, self.bytes = MOST_ELEMENTS, size + SLACK


class Array(NamedTuple):
    """Numbers in the file's order, columns first; shaped when they are wanted."""

    data: Any
    sides: tuple[int, ...]

    def shaped(self) -> Any:
        return self.data.reshape(self.sides, order="F")


def read(path: Path) -> Found:
    """The tensors of a net, its averageImage as the mean, and its class names. Raises ModelError."""
    with reading(path, "a MatConvNet file"):
        file = mapped(path)
        variables: dict[str, Any] = {}
        for name, value in variables_of(file, Budget(len(file))):
            variables.setdefault(name, value)
        net = variables.get("net", variables)
        meta = net.get("meta", net)
        found = rename(dict(blobs(net["layers"])), names)
        return found._replace(
            mean=mean_of(meta.get("normalization")), classes=classes_of(meta.get("classes")), pooling=pooling_of(net["layers"])
        )


def blobs(layers: list[Any]) -> Iterator[tuple[str, Any]]:
    """("conv1_1/0", float32 K x C x H x W) and ("conv1_1/1", float32 K) of every layer with weights; of FC layers K x C*H*W."""
    seen = set()
    for layer in layers:
        weights = layer.get("weights") or [layer[field] for field in ("filters", "biases") if field in layer]
        if not weights:
            continue
        name, (kernel, bias) = str(layer["name"]), weights
        if name in seen:
            raise ValueError(f"two layers are called {name[:40]}")
        seen.add(name)
        sides = (*kernel.sides, 1, 1)[: max(4, len(kernel.sides))]  # MATLAB drops sides of 1 at the end
        columns = kernel._replace(sides=sides).shaped().transpose(3, 2, 0, 1)
        weight = from_numpy(np.array(columns, dtype=np.float32, order="C"))
        yield f"{name}/0", weight.flatten(1) if name in FC else weight
        yield f"{name}/1", from_numpy(bias.data.astype(np.float32))


def mean_of(normalization: Any) -> tuple[float, ...] | None:
    """Three numbers, or an image of one colour; None for an image that no single colour stands for."""
    average = normalization.get("averageImage") if isinstance(normalization, dict) else None
    if not isinstance(average, Array) or average.data.size < 3:
        return None
    colours = average.data.reshape(3, -1).astype(np.float64)  # columns first, so colours last
    return tuple(colours.mean(1).tolist()) if np.ptp(colours, axis=1).max() < 1e-3 else None


def pooling_of(layers: list[Any]) -> Literal["up", "down"]:
    """A pooling that pads one side only takes in what Caffe's takes in by rounding up."""
    pads = [layer["pad"].data for layer in layers if layer.get("type") == "pool" and isinstance(layer.get("pad"), Array)]
    return "up" if any(np.any(pad) for pad in pads) else "down"


def classes_of(classes: Any) -> tuple[str, ...]:
    """The classes as ILSVRC's data calls them where `name` holds their synsets, else by their descriptions.

    What comes again (there are two cranes in ImageNet) gets its number from 0. Raises ValueError for a synset that does.
    """
    names, words = (texts(classes, field) for field in ("name", "description"))
    if not names or not all(SYNSET.fullmatch(name) for name in names):
        often = Counter(found := words or names)
        return tuple(f"{name} (class {i})" if often[name] > 1 else name for i, name in enumerate(found))
    if repeated := next((name for name, n in Counter(names).items() if n > 1), None):
        raise ValueError(f"two classes are {repeated}")
    known = dict(zip(names, words, strict=False)) | class_names()
    return tuple(f"{name} {known.get(name, '')}".rstrip() for name in names)


def texts(classes: Any, field: str) -> list[str]:
    """A cell of texts; empty for anything else."""
    found = classes.get(field) if isinstance(classes, dict) else None
    return found if isinstance(found, list) and all(isinstance(text, str) for text in found) else []


# MATLAB 5


def is_mat(data: bytes) -> bool:
    return data.startswith(b"MATLAB 5.0 MAT-file") and data[126:128] == b"IM"


def variables_of(file: memoryview, left: Budget) -> Iterator[tuple[str, Any]]:
    """(name, value) of each variable: a dict of a struct, a list of a cell, text, or an Array. Raises ValueError."""
    if not is_mat(bytes(file[:128])):
        raise ValueError("it is no MATLAB 5 file of a little-endian machine; save it again with -v7")
    for kind, data in elements(file[128:], left):
        for inner, matrix in elements(inflated(data, left), left) if kind == COMPRESSED else ((kind, data),):
            if inner == MATRIX:
                yield matrix_of(matrix, left, 0)


def inflated(data: memoryview, left: Budget) -> memoryview:
    """A compressed variable, piece by piece, so that it lies in memory once; its part of the file is let go."""
    stream, found = zlib.decompressobj(), bytearray()
    for i in range(0, len(data), PIECE):
        rest: bytes | memoryview = data[i : i + PIECE]
        while rest:
            found += stream.decompress(rest, PIECE)
            rest = stream.unconsumed_tail
            if len(found) >= left.bytes:
                raise ValueError("its variables inflate to much more than the file")
        if stream.eof:
            break
    left.bytes -= len(found)
    if isinstance(data.obj, mmap):
        data.obj.madvise(MADV_DONTNEED)
    return memoryview(found)


def elements(data: memoryview, left: Budget) -> Iterator[tuple[int, memoryview]]:
    """(type, bytes) of data elements one after the other, padded to 8 bytes; small ones lie inside their tag."""
    i = 0
    while i + 8 <= len(data):
        left.elements -= 1
        if left.elements < 0:
            raise ValueError(f"more than {MOST_ELEMENTS:,} elements")
        kind, length = int.from_bytes(data[i : i + 4], "little"), int.from_bytes(data[i + 4 : i + 8], "little")
        start = i + 8
        if kind >> 16:
            kind, length, start = kind & 0xFFFF, kind >> 16, i + 4
            if length > 4:
                raise ValueError("a small element of more than four bytes")
        if length > len(data) - start:
            raise ValueError("an element is longer than what holds it")
        yield kind, data[start : start + length]
        i = start + length if kind == COMPRESSED else start + length + -(start + length) % 8


def matrix_of(data: memoryview, left: Budget, depth: int) -> tuple[str, Any]:
    """The name and value of a matrix."""
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    parts = elements(data, left)
    if not len(data):
        return "", None
    flags, sides, name = (next(parts, (0, memoryview(b"")))[1] for _ in range(3))
    kind, shape = flags[0], tuple(np.frombuffer(sides, "<i4").tolist())
    if not 1 < len(shape) <= 8 or min(shape) < 0:
        raise ValueError("a matrix of odd sides")
    if kind == CELL:
        value: Any = [matrix_of(part, left, depth + 1)[1] for _, part in parts]
    elif kind == STRUCT:
        value = struct_of(parts, left, depth)
    elif kind == CHARACTERS or kind in NUMERIC:
        code, numbers = next(parts, (0, memoryview(b"")))
        found = np.frombuffer(numbers, NUMBERS[code])
        value = (
            found[:1000].tobytes().decode("utf-8" if found.itemsize == 1 else "utf-16-le") if kind == CHARACTERS else Array(found, shape)
        )
    else:
        value = None
    return bytes(name[:64]).decode("latin-1"), value


def struct_of(parts: Iterator[tuple[int, memoryview]], left: Budget, depth: int) -> dict[str, Any]:
    """Of an array of structs the first; nothing read here is one."""
    length, text = (next(parts, (0, memoryview(b"")))[1] for _ in range(2))
    width = int.from_bytes(length, "little")
    if not 0 < width <= 64:
        raise ValueError("a struct whose fields have no length")
    fields = [bytes(text[i : i + width]).split(b"\0")[0].decode("latin-1") for i in range(0, len(text), width)]
    return {field: matrix_of(part, left, depth + 1)[1] for field, (_, part) in zip(fields, parts, strict=False)}
