"""The formats: each writes a net from raw pixels to posteriors, and runs such a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from verydeep.contract import to_json
from verydeep.engines import Node, layers, onnx_graph, openvino_core, run_file, whole_model
from verydeep.export.rescale import rescaled, rescaling
from verydeep.files.tensors import checksum
from verydeep.net.classifier import METADATA, SEAL, Classifier, sealed_contract

if TYPE_CHECKING:
    from onnx import ModelProto

Photos = npt.NDArray[np.uint8]  # N x H x W x 3
Save = Callable[[Path, Mapping[str, Any]], None]
Run = Callable[[Photos], npt.NDArray[np.float32]]  # posteriors N x K


class Exported(NamedTuple):
    """What is exported. scale: the Q to which photos of any size are rescaled inside, None for crops."""

    net: Classifier
    scale: int | None

    @property
    def sum(self) -> str:
        """SHA-256 of all that computes, in float32."""
        floats = {name: t.float() for name, t in self.net.state_dict().items() if t.is_floating_point()}
        return checksum(floats)

    @property
    def last(self) -> list[Node]:
        mean = [Node("over_space", "GlobalAveragePool", {}, {}), Node("flat", "Flatten", {}, {})] if self.scale else []
        return [*mean, Node("posteriors", "Softmax", {}, {"axis": 1})]

    def graph(self) -> ModelProto:
        """As ONNX."""
        between = rescaling(self.scale) if self.scale else []
        return whole_model(onnx_graph(self.net, "dense" if self.scale else "crop", between=between, after=self.last))


def metadata(exported: Exported, about: Mapping[str, Any]) -> dict[str, str]:
    """What a file says of itself: the contract with its seal, and in plain words what strangers' programs show."""
    c, sealed = exported.net.contract, sealed_contract(to_json(exported.net.contract))
    more = {
        "labels": list(c.classes),
        "licence": c.licence,
        "origin": c.origin,
        "weights_sha256": exported.sum,
        **about,
    }
    plain = {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
             for name, value in more.items()}  # fmt: skip
    return {METADATA: sealed[METADATA], SEAL: sealed[SEAL]} | plain


def as_onnx(graph: ModelProto, exported: Exported) -> Save:
    from onnx.helper import set_model_props

    def save(path: Path, about: Mapping[str, Any]) -> None:
        graph.producer_name, graph.doc_string = "verydeep", str(about["use"])
        set_model_props(graph, metadata(exported, about))
        path.write_bytes(graph.SerializeToString())

    return save


def as_openvino(graph: ModelProto, exported: Exported) -> Save:
    """The IR: NAME.xml, and its numbers in NAME.bin beside it."""
    import openvino as ov

    model = openvino_core().read_model(graph.SerializeToString())

    def save(path: Path, about: Mapping[str, Any]) -> None:
        for name, value in metadata(exported, about).items():
            model.set_rt_info(value, ["verydeep", name])
        ov.save_model(model, path, compress_to_fp16=False)

    return save


def as_pt2(graph: object, exported: Exported) -> Save:
    """A program of torch.export, with no example of its input, which would be a pickle."""
    crop, any_size = exported.net.contract.crop, torch.export.Dim.DYNAMIC
    side = 2 * (exported.scale or 0) + 3
    size = (2, side, side + 64, 3) if exported.scale else (2, crop, crop, 3)
    dynamic = {"photos": {0: any_size} | ({1: any_size, 2: any_size} if exported.scale else {})}
    program = torch.export.export(Program(exported), (torch.zeros(size, dtype=torch.uint8),), dynamic_shapes=dynamic)
    program._example_inputs = None
    return lambda path, about: torch.export.save(program, path, extra_files=metadata(exported, about))


class Format(NamedTuple):
    suffix: str
    made: Callable[[Any, Exported], Save]
    runtime: Any


FORMATS = {
    "onnx": Format(".onnx", as_onnx, "onnxruntime"),
    "openvino": Format(".xml", as_openvino, "openvino"),
    "pt2": Format(".pt2", as_pt2, "torch"),
}


def running(path: Path, form: str) -> Run:
    """An exported file in its own runtime."""
    if form != "pt2":
        return first_of(run_file(path, FORMATS[form].runtime))
    program = torch.export.load(path).module()
    return lambda photos: program(torch.from_numpy(photos)).detach().numpy()


def first_of(run: Callable[[Photos], Sequence[Any]]) -> Run:
    return lambda photos: np.asarray(run(photos)[0])


class Program(nn.Module):
    """The graph's nodes in torch, without what the nets do for speed, which depends on sizes."""

    mean: Tensor
    std: Tensor

    def __init__(self, exported: Exported) -> None:
        super().__init__()
        net, self.scale = exported.net, exported.scale
        steps = [*layers(net, bool(exported.scale), net.contract.pooling == "up"), *exported.last]
        self.steps: list[tuple[Callable[..., Tensor], list[str], dict[str, Any]]] = []
        for i, step in enumerate(steps):
            names = [f"{i}_{name}".replace(".", "_") for name in step.weights]
            for name, weight in zip(names, step.weights.values(), strict=True):
                self.register_buffer(name, weight.detach().float())
            self.steps.append((OPERATIONS[step.kind], names, step.attributes))
        self.register_buffer("mean", net.mean)
        self.register_buffer("std", net.std)

    def forward(self, photos: Tensor) -> Tensor:
        x = photos.permute(0, 3, 1, 2).float()
        x = (x if self.scale is None else rescaled(x, self.scale)) - self.mean
        x = x / self.std
        for operation, names, attributes in self.steps:
            x = operation(x, *(getattr(self, name) for name in names), **attributes)
        return x


def conv(x: Tensor, weight: Tensor, bias: Tensor, kernel_shape: Sequence[int], pads: Sequence[int] = (0,)) -> Tensor:
    return F.conv2d(x, weight, bias, padding=pads[0])


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Conv": conv,
    "BatchNormalization": lambda x, weight, bias, mean, var, epsilon: F.batch_norm(
        x, mean, var, weight, bias, eps=epsilon
    ),
    "Relu": F.relu,
    "LRN": lambda x, size, alpha, beta, bias: F.local_response_norm(x, size, alpha, beta, bias),
    "MaxPool": lambda x, kernel_shape, strides, ceil_mode: F.max_pool2d(x, 2, 2, ceil_mode=bool(ceil_mode)),
    "Gemm": lambda x, weight, bias, transB: F.linear(x, weight, bias),
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "Flatten": lambda x: x.flatten(1),
    "Softmax": lambda x, axis: x.softmax(axis),
}
