"""int8: of all layers, by ranges that are seen on photos (NNCF), or of the weights of the FC layers alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from verydeep.errors import ConfigError
from verydeep.net.inside import FC

if TYPE_CHECKING:
    from onnx import ModelProto


def fc_weights(graph: ModelProto) -> ModelProto:
    """The weights of the FC layers as int8 with a scale for each output; they are computed with as floats."""
    from onnx.helper import make_node
    from onnx.numpy_helper import from_array, to_array

    for node in [n for n in graph.graph.node if n.name in FC and n.op_type in ("Gemm", "Conv")]:
        name = node.input[1]
        kept = next(t for t in graph.graph.initializer if t.name == name)
        weights = to_array(kept)
        step = np.abs(weights.reshape(len(weights), -1)).max(1) / 127
        step = np.where(step > 0, step, 1).astype(np.float32)
        small = np.rint(weights / step.reshape(-1, *[1] * (weights.ndim - 1))).astype(np.int8)
        kept.CopyFrom(from_array(small, f"{name}.int8"))
        graph.graph.initializer.append(from_array(step, f"{name}.step"))
        node.input[1] = f"{name}.float"
        back = make_node(
            "DequantizeLinear", [f"{name}.int8", f"{name}.step"], [node.input[1]], name=node.input[1], axis=0
        )
        graph.graph.node.insert(list(graph.graph.node).index(node), back)
    return graph


def in_int8(graph: ModelProto, photos: Sequence[np.ndarray[Any, Any]]) -> ModelProto:
    """Weights and maps as int8, with the ranges of maps seen on photos, each uint8 1 x H x W x 3."""
    os.environ.setdefault("NNCF_CI", "1")  # without telemetry
    try:
        import nncf
    except ImportError as e:
        raise ConfigError("int8: NNCF is not installed; pip install 'verydeep[int8]' brings it") from e
    nncf.set_log_level(40)
    data = nncf.Dataset([{"photos": photo} for photo in photos])
    floats = [n.name for n in graph.graph.node if not n.name.startswith(("conv", "fc", "relu", "pool", "bn", "norm"))]
    scope = nncf.IgnoredScope(names=[name for name in floats if name != "normalised"], validate=False)
    made: ModelProto = nncf.quantize(graph, data, subset_size=len(photos), ignored_scope=scope)
    return made


def with_weights(graph: ModelProto) -> list[str]:
    """Those with weights."""
    return [node.name for node in graph.graph.node if node.op_type in ("Conv", "Gemm")]


def with_floats(quantised: ModelProto, graph: ModelProto, layers: Sequence[str]) -> ModelProto:
    """The same where these layers compute in floats again, with their first weights."""
    mixed = type(quantised)()
    mixed.CopyFrom(quantised)
    made = {node.output[0]: node for node in mixed.graph.node}
    first = {node.name: node for node in graph.graph.node}
    weights = {t.name: t for t in graph.graph.initializer}
    for node in mixed.graph.node:
        if node.name in layers:
            reader = node
            while (before := made[reader.input[0]]).op_type in ("MaxPool", "Flatten"):
                reader = before
            if before.op_type == "DequantizeLinear":
                reader.input[0] = made[before.input[0]].input[0]  # what was quantised and then back
            for i, name in enumerate(first[node.name].input[1:], 1):  # a bias was corrected
                mixed.graph.initializer.append(weights[name])
                mixed.graph.initializer[-1].name = node.input[i] = f"{name}.float"
    return without_unused(mixed)


def without_unused(model: ModelProto) -> ModelProto:
    """Without the nodes and numbers that lead to no output."""
    wanted, nodes = {output.name for output in model.graph.output}, list[Any]()
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            nodes.insert(0, node)
            wanted |= set(node.input)
    numbers = [t for t in model.graph.initializer if t.name in wanted]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numbers)
    return model
