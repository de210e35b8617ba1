"""Tensors under our names: which net of Table 1 they are, and whether they are one at all."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import isqrt
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from verydeep.errors import ModelError
from verydeep.files.tensors import cut
from verydeep.net.vgg import VGG, column
from verydeep.paper import STRIDE, TABLE_1
from verydeep.shape import Pooling, Shape
from verydeep.weights.inputs import Input

T = TypeVar("T")
PLAIN = ("E", "D", "B", "A", "shallow-B")  # deepest first: one for each number of layers a block; C has D's names
FC = ("fc6", "fc7", "fc8")
LARGEST = 1 << 16  # width, crop and classes of a net, as in a contract
NORM = ("weight", "bias", "running_mean", "running_var")
Names = Callable[[str, bool], dict[str, str]]  # (net, batch norm) -> {our name: the name in the file}
Classes = tuple[tuple[str, tuple[str, ...]], ...]  # (what says so, names)


class Unlike(ValueError):
    """A sound file holds something else than what can be read."""


class Found(NamedTuple):
    """What a reader took from a file: float32 tensors in memory of their own."""

    tensors: dict[str, Tensor]  # by our names, in our layouts; only conv1_1's colours are in the file's order
    left: tuple[str, ...] = ()  # what the file holds beside the layers of a VGG
    mean: tuple[float, ...] | None = None  # in the file's order of colours, 0-255, where the file tells
    classes: Classes = ()  # where the file tells
    pooling: Pooling = "down"  # Caffe rounds up
    inside: str = ""  # where in the file the net was found
    expects: Input | None = None  # where layers before the net say it
    before: str = ""  # what is before the net and not understood


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Whatever a parser says of a foreign file becomes one ModelError."""
    try:
        yield
    except FileNotFoundError as e:
        raise ModelError(f"{path} does not exist; expected {what}") from e
    except ModelError:
        raise
    except Unlike as e:
        raise ModelError(f"{path} is {what}, but none that can be used: {cut(e)}") from e
    except Exception as e:  # HDF5, zlib, zip, pickle and torch have a dozen of their own between them
        raise ModelError(f"{path} cannot be read as {what} ({cut(e)}); it is damaged or of another format") from e


def parameters(net: str, batch_norm: bool) -> Iterator[tuple[str, str, str]]:
    """(our name, layer, parameter) of a net in order: ("conv1_1.weight", "conv1_1", "weight")."""
    for layer in (*(layer.name for block in column(net) for layer in block), *FC):
        yield from ((f"{layer}.{p}", layer, p) for p in NORM[:2])
        if batch_norm and layer not in FC:
            norm = layer.replace("conv", "bn")
            yield from ((f"{norm}.{p}", norm, p) for p in NORM)


def own_names(net: str, batch_norm: bool) -> dict[str, str]:
    """conv1_1.weight, which are Caffe's names too."""
    return {ours: ours for ours, _, _ in parameters(net, batch_norm)}


