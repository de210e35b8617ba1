"""Caffe's `.caffemodel`: layers conv1_1 ... fc8, each with blobs, in V1 `layers` and in V2 `layer`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from verydeep.files.disk import mapped
from verydeep.files.tensors import bytes_of
from verydeep.weights.shapes import FC, Found, describe, parameters, rename, unrepeated
from verydeep.weights.wire import Part, array, budget, bytes_field, encoded, last_text, message, number_field, numbers

# Numbers of fields, by the version of a layer: (in the net, its name, its type, its blobs)
LAYER = {"V2": (100, 1, 2, 7), "V1": (2, 4, 5, 6)}
TYPE_V1 = {"Convolution": 4, "InnerProduct": 14}
DATA, SHAPE, DOUBLE = 5, 7, 8  # of a blob; 1 to 4 are num, channels, height, width


def names(net: str, batch_norm: bool) -> dict[str, str]:
    """conv1_1.weight <-> conv1_1/0, the first blob of its layer; conv1_1.bias <-> conv1_1/1. No batch norm."""
    return {ours: f"{layer}/{('weight', 'bias').index(p)}" for ours, layer, p in parameters(net, False)}


def read(path: Path) -> Found:
    return rename(unrepeated(blobs(mapped(path))), names)


def blobs(data: memoryview) -> Iterator[tuple[str, Tensor]]:
    """("conv1_1/0", its float32 tensor) of every blob of a net."""
    net = message(data, left := budget())
    for number, name, _, blob in LAYER.values():
        for layer in (message(one, left) for one in net[number]):
            yield from ((f"{last_text(layer[name])}/{i}", tensor(one, left)) for i, one in enumerate(layer[blob]))


def tensor(data: memoryview, left: Iterator[int]) -> Tensor:
    """A blob with packed floats or doubles and one of the two forms of its shape."""
    blob = message(data, left)
    if len(packed := blob[DATA] + blob[DOUBLE]) != 1:
        raise ValueError("the numbers of a blob are not packed in one piece")
    shape = message(blob[SHAPE][-1], left)[1] if blob[SHAPE] else [(blob[i] or [0])[-1] for i in (1, 2, 3, 4)]
    return array(packed[0], "<f4" if blob[DATA] else "<f8", numbers(shape))


def write(tensors: dict[str, Tensor], path: Path, version: Literal["V1", "V2"] = "V2") -> None:
    """A Caffe model of our tensors, conv1_1's colours in the order they have. Raises OSError."""
    net = describe(tensors)
    if net.batch_norm:
        raise ValueError("Caffe's VGGs have no batch norm")
    there = {theirs: ours for ours, theirs in names(net.name, False).items() if ours in tensors}
    field, name_field, type_field, blob_field = LAYER[version]
    pieces: list[Part] = [*bytes_field(1, f"VGG, net {net.name}".encode())]
    for layer in dict.fromkeys(theirs.split("/")[0] for theirs in there):
        kind = "InnerProduct" if layer in FC else "Convolution"
        old = version == "V1"
        inside: list[Part] = [*bytes_field(name_field, layer.encode())]
        inside += [number_field(type_field, TYPE_V1[kind])] if old else bytes_field(type_field, kind.encode())
        for i in (0, 1):
            inside += bytes_field(blob_field, *blob_of(tensors[there[f"{layer}/{i}"]], old))
        pieces += bytes_field(field, *inside)
    with path.open("wb") as f:
        f.writelines(pieces)


def blob_of(tensor: Tensor, old: bool) -> list[Part]:
    data = bytes_field(DATA, bytes_of(tensor.to(torch.float32)))
    if not old:
        return [*bytes_field(SHAPE, *bytes_field(1, b"".join(map(encoded, tensor.shape)))), *data]
    sides = [1] * (4 - tensor.ndim) + list(tensor.shape)
    return [*(number_field(i, side) for i, side in enumerate(sides, 1)), *data]
