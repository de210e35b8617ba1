"""torchvision's names: features.N and classifier.N, by place in a Sequential; nets A, B, D, E with and without batch norm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from verydeep.net.vgg import column
from verydeep.weights import torch_file
from verydeep.weights.shapes import NORM, Found, Names, describe, finite, reading, rename, without_fc

CLASSIFIER = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}  # a ReLU and dropout between each
OLD = {
    "classifier.1": "classifier.0",
    "classifier.4": "classifier.3",
}  # until April 2017 dropout came first; vgg16-00b39a1b.pth is older
COUNTED = "num_batches_tracked"  # of each batch norm; files of before 2018 lack it, and evaluation does not use it


def names(net: str, batch_norm: bool) -> dict[str, str]:
    """conv1_1.weight <-> features.0.weight: a convolution, batch norm and ReLU take a number each, and so does the pooling of a block."""
    found, n = dict[str, str](), 0
    for block in column(net):
        for layer in block:
            found |= {f"{layer.name}.{p}": f"features.{n}.{p}" for p in ("weight", "bias")}
            if batch_norm:
                found |= {f"{layer.name.replace('conv', 'bn')}.{p}": f"features.{n + 1}.{p}" for p in NORM}
            n += 3 if batch_norm else 2
        n += 1
    return found | {f"{fc}.{p}": f"{there}.{p}" for fc, there in CLASSIFIER.items() for p in ("weight", "bias")}


def read(path: Path, pickled: bool) -> Found:
    """The tensors of a `.pth` or safetensors file. FC layers of NaN, as torchvision ships them, are left. Raises ModelError."""
    with reading(path, "a file of PyTorch"):
        return ours(torch_file.read_pickled(path) if pickled else torch_file.read_safetensors(path))


def ours(found: Mapping[str, Tensor], names: Names = names) -> Found:
    taken = rename({n: t for n, t in renewed(found).items() if not n.endswith(COUNTED)}, names)
    fc = {n: t for n, t in taken.tensors.items() if n.startswith("fc")}
    if fc and not any(finite(t) for t in fc.values() if t.numel()):
        return Found(without_fc(taken.tensors), (*taken.left, *(f"{there}.weight" for there in CLASSIFIER.values())))
    return taken


def renewed(found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """FC layers by the numbers that they have today."""
    if not all(f"{old}.weight" in found for old in (*OLD, "classifier.6")) or any(
        f"{new}.weight" in found for new in OLD.values()
    ):
        return found
    layers = {n: n.rpartition(".") for n in found}
    return {f"{OLD.get(layer, layer)}{dot}{p}": found[n] for n, (layer, dot, p) in layers.items()}


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A state dict of our tensors, for net.load_state_dict of torchvision. Raises RunError."""
    torch_file.write(theirs(tensors), path)


def theirs(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    shape = describe(tensors)
    found = {there: tensors[here] for here, there in names(shape.net, shape.batch_norm).items() if here in tensors}
    counted = {n.removesuffix("running_var") + COUNTED: torch.tensor(0) for n in found if n.endswith("running_var")}
    return found | counted