def unrepeated(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Raises ValueError for a name that comes twice: another reader might take the other one."""
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:40]} stands in it twice")
        found[name] = value
    return found


def rename(found: Mapping[str, Tensor], names: Names) -> Found:
    """Tensors by our names. Raises ValueError where they are no net."""
    taken, left = matched(found, names)
    return Found({ours: flat(ours, found[theirs]) for ours, theirs in taken.items()}, left)


def matched(found: Collection[str], names: Names) -> tuple[dict[str, str], tuple[str, ...]]:
    """Our name -> that in the file, of the deepest net whose convolutions are all there, and what is left."""
    for net, batch_norm in ((net, batch_norm) for net in PLAIN for batch_norm in (True, False)):
        there = names(net, batch_norm)
        if all(theirs in found for ours, theirs in there.items() if not ours.startswith("fc")):
            taken = {ours: theirs for ours, theirs in there.items() if theirs in found}
            left = sorted(n for n in set(found) - set(taken.values()) if not n.endswith("num_batches_tracked"))
            if more := sorted(set(left) & set(names("E", batch_norm).values())):
                raise ValueError(f"it has {more[0]} but not all layers that go with it")
            return taken, tuple(left)
    raise no_net(found)


def no_net(found: Iterable[str]) -> Unlike:
    return Unlike(f"no net of Table 1 has such layers; it holds {shown(sorted(found)[:3]) or 'nothing'}")


def flat(name: str, tensor: Tensor) -> Tensor:
    """Old Caffe's biases are 1 x 1 x 1 x K, its matrices 1 x 1 x out x in; others have kernels for FC layers."""
    if name.endswith("bias"):
        return tensor.flatten()
    if name.startswith(FC) and tensor.ndim == 4:
        return tensor[0, 0] if tensor.shape[:2] == (1, 1) else tensor.flatten(1)
    return tensor


def describe(tensors: Mapping[str, Tensor], pooling: Pooling = "up") -> VGG:
    """Their net, on the meta device; FC layers that they lack have one output. Raises Unlike unless all fit."""
    kernels = {m[1]: t.shape[-1] for n, t in tensors.items() if (m := re.fullmatch(r"(conv\d_\d)\.weight", n))}
    for name in TABLE_1:
        layers = [layer for block in column(name) for layer in block]
        if kernels == {layer.name: layer.kernel for layer in layers} and not any(layer.lrn for layer in layers):
            break
    else:
        raise Unlike("its convolutions are those of no net of Table 1")
    width, sizes = tensors["conv1_1.weight"].shape[0], (1, STRIDE, 1)  # classes, crop, fc_width
    if has_fc := any(n.startswith(FC) for n in tensors):
        if lacking := [n for layer in FC for n in (f"{layer}.weight", f"{layer}.bias") if n not in tensors]:
            raise Unlike(f"it lacks {lacking[0]}")
        side = isqrt(tensors["fc6.weight"].shape[-1] // max(1, layers[-1].width * width // 64))
        sizes = len(tensors["fc8.bias"]), side * STRIDE, len(tensors["fc6.bias"])
    if max(width, *sizes) > LARGEST:
        raise Unlike(f"sizes out of range: {width} channels; classes, crop and FC width {sizes}")
    net = VGG(**vars(Shape(name, *sizes, width, "bn1_1.weight" in tensors, pooling)), device="meta")
    wanted = {n: t.shape for n, t in net.state_dict().items() if has_fc or not n.startswith(FC)}
    if different := sorted(n for n in wanted.keys() ^ tensors.keys() if not n.endswith("tracked")):
        raise Unlike(f"{different[0]} is missing or too many for net {name}")
    for n, tensor in tensors.items():
        if tensor.shape != wanted[n]:
            raise Unlike(f"{n} is {tuple(tensor.shape)}, expected {tuple(wanted[n])} in net {name}")
        if not all_finite(tensor):
            raise Unlike(f"{n} holds a value that is not finite")
        if n.endswith("running_var") and float(tensor.min()) < 0:
            raise Unlike(f"{n} is negative")
    return net


def by_theirs(tensors: Mapping[str, Tensor], names: Names) -> tuple[VGG, dict[str, Tensor]]:
    """The net of our tensors, on the meta device, and they by their names in a file. Raises ValueError."""
    net = describe(tensors)
    there = names(net.name, net.batch_norm)
    if net.batch_norm and "bn1_1.weight" not in there:
        raise ValueError("VGGs of this layout have no batch norm")
    return net, {theirs: tensors[ours] for ours, theirs in there.items() if ours in tensors}


def with_counters(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """One for each batch norm; files of before 2018 lack them, and evaluation does not use them."""
    norms = [n.removesuffix("running_var") for n in tensors if n.endswith("running_var")]
    return tensors | {f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms}


def all_finite(tensor: Tensor) -> bool:
    """Without a mask of the size of fc6."""
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(tensor))


def shown(names: Iterable[str]) -> str:
    """Names that stand in a file, for one line of a message."""
    return ", ".join(repr(name[:40])[1:-1] + "..." * (len(name) > 40) for name in names)


def without_fc(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t for n, t in tensors.items() if not n.startswith(FC)}
