"""Are these weights learnt, or still random? Judged by what first weights of every kind share: independent values."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from verydeep.net.vgg import VGG

CERTAIN = 6.0  # standard errors of a correlation that independent weights do not reach in a lifetime
ABOVE_EDGE = 1.25  # times the largest singular value of independent weights; theirs scatter by a few percent, in small matrices by 10
LARGEST_MATRIX = 1 << 24  # weights: more (fc6 and fc7 at full width) would take seconds and tell nothing new


class Sign(NamedTuple):
    """What one convolution says. `correlation`: of neighbouring weights of a kernel, in standard errors; None for 1x1 kernels.

    `edge`: its largest singular value as K x 9C, relative to that of independent weights of the same spread.
    """

    layer: str
    correlation: float | None
    edge: float


def signs(net: VGG) -> list[Sign]:
    """One row a convolution, in the order of the net."""
    names = [layer.name for block in net.blocks for layer in block]
    return [Sign(name, correlation(w), edge(w)) for name, w in ((n, levelled(getattr(net, n).weight)) for n in names)]


def levelled(weight: Tensor) -> Tensor:
    """float64, each filter of mean square 1: a batch norm that was multiplied in scales them, learnt or not."""
    w = weight.detach().double().cpu()
    return w / w.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=torch.finfo(torch.float32).tiny)


def correlation(weight: Tensor) -> float | None:
    """Pearson's r between neighbours, across and down, of K x C x k x k kernels, times the root of the number of pairs.

    Independent weights give a standard normal value. Smooth kernels, as photos teach them, give a large one, and equal weights none.
    """
    if weight.shape[-1] == 1:
        return None
    x = weight - weight.mean()
    across, down = x[..., :, :-1] * x[..., :, 1:], x[..., :-1, :] * x[..., 1:, :]
    pairs = across.numel() + down.numel()
    spread = float(x.square().mean())
    return float(across.sum() + down.sum()) / pairs / spread * math.sqrt(pairs) if spread else 0.0


def edge(weight: Tensor) -> float:
    """Largest singular value over sigma (sqrt(m) + sqrt(n)), where it lies for an m x n matrix of independent values (Bai & Yin 1993).

    The mean is taken away first, so that equal weights, which tell nothing, give 0. NaN for a matrix that is too large.
    """
    matrix = (weight - weight.mean()).flatten(1)
    m, n = matrix.shape
    sigma = float(matrix.square().mean().sqrt())
    if matrix.numel() > LARGEST_MATRIX or not sigma:
        return math.nan if sigma else 0.0
    gram = matrix @ matrix.T if m <= n else matrix.T @ matrix
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1]))) / sigma / (math.sqrt(m) + math.sqrt(n))


def judged(found: list[Sign]) -> tuple[bool, str]:
    """(whether the weights are learnt, in words how that was judged)."""
    related = [s for s in found if s.correlation is not None and abs(s.correlation) > CERTAIN]
    beyond = [s for s in found if s.edge > ABOVE_EDGE]
    how = (
        f"neighbouring weights correlate by more than {CERTAIN:g} standard errors in {len(related)} of {len(found)} convolutions, and the "
        f"largest singular value is above {ABOVE_EDGE:g} times that of independent weights in {len(beyond)}"
    )
    return bool(related or beyond), how
