"""Random weights, weights from a shallower net, and what a signal meets on its way through them (section 3.1)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from verydeep.errors import ConfigError
from verydeep.net.vgg import VGG

VARIANCE = 1e-2  # the paper's; sigma 0.1
COPIED_CONVOLUTIONS = 4


def initialise(net: VGG, how: str = "glorot", seed: int = 0, sigma: float | None = None) -> None:
    """Fills all weights from one seeded generator and sets biases to 0.

    how: `glorot` (uniform, variance 2 / (fan in + fan out)), `he` (normal, variance 2 / fan in) or `gaussian`
    (normal with `sigma`, by default the paper's variance of 1e-2). The last layer of `he` has variance 1 / fan in.
    """
    random = torch.Generator().manual_seed(seed)
    for module in (m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))):
        weight = torch.empty(module.weight.shape)
        if how == "glorot":
            nn.init.xavier_uniform_(weight, generator=random)
        elif how == "he":
            nn.init.kaiming_normal_(weight, nonlinearity="linear" if module is net.fc8 else "relu", generator=random)
        elif how == "gaussian":
            nn.init.normal_(weight, 0.0, math.sqrt(VARIANCE) if sigma is None else sigma, generator=random)
        else:
            raise ConfigError(f"init: {how!r} is not known; try glorot, gaussian or he")
        with torch.no_grad():
            module.weight.copy_(weight)
            module.bias.zero_()  # type: ignore[union-attr]


def copy_layers(net: VGG, other: VGG, last: bool = True) -> list[str]:
    """Copies all of a net of the same column, or the first four convolutions and the FC layers of a shallower one.

    Batch normalisation goes with its convolution. Returns pairs `from -> to`. By position A's convolutions do not fit
    B to E; each goes to the next one of its shape. An FC layer of another shape (other classes, other crop) keeps its
    random weights, and so does fc8 without `last`. Raises ConfigError, with nothing copied, where a convolution finds
    no place, or only one of the nets has batch normalisation.
    """
    if net.batch_norm != other.batch_norm:
        has = "has batch_norm" if other.batch_norm else "has no batch_norm"
        raise ConfigError(f"init_from: the net {other.name} to start from {has}; give the same")
    names = {id(layer): name for name, layer in (*net.named_children(), *other.named_children())}
    pairs: list[tuple[str, str]] = []
    free = iter(net.convolutions())
    for source in other.convolutions()[: None if net.name == other.name else COPIED_CONVOLUTIONS]:
        target = next((c for c in free if c.weight.shape == source.weight.shape), None)
        if target is None:
            what = f"{names[id(source)]} of the net {other.name} to start from"
            raise ConfigError(f"init_from: {what} differs in shape from all in {net.name}; give the same base_width")
        a, b = names[id(source)], names[id(target)]
        pairs += [(a, b)] + [(a.replace("conv", "bn"), b.replace("conv", "bn"))] * net.batch_norm
    for fc in ("fc6", "fc7", "fc8") if last else ("fc6", "fc7"):
        if getattr(net, fc).weight.shape == getattr(other, fc).weight.shape:
            pairs.append((fc, fc))
    for a, b in pairs:
        getattr(net, b).load_state_dict(getattr(other, a).state_dict())
    return [f"{a} -> {b}" for a, b in pairs]


@torch.no_grad()
def level(net: VGG, x: Tensor) -> None:
    """Scales the convolutions so that each one's output of normalised crops x has a root mean square of 1.

    Weights are multiplied by the size of what they are given and divided, with their bias, by that of what they make:
    ReLU and max-pooling let factors through, so all maps stay what they were but for these factors.
    """
    names = [layer.name for block in net.blocks for layer in block]
    found, before = net.taps(x, names), 1.0
    for name in names:
        layer, size = getattr(net, name), max(rms(found[name]), 1e-12)
        layer.weight.mul_(before / size)
        layer.bias.div_(size)
        before = size


class Gain(NamedTuple):
    """Root mean square of a layer's output before its ReLU, and its ratio to that of the layer before."""

    name: str
    rms: float
    gain: float


def gains(net: VGG, x: Tensor) -> list[Gain]:
    """What normalised crops, N x 3 x crop x crop, become layer by layer; the first row is the input.

    Batch normalisation divides by what it finds in these crops, as it will in training.
    """
    names = [n for n in net.tap_names() if n.startswith(("conv", "fc"))]
    with untouched(net), torch.no_grad():
        net.train()
        found = net.taps(x.float(), names)
    rows = [Gain("input", rms(x), 1.0)]
    for name in names:
        value = rms(found[name])
        rows.append(Gain(name, value, value / rows[-1].rms if rows[-1].rms else math.nan))
    return rows


@contextmanager
def untouched(net: VGG) -> Iterator[None]:
    """Puts back the mode and what batch normalisation has measured."""
    was_training, measured = net.training, {name: buffer.clone() for name, buffer in net.named_buffers()}
    yield
    net.load_state_dict(measured, strict=False)
    net.train(was_training)


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def gain_warning(rows: list[Gain], classes: int, init: str) -> str | None:
    """What the literature says of such a start, or None where the signal arrives in good shape."""
    last = rows[-1].rms
    if 1e-3 <= last <= 100:
        return None
    likely = "become NaN in the first epoch (a Gaussian of variance 1e-2 does this)"
    if last < 1e-3:
        likely = f"stay at ln({classes}) = {math.log(classes):.4f} (a Gaussian of sigma 0.01 does this)"
    other = "he" if init == "glorot" else "glorot"
    return f"the logits start at {last:.3g}: the loss will very likely {likely}; try --init {other}"


def gain_table(rows: list[Gain]) -> str:
    lines = [f"{r.name:<9}{r.rms:>11.4g}{f' {r.gain:.2f}':>8}" for r in rows]
    return "\n".join([f"{'signal':<9}{'rms':>11}{'gain':>8}", *lines])
