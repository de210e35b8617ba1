"""3x3 convolutions on maps of 2x2 and 4x4 as plain matrix products, for training in bf16 on a CPU.

There a library's direct convolutions reach a tenth to a third of what a matrix product of the same size reaches
(docs/decisions/0003). A 4x4 map is unfolded into rows of the nine pixels that each output sees; on a 2x2 map every
output sees every pixel, so the whole map is one row and the weights become one matrix. Sums are fp32, as in the direct
form.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SIDES = (2, 4)
LEAST_PHOTOS = 32  # below this reading the weights takes longer than the products


def by_products(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """N x K x s x s of x, N x C x s x s, by weights K x C x 3 x 3 with padding 1, channels last in memory.

    Under autocast x, weights and bias are taken in its type, as a convolution's are.
    """
    if torch.is_autocast_enabled("cpu"):
        x, weight, bias = (t.to(torch.get_autocast_dtype("cpu")) for t in (x, weight, bias))
    with torch.autocast("cpu", enabled=False):
        return Products.apply(x, weight, bias)  # type: ignore[no-any-return,no-untyped-call]


class Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        side = x.shape[-1]
        ctx.save_for_backward(x, weight)
        y = F.linear(rows_of(x), weight_matrix(weight, side), bias.repeat(4) if side == 2 else bias)
        return y.view(len(x), side, side, -1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """None for what is frozen, or lies before all that learns."""
        (x, weight), (x_learns, weight_learns, bias_learns) = ctx.saved_tensors, ctx.needs_input_grad
        flat = gradient.permute(0, 2, 3, 1).reshape(-1, len(weight))  # (N s s) x K
        return (
            to_input(gradient, weight) if x_learns else None,
            to_weight(x, flat, weight.shape) if weight_learns else None,
            flat.sum(0) if bias_learns else None,
        )


def to_input(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient N x C x s x s of the input, from that of the output, N x K x s x s."""
    n, _, side, _ = gradient.shape
    if side == 2:
        found = rows_of(gradient) @ weight_matrix(weight, 2)  # N x 4 C
    else:  # the gradient of a convolution is one with the weights turned round and the channels exchanged
        turned = weight.permute(2, 3, 0, 1).flip(0, 1)  # 3 x 3 x K x C
        found = rows_of(gradient) @ turned.reshape(-1, weight.shape[1])  # (N s s) x C
    return found.view(n, side, side, -1).permute(0, 3, 1, 2)


def to_weight(x: Tensor, flat: Tensor, shape: torch.Size) -> Tensor:
    """The gradient K x C x 3 x 3 of the weights, from that of the output, (N s s) x K."""
    if x.shape[-1] == 2:
        return weight_of_pairs(flat.reshape(len(x), -1).T @ rows_of(x), shape)
    return (flat.T @ rows_of(x)).view(shape[0], 3, 3, -1).permute(0, 3, 1, 2)


def rows_of(x: Tensor) -> Tensor:
    """What outputs see of maps N x C x s x s: (N s s) x 9 C, or N x 4 C of a side of two."""
    x = x.permute(0, 2, 3, 1)  # N x s x s x C
    if x.shape[1] == 2:
        return x.reshape(len(x), -1)
    n, side, _, channels = x.shape
    windows = F.pad(x, (0, 0, 1, 1, 1, 1)).unfold(1, 3, 1).unfold(2, 3, 1)  # N x s x s x C x 3 x 3
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(n * side * side, 9 * channels)


def weight_matrix(weight: Tensor, side: int) -> Tensor:
    """Weights K x C x 3 x 3 as K x 9 C, or for a side of two as 4 K x 4 C: to each output from each pixel.

    Channels last in memory nothing is turned round: a view, and of a side of two whole rows of C copied.
    """
    if side > 2:
        return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
    # Output (a, b) sees pixel (i, j) through weight (1 + i - a, 1 + j - b).
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    return torch.cat([torch.cat([weight[:, :, 1 + i - a, 1 + j - b] for i, j in pairs], 1) for a, b in pairs])


def weight_of_pairs(pairs: Tensor, shape: torch.Size) -> Tensor:
    """The transpose of `weight_matrix` for a side of two: gradients K x C x 3 x 3 of those of pairs, 4 K x 4 C."""
    width, channels = shape[:2]
    pairs = pairs.view(2, 2, width, 2, 2, channels)
    total = torch.zeros(width, 3, 3, channels, dtype=torch.promote_types(pairs.dtype, torch.float32))
    for a, b, i, j in torch.cartesian_prod(*[torch.arange(2)] * 4).tolist():
        total[:, 1 + i - a, 1 + j - b] += pairs[a, b, :, i, j]
    return total.permute(0, 3, 1, 2).to(pairs.dtype)
