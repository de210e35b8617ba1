"""Local response normalisation for training on a CPU (Krizhevsky 2012, section 3.3 there).

torch's way takes its sums over channels as a pooling in three dimensions; five shifted additions take a third of its
time, forward and backward.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from verydeep.paper import LRN_ALPHA, LRN_BETA, LRN_K, LRN_SIZE


def over_channels(x: Tensor) -> Tensor:
    """Of N x C x H x W the sum over the LRN_SIZE channels around each."""
    total = x.clone()
    for d in range(1, LRN_SIZE // 2 + 1):
        total[:, d:] += x[:, :-d]
        total[:, :-d] += x[:, d:]
    return total


def in_floats(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class ResponseNorm(torch.autograd.Function):
    """x / (k + alpha * sum of squares) ** beta, computed in fp32 at least, of the dtype of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        wide = in_floats(x)
        sums = over_channels(wide * wide).mul_(LRN_ALPHA).add_(LRN_K)
        factor = sums**-LRN_BETA
        ctx.save_for_backward(x, sums, factor)
        return (wide * factor).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, sums, factor = ctx.saved_tensors
        wide, gradient = in_floats(x), in_floats(gradient)
        to_x = over_channels(gradient * wide * factor / sums).mul_(wide).mul_(-2 * LRN_ALPHA * LRN_BETA)
        return to_x.addcmul_(gradient, factor).to(x.dtype)
