"""Caffe's `.caffemodel`: layers conv1_1 ... fc8, each with blobs, in V1 `layers` and in V2 `layer`."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from verydeep.files.disk import mapped
from verydeep.files.tensors import bytes_of
from verydeep.weights.shapes import FC, Found, by_theirs, parameters, rename, unrepeated
from verydeep.weights.wire import Part, array, budget, bytes_field, encoded, last_text, message, numbers

# Numbers of fields, by the version of a layer: (in the net, its name, its type, its blobs)
LAYER = {"V2": (100, 1, 2, 7), "V1": (2, 4, 5, 6)}
DATA, SHAPE, DOUBLE = 5, 7, 8  # of a blob; 1 to 4 are num, channels, height, width


def names(net: str, batch_norm: bool) -> dict[str, str]:
    """conv1_1.weight <-> conv1_1/0, the first blob of its layer; conv1_1.bias <-> conv1_1/1. No batch norm."""
    return {ours: f"{layer}/{('weight', 'bias').index(p)}" for ours, layer, p in parameters(net, False)}


def read(path: Path) -> Found:
    return rename(unrepeated(blobs(mapped(path))), names)._replace(pooling="up")


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


def write(tensors: dict[str, Tensor], path: Path) -> None:
    """A Caffe model (V2) of our tensors, conv1_1's colours in the order they have. Raises OSError."""
    net, found = by_theirs(tensors, names)
    field, name_field, type_field, blob_field = LAYER["V2"]
    pieces: list[Part] = [*bytes_field(1, f"VGG, net {net.name}".encode())]
    for layer in dict.fromkeys(theirs.split("/")[0] for theirs in found):
        kind = b"InnerProduct" if layer in FC else b"Convolution"
        inside = [*bytes_field(name_field, layer.encode()), *bytes_field(type_field, kind)]
        for blob in (found[f"{layer}/{i}"] for i in (0, 1)):
            shape = bytes_field(1, b"".join(map(encoded, blob.shape)))
            data = bytes_field(DATA, bytes_of(blob.to(torch.float32)))
            inside += bytes_field(blob_field, *bytes_field(SHAPE, *shape), *data)
        pieces += bytes_field(field, *inside)
    with path.open("wb") as f:
        f.writelines(pieces)
