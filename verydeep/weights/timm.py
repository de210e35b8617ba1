"""timm's names: torchvision's features, then pre_logits.fc1 and fc2 as convolutions and head.fc."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from verydeep.net.vgg import as_kernel
from verydeep.weights import torch_file, torchvision
from verydeep.weights.shapes import Found, describe, rename

HEAD = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}


def names(net: str, batch_norm: bool) -> dict[str, str]:
    """As torchvision's for the convolutions; fc6.weight <-> pre_logits.fc1.weight, fc8.weight <-> head.fc.weight."""
    return torchvision.names(net, batch_norm, HEAD)


def read(path: Path) -> Found:
    return rename(torch_file.tensors_in(path), names)


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A state dict of our tensors, FC layers as kernels of crop / 32 and of 1. Raises RunError."""
    found, net = torchvision.theirs(tensors, names), describe(tensors)
    for fc, side in (("fc6", net.map), ("fc7", 1)):
        if (name := f"{HEAD[fc]}.weight") in found:
            found[name] = as_kernel(found[name], side)
    torch_file.write(found, path)
