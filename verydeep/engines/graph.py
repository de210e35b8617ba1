"""A net as an ONNX graph from raw pixels on: what engines run, and what is exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from verydeep.net.classifier import Classifier
from verydeep.net.vgg import as_kernel
from verydeep.paper import LRN_ALPHA, LRN_BETA, LRN_K, LRN_SIZE

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET, IR = 20, 10  # of 2023 and 2024: what is in use reads them
PHOTOS = "photos"  # the input: uint8 N x H x W x 3, as decoders give them
FLOAT, UINT8 = 1, 2  # of ONNX
Form = Literal["crop", "dense"]


class Node(NamedTuple):
    """One step: what it is called, ONNX's name for what it does, its weights by name, its attributes."""

    name: str
    kind: str
    weights: dict[str, Tensor]
    attributes: dict[str, Any]
    inputs: tuple[str, ...] | None = None  # None: what the step before says


class Graph(NamedTuple):
    """An ONNX model whose initialisers say that their numbers lie elsewhere: in `weights`, by name, not copied."""

    model: ModelProto
    weights: dict[str, npt.NDArray[np.float32]]


def onnx_graph(
    net: Classifier, form: Form, ends: Sequence[str] = ("fc8",), pooling: str | None = None,
    between: Sequence[Node] = (), after: Sequence[Node] = (),
) -> Graph:  # fmt: skip
    """The graph from uint8 photos N x H x W x 3 to layers of `net.net.tap_names()`, and no further than these.

    crop: photos of the net's crop, whose FC layers are products of matrices, N x C; dense: photos of any size from the
    crop on, whose FC layers are convolutions, N x C x h x w (section 3.2). pooling: how odd sides round, else as the
    contract says. between, after: steps on pixels N x 3 x H x W of 0-255, and behind the last layer, N x classes.
    """
    from onnx import helper

    (*first, without_mean, normalised), missing = normalising(net), set(ends)
    steps = [*first, *between, without_mean, normalised]
    for step in layers(net, form == "dense", (pooling or net.contract.pooling) == "up"):
        if not missing:
            break
        steps.append(step)
        missing.discard(step.name)
    steps += after
    weights = {name: t.detach().float().cpu().numpy() for step in steps for name, t in step.weights.items()}
    names = [PHOTOS, *(step.name for step in steps)]
    nodes = [
        helper.make_node(
            step.kind, [*([last] if step.inputs is None else step.inputs), *step.weights], [step.name],
            name=step.name, **step.attributes,
        )
        for last, step in zip(names, steps, strict=False)
    ]  # fmt: skip
    side = ["height", "width"] if form == "dense" else [net.contract.crop] * 2
    graph = helper.make_graph(
        nodes, net.contract.net, [helper.make_tensor_value_info(PHOTOS, UINT8, ["n", *side, 3])],
        [helper.make_tensor_value_info(names[-1], FLOAT, ["n", len(net.contract.classes)])] if after
        else [helper.make_tensor_value_info(end, FLOAT, None) for end in ends],
        [without_numbers(name, array.shape) for name, array in weights.items()],
    )  # fmt: skip
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR), weights)


def normalising(net: Classifier) -> Iterator[Node]:
    """Colours come first, as floats without the mean (section 2.1)."""
    yield Node("floats", "Cast", {}, {"to": FLOAT})
    yield Node("colours_first", "Transpose", {}, {"perm": [0, 3, 1, 2]})
    yield Node("without_mean", "Sub", {"mean": net.mean}, {})
    yield Node("normalised", "Div", {"std": net.std}, {})


def layers(classifier: Classifier, dense: bool, round_up: bool) -> Iterator[Node]:
    """The layers of Table 1, each by its name in `tap_names`; weights have the names of our files."""
    net = classifier.net
    for number, block in enumerate(net.blocks, 1):
        for layer in block:
            place, module = layer.name.removeprefix("conv"), getattr(net, layer.name)
            around = {"kernel_shape": [layer.kernel] * 2, "pads": [layer.kernel // 2] * 4}
            yield Node(layer.name, "Conv", of_layer(layer.name, weight=module.weight, bias=module.bias), around)
            if net.batch_norm:
                norm = getattr(net, f"bn{place}")
                own = {name: getattr(norm, name) for name in ("weight", "bias", "running_mean", "running_var")}
                yield Node(f"bn{place}", "BatchNormalization", of_layer(f"bn{place}", **own), {"epsilon": norm.eps})
            yield Node(f"relu{place}", "Relu", {}, {})
            if layer.lrn:  # as in Krizhevsky's paper, alpha is not divided by the size
                how = {"size": LRN_SIZE, "alpha": LRN_ALPHA * LRN_SIZE, "beta": LRN_BETA, "bias": LRN_K}
                yield Node(f"norm{place}", "LRN", {}, how)
        yield Node(f"pool{number}", "MaxPool", {}, {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": round_up})
    if net.fc6 is None:
        return
    if not dense:
        yield Node("flat", "Flatten", {}, {})
    for name, side in (("fc6", net.map), ("fc7", 1), ("fc8", 1)):
        fc = getattr(net, name)
        if dense:
            own = of_layer(name, weight=as_kernel(fc.weight, side), bias=fc.bias)
            yield Node(name, "Conv", own, {"kernel_shape": [side] * 2})
        else:
            yield Node(name, "Gemm", of_layer(name, weight=fc.weight, bias=fc.bias), {"transB": 1})
        if name != "fc8":
            yield Node(name.replace("fc", "relu"), "Relu", {}, {})


def of_layer(layer: str, **tensors: Tensor) -> dict[str, Tensor]:
    return {f"{layer}.{name}": tensor for name, tensor in tensors.items()}


def whole_model(graph: Graph) -> ModelProto:
    """The whole model, with a copy of the numbers."""
    from onnx.numpy_helper import from_array

    whole = type(graph.model)()
    whole.CopyFrom(graph.model)
    for tensor in whole.graph.initializer:
        tensor.CopyFrom(from_array(np.ascontiguousarray(graph.weights[tensor.name]), tensor.name))
    return whole


def without_numbers(name: str, shape: Sequence[int]) -> Any:
    """An initialiser without its numbers."""
    from onnx import StringStringEntryProto, TensorProto

    found = TensorProto(name=name, data_type=FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    found.external_data.append(StringStringEntryProto(key="location", value="memory"))
    return found
