"""Random weights, weights from a shallower net, and what a signal meets on its way through them (section 3.1)."""

from __future__ import annotations

import math
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
            if module.bias is not None:
                module.bias.zero_()


def from_same(net: VGG, other: VGG, last: bool = True) -> list[str]:
    """Copies every layer of a net of the same column, as fine-tuning at another S does; returns pairs `from -> to`.

    An FC layer of another shape (other classes, other crop) keeps its random weights, and so does fc8 without `last`.
    Raises ConfigError, with nothing copied, if a convolution or its batch normalisation differs in shape.
    """
    layers, given = dict(net.named_children()), dict(other.named_children())
    differing = [name for name in {**layers, **given} if shapes(layers.get(name)) != shapes(given.get(name))]
    if unfit := [name for name in differing if not name.startswith("fc")]:
        raise ConfigError(
            f"init_from: {unfit[0]} of the other net {other.name} differs in shape from that here; give the same base_width and batch_norm"
        )
    copied = [name for name in layers if name not in differing and (last or name != "fc8")]
    for name in copied:
        layers[name].load_state_dict(given[name].state_dict())
    return [f"{name} -> {name}" for name in copied]


def shapes(layer: nn.Module | None) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in layer.state_dict().items()} if layer else {}


def from_shallower(net: VGG, shallow: VGG, last: bool = True) -> list[str]:
    """Copies the first four convolutions, with their batch normalisation, and the FC layers of a shallower net; returns pairs `from -> to`.

    By position A's convolutions do not fit B to E; each goes to the next one of its shape. An FC layer of another shape
    (other classes, other crop) keeps its random weights, and so does fc8 without `last`. Raises ConfigError if a convolution
    finds no place, or only one of the nets has batch normalisation.
    """
    if net.batch_norm != shallow.batch_norm:
        raise ConfigError(
            f"init_from: the shallower net {shallow.name} has {'' if shallow.batch_norm else 'no '}batch_norm; give the same"
        )
    pairs: list[tuple[str, str]] = []
    names = {id(m): name for name, m in (*net.named_modules(), *shallow.named_modules())}
    free = iter(net.convolutions())
    for source in shallow.convolutions()[:COPIED_CONVOLUTIONS]:
        target = next((c for c in free if c.weight.shape == source.weight.shape), None)
        if target is None:
            raise ConfigError(
                f"init_from: {names[id(source)]} of the shallower net {shallow.name} has no layer of its shape in {net.name}"
            )
        pairs.append((names[id(source)], names[id(target)]))
    if net.batch_norm:
        pairs = [two for a, b in pairs for two in ((a, b), (a.replace("conv", "bn"), b.replace("conv", "bn")))]
    pairs += [
        (fc, fc)
        for fc in ("fc6", "fc7", "fc8")[: 3 if last else 2]
        if getattr(net, fc).weight.shape == getattr(shallow, fc).weight.shape
    ]
    for a, b in pairs:
        getattr(net, b).load_state_dict(getattr(shallow, a).state_dict())
    return [f"{a} -> {b}" for a, b in pairs]


class Gain(NamedTuple):
    """Root mean square of a layer's output before its ReLU, and its ratio to that of the layer before."""

    name: str
    rms: float
    gain: float


def gains(net: VGG, x: Tensor) -> list[Gain]:
    """What normalised crops, N x 3 x crop x crop, become layer by layer; the first row is the input."""
    names = [n for n in net.tap_names() if n.startswith(("conv", "fc"))]
    was_training = net.training
    net.eval()
    with torch.no_grad():
        found = net.taps(x.float(), names)
    net.train(was_training)
    rows = [Gain("input", rms(x), 1.0)]
    for name in names:
        value = rms(found[name])
        rows.append(Gain(name, value, value / rows[-1].rms if rows[-1].rms else math.nan))
    return rows


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def gain_warning(rows: list[Gain], classes: int) -> str | None:
    """What the literature says of such a start, or None where the signal arrives in good shape."""
    last = rows[-1].rms
    if not math.isfinite(last) or last > 100:
        return (
            f"the logits start at {last:.3g}: the loss will very likely become NaN in the first epoch "
            "(a Gaussian of variance 1e-2 does this); try --init glorot"
        )
    if last < 1e-3:
        return (
            f"the logits start at {last:.2g}: the loss will very likely stay at ln({classes}) = {math.log(classes):.4f} "
            "(a Gaussian of sigma 0.01 does this); try --init glorot"
        )
    return None


def gain_table(rows: list[Gain]) -> str:
    lines = [f"{'signal':<9}{'rms':>11}{'gain':>8}"]
    return "\n".join(lines + [f"{r.name:<9}{r.rms:>11.4g}{f' {r.gain:.2f}':>8}" for r in rows])
