"""Are these weights learnt, or still random? Judged by what first weights of every kind share: independent values."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

CERTAIN = 6.0  # standard errors of a correlation that independent weights do not reach in a lifetime
ABOVE_EDGE = 1.25  # times the largest singular value of independent weights, which scatters by 10 percent at most
LARGEST_MATRIX = 1 << 24  # weights: more would take seconds and tell nothing new


def judged(tensors: Mapping[str, Tensor]) -> tuple[bool, str]:
    """(whether the convolutions of these tensors are learnt, in words how that was judged)."""
    weights = (levelled(t) for name, t in tensors.items() if name.startswith("conv") and name.endswith(".weight"))
    found = [(correlation(w), edge(w)) for w in weights]
    related, beyond = sum(abs(r) > CERTAIN for r, _ in found), sum(e > ABOVE_EDGE for _, e in found)
    learnt = related > 0 or beyond > 0
    return learnt, (
        f"{'not random' if learnt else 'like random weights'}: neighbouring weights correlate by more than {CERTAIN:g} "
        f"standard errors in {related} of {len(found)} convolutions, and the largest singular value is above "
        f"{ABOVE_EDGE:g} times that of independent weights in {beyond}"
    )


def levelled(weight: Tensor) -> Tensor:
    """float64, each filter of mean square 1: a batch norm that was multiplied in scales them, learnt or not."""
    w = weight.detach().double().cpu()
    return w / w.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=torch.finfo(torch.float32).tiny)


def correlation(weight: Tensor) -> float:
    """Pearson's r between neighbours, across and down, of K x C x k x k kernels, times the root of the number of pairs.

    In standard errors of independent weights. Smooth kernels, as photos teach them, give a large value; equal weights,
    and kernels of 1 x 1, give 0.
    """
    x = weight - weight.mean()
    across, down = x[..., :, :-1] * x[..., :, 1:], x[..., :-1, :] * x[..., 1:, :]
    pairs = across.numel() + down.numel()
    spread = float(x.square().mean())
    return float(across.sum() + down.sum()) / math.sqrt(pairs) / spread if spread and pairs else 0.0


def edge(weight: Tensor) -> float:
    """Largest singular value over sigma (sqrt(m) + sqrt(n)), that of independent m x n values (Bai & Yin 1993).

    Of a layer as K x 9C, less its mean, so that equal weights, which tell nothing, give 0. NaN where it is too large.
    """
    matrix = (weight - weight.mean()).flatten(1)
    m, n = matrix.shape
    sigma = float(matrix.square().mean().sqrt())
    if matrix.numel() > LARGEST_MATRIX or not sigma:
        return math.nan if sigma else 0.0
    gram = matrix @ matrix.T if m <= n else matrix.T @ matrix
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1]))) / sigma / (math.sqrt(m) + math.sqrt(n))
