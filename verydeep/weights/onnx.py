"""ONNX: the initialisers of a graph, in the names of the model zoo (MXNet's), of Keras through tf2onnx, or of PyTorch.

Read by the same wire format as Caffe's files, so there is no need for the onnx package. The graph is not run and not read.
Numbers that lie in files beside the model are read too (`external.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from verydeep.files.disk import mapped
from verydeep.weights import keras, torchvision
from verydeep.weights.external import Files, entry
from verydeep.weights.shapes import PLAIN, Found, parameters, reading, rename
from verydeep.weights.wire import array, beginning, budget, fields, numbers, text, whole

PRODUCER, GRAPH, INITIALISER = 2, 7, 5  # of the model, of the model, of the graph
DIMS, TYPE, FLOATS, NAME, RAW, DOUBLES, EXTERNAL, LOCATION = 1, 2, 4, 8, 9, 10, 13, 14  # of a tensor
KINDS = {1: "<f4", 10: "<f2", 11: "<f8"}
ZOO = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "running_mean",
    "running_var": "running_var",
}  # of a batch norm
# functional_1/block1_conv1_1/convolution/ReadVariableOp:0 is a kernel; Squeeze:0 or BiasAdd/ReadVariableOp:0 its bias
KERAS = re.compile(
    r"(?:.+/)?(block\d_conv\d|fc\d|predictions)(?:_\d+)?/(?:(.+/)?ReadVariableOp|Squeeze|Reshape)(?:_\d+)?:0"
)


def zoo(net: str, batch_norm: bool) -> dict[str, str]:
    """conv1_1.weight <-> vgg0_conv0_weight, bn1_1.weight <-> vgg0_batchnorm0_gamma, fc6.weight <-> vgg0_dense0_weight, counted from 0."""
    found, counts = {}, {"conv": -1, "bn": -1, "fc": -1}
    kinds = {"conv": "conv", "bn": "batchnorm", "fc": "dense"}
    for ours, layer, p in parameters(net, batch_norm):
        kind = layer.rstrip("0123456789_")
        counts[kind] += p == "weight"
        found[ours] = f"vgg0_{kinds[kind]}{counts[kind]}_{ZOO[p] if kind == 'bn' else p}"
    return found


def read(path: Path) -> tuple[Found, str]:
    """The tensors of a graph, and whose names they have: zoo, keras or torch. Raises ModelError."""
    with reading(path, "an ONNX model"):
        found = dict(initialisers(mapped(path), Files(path)))
        names = form(found)
        if names == "zoo":
            return rename({zoo_name(n): t for n, t in found.items()}, zoo), names
        return (from_keras if names == "keras" else from_torch)(found), names


def form(found: Mapping[str, object] | set[str]) -> str:
    if any(re.fullmatch(r"vgg\d+_conv0_weight", name) for name in found):
        return "zoo"
    return "keras" if any(KERAS.fullmatch(name) for name in found) else "torch"


def zoo_name(name: str) -> str:
    """Nets are counted where they are made, so that vgg0 may be vgg1."""
    return re.sub(r"^vgg\d+_", "vgg0_", name)


def from_keras(found: Mapping[str, Tensor]) -> Found:
    """Kernels are turned to channels first by tf2onnx, FC weights are as Keras has them."""
    named, kept = {}, {}
    for name, t in found.items():
        if m := KERAS.fullmatch(name):
            key = f"{m[1]}/{'bias' if t.ndim == 1 else 'kernel'}"
            if key in named:
                raise ValueError(f"{key} stands in it twice")
            named[key] = t
        else:
            kept[name] = t
    taken = rename(named | kept, keras.names)
    return taken._replace(tensors=keras.dense_to_ours(taken.tensors))


def from_torch(found: Mapping[str, Tensor]) -> Found:
    """The newer exporter multiplies batch norm into the convolutions, unless told not to; what is left is a net without it."""
    there = {name for name in found if name.startswith("features.")}
    if any(there == {name for name in fused(net, True).values() if name.startswith("features.")} for net in PLAIN):
        return torchvision.ours(found, fused)
    return torchvision.ours(found)


def fused(net: str, _: bool) -> dict[str, str]:
    """conv1_2.weight <-> features.3.weight: the numbers count a batch norm that is gone."""
    return {ours: theirs for ours, theirs in torchvision.names(net, True).items() if not ours.startswith("bn")}


def initialisers(model: memoryview, files: Files) -> Iterator[tuple[str, Tensor]]:
    """(name, float32 tensor) of the float tensors of the graph. Raises ValueError."""
    left, seen = budget(), set()
    for number, graph in fields(model, left):
        for inner, value in fields(whole(graph), left) if number == GRAPH else ():
            if inner == INITIALISER and (found := tensor(whole(value), left, files)) is not None:
                if found[0] in seen:
                    raise ValueError(f"{found[0][:40]} stands in it twice")
                seen.add(found[0])
                yield found


def tensor(message: memoryview, left: Iterator[int], files: Files) -> tuple[str, Tensor] | None:
    name, dims, kind, data, beside, said = "", list[int](), 0, None, False, dict[str, str]()
    for number, value in fields(message, left):
        if number == DIMS and len(dims) < 8:
            dims += numbers(value)
        elif number == TYPE and isinstance(value, int):
            kind = value
        elif number == NAME:
            name = text(value)
        elif number == EXTERNAL:
            key, there = entry(whole(value), left)
            if said.setdefault(key, there) != there:
                raise ValueError(f"the numbers of {name[:40]} have two values of {key[:40]!r}")
        elif number == LOCATION:
            if value not in (0, 1):
                raise ValueError(f"the numbers of {name[:40]} lie at a place of an unknown kind")
            beside = value == 1
        elif number in (RAW, FLOATS, DOUBLES):
            if data is not None:
                raise ValueError(f"the numbers of {name[:40]} are not in one piece")
            data = whole(value), number
    if kind not in KINDS:
        return None
    if beside:
        if data is not None:
            raise ValueError(f"the numbers of {name[:40]} lie in the model and in another file")
        return name, array(files.numbers(name, said, math.prod(dims) * int(KINDS[kind][2])), KINDS[kind], dims)
    if data is None or (data[1], kind) in ((FLOATS, 11), (DOUBLES, 1), (FLOATS, 10), (DOUBLES, 10)):
        raise ValueError(f"{name[:40]} has no numbers of its kind")
    return name, array(data[0], KINDS[kind], dims)


def names_in(model: memoryview) -> set[str]:
    """The names of the initialisers, up to the first damaged one; their numbers are not touched."""
    left, found = budget(), set()
    with suppress(ValueError):
        for number, graph in fields(model, left):
            for inner, value in fields(whole(graph), left) if number == GRAPH else ():
                if inner == INITIALISER:
                    found |= {text(part) for n, part in fields(whole(value), left) if n == NAME}
    return found


def is_model(data: memoryview) -> bool:
    """Whether the bytes begin as a message with a version and a graph, or, where a file is cut off in its graph, a producer."""
    found = beginning(data)
    return found.get(1) is True and False in (found.get(GRAPH), found.get(PRODUCER))
