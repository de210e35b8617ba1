"""The nets of Table 1: one table, one class."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple
from functools import partial
from itertools import chain
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from verydeep.errors import ConfigError
from verydeep.net.fast import Convolution, ResponseNorm
from verydeep.net.inside import Step, activations, as_it_is, forgetful, kept_layers
from verydeep.paper import LRN_ALPHA, LRN_BETA, LRN_K, LRN_SIZE, STRIDE, TABLE_1
from verydeep.shape import Pooling, Shape


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


def take_memory(net: nn.Module, device: torch.device) -> None:
    """For a net without any; as `to_empty` does, which for that imports half a second of other libraries first."""
    for module in net.modules() if device.type != "meta" else ():
        for name, t in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            empty = torch.empty(t.shape, dtype=t.dtype, device=device)
            setattr(module, name, nn.Parameter(empty) if isinstance(t, nn.Parameter) else empty)


class VGG(nn.Module):
    """A net of the paper, from normalised pixels to logits.

    The keywords are those of `Shape`, and the dropout after fc6 and fc7. Layers are conv1_1 ... conv5_4, fc6, fc7, fc8;
    `parameters()` runs in that order, weight before bias. Weights start as Glorot's; drawn=False leaves them to be
    filled, device="meta" takes no memory. Raises ConfigError.
    """

    def __init__(
        self, net: str = "D", *, classes: int = 1000, crop: int = 224, fc_width: int = 4096, base_width: int = 64,
        batch_norm: bool = False, dropout: float = 0.5, pooling: Pooling = "up",
        device: torch.device | str | None = None, drawn: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = Shape(net, classes, crop, fc_width, base_width, batch_norm, pooling)
        self.name, self.classes, self.crop, self.fc_width, self.base_width, self.batch_norm, pooling = astuple(shape)
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout: {dropout} is outside [0, 1)")
        self.dropout, self.round_up = dropout, pooling == "up"
        self.map = self.crop // STRIDE  # side of the last pooled map at crop size
        self.blocks, self.frozen = column(net), tuple[str, ...]()
        self.still, self.memory = 0, forgetful  # blocks that are all frozen, and what remembers what they say
        with torch.device("meta"):  # where torch's own first weights cost nothing
            channels = 3
            for layer in chain(*self.blocks):
                width = max(1, layer.width * self.base_width // 64)
                self.add_module(layer.name, Convolution(channels, width, layer.kernel))
                if batch_norm:
                    self.add_module(layer.name.replace("conv", "bn"), nn.BatchNorm2d(width))
                channels = width
            self.fc6 = nn.Linear(channels * self.map**2, self.fc_width)
            self.fc7 = nn.Linear(self.fc_width, self.fc_width)
            self.fc8 = nn.Linear(self.fc_width, self.classes)
        take_memory(self, torch.get_default_device() if device is None else torch.device(device))
        for module in self.modules():
            first_weights(module, drawn)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, N x classes, of normalised crops, N x 3 x crop x crop."""
        if x.shape[-2:] != (self.crop, self.crop):
            raise ConfigError(f"forward takes {self.crop} x {self.crop} pixels, not {tuple(x.shape[-2:])}; try dense()")
        x = self.features(x)  # N x 512 x crop/32 x crop/32
        x = self.drop(F.relu(self.fc6(x.flatten(1))))  # N x 4096
        x = self.drop(F.relu(self.fc7(x)))
        return self.fc8(x)  # type: ignore[no-any-return]

    def dense(self, x: Tensor) -> Tensor:
        """The class score map, N x classes x h x w, of whole photos, N x 3 x H x W (section 3.2).

        The FC layers become convolutions, fc6 with a kernel of crop/32 (7 in the paper); at crop size h = w = 1.
        """
        if min(x.shape[-2:]) < self.crop:
            raise ConfigError(f"dense needs photos of at least {self.crop} pixels a side; rescale to Q >= {self.crop}")
        x = self.features(x)  # N x 512 x ~H/32 x ~W/32
        x = self.drop(F.relu(as_convolution(self.fc6, self.map, x)))  # N x 4096 x h x w
        x = self.drop(F.relu(as_convolution(self.fc7, 1, x)))
        return as_convolution(self.fc8, 1, x)

    def features(self, x: Tensor) -> Tensor:
        """The last pooled map, N x 512 x ~H/32 x ~W/32, of normalised photos, N x 3 x H x W."""
        x = self.memory(partial(self.through, self.blocks[: self.still]), x) if self.still else x
        return self.through(self.blocks[self.still :], x)

    def through(self, blocks: list[list[Layer]], x: Tensor) -> Tensor:
        for block in blocks:
            for layer in block:
                x = getattr(self, layer.name)(x)
                if self.batch_norm:
                    x = getattr(self, layer.name.replace("conv", "bn"))(x)
                if layer.lrn:
                    x = response_norm(F.relu(x), self.training)
                elif layer is not block[-1]:
                    x = F.relu(x)
            x = F.relu(self.pool(x))  # after max-pooling equals before it, bit for bit, on a quarter of the values
        return x

    def pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2, 2, ceil_mode=self.round_up)

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def tap_names(self) -> list[str]:
        return [name for name, _ in steps(self)]

    def taps(
        self, x: Tensor, names: str | Iterable[str], each: Callable[[Tensor], Tensor] = as_it_is
    ) -> dict[str, Tensor]:
        """Activations by name of normalised photos, N x 3 x H x W; the net runs as far as the last of them.

        conv3_3 is before its ReLU, relu3_3 after; norm1_1, bn3_3, pool3 follow; fc6, relu6, fc7, relu7, fc8 are
        N x C at crop size and N x C x h x w elsewhere; dropout is off. Of a map what `each` makes of it is kept, so
        that large ones need not be held together. Raises ConfigError for an unknown name.
        """
        return activations(self.name, list(steps(self)), x, [names] if isinstance(names, str) else names, each)

    def freeze(self, last: str) -> None:
        """All layers up to this one, by a name of `tap_names`, keep weights and statistics and get no gradient."""
        self.frozen = kept_layers(self.name, self.tap_names(), last)
        for name in self.frozen:
            getattr(self, name).requires_grad_(False)
        self.still = sum(block[-1].name in self.frozen for block in self.blocks)
        self.train(self.training)

    def train(self, mode: bool = True) -> VGG:
        """Frozen layers stay as in a test."""
        super().train(mode)
        for name in self.frozen:
            getattr(self, name).eval()
        return self

    def convolutions(self) -> list[Convolution]:
        return [getattr(self, layer.name) for layer in chain(*self.blocks)]

    def replace_last(self, classes: int) -> None:
        """A new fc8 for another number of classes, with Glorot's weights."""
        old, self.classes = self.fc8.weight, classes
        self.fc8 = nn.Linear(self.fc_width, classes, device="meta", dtype=old.dtype).to_empty(device=old.device)
        first_weights(self.fc8)


