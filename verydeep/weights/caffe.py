"""Caffe's `.caffemodel`: layers conv1_1 ... fc8, each with blobs, in V1 `layers` and in V2 `layer`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from verydeep.files.disk import mapped, write_atomically
from verydeep.files.tensors import bytes_of
from verydeep.weights.shapes import FC, Found, describe, parameters, reading, rename
from verydeep.weights.wire import (
    Part,
    array,
    beginning,
    budget,
    bytes_field,
    encoded,
    fields,
    number_field,
    numbers,
    text,
    whole,
)

# Numbers of fields, by the version of a layer: (in the net, its name, its type, its blobs)
LAYER = {"V1": (2, 4, 5, 6), "V2": (100, 1, 2, 7)}
TYPE_V1 = {"Convolution": 4, "InnerProduct": 14}
DATA, SHAPE, DOUBLE = 5, 7, 8  # of a blob; 1 to 4 are num, channels, height, width


def names(net: str, batch_norm: bool) -> dict[str, str]:
    """conv1_1.weight <-> conv1_1/0, the first blob of its layer; conv1_1.bias <-> conv1_1/1. These nets have no batch norm."""
    return {ours: f"{layer}/{('weight', 'bias').index(p)}" for ours, layer, p in parameters(net, False)}


def read(path: Path) -> Found:
    """The tensors of a Caffe model. Raises ModelError."""
    with reading(path, "a Caffe model"):
        found = rename(dict(blobs(mapped(path))), names)
        return found._replace(tensors={n: ours(n, t) for n, t in found.tensors.items()})


def ours(name: str, blob: Tensor) -> Tensor:
    """Old blobs have four sides: biases 1 x 1 x 1 x K, FC weights 1 x 1 x out x in, or those of a convolution."""
    if name.endswith("bias"):
        return blob.flatten()
    if name.split(".")[0] in FC and blob.ndim == 4:
        return blob[0, 0] if blob.shape[:2] == (1, 1) else blob.flatten(1)
    return blob


def blobs(net: memoryview) -> Iterator[tuple[str, Tensor]]:
    """("conv1_1/0", its float32 tensor) of every blob of a net. Raises ValueError."""
    left, seen = budget(), set()
    versions = {number: (name, blob) for number, name, _, blob in LAYER.values()}
    for number, value in fields(net, left):
        if number not in versions:
            continue
        name_field, blob_field = versions[number]
        name, found = "", []
        for inner, part in fields(whole(value), left):
            if inner == name_field:
                name = text(part)
            elif inner == blob_field:
                found.append(whole(part))
        if found and name in seen:
            raise ValueError(f"two layers are called {name[:40]}")
        if found:
            seen.add(name)
        for i, blob in enumerate(found):
            yield f"{name}/{i}", tensor(blob, left)


def tensor(blob: memoryview, left: Iterator[int]) -> Tensor:
    """A blob with packed floats or doubles and one of the two forms of its shape."""
    old, shape, data = [0, 0, 0, 0], None, None
    for number, value in fields(blob, left):
        if number in (1, 2, 3, 4) and isinstance(value, int):
            old[number - 1] = value
        elif number == SHAPE:
            shape = [side for inner, part in fields(whole(value), left) if inner == 1 for side in numbers(part)]
        elif number in (DATA, DOUBLE):
            if data is not None:
                raise ValueError("the numbers of a blob are not packed in one piece")
            data = whole(value), "<f4" if number == DATA else "<f8"
    if data is None:
        raise ValueError("a blob without numbers")
    return array(*data, shape if shape is not None else old)


def version_of(data: memoryview) -> str | None:
    """V1 or V2 where the bytes begin as a net with layers; what begins with a number for a name is cut-off ONNX."""
    found = beginning(data)
    if found.get(1) is True:
        return None
    return next((version for version in ("V2", "V1") if found.get(LAYER[version][0]) is False), None)


def write(tensors: dict[str, Tensor], path: Path, version: Literal["V1", "V2"] = "V2") -> None:
    """A Caffe model of our tensors, conv1_1's colours in the order they have. Raises RunError."""
    shape = describe(tensors)
    if shape.batch_norm:
        raise ValueError("Caffe's VGGs have no batch norm")
    there = {theirs: ours for ours, theirs in names(shape.net, False).items() if ours in tensors}
    field, name_field, type_field, blob_field = LAYER[version]
    parts: list[Part] = [*bytes_field(1, f"VGG, net {shape.net}".encode())]
    for layer in dict.fromkeys(theirs.split("/")[0] for theirs in there):
        kind = "InnerProduct" if layer in FC else "Convolution"
        inside: list[Part] = [*bytes_field(name_field, layer.encode())]
        inside += (
            [number_field(type_field, TYPE_V1[kind])] if version == "V1" else bytes_field(type_field, kind.encode())
        )
        for i in (0, 1):
            inside += bytes_field(blob_field, *blob_of(tensors[there[f"{layer}/{i}"]], version))
        parts += bytes_field(field, *inside)

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as f:
            f.writelines(parts)

    write_atomically(path, fill)


def blob_of(tensor: Tensor, version: str) -> list[Part]:
    tensor = tensor.to(torch.float32)
    data = bytes_field(DATA, bytes_of(tensor))
    if version == "V2":
        dims = b"".join(encoded(side) for side in tensor.shape)
        return [*bytes_field(SHAPE, *bytes_field(1, dims)), *data]
    old = [1] * (4 - tensor.ndim) + list(tensor.shape)
    return [b"".join(number_field(i, side) for i, side in enumerate(old, 1)), *data]
