"""3x3 convolutions on small square maps in a quarter of the multiplications, for training on a CPU.

The minimal filtering algorithm of Winograd (1980), as Lavin & Gray (2015, arXiv 1509.09308) use it: an
output tile of 4x4 costs 36 products a channel pair instead of 144, and a whole 2x2 map costs 9 instead of
36. Everything is a matrix product, laid out so that nothing is copied on the way. In fp32 the result is
exact to about 1e-5 of the largest value; testing keeps the direct convolution, because its numbers are quoted.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_BYTES = 20 << 20  # transformed input worked on at once: about what the cores' caches hold
LEAST_TILES = {2: 16, 4: 64, 8: 64, 16: 64}  # by the side; below, transforming the weights costs more than it saves

# F(4, 3) at the points 0, 1, -1, 2, -2 and infinity: tile of 6 in, 3 weights, tile of 4 out.
INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))

# A side of two with its zero border: y0 = w1 (x0 + x1) + (w2 - w1) x1, y1 = w1 (x0 + x1) + (w0 - w1) x0.
PAIR_INPUT = ((1, 1), (0, 1), (1, 0))
PAIR_WEIGHT = ((0, 1, 0), (0, -1, 1), (1, -1, 0))
PAIR_OUTPUT = ((1, 1, 0), (1, 0, 1))


class Transforms(NamedTuple):
    """Matrices of one tile, rows and columns at once. A map of side 2 or 4 is one tile without its zero border."""

    input: Tensor  # points x pixels in
    weight: Tensor  # points x 9
    output: Tensor  # pixels out x points


@lru_cache(maxsize=16)
def transforms(side: int, dtype: torch.dtype) -> Transforms:
    rows = (PAIR_INPUT, PAIR_WEIGHT, PAIR_OUTPUT) if side == 2 else (INPUT, WEIGHT, OUTPUT)
    line, weight, back = (torch.tensor(m, dtype=torch.float64) for m in rows)
    if side == 4:
        line = line[:, 1:-1]  # the border is zero
    return Transforms(*(torch.kron(m, m).to(dtype) for m in (line, weight, back)))


def by_winograd(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """N x K x s x s of x, N x C x s x s, by weights K x C x 3 x 3 with padding 1, all channels last in memory."""
    return Winograd.apply(x, weight, bias)  # type: ignore[no-any-return,no-untyped-call]


class Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        t = transforms(x.shape[-1], x.dtype)
        kernels = t.weight @ weight.permute(0, 2, 3, 1).reshape(len(weight), 9, -1)  # K x points x C
        ctx.save_for_backward(x, kernels)
        y = torch.empty(len(x), *x.shape[2:], len(weight), dtype=x.dtype)  # N x s x s x K
        for part in cached_parts(x):
            u = t.input @ tiles_of(x[part])  # tiles x points x C
            v = torch.bmm(u.transpose(0, 1), kernels.permute(1, 2, 0))  # points x tiles x K
            y[part] = map_of(t.output @ v.transpose(0, 1), x.shape[-1])
        return y.add_(bias).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """None for what is frozen, or lies before all that learns."""
        (x, kernels), (x_learns, weight_learns, bias_learns) = ctx.saved_tensors, ctx.needs_input_grad
        side, t = x.shape[-1], transforms(x.shape[-1], x.dtype)
        to_x = torch.empty(len(x), side, side, x.shape[1], dtype=x.dtype) if x_learns else None
        to_kernels = (
            torch.zeros(t.input.shape[0], len(kernels), x.shape[1], dtype=x.dtype) if weight_learns else None
        )  # points x K x C
        for part in cached_parts(x) if x_learns or weight_learns else ():
            to_v = (t.output.T @ output_tiles_of(gradient[part])).transpose(0, 1)  # points x tiles x K
            if to_kernels is not None:
                u = t.input @ tiles_of(x[part])
                to_kernels.baddbmm_(to_v.transpose(1, 2), u.transpose(0, 1))
            if to_x is not None:
                to_u = torch.bmm(to_v, kernels.transpose(0, 1))  # points x tiles x C
                to_x[part] = summed_tiles(t.input.T @ to_u.transpose(0, 1), side)
        return (
            None if to_x is None else to_x.permute(0, 3, 1, 2),
            None if to_kernels is None else weights_of(t.weight.T @ to_kernels.transpose(0, 1)),
            gradient.sum((0, 2, 3)) if bias_learns else None,
        )


def weights_of(kernels: Tensor) -> Tensor:
    """Weights K x C x 3 x 3 of kernels K x 9 x C."""
    return kernels.view(len(kernels), 3, 3, -1).permute(0, 3, 1, 2)


def tiles_along(side: int) -> int:
    return max(1, side // 4)


def cached_parts(x: Tensor) -> list[slice]:
    """The batch in pieces whose transformed input stays in the caches."""
    n, channels, side, _ = x.shape
    points = 9 if side == 2 else 36 * tiles_along(side) ** 2
    step = max(1, CHUNK_BYTES // (points * channels * x.element_size()))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def tiles_of(x: Tensor) -> Tensor:
    """The 6x6 tiles of maps n x C x s x s, two pixels shared by neighbours: (n * tiles) x 36 x C."""
    n, channels, side, _ = x.shape
    x = x.permute(0, 2, 3, 1)
    if side <= 4:
        return x.reshape(n, side * side, channels)
    x = F.pad(x, (0, 0, 1, 1, 1, 1))
    return x.unfold(1, 6, 4).unfold(2, 6, 4).permute(0, 1, 2, 4, 5, 3).reshape(-1, 36, channels)


def output_tiles_of(y: Tensor) -> Tensor:
    """The 4x4 tiles of maps n x K x s x s: (n * tiles) x 16 x K."""
    n, width, side, _ = y.shape
    y = y.permute(0, 2, 3, 1)
    if side <= 4:
        return y.reshape(n, side * side, width)
    q = side // 4
    return y.reshape(n, q, 4, q, 4, width).transpose(2, 3).reshape(-1, 16, width)


def map_of(tiles: Tensor, side: int) -> Tensor:
    """Maps n x s x s x K of their 4x4 tiles; the inverse of `output_tiles_of`."""
    width = tiles.shape[-1]
    if side <= 4:
        return tiles.view(-1, side, side, width)
    q = side // 4
    return tiles.view(-1, q, q, 4, 4, width).transpose(2, 3).reshape(-1, side, side, width)


def summed_tiles(tiles: Tensor, side: int) -> Tensor:
    """Maps n x s x s x C of overlapping 6x6 tiles, added where they overlap; the transpose of `tiles_of`."""
    channels = tiles.shape[-1]
    if side <= 4:
        return tiles.view(-1, side, side, channels)
    q = side // 4
    tiles = tiles.view(-1, q, q, 6, 6, channels)
    total = torch.zeros(len(tiles), side + 2, side + 2, channels, dtype=tiles.dtype)
    for i in range(q):
        for j in range(q):
            total[:, 4 * i : 4 * i + 6, 4 * j : 4 * j + 6] += tiles[:, i, j]
    return total[:, 1:-1, 1:-1]