def steps(net: VGG) -> Iterator[Step]:
    """Every layer of a net in order, by its name in the paper's and Caffe's words."""
    for number, block in enumerate(net.blocks, 1):
        for layer in block:
            place = layer.name.removeprefix("conv")
            yield layer.name, getattr(net, layer.name)
            if net.batch_norm:
                yield f"bn{place}", getattr(net, f"bn{place}")
            yield f"relu{place}", F.relu
            if layer.lrn:
                yield f"norm{place}", response_norm
        yield f"pool{number}", net.pool
    yield "fc6", partial(as_convolution, net.fc6, net.map)
    yield "relu6", F.relu
    yield "fc7", partial(as_convolution, net.fc7, 1)
    yield "relu7", F.relu
    yield "fc8", partial(as_convolution, net.fc8, 1)


def first_weights(module: nn.Module, drawn: bool = True) -> None:
    """Glorot's; with torch's own default these nets do not learn."""
    if isinstance(module, nn.BatchNorm2d):
        module.reset_parameters()
    elif drawn and isinstance(module, (Convolution, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def response_norm(x: Tensor, training: bool = False) -> Tensor:
    if training and x.requires_grad and x.device.type == "cpu":
        return ResponseNorm.apply(x)  # type: ignore[no-any-return,no-untyped-call]
    # torch divides alpha by the size, the paper of Krizhevsky does not.
    return F.local_response_norm(x, LRN_SIZE, LRN_ALPHA * LRN_SIZE, LRN_BETA, LRN_K)


def as_convolution(fc: nn.Linear, side: int, x: Tensor) -> Tensor:
    """An FC layer at every place of a map: a convolution with a kernel of this side."""
    if x.shape[-2:] == (side, side):  # one place: as a product of matrices half the time
        return fc(x.flatten(1))[:, :, None, None]  # type: ignore[no-any-return]
    return F.conv2d(x, as_kernel(fc.weight, side), fc.bias)


def as_kernel(weight: Tensor, side: int) -> Tensor:
    """FC weights, out x (C * side * side), as a convolution kernel, out x C x side x side."""
    return weight.view(weight.shape[0], -1, side, side)
