"""The nets of Table 1: one table, one class."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from verydeep.errors import ConfigError
from verydeep.net.convolution import Convolution
from verydeep.paper import LRN_ALPHA, LRN_BETA, LRN_K, LRN_SIZE, STRIDE, TABLE_1


class Layer(NamedTuple):
    """One convolution of a column of Table 1, by its name in the net."""

    name: str  # conv3_2
    kernel: int
    width: int  # output channels at base width 64
    lrn: bool


def column(net: str) -> list[list[Layer]]:
    """The five blocks of a net: `3-256 x2 1-256` is conv3-256 twice, then conv1-256."""
    blocks = []
    for block, text in enumerate(TABLE_1[net], 1):
        found = re.findall(r"(\d)-(\d+)(?: x(\d))?( LRN)?", text)
        layers = [(int(k), int(w), bool(lrn)) for k, w, times, lrn in found for _ in range(int(times or 1))]
        blocks.append([Layer(f"conv{block}_{i}", *layer) for i, layer in enumerate(layers, 1)])
    return blocks


class VGG(nn.Module):
    """A net of the paper, from normalised pixels to logits.

    net: a column of Table 1, or shallow-B. classes, crop (a multiple of 32), fc_width, base_width (channels
    of block 1) and batch_norm vary what the paper fixed. pooling: how odd sides round, `up` as in Caffe or
    `down`; nothing differs at crop size. Layers are conv1_1 ... conv5_4, fc6, fc7, fc8; `parameters()` runs
    in that order, weight before bias. Weights start as Glorot's. device="meta" builds without memory. Raises ConfigError.
    """

    def __init__(
        self, net: str = "D", *, classes: int = 1000, crop: int = 224, fc_width: int = 4096, base_width: int = 64,
        batch_norm: bool = False, dropout: float = 0.5, pooling: str = "up", device: torch.device | str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if net not in TABLE_1:
            raise ConfigError(f"net: {net!r} is not one of the paper's; try one of {', '.join(TABLE_1)}")
        for field, value in (("classes", classes), ("crop", crop), ("fc_width", fc_width), ("base_width", base_width)):
            if not hasattr(value, "__index__"):  # which numbers of numpy have too
                raise ConfigError(
                    f"{field}: {str(value)[:60]} is no whole number; expected how many, such as {field}=32"
                )
        if crop < STRIDE or crop % STRIDE:
            raise ConfigError(f"crop: {crop} is not a multiple of {STRIDE}; the nets halve it five times")
        if min(classes, fc_width, base_width) < 1 or pooling not in ("up", "down") or not 0 <= dropout < 1:
            raise ConfigError(
                "classes, fc_width and base_width must be 1 or more, pooling up or down, dropout in [0, 1)"
            )
        self.name, self.classes, self.crop, self.fc_width, self.base_width = net, classes, crop, fc_width, base_width
        self.batch_norm, self.dropout, self.round_up = batch_norm, dropout, pooling == "up"
        self.blocks, self.frozen = column(net), tuple[str, ...]()
        channels = 3
        for layer in (layer for block in self.blocks for layer in block):
            width = max(1, layer.width * base_width // 64)
            self.add_module(layer.name, Convolution(channels, width, layer.kernel, device=device))
            if batch_norm:
                self.add_module(layer.name.replace("conv", "bn"), nn.BatchNorm2d(width, device=device))
            channels = width
        self.map = crop // STRIDE  # side of the last pooled map at crop size
        self.fc6 = nn.Linear(channels * self.map**2, fc_width, device=device)
        self.fc7 = nn.Linear(fc_width, fc_width, device=device)
        self.fc8 = nn.Linear(fc_width, classes, device=device)
        for module in (m for m in self.modules() if isinstance(m, (nn.Conv2d, nn.Linear))):
            glorot(module)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, N x classes, of normalised crops, N x 3 x crop x crop."""
        if x.shape[-2:] != (self.crop, self.crop):
            raise ConfigError(
                f"forward takes crops of {self.crop} x {self.crop} pixels, not {x.shape[-1]} x {x.shape[-2]}; dense() takes larger photos"
            )
        x = self.features(x)  # N x 512 x crop/32 x crop/32
        x = self.drop(F.relu(self.fc6(x.flatten(1))))  # N x 4096
        x = self.drop(F.relu(self.fc7(x)))
        return self.fc8(x)  # type: ignore[no-any-return]

    def dense(self, x: Tensor) -> Tensor:
        """The class score map, N x classes x h x w, of whole photos, N x 3 x H x W (section 3.2).

        The FC layers are applied as convolutions: fc6 with a kernel of crop/32 (7 in the paper), fc7 and
        fc8 with 1x1. At crop size h = w = 1 and the scores are those of `forward`.
        """
        if min(x.shape[-2:]) < self.crop:
            raise ConfigError(f"dense needs photos of at least {self.crop} pixels a side; rescale to Q >= {self.crop}")
        x = self.features(x)  # N x 512 x ~H/32 x ~W/32
        x = self.drop(F.relu(F.conv2d(x, as_kernel(self.fc6.weight, self.map), self.fc6.bias)))
        x = self.drop(F.relu(F.conv2d(x, as_kernel(self.fc7.weight, 1), self.fc7.bias)))
        return F.conv2d(x, as_kernel(self.fc8.weight, 1), self.fc8.bias)

    def features(self, x: Tensor) -> Tensor:
        """The last pooled map, N x 512 x ~H/32 x ~W/32, of normalised photos, N x 3 x H x W."""
        for block in self.blocks:
            for layer in block[:-1]:
                x = self.after(layer, F.relu(self.before_relu(layer, x)))
            # ReLU after max-pooling equals ReLU before it, bit for bit, on a quarter of the values.
            last = block[-1]
            x = (
                self.pool(self.after(last, F.relu(self.before_relu(last, x))))
                if last.lrn
                else F.relu(self.pool(self.before_relu(last, x)))
            )
        return x

    def taps(self, x: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Activations by name of normalised photos, N x 3 x H x W, in the paper's and Caffe's words.

        conv3_3 is before its ReLU, relu3_3 after; norm1_1, bn3_3, pool3 follow; fc6, relu6, fc7, relu7, fc8 are
        N x C at crop size and N x C x h x w elsewhere; dropout is off. Raises ConfigError for an unknown name.
        """
        wanted = list(names)
        if unknown := sorted(set(wanted) - set(self.tap_names())):
            raise ConfigError(f"{self.name} has no layer {', '.join(unknown)}; it has {', '.join(self.tap_names())}")
        found: dict[str, Tensor] = {}
        for block in self.blocks:
            for layer in block:
                number = layer.name.removeprefix("conv")
                found[layer.name] = x = getattr(self, layer.name)(x)
                if self.batch_norm:
                    found[f"bn{number}"] = x = getattr(self, f"bn{number}")(x)
                found[f"relu{number}"] = x = F.relu(x)
                if layer.lrn:
                    found[f"norm{number}"] = x = self.after(layer, x)
            found[f"pool{block[0].name[4]}"] = x = self.pool(x)
            found = {k: v for k, v in found.items() if k in wanted}
        if not set(wanted) <= set(found):
            found |= self.fc_taps(x)
        return {name: found[name] for name in wanted}

    def fc_taps(self, x: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        single = x.shape[-2:] == (self.map, self.map)
        for fc, kernel in ((self.fc6, self.map), (self.fc7, 1), (self.fc8, 1)):
            number = 6 + len(found) // 2
            x = F.conv2d(x, as_kernel(fc.weight, kernel), fc.bias)
            found[f"fc{number}"] = x.flatten(1) if single else x
            x = F.relu(x)
            found[f"relu{number}"] = x.flatten(1) if single else x
        del found["relu8"]
        return found

    def tap_names(self) -> list[str]:
        """Every name that `taps` knows, in the order of the net."""
        names = []
        for block in self.blocks:
            for layer in block:
                number = layer.name.removeprefix("conv")
                names += [
                    layer.name,
                    *([f"bn{number}"] if self.batch_norm else []),
                    f"relu{number}",
                    *([f"norm{number}"] if layer.lrn else []),
                ]
            names.append(f"pool{block[0].name[4]}")
        return [*names, "fc6", "relu6", "fc7", "relu7", "fc8"]

    def before_relu(self, layer: Layer, x: Tensor) -> Tensor:
        x = getattr(self, layer.name)(x)
        return getattr(self, layer.name.replace("conv", "bn"))(x) if self.batch_norm else x

    def after(self, layer: Layer, x: Tensor) -> Tensor:
        # torch divides alpha by the size, the paper of Krizhevsky does not.
        return F.local_response_norm(x, LRN_SIZE, LRN_ALPHA * LRN_SIZE, LRN_BETA, LRN_K) if layer.lrn else x

    def pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2, 2, ceil_mode=self.round_up)

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def freeze(self, last: str) -> None:
        """All layers up to this one, by a name that `taps` knows, keep their weights and the statistics of their batch normalisation.

        They get no gradient, and their activations are not kept for one. Raises ConfigError.
        """
        names = self.tap_names()
        if last == "fc8":
            raise ConfigError(
                f"freeze: fc8 is the last layer of net {self.name}, so nothing would be left to train; try fc7"
            )
        if last not in names:
            near = get_close_matches(last.lower(), names[:-1], 1, 0.8)
            there = [n for n in names[:-1] if n.startswith(("conv", "pool", "fc"))]
            raise ConfigError(
                f"freeze: {last!r} is no layer of net {self.name}; "
                + (f"try {near[0]}" if near else f"layers are {', '.join(there)}")
            )
        upto = names[: names.index(last) + 1]
        layers = [n for n in upto if n.startswith(("conv", "fc"))]
        norms = [n.replace("conv", "bn") for n in layers if self.batch_norm and n.startswith("conv")]
        self.frozen = (*layers, *norms)
        for name in self.frozen:
            getattr(self, name).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> VGG:
        """Frozen layers stay as in a test."""
        super().train(mode)
        for name in self.frozen:
            getattr(self, name).eval()
        return self

    def convolutions(self) -> list[Convolution]:
        """All convolutions in order."""
        return [getattr(self, layer.name) for block in self.blocks for layer in block]

    def replace_last(self, classes: int) -> None:
        """A new fc8 for another number of classes, with Glorot's weights."""
        self.fc8 = nn.Linear(self.fc_width, classes, device=self.fc8.weight.device, dtype=self.fc8.weight.dtype)
        glorot(self.fc8)
        self.classes = classes


def glorot(module: nn.Conv2d | nn.Linear) -> None:
    """First weights; with torch's own default these nets do not learn."""
    nn.init.xavier_uniform_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def as_kernel(weight: Tensor, side: int) -> Tensor:
    """FC weights, out x (C * side * side), as a convolution kernel, out x C x side x side."""
    return weight.view(weight.shape[0], -1, side, side)
