"""Tensors under our names: which net of Table 1 they are, and whether they are one at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import isqrt
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from verydeep.errors import ConfigError, ModelError
from verydeep.files.tensors import cut
from verydeep.net.vgg import VGG, column
from verydeep.paper import STRIDE, TABLE_1

PLAIN = (
    "E",
    "D",
    "B",
    "A",
    "shallow-B",
)  # deepest first: one net for each number of layers a block; C has the names of D
FC = ("fc6", "fc7", "fc8")
LARGEST = 1 << 16  # width, crop and classes of a net, as in a contract
NORM = ("weight", "bias", "running_mean", "running_var")
Names = Callable[[str, bool], dict[str, str]]  # (net, batch norm) -> {our name: the name in the file}


class Found(NamedTuple):
    """What a reader took from a file: float32 tensors in memory of their own."""

    tensors: dict[str, Tensor]  # by our names, in our layouts; only conv1_1's colours are in the file's order
    left: tuple[str, ...] = ()  # what the file holds beside the layers of a VGG
    mean: tuple[float, ...] | None = None  # in the file's order of colours, 0-255, where the file tells
    classes: tuple[str, ...] = ()  # where the file tells
    pooling: Literal["up", "down"] | None = None  # where the file tells


class Shape(NamedTuple):
    """A net's size. classes, crop and fc_width are 0 where there are no FC layers."""

    net: str
    base_width: int
    batch_norm: bool
    classes: int = 0
    crop: int = 0
    fc_width: int = 0


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Whatever a parser says of a foreign file becomes one ModelError."""
    try:
        yield
    except FileNotFoundError as e:
        raise ModelError(f"{path} does not exist; expected {what}") from e
    except ModelError:
        raise
    except Exception as e:  # HDF5, zlib, zip, pickle and torch have a dozen of their own between them
        raise ModelError(f"{path} cannot be read as {what} ({cut(e)}); it is damaged or of another format") from e


def parameters(net: str, batch_norm: bool) -> Iterator[tuple[str, str, str]]:
    """(our name, layer, parameter) of a net in order: ("conv1_1.weight", "conv1_1", "weight")."""
    layers = [layer.name for block in column(net) for layer in block]
    for layer in layers:
        yield from ((f"{layer}.{p}", layer, p) for p in ("weight", "bias"))
        if batch_norm:
            norm = layer.replace("conv", "bn")
            yield from ((f"{norm}.{p}", norm, p) for p in NORM)
    for layer in FC:
        yield from ((f"{layer}.{p}", layer, p) for p in ("weight", "bias"))


def rename(found: Mapping[str, Tensor], names: Names) -> Found:
    """The tensors of the deepest net whose convolutions are all there, by our names. Raises ValueError where there is none."""
    for net in PLAIN:
        for batch_norm in (True, False):
            there = names(net, batch_norm)
            if all(theirs in found for ours, theirs in there.items() if not ours.startswith("fc")):
                taken = {ours: theirs for ours, theirs in there.items() if theirs in found}
                left = sorted(set(found) - set(taken.values()))
                if more := sorted(set(left) & set(names("E", batch_norm).values())):
                    raise ValueError(f"it has {more[0]} but not all layers that go with it")
                return Found({ours: found[theirs] for ours, theirs in taken.items()}, tuple(left))
    raise ValueError(f"no net of Table 1 has such layers; it holds {shown(sorted(found)[:3]) or 'nothing'}")


def describe(tensors: Mapping[str, Tensor]) -> Shape:
    """The net of these tensors, every shape of which fits. Raises ValueError for anything else."""
    kernels = [
        (m[1], m[2], t.shape[-1])
        for n, t in tensors.items()
        if n.endswith(".weight") and (m := re.fullmatch(r"conv(\d)_(\d)\.weight", n))
    ]
    wanted = sorted(kernels)
    for net in TABLE_1:
        layers = [
            (*layer.name.removeprefix("conv").split("_"), layer.kernel) for block in column(net) for layer in block
        ]
        if wanted == sorted(layers) and not any(layer.lrn for block in column(net) for layer in block):
            break
    else:
        raise ValueError("its convolutions are those of no net of Table 1")
    if any(t.ndim == 0 for t in tensors.values()):
        raise ValueError("a weight is a single number")
    batch_norm, width = "bn1_1.weight" in tensors, tensors["conv1_1.weight"].shape[0]
    shape = Shape(net, width, batch_norm)
    if any(n.startswith("fc") for n in tensors):
        if lacking := [n for layer in FC for n in (f"{layer}.weight", f"{layer}.bias") if n not in tensors]:
            raise ValueError(f"it lacks {lacking[0]}")
        channels = max(1, column(net)[-1][-1].width * width // 64)
        side = isqrt(tensors["fc6.weight"].shape[-1] // channels)
        shape = Shape(net, width, batch_norm, tensors["fc8.bias"].shape[0], side * STRIDE, tensors["fc6.bias"].shape[0])
    check(tensors, shape)
    return shape


def check(tensors: Mapping[str, Tensor], shape: Shape) -> None:
    """Every tensor is there, has the shape of its layer, and is finite."""
    fc = (shape.classes, shape.crop, shape.fc_width)
    if not 0 < shape.base_width <= LARGEST or (any(fc) and not all(0 < size <= LARGEST for size in fc)):
        raise ValueError(f"sizes out of range: {shape}")
    try:
        net = VGG(
            shape.net, classes=shape.classes or 1, crop=shape.crop or STRIDE, fc_width=shape.fc_width or 1,
            base_width=shape.base_width, batch_norm=shape.batch_norm, device="meta",
        )  # fmt: skip
    except ConfigError as e:
        raise ValueError(str(e)) from e
    wanted = {
        n: t.shape
        for n, t in net.state_dict().items()
        if not n.endswith("tracked") and (shape.crop or not n.startswith("fc"))
    }
    if different := sorted(set(wanted) ^ set(tensors)):
        raise ValueError(f"{different[0]} is missing or too many for net {shape.net}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name]:
            raise ValueError(f"{name} is {tuple(tensor.shape)}, expected {tuple(wanted[name])} in net {shape.net}")
        if not finite(tensor):
            raise ValueError(f"{name} holds a value that is not finite")
        if name.endswith("running_var") and float(tensor.min()) < 0:
            raise ValueError(f"{name} is negative")


def finite(tensor: Tensor) -> bool:
    """Without a mask of the size of fc6."""
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(tensor))


def shown(names: Iterable[str]) -> str:
    """Names that stand in a file, for one line of a message."""
    return ", ".join(repr(name[:40])[1:-1] + "..." * (len(name) > 40) for name in names)


def without_fc(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t for n, t in tensors.items() if not n.startswith("fc")}
