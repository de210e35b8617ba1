"""Which published net a file's tensors come from, told by its first layer's values; and so what it eats."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from verydeep.weights.catalogue import catalogue, data
from verydeep.weights.eats import EATS, Eats, eats_of, in_order

# of the largest value: 16-bit files and values printed with four decimals differ by less, trained ones soon by more
NEAR = 0.005
ORDERS: tuple[Literal["RGB", "BGR"], ...] = ("RGB", "BGR")


class Descent(NamedTuple):
    """conv1_1 is a catalogued net's and eats this; `whole` where every convolution is that net's, bit for bit."""

    name: str
    eats: Eats
    whole: bool

    def __str__(self) -> str:
        return f"its {'convolutions are' if self.whole else 'first layer is'} {self.name}'s"


class FirstLayer(NamedTuple):
    """The kernel of the first filter of conv1_1, 3 x 3 x 3 in RGB, and the biases of the first filters, or none."""

    name: str
    kernel: Tensor
    biases: Tensor
    convolutions: str | None  # the SHA-256 of `fingerprint`, where it is known


@cache
def first_layers() -> tuple[FirstLayer, ...]:
    """Those that are known, of float32."""
    found = []
    for name, v in data()["first_layers"].items():
        kernel, biases = float32([v[c] for c in "RGB"]).view(3, 3, 3), float32(v.get("biases", []))
        found.append(FirstLayer(name, kernel, biases, v.get("convolutions_sha256")))
    return tuple(found)


def descent_of(tensors: Mapping[str, Tensor]) -> Descent | None:
    """Of tensors by our names, conv1_1 in the file's order of colours; None where its first layer is not known.

    A range or standard deviation that was folded into conv1_1 is found too, where its biases show that no mean was.
    Batch norm behind the same convolutions makes another net of them, so that is never the whole one.
    """
    kernels, biases = (tensors.get(f"conv1_1.{p}", torch.empty(0)) for p in ("weight", "bias"))
    if kernels.shape[1:] != (3, 3, 3) or biases.shape != kernels.shape[:1] or not len(kernels):
        return None
    for known in first_layers():
        if not near(biases[: len(known.biases)], known.biases):
            continue
        mean, std = eats_of(catalogue()[known.name].eats).rgb()
        for taken in {eats.rgb()[1] for eats in EATS.values()} if len(known.biases) else {std}:
            folded = known.kernel * (float32(taken) / float32(std)).view(3, 1, 1)
            for order in ORDERS:
                if near(kernels[0], folded if order == "RGB" else folded.flip(0)):
                    alike = taken == std and not any(name.startswith("bn") for name in tensors)
                    whole = alike and fingerprint(tensors, order) == known.convolutions
                    return Descent(known.name, in_order(order, mean, taken), whole)
    return None


def float32(values: Sequence[float]) -> Tensor:
    """Whatever torch's defaults are."""
    return torch.tensor(values, dtype=torch.float32, device="cpu")


def near(found: Tensor, known: Tensor) -> bool:
    if found.shape != known.shape or not known.numel():
        return found.shape == known.shape
    return bool((found - known).abs().max() <= NEAR * known.abs().max())


def unlike(one: Eats, other: Eats) -> bool:
    """Whether a net that eats the one fails on the other. Means that were rounded differently do not matter."""
    (mean, std), (its_mean, its_std) = one.rgb(), other.rgb()
    far = any(abs(a - b) > 2 for a, b in zip(mean, its_mean, strict=True))
    return far or one.order != other.order or any(not 0.99 < a / b < 1.01 for a, b in zip(std, its_std, strict=True))


def fingerprint(tensors: Mapping[str, Tensor], order: str) -> str:
    """SHA-256 of the float32 values of all convolutions by name, conv1_1 in RGB."""
    found = hashlib.sha256()
    for name in sorted(name for name in tensors if name.startswith("conv")):
        t = tensors[name].flip(1) if name == "conv1_1.weight" and order == "BGR" else tensors[name]
        found.update(f"{name} {tuple(t.shape)}".encode())
        found.update(t.float().contiguous().numpy().data)
    return found.hexdigest()
