"""ONNX: the initialisers of a graph, in the names of the model zoo (MXNet's), of Keras through tf2onnx, or of PyTorch.

Numbers may lie in files beside the model, where PyTorch's newer exporter puts them; graph.py reads the nodes.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from verydeep.errors import ModelError
from verydeep.files.disk import mapped
from verydeep.weights import keras, torchvision
from verydeep.weights.graph import KINDS, Field, graph_of, told_by
from verydeep.weights.shapes import Found, parameters, rename, unrepeated
from verydeep.weights.wire import Parts, array, budget, last_text, message, numbers

PRODUCER = 2  # of the model
# where numbers of a kind may lie in a tensor
PLACES = {"<f4": {Field.RAW, Field.FLOATS}, "<f2": {Field.RAW}, "<f8": {Field.RAW, Field.DOUBLES}}
LAYERS = {"conv": "conv", "bn": "batchnorm", "fc": "dense"}  # as the zoo calls them
NORM = {"weight": "gamma", "bias": "beta"}
# functional_1/block1_conv1_1/convolution/ReadVariableOp:0 is a kernel; Squeeze:0 or BiasAdd/ReadVariableOp:0 its bias
KERAS = re.compile(
    r"(?:.+/)?(block\d_conv\d|fc\d|predictions)(?:_\d+)?/(?:(.+/)?ReadVariableOp|Squeeze|Reshape)(?:_\d+)?:0"
)
SHARED = 1 << 24  # bytes that tensors may take more than once, so that small files do not become much memory


def zoo(net: str, batch_norm: bool) -> dict[str, str]:
    """conv1_1.weight <-> vgg0_conv0_weight, bn1_1.weight <-> vgg0_batchnorm0_gamma, fc6.bias <-> vgg0_dense0_bias."""
    found, counts = {}, Counter[tuple[str, str]]()
    for ours, layer, p in parameters(net, batch_norm):
        kind = layer.rstrip("0123456789_")
        found[ours] = f"vgg0_{LAYERS[kind]}{counts[kind, p]}_{NORM.get(p, p) if kind == 'bn' else p}"
        counts[kind, p] += 1
    return found


def read(path: Path) -> Found:
    left, beside = budget(), Beside(path)
    graph, tensors = graph_of(mapped(path), left)
    found, told = by_names(unrepeated(initialisers(tensors, left, beside))), told_by(graph, tensors, left)
    outputs = len(found.tensors.get("fc8.bias", ()))
    strange = (node for node in told.strange if (node, outputs) != ("node Sigmoid", 1))
    other = (*(name for name in found.left if name not in told.used), *strange)
    return found._replace(left=other, expects=told.expects, before=told.before)


def by_names(found: dict[str, Tensor]) -> Found:
    """The layers of a graph by the names of its initialisers."""
    names = form(found)
    if names == "zoo":  # nets are counted where they are made, so that vgg0 may be vgg1
        return rename({re.sub(r"^.*?vgg\d+_", "vgg0_", n): t for n, t in found.items()}, zoo)
    if names == "keras":  # kernels were turned to channels first by tf2onnx, FC weights are as Keras has them
        known = ((m[1] if (m := KERAS.fullmatch(name)) else "", name, t) for name, t in found.items())
        named = ((f"{layer}/{'bias' if t.ndim == 1 else 'kernel'}" if layer else n, t) for layer, n, t in known)
        return keras.dense_to_ours(rename(unrepeated(named), keras.names))
    return torchvision.taken_from(found, torchvision.only(torchvision.nets_in(found)))


def form(names: Iterable[str]) -> str:
    if any(re.fullmatch(r"(.*[/_.])?vgg\d+_conv0_weight", name) for name in names):
        return "zoo"
    return "keras" if any(KERAS.fullmatch(name) for name in names) else "torch"


class Beside:
    """The files beside one model."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.homes = (model.parent.resolve(), model.resolve().parent)  # it may be a link, as in the caches of hubs
        self.sizes: dict[tuple[int, int], int] = {}  # by what they are on the disk, whatever they are called
        self.taken = 0

    def numbers(self, said: Mapping[str, str], size: int) -> memoryview:
        """The bytes of a tensor, `size` where no length is said. Raises ValueError and ModelError."""
        location, spans = said.get("location", ""), (said.get("offset", "0"), said.get("length", str(size)))
        place = self.place(location)
        if not all(re.fullmatch("[0-9]{1,40}", span) for span in spans):
            raise ValueError(f"{' and '.join(map(repr, spans))[:60]} where numbers of bytes were expected")
        disk, data, (first, length) = place.stat(), mapped(place), map(int, spans)
        if first + length > len(data):
            which = f"bytes {first:,} to {first + length:,} of {location:.60}"
            raise ValueError(f"its numbers lie in {which}, which has only {len(data):,}; fetch that file again")
        self.sizes[disk.st_dev, disk.st_ino] = len(data)
        self.taken += length
        if self.taken > sum(self.sizes.values()) + SHARED:
            raise ValueError(f"its tensors take {self.taken:,} bytes of other files, many times over")
        return data[first : first + length]

    def place(self, location: str) -> Path:
        """A file below the folder of the model, also after links are followed."""
        places = [(home / location).resolve() for home in self.homes]
        there = next((place for place in places if place.exists()), places[0])
        if location.startswith("/") or not any(home in there.parents for home in self.homes):
            raise ValueError(f"its numbers lie in {location[:60] or 'no file'}, expected a file below its folder")
        if not there.exists():
            lacks = "keeps its numbers in another file, which is missing"
            raise ModelError(f"{self.model} {lacks}; put {location!r:.200} beside it")
        return there


def initialisers(tensors: list[Parts], left: Iterator[int], beside: Beside) -> Iterator[tuple[str, Tensor]]:
    """(name, float32 tensor) of the float tensors of a graph. Raises ValueError."""
    for tensor in tensors:
        if kind := KINDS.get((tensor[Field.TYPE] or [0])[-1]):
            name, dims = last_text(tensor[Field.NAME]), numbers(tensor[Field.DIMS])
            yield name, array(bytes_in(name, tensor, kind, dims, left, beside), kind, dims)


def bytes_in(name: str, tensor: Parts, kind: str, dims: list[int], left: Iterator[int], beside: Beside) -> memoryview:
    """The bytes of a tensor, in one piece in the model or in another file."""
    inside = [(place, data) for place in (Field.RAW, Field.FLOATS, Field.DOUBLES) for data in tensor[place]]
    elsewhere = (tensor[Field.LOCATION] or [0])[-1]
    if elsewhere == 1 and not inside:
        entries = (message(entry, left) for entry in tensor[Field.EXTERNAL])
        said = unrepeated({(last_text(entry[1]), last_text(entry[2], 1000)) for entry in entries})
        return beside.numbers(said, math.prod(dims) * int(kind[2]))
    if elsewhere != 0 or len(inside) != 1 or inside[0][0] not in PLACES[kind]:
        raise ValueError(f"the numbers of {name[:40]} are not in one piece, of its kind and at one place")
    data: memoryview = inside[0][1]
    return data


def names_in(model: memoryview) -> set[str]:
    """The names of the initialisers of a model, none of a damaged one; their numbers are not touched."""
    with suppress(ValueError, TypeError):
        return {last_text(tensor[Field.NAME]) for tensor in graph_of(model, budget())[1]}
    return set()
