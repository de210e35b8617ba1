"""What the graph of an ONNX model does before its first convolution, and which of its nodes no VGG has."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from verydeep.files.tensors import cut
from verydeep.weights.before import done, input_after, probe
from verydeep.weights.inputs import Input
from verydeep.weights.shapes import Unlike
from verydeep.weights.wire import budget, last_text, message, numbers

GRAPH, NODE, INITIALISER, INPUT = 7, 1, 5, 11  # of the model; of the graph
SMALL = {1: "<f4", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}  # kinds of numbers that are looked at
MOST = 1000  # of them in a constant
VGG = {
    "Conv", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Reshape", "Gemm", "MatMul", "Add",
    "Dropout", "Softmax", "LogSoftmax", "BatchNormalization", "Transpose", "Constant", "Shape", "Gather", "Unsqueeze",
    "Squeeze", "Concat", "Identity", "Cast",
}  # fmt: skip


class Told(NamedTuple):
    expects: Input | None = None
    before: str = ""
    strange: tuple[str, ...] = ()  # nodes that no VGG has
    used: frozenset[str] = frozenset()  # what was taken on the way to the first convolution


def told_by(model: memoryview) -> Told:
    """Of a graph in order, as ONNX demands. A graph that has no input tells nothing. Raises ValueError."""
    left = budget()
    for graph in (message(one, left) for one in message(model, left)[GRAPH]):
        values = dict[str, Any](small(message(one, left), left) for one in graph[INITIALISER])
        nodes, used = [message(one, left) for one in graph[NODE]], set[str]()
        for info in (message(one, left) for one in graph[INPUT]):
            if (name := last_text(info[1])) not in values:
                values[name] = photos(info, left)
        for i, node in enumerate(nodes):
            kind, inputs = last_text(node[4]), [last_text([one]) for one in node[1] if len(one)]
            if kind == "Conv" and (found := values.get(inputs[0])) is not None:
                strange = {last_text(n[4]) for n in nodes[i:]} - VGG
                names = tuple(f"node {one}" for one in sorted(strange))
                try:
                    if isinstance(found, Exception):
                        raise found
                    return Told(input_after(np.moveaxis(found, 1, -1)), "", names, frozenset(used))
                except (ValueError, TypeError, IndexError) as e:
                    return Told(None, cut(e), names, frozenset(used))
            if all(name in values for name in inputs):
                used |= set(inputs)
                values[last_text(node[2])] = outcome(kind, [values[name] for name in inputs], node, left)
    return Told()


def photos(info: dict[int, list[Any]], left: Iterator[int]) -> Any:
    """The probe as the input wants it, channels first unless its last side is three; None for other inputs."""
    sides = list[int]()
    for part in (2, 1, 2, 1):  # the type of the input, of a tensor, its shape, its sides
        inner = [message(one, left) for one in info[part]]
        if part == 1 and len(inner) == 4:
            sides = [(side[1] or [0])[-1] for side in inner]
        info = inner[0] if inner else info
    channels_last = len(sides) == 4 and sides[3] == 3 != sides[1]
    return probe() if channels_last else np.moveaxis(probe(), -1, 1)


def small(tensor: dict[int, list[Any]], left: Iterator[int]) -> tuple[str, Any]:
    """(name, float64 or int64 numbers) of a tensor of few; else what says that there are too many of them."""
    dims, kind = numbers(tensor[1]), SMALL.get((tensor[2] or [0])[-1])
    if kind is None or math.prod(dims) > MOST or tensor[13]:
        return last_text(tensor[8]), Unlike("a constant is larger than a mean")
    raw = b"".join(bytes(part) for part in (*tensor[9], *tensor[4], *tensor[10]))
    found = (
        np.frombuffer(raw, kind) if raw else np.array([signed(n) for field in (5, 7) for n in numbers(tensor[field])])
    )
    return last_text(tensor[8]), found.astype(np.int64 if kind[1] == "i" else np.float64).reshape(dims)


def signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def outcome(kind: str, given: list[Any], node: dict[int, list[Any]], left: Iterator[int]) -> Any:
    """What a node makes of values, or the error that says why that is not known."""
    if why := next((one for one in given if isinstance(one, Exception)), None):
        return why
    said = {last_text(one[1]): one for one in (message(part, left) for part in node[5])}
    axis = signed((said["axis"][3] or [0])[-1]) if "axis" in said else 0
    try:
        if kind == "Constant":
            if "value" in said:
                return small(message(said["value"][5][-1], left), left)[1]
            (one,) = said.values()  # value_float, value_int, value_floats, value_ints
            floats = np.frombuffer(b"".join(bytes(part) for part in (*one[2], *one[7])), "<f4").astype(np.float64)
            found = floats if len(floats) else np.array([signed(n) for n in numbers([*one[3], *one[8]])])
            return found if one[7] or one[8] else found[0]
        if kind == "Transpose":
            return done(kind, [given[0], [signed(n) for n in numbers(said["perm"][8])]])
        if kind == "Slice" and len(given) == 5:
            cuts = [slice(None)] * np.ndim(given[0])
            for begin, end, side, step in zip(*(np.atleast_1d(one).tolist() for one in given[1:]), strict=True):
                cuts[side] = slice(begin, end, step)
            return done("getitem", [given[0], tuple(cuts)])
        if kind == "Unsqueeze" and len(given) == 2:
            return np.expand_dims(given[0], tuple(np.atleast_1d(given[1]).tolist()))
        return done(kind, [given] if kind == "Concat" else given, axis)
    except (ValueError, LookupError, TypeError) as e:
        return Unlike(cut(e))
