"""How large a net is, layer by layer: shapes, weights, multiply-adds, receptive fields (sections 2.2 and 2.3)."""

import math
from typing import NamedTuple

from verydeep.net.vgg import VGG


class Size(NamedTuple):
    """One row of the table. Shapes are channels x height x width for one photo; `sees` is in input pixels."""

    name: str
    output: tuple[int, int, int]
    parameters: int
    multiply_adds: int
    sees: int


def sizes(net: VGG, side: int | None = None) -> list[Size]:
    """Every convolution, pool and FC layer of a net on a square of `side` pixels (default: its crop)."""
    side = side or net.crop
    rows, sees, stride = [], 1, 1
    for block in net.blocks:
        for layer in block:
            weight = getattr(net, layer.name).weight
            sees += (layer.kernel - 1) * stride
            parameters = weight.numel() + len(weight) * (3 if net.batch_norm else 1)
            rows.append(Size(layer.name, (len(weight), side, side), parameters, weight.numel() * side**2, sees))
        side = math.ceil(side / 2) if net.round_up else side // 2
        sees, stride = sees + stride, stride * 2
        rows.append(Size(f"pool{block[0].name[4]}", (rows[-1].output[0], side, side), 0, 0, sees))
    side -= net.map - 1
    sees += (net.map - 1) * stride
    for name in ("fc6", "fc7", "fc8"):
        weight = getattr(net, name).weight
        parameters = weight.numel() + len(weight)
        rows.append(Size(name, (len(weight), side, side), parameters, weight.numel() * side**2, sees))
    return rows


def as_text(net: VGG, side: int | None = None) -> str:
    """The table for people, with its totals."""
    rows = sizes(net, side)
    row = "{:<9}{:>16}{:>14,}{:>17,}{:>7}".format
    lines = [row(r.name, " x ".join(map(str, r.output)), r.parameters, r.multiply_adds, r.sees) for r in rows]
    total = row("total", "", sum(r.parameters for r in rows), sum(r.multiply_adds for r in rows), "")
    header = f"{'layer':<9}{'output':>16}{'parameters':>14}{'multiply-adds':>17}{'sees':>7}"
    return "\n".join([header, *lines, total.rstrip()])


def stack_weights(kernel: int, layers: int, channels: int) -> tuple[int, int]:
    """(weights, side of the field seen) of equal layers on C channels: three 3x3 have 27 C^2, see 7 (section 2.3)."""
    return layers * kernel**2 * channels**2, layers * (kernel - 1) + 1
