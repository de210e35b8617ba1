"""Engines as scorers: uint8 photos in, what a net says of them out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from verydeep.engines.graph import PHOTOS, Form, Graph, onnx_graph
from verydeep.errors import ConfigError, ModelError
from verydeep.net.classifier import Classifier, build
from verydeep.net.inside import as_it_is

Engine = Literal["auto", "measure", "torch", "openvino", "onnxruntime"]
Precision = Literal["fp32", "bf16", "fp64"]
Scorer = Callable[[Tensor], Tensor]  # uint8 N x 3 x H x W -> float32 N x C x h x w, on whatever device
Run = Callable[[Any], Sequence[Any]]  # uint8 N x H x W x 3 -> the maps of a graph's ends, both of numpy
ABSURD = 1e12  # of a weight: sums overflow, and what is no number then becomes one
Each = Callable[[Tensor], Tensor]


def scorer_for(
    net: Classifier, engine: Engine = "torch", precision: Precision = "fp32", device: str = "cpu",
    pooling: Literal["up", "down"] | None = None, taps: Sequence[str] = (), each: Each = as_it_is,
) -> Scorer:  # fmt: skip
    """A net that an engine runs, in eval mode, with torch's number of threads: its score map of photos.

    taps: instead, what `each` makes of the maps of these layers, side by side in C. pooling: how odd sides round; None
    does as the contract says. Weights must not change while an engine has them. Raises ConfigError for what an engine
    does not compute, and ModelError for weights that are no numbers.
    """
    if engine == "torch":
        return by_torch(net, precision, device, pooling, taps, each)
    if device != "cpu" or precision == "fp64" or (engine, precision) == ("onnxruntime", "bf16"):
        raise ConfigError(f"engine: {engine} computes no {precision} on {device} here; try --engine torch")
    if not all(t.abs().max() < ABSURD for t in net.state_dict().values()):
        hides = f"{engine} would make numbers of them; 'verydeep weights verify' looks at the model"
        raise ModelError(f"some weights are no finite numbers, or beyond {ABSURD:g}, and {hides}")
    start, crop = {"openvino": by_openvino, "onnxruntime": by_onnxruntime}[engine], net.contract.crop

    @cache
    def run(form: Form) -> Run:
        return start(onnx_graph(net, form, taps or ("fc8",), pooling), precision)

    def score(photos: Tensor) -> Tensor:
        here = photos.permute(0, 2, 3, 1).contiguous().numpy()  # as they were decoded, so that nothing is copied
        found = [torch.from_numpy(x) for x in run("crop" if here.shape[1:3] == (crop, crop) else "dense")(here)]
        if taps:
            return torch.cat([each(x) for x in found], 1)
        return found[0].view(*found[0].shape, *[1] * (4 - found[0].ndim))

    return score


def by_torch(
    net: Classifier, precision: str, device: str, pooling: Literal["up", "down"] | None, taps: Sequence[str], each: Each
) -> Scorer:  # fmt: skip
    """Moves the net to the device; fp64 and another pooling take a copy."""
    place = torch.device(device)
    if pooling and pooling != net.contract.pooling:
        net = pooled(net, pooling)
    if precision == "fp64":
        net = copy.deepcopy(net).double()
    net = net.to(place).eval()

    @torch.no_grad()
    def score(photos: Tensor) -> Tensor:
        with torch.autocast(place.type, torch.bfloat16, enabled=precision == "bf16"):
            photos = photos.to(place, non_blocking=True)
            if not taps:
                return net.dense(photos)
            found = net.taps(photos, taps, each)
            return torch.cat([found[name] for name in taps], 1)

    return score


def pooled(net: Classifier, pooling: Literal["up", "down"]) -> Classifier:
    """The same weights, not copied, in a net whose pooling rounds odd sides otherwise."""
    other = build(replace(net.contract, pooling=pooling), "meta")
    other.load_state_dict(net.state_dict(), assign=True)
    return other


def by_openvino(graph: Graph, precision: str) -> Run:
    """Compiled in tenths of a second, as the weights stay where they are."""
    import openvino as ov

    model = openvino_core().read_model(as_inputs(graph).SerializeToString())
    for given in list(model.get_parameters()):
        if (name := given.get_friendly_name()) in graph.weights:
            known = ov.op.Constant(np.ascontiguousarray(graph.weights[name]), shared_memory=True)
            given.output(0).replace(known.output(0))
            model.remove_parameter(given)
    model.validate_nodes_and_infer_types()
    return compiled(model, precision)


@cache
def openvino_core() -> Any:
    """The one of this process: of several the last to go leaves the process a stack for signals that is freed."""
    import openvino as ov

    return ov.Core()


def compiled(model: Any, precision: str = "fp32") -> Run:
    how: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision], "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # two processes would take the same core
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # or maps are rounded where weights are int8
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }  # fmt: skip
    made = openvino_core().compile_model(model, "CPU", how)
    return lambda photos: list(made(photos).values())


def as_inputs(graph: Graph) -> Any:
    """The model with its weights as inputs, which are then exchanged for constants."""
    from onnx import helper

    model = type(graph.model)()
    model.CopyFrom(graph.model)
    del model.graph.initializer[:]
    model.graph.input.extend(helper.make_tensor_value_info(n, 1, w.shape) for n, w in graph.weights.items())
    return model


def by_onnxruntime(graph: Graph, precision: str) -> Run:
    return session(graph.model.SerializeToString(), graph.weights)


def session(model: bytes | str, weights: Mapping[str, Any] = MappingProxyType({})) -> Run:
    """A model of ONNX, or the path of one; weights: initialisers that are not in it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    values = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(w)) for w in weights.values()]
    options.add_external_initializers(list(weights), values)
    made = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda photos: made.run(None, {PHOTOS: photos})


def run_file(given: Path | bytes, engine: Engine, precision: Precision = "fp32") -> Run:
    """A file that was exported, or its bytes, in OpenVINO or ONNX Runtime."""
    model = given if isinstance(given, bytes) else str(given)
    if engine == "onnxruntime":
        return session(model)
    return compiled(openvino_core().read_model(model), precision)
