"""What the graph of an ONNX model does before its first convolution, and which of its nodes no VGG has."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from verydeep.paper import STRIDE
from verydeep.weights.before import MOST, done, probe, told
from verydeep.weights.inputs import Input
from verydeep.weights.shapes import Unlike
from verydeep.weights.wire import Parts, last_text, message, numbers

GRAPH, NODE, INITIALISER, INPUT = 7, 1, 5, 11  # of the model; of the graph
KINDS = {1: "<f4", 10: "<f2", 11: "<f8"}  # of weights
LOOKED_AT = KINDS | {6: "<i4", 7: "<i8"}
VGG = {
    "Conv", "Relu", "MaxPool", "Flatten", "Reshape", "Gemm", "MatMul", "Add",
    "Dropout", "Softmax", "LogSoftmax", "BatchNormalization", "Transpose", "Constant", "Shape", "Gather", "Unsqueeze",
    "Squeeze", "Concat", "Identity", "Cast",
}  # fmt: skip


class Field:
    """Of a tensor."""

    DIMS, TYPE, FLOATS, INT32S, INT64S, NAME, RAW, DOUBLES, EXTERNAL, LOCATION = 1, 2, 4, 5, 7, 8, 9, 10, 13, 14


class Told(NamedTuple):
    expects: Input | None = None
    before: str = ""
    strange: tuple[str, ...] = ()  # nodes that no VGG has
    used: frozenset[str] = frozenset()  # what was taken on the way to the first convolution


def graph_of(model: memoryview, left: Iterator[int]) -> tuple[Parts, list[Parts]]:
    """The one graph of a model, and the tensors in it. Raises ValueError."""
    [only] = message(model, left)[GRAPH]
    graph = message(only, left)
    return graph, [message(one, left) for one in graph[INITIALISER]]


def told_by(graph: Parts, tensors: list[Parts], left: Iterator[int]) -> Told:
    """Of a graph in order, as ONNX demands. A graph that has no input tells nothing. Raises ValueError."""
    values, used = {last_text(tensor[Field.NAME]): small(tensor) for tensor in tensors}, set[str]()
    side = list[int]()
    for info in (message(one, left) for one in graph[INPUT]):
        if (name := last_text(info[1])) not in values:
            values[name], side = photos(info, left), sides_in(info, left)[2:3]
    nodes = [message(one, left) for one in graph[NODE]]
    for i, node in enumerate(nodes):
        kind, inputs = last_text(node[4]), [last_text([one]) for one in node[1] if len(one)]
        if kind == "Conv" and inputs[0] in values:
            before = values[inputs[0]]
            strange = sorted({last_text(n[4]) for n in nodes[i:] if not averages_one(n, side, left)} - VGG)
            said = told(lambda: np.moveaxis(done("identity", [before]), 1, -1))  # noqa: B023  called at once
            return Told(*said, tuple(f"node {one}" for one in strange), frozenset(used))
        if all(name in values for name in inputs):
            used |= set(inputs)
            try:
                values[last_text(node[2])] = outcome(kind, [values[name] for name in inputs], node, left)
            except (ValueError, TypeError, LookupError) as e:
                values[last_text(node[2])] = e
    return Told()


def photos(info: Parts, left: Iterator[int]) -> Any:
    """The probe as the input wants it: channels first unless its last side is three."""
    channels = sides_in(info, left)
    return probe() if len(channels) == 4 and channels[3] == 3 != channels[1] else np.moveaxis(probe(), -1, 1)


def sides_in(info: Parts, left: Iterator[int]) -> list[int]:
    """The sides that a graph says of an input, 0 where they may be any."""
    sides = [info]
    for part in (2, 1, 2, 1):  # the type of the input, of a tensor, its shape, its sides
        sides = [message(one, left) for one in sides[0][part]] if sides else []
    return [(side[1] or [0])[-1] for side in sides]


def averages_one(node: Parts, side: list[int], left: Iterator[int]) -> bool:
    """Whether a node averages single cells, as of one kernel cell, or of the one of the last map at this side."""
    if (kind := last_text(node[4])) != "AveragePool":  # otherwise the net answers of a map, as none of the paper's does
        return kind == "GlobalAveragePool" and side in ([], [0], [STRIDE])
    said = {last_text(one[1]): attribute(one, left) for one in (message(part, left) for part in node[5])}
    return bool(np.all(said.get("kernel_shape") == 1))


def small(tensor: Parts) -> Any:
    """The float64 or int64 numbers of a tensor of few; else what says that there are too many of them."""
    dims, kind = numbers(tensor[Field.DIMS]), LOOKED_AT.get((tensor[Field.TYPE] or [0])[-1])
    if kind is None or math.prod(dims) > MOST or tensor[Field.EXTERNAL]:
        return Unlike("a constant is larger than a mean")
    raw = b"".join(map(bytes, (*tensor[Field.RAW], *tensor[Field.FLOATS], *tensor[Field.DOUBLES])))
    found = np.frombuffer(raw, kind) if raw else np.array(signed([*tensor[Field.INT32S], *tensor[Field.INT64S]]))
    return found.astype(np.int64 if kind[1] == "i" else np.float64).reshape(dims)


def signed(values: list[Any]) -> list[int]:
    return [number - (1 << 64) if number >> 63 else number for number in numbers(values)]


def attribute(said: Parts, left: Iterator[int]) -> Any:
    """A tensor, or one or several floats or integers."""
    if said[5]:
        return small(message(said[5][-1], left))
    floats = np.frombuffer(b"".join(map(bytes, (*said[2], *said[7]))), "<f4").astype(np.float64).tolist()
    found = floats or signed([*said[3], *said[8]])
    return np.array(found) if said[7] or said[8] else found[-1] if found else None


def outcome(kind: str, given: list[Any], node: Parts, left: Iterator[int]) -> Any:
    """What a node makes of values. Raises what says why that is not known."""
    said = {last_text(one[1]): attribute(one, left) for one in (message(part, left) for part in node[5])}
    if kind == "Constant":
        return next(iter(said.values()))
    more = [said["perm"]] if "perm" in said else []
    return done(kind, [given] if kind == "Concat" else [*given, *more], said.get("axis", 0))
