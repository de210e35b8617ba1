"""torchvision's names and timm's: features.N, by place in a Sequential; A, B, D, E, also with batch norm.

torchvision has classifier.N behind them, timm pre_logits.fc1 and fc2, which are convolutions, and head.fc.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from verydeep.net.vgg import as_kernel, column
from verydeep.weights import torch_file
from verydeep.weights.shapes import FC, NORM, Found, Names, all_finite, describe, rename, without_fc

HEAD = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}  # a ReLU and dropout between each
TIMM = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}
# until April 2017 dropout came first; vgg16-00b39a1b.pth is older
OLD = {"classifier.1": "classifier.0", "classifier.4": "classifier.3"}
COUNTED = "num_batches_tracked"  # of each batch norm; files of before 2018 lack it, and evaluation does not use it


def names(net: str, batch_norm: bool, head: Mapping[str, str] = HEAD) -> dict[str, str]:
    """conv1_1.weight <-> features.0.weight: convolutions, batch norms, ReLUs and poolings take a number each."""
    found, n = dict[str, str](), 0
    for block in column(net):
        for layer in block:
            found |= {f"{layer.name}.{p}": f"features.{n}.{p}" for p in NORM[:2]}
            if batch_norm:
                found |= {f"{layer.name.replace('conv', 'bn')}.{p}": f"features.{n + 1}.{p}" for p in NORM}
            n += 3 if batch_norm else 2
        n += 1
    return found | {f"{fc}.{p}": f"{there}.{p}" for fc, there in head.items() for p in NORM[:2]}


timm_names = partial(names, head=TIMM)


def read(path: Path) -> Found:
    return ours(torch_file.tensors_in(path))


def read_timm(path: Path) -> Found:
    return rename(torch_file.tensors_in(path), timm_names)


def ours(found: Mapping[str, Tensor], names: Names = names) -> Found:
    """FC layers of NaN, as torchvision ships them with a D of features only, are left out."""
    taken = rename(renewed(found), names)
    fc = [t for n, t in taken.tensors.items() if n.startswith(FC) and t.numel()]
    if fc and not any(map(all_finite, fc)):
        return Found(without_fc(taken.tensors), (*taken.left, *(f"{there}.weight" for there in HEAD.values())))
    return taken


def renewed(found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """FC layers by the numbers that they have today."""
    layers = {n: n.rpartition(".") for n in found}
    there = {layer for layer, _, p in layers.values() if p == "weight"}
    if not there >= {*OLD, "classifier.6"} or there & set(OLD.values()):
        return found
    return {f"{OLD.get(layer, layer)}{dot}{p}": found[n] for n, (layer, dot, p) in layers.items()}


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A state dict of our tensors, for net.load_state_dict of torchvision. Raises OSError."""
    torch_file.write(theirs(tensors), path)


def write_timm(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A state dict of our tensors, FC layers as kernels of crop / 32 and of 1. Raises OSError."""
    found, net = theirs(tensors, timm_names), describe(tensors)
    for fc, side in (("fc6", net.map), ("fc7", 1)):
        if (name := f"{TIMM[fc]}.weight") in found:
            found[name] = as_kernel(found[name], side)
    torch_file.write(found, path)


def theirs(tensors: Mapping[str, Tensor], names: Names = names) -> dict[str, Tensor]:
    net = describe(tensors)
    found = {there: tensors[here] for here, there in names(net.name, net.batch_norm).items() if here in tensors}
    counted = {n.removesuffix("running_var") + COUNTED: torch.tensor(0) for n in found if n.endswith("running_var")}
    return found | counted
