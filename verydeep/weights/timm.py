"""timm's names: torchvision's features, then pre_logits.fc1 and fc2 as convolutions and head.fc."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from verydeep.net.vgg import as_kernel
from verydeep.weights import torch_file, torchvision
from verydeep.weights.shapes import Found, describe, reading, rename

HEAD = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}


def names(net: str, batch_norm: bool) -> dict[str, str]:
    """As torchvision's for the convolutions; fc6.weight <-> pre_logits.fc1.weight, fc8.weight <-> head.fc.weight."""
    convolutions = {
        ours: theirs for ours, theirs in torchvision.names(net, batch_norm).items() if not ours.startswith("fc")
    }
    return convolutions | {f"{fc}.{p}": f"{there}.{p}" for fc, there in HEAD.items() for p in ("weight", "bias")}


def read(path: Path, pickled: bool) -> Found:
    """The tensors of a safetensors or `.pth` file of timm. Raises ModelError."""
    with reading(path, "a file of timm"):
        found = torch_file.read_pickled(path) if pickled else torch_file.read_safetensors(path)
        return ours(found)


def ours(found: Mapping[str, Tensor]) -> Found:
    taken = rename({n: t for n, t in found.items() if not n.endswith(torchvision.COUNTED)}, names)
    flat = {n: t.flatten(1) if n in ("fc6.weight", "fc7.weight") else t for n, t in taken.tensors.items()}
    return taken._replace(tensors=flat)


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A state dict of our tensors, FC layers as kernels of crop / 32 and of 1. Raises RunError."""
    torch_file.write(theirs(tensors), path)


def theirs(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    shape = describe(tensors)
    kernels = {"fc6.weight": shape.crop // 32, "fc7.weight": 1}
    shaped = {n: as_kernel(t, kernels[n]) if n in kernels else t for n, t in tensors.items()}
    found = {there: shaped[here] for here, there in names(shape.net, shape.batch_norm).items() if here in shaped}
    return found | {n: t for n, t in torchvision.theirs(tensors).items() if n.endswith(torchvision.COUNTED)}


def is_timm(found: Mapping[str, object] | set[str]) -> bool:
    return any(name.startswith(tuple(HEAD.values())) for name in found)
