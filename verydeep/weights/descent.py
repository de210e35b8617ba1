"""Which published net a file comes from, told by its first layer, and all else that is known beside its tensors."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from verydeep.data.naming import imagenet_classes
from verydeep.errors import ModelError
from verydeep.weights.catalogue import Entry, catalogue, data
from verydeep.weights.inputs import INPUTS, ContractWarning, Input, Order, input_in, input_of
from verydeep.weights.recognise import Layout
from verydeep.weights.shapes import Found

# of the largest value: 16-bit files and values of four decimals differ by less, trained ones soon by more
NEAR = 0.005
ORDERS: tuple[Order, ...] = ("RGB", "BGR")
WHOLE = "convolutions_sha256"


class Descent(NamedTuple):
    """conv1_1 is a catalogued net's and expects this; `whole` where every convolution is that net's, bit for bit."""

    name: str
    expects: Input
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
    return tuple(
        FirstLayer(name, float32([v[c] for c in "RGB"]).view(3, 3, 3), float32(v.get("biases", [])), v.get(WHOLE))
        for name, v in data()["first_layers"].items()
    )


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
        mean, std = input_of(catalogue()[known.name].expects).rgb()
        for taken in {its.rgb()[1] for its in INPUTS.values()} if len(known.biases) else {std}:
            folded = known.kernel * (float32(taken) / float32(std)).view(3, 1, 1)
            for order in ORDERS:
                if near(kernels[0], folded if order == "RGB" else folded.flip(0)):
                    alike = taken == std and not any(name.startswith("bn") for name in tensors)
                    whole = alike and fingerprint(tensors, order) == known.convolutions
                    return Descent(known.name, input_in(order, mean, taken), whole)
    return None


def float32(values: Sequence[float]) -> Tensor:
    """Whatever torch's defaults are."""
    return torch.tensor(values, dtype=torch.float32, device="cpu")


def near(found: Tensor, known: Tensor) -> bool:
    if found.shape != known.shape or not known.numel():
        return found.shape == known.shape
    return bool((found - known).abs().max() <= NEAR * known.abs().max())


def unlike(one: Input, other: Input) -> bool:
    """Whether a net of the one fails on the other. Means that were rounded differently do not matter."""
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


def said_of(
    path: Path, found: Found, layout: Layout, given: str | Input | None, entry: Entry | None, origin: str, licence: str
) -> tuple[Input, str, str]:
    """Input, origin and licence: as the user says, the catalogue knows, the file tells, or is usual.

    With a ContractWarning where the first layer says something else than the user.
    """
    if entry:
        taken = input_of(entry.expects if given is None else given)
        return taken, origin or f"{entry.name}: {entry.origin}", licence or entry.licence
    known = descent_of(found.tensors)
    taken = input_told(path, found, layout, known) if given is None else input_of(given)
    its = found.expects or (known.expects if known else None)
    if its and given is not None and unlike(taken, its):
        but = "its own first layers make" if found.expects else f"{known}, which expects"
        guessed(f"{path} is assumed to expect {taken}, as was said, but {but} {its}; or leave out what was said")
    origin = origin or f"{path.name}, {layout.origin} {layout.form}{f', {known}' if known else ''}"
    return taken, origin, licence or (catalogue()[known.name].licence if known else "")


def input_told(path: Path, found: Found, layout: Layout, known: Descent | None) -> Input:
    """What a file tells of its input, with a ContractWarning for what was assumed. Raises ModelError."""
    if found.before:
        what = f"{path} changes its input before its first convolution ({found.before})"
        raise ModelError(f"{what}; say what that convolution expects: {path.name}@NAME")
    if found.expects:
        return found.expects
    usual = input_of(layout.usual)
    its = known.expects if known and unlike(usual, known.expects) else usual
    if found.mean:
        its = its._replace(mean=(found.mean[0], found.mean[1], found.mean[2]))
    told = found.mean and (its.order, its.std) == (usual.order, usual.std)
    outputs = len(found.tensors["fc8.bias"]) if "fc8.bias" in found.tensors else 0
    # The first layer of a net that was trained on is no proof; all its convolutions are one.
    if not told and not (known and known.whole and outputs in (0, len(imagenet_classes()))):
        because = f"{known}, and" if known else f"as is usual for {layout.origin} ({layout.form}),"
        guessed(
            f"{path} does not say what input its net expects; {because} it is assumed to expect {its}. "
            f"If you know better, write {path.name}@NAME, also in verydeep.load, NAME being one of {', '.join(INPUTS)} "
            "or ORDER:mean:std (expects= of read_foreign)"
        )
    return its


def guessed(what: str) -> None:
    warnings.warn(what, ContractWarning, stacklevel=6)
