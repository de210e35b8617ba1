"""The convolutions of the nets: stride 1, padding that keeps the size."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from verydeep.net.fast.products import LEAST_PHOTOS, SIDES, by_products
from verydeep.net.fast.winograd import LEAST_TILES, by_winograd, tiles_along

LEAST_WIDTH = 64  # channels in and out that pay for the transforms


class Convolution(nn.Conv2d):
    """k x k, stride 1, padding (k - 1) / 2 (section 2.1)."""

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__(channels, width, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.bias is not None and (fast := faster(x, self.weight)):
            return fast(x, self.weight, self.bias)
        return super().forward(x)


def faster(x: Tensor, weight: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
    """What convolves (x, weight, bias) faster, for x, N x C x s x s, and weights, K x C x k x k, if anything does:

    3x3 on small square maps from and to 64 channels or more, on a CPU: products in bf16, Winograd's above.
    """
    side, cast = x.shape[-1], torch.is_autocast_enabled("cpu")
    kind = torch.get_autocast_dtype("cpu") if cast else x.dtype
    if x.device.type != "cpu" or x.shape[-2] != side or weight.shape[-1] != 3 or min(weight.shape[:2]) < LEAST_WIDTH:
        return None
    if kind == torch.bfloat16:
        return by_products if side in SIDES and len(x) >= LEAST_PHOTOS else None
    if cast or kind not in (torch.float32, torch.float64) or side not in LEAST_TILES:
        return None
    return by_winograd if len(x) * tiles_along(side) ** 2 >= LEAST_TILES[side] else None
