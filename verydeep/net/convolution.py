"""The convolutions of the nets: stride 1, padding that keeps the size."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from verydeep.net import products, winograd


class Convolution(nn.Conv2d):
    """k x k, stride 1, padding (k - 1) / 2 (section 2.1); in training on a CPU, small maps take a fast path where it pays."""

    def __init__(self, channels: int, width: int, kernel: int, device: Any = None) -> None:
        super().__init__(channels, width, kernel, padding=kernel // 2, device=device)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.bias is not None:
            if winograd.pays(x, self.weight):
                return winograd.convolve(x, self.weight, self.bias)
            if products.pays(x, self.weight):
                return products.convolve(x, self.weight, self.bias)
        return super().forward(x)
