"""Layers of a net, of pictures in a declared range, with gradients."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as made_again

from verydeep.errors import ConfigError, ModelError
from verydeep.near import checked, meant
from verydeep.net.classifier import Classifier, build
from verydeep.net.inside import FC, Step
from verydeep.net.pixels import other_shape
from verydeep.net.vgg import steps
from verydeep.perceptual.strips import Reduce, strips_of, through_strip

Range = Literal["0-1", "0-255", "-1-1"]
BOUNDS = {"0-1": (0.0, 1.0), "0-255": (0.0, 255.0), "-1-1": (-1.0, 1.0)}
FROM_BYTES = {"0-1": " / 255", "0-255": "", "-1-1": " / 127.5 - 1"}
SLACK = 1e-3  # of the range, for rounding
Pool = Callable[[Tensor], Tensor]
Join = Callable[[Sequence[Tensor], Sequence[float]], Tensor]  # of strips, which are such shares of the rows


class Taps(nn.Module):
    """Layers of a net by name: pictures, float N x 3 x H x W in RGB -> {name: N x C x h x w}, with gradients.

    net: a Classifier, or convolutions alone (`verydeep.weights.load_describing`). Its weights are shared, not copied;
    here they get no gradient, and batch norm and dropout stay as in a test. names: of `net.net.tap_names()`, such as
    relu3_3. range: what black and white are in the pictures: "0-1", "0-255" or "-1-1". checkpoint: what lies between
    two poolings is computed again on the way back instead of kept: less memory for the time of one more forward pass.

    Raises ConfigError for an unknown layer or range, and ModelError for pictures of another kind, shape or range:
    bytes, no finite numbers, values beyond the range, and 0 to 1 alone where more is declared, unless all are equal or
    earlier pictures had more. That blue comes first cannot be seen.
    """

    def __init__(
        self, net: Classifier, names: str | Iterable[str], range: Range = "0-1", checkpoint: bool = False,
        pool: Pool | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.names = [names] if isinstance(names, str) else list(names)
        self.range, self.checkpoint, self.pool = checked("range", range, Range), checkpoint, pool
        self.proven = False  # whether earlier pictures went beyond 0 to 1
        self.net = fixed(net, with_fc=bool(set(self.names) & set(FC)))
        known = net.net.tap_names() if net.net.fc6 else [n for n in net.net.tap_names() if n not in FC]
        if unknown := [name for name in self.names if name not in known]:
            raise ConfigError(f"net {net.net.name} has no layer {unknown[0]!r}{meant(unknown[0], known)}")

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        return self.reduced([pictures], lambda name, maps: maps, one_below_another)

    def reduced(self, pictures: Sequence[Tensor], reduce: Reduce, join: Join) -> dict[str, Tensor]:
        """Of each layer what `reduce` makes of its name and its maps, one a picture; of strips what `join` makes of
        that. With checkpoint the maps are not kept."""
        maps, kept = [self.normalised(picture) for picture in pictures], dict[str, Tensor]()
        same_size(*maps)
        if (side := min(maps[0].shape[2:])) < (smallest := self.smallest()):
            raise ModelError(f"pictures have {side} pixels a side; expected {smallest} or more for {self.names[-1]}")
        run: Any = partial(made_again, use_reentrant=False) if self.checkpoint else lambda work, *given: work(*given)
        for part in self.parts():
            rows = strips_of(part, maps) if self.checkpoint else [(0, maps[0].shape[2])]
            done = [run(through_strip, part, self.names, reduce, *strip, *maps) for strip in rows]
            maps = [one_below_another(strip) for strip in zip(*(strip.maps for strip in done), strict=True)]
            for name in done[0].kept:
                found, sizes = zip(*(strip.kept[name] for strip in done), strict=True)
                kept[name] = join(found, [size / sum(sizes) for size in sizes])
        return {name: kept[name] for name in self.names}

    def smallest(self) -> int:
        """Pixels a side from which something is left for the last layer."""
        if set(self.names) & set(FC):
            return int(self.net.net.crop)
        pools = sum(name.startswith("pool") for part in self.parts() for name, _ in part)
        return 2**pools if self.pool or not self.net.net.round_up else 1

    def parts(self) -> Iterator[list[Step]]:
        """The layers as far as the last that is asked for, each pooling with those before it."""
        part, left = list[Step](), set(self.names)
        for name, step in steps(self.net.net):
            pools = name.startswith("pool")
            part.append((name, self.pool if self.pool and pools else step))
            left.discard(name)
            if pools or not left:
                yield part
                part = []
            if not left:
                return

    def normalised(self, pictures: Tensor) -> Tensor:
        """As the net's weights expect them: its own mean subtracted, divided by its own deviation."""
        self.proven |= check_pictures(pictures, self.range, self.proven)
        x = self.between_0_and_1(pictures.to(self.net.mean.dtype)) * 255
        return (x - self.net.mean) / self.net.std

    def between_0_and_1(self, pictures: Tensor) -> Tensor:
        low, high = BOUNDS[self.range]
        return (pictures - low) / (high - low)

    def train(self, mode: bool = True) -> "Taps":
        """Always as in a test."""
        return super().train(False)


def fixed(net: Classifier, with_fc: bool) -> Classifier:
    """The same weights, not copied, in a net that does not learn; without FC layers where they are not needed."""
    other = build(net.contract, "meta", drawn=False)
    for layer in () if with_fc else ("fc6", "fc7", "fc8"):
        setattr(other.net, layer, None)
    state = net.state_dict()
    other.load_state_dict({name: state[name] for name in other.state_dict()}, assign=True)
    return other.requires_grad_(False).eval()


def check_pictures(pictures: Tensor, range: Range, proven: bool = False) -> bool:
    """Whether pictures go beyond 0 to 1, which proves a wider range; once it is, those within may be bright or dark.

    Raises ModelError for all but float N x 3 x H x W in this range, with what they look like and what to do.
    """
    wanted, (low, high) = f"expected float N x 3 x H x W in RGB, {range}", BOUNDS[range]
    if not isinstance(pictures, Tensor):
        raise ModelError(f"pictures are a {type(pictures).__name__}; {wanted}")
    given = f"pictures are {str(pictures.dtype).removeprefix('torch.')} of shape {tuple(pictures.shape)}; {wanted}"
    if pictures.ndim != 4 or pictures.shape[1] != 3 or not pictures.numel():
        raise ModelError(f"{given}; {other_shape(pictures)}")
    if not pictures.is_floating_point():
        raise ModelError(f"{given}; of bytes of 0-255: pictures.float(){FROM_BYTES[range]}")
    least, most = (float(v) for v in pictures.detach().aminmax())
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ModelError(f"pictures hold values that are no finite numbers; {wanted}")
    slack, seen = SLACK * (high - low), f"pictures hold values from {least:.4g} to {most:.4g}"
    if high - low > 1 and 0 <= least < most <= 1 and not proven:
        raise ModelError(f"{seen}, which look like range='0-1'; {wanted}; declare the range that they have")
    if least < low - slack or most > high + slack:
        look = next((name for name, (a, b) in BOUNDS.items() if a <= least and most <= b), "")
        what = f"like range={look!r}" if look else "as if a mean were subtracted or they were scaled"
        raise ModelError(f"{seen}, which look {what}; {wanted}; if only just beyond: pictures.clamp({low:g}, {high:g})")
    return least < 0 or most > 1


def same_size(first: Tensor, *others: Tensor) -> None:
    """Raises ModelError unless N x C x H x W are of one size, but for N, of which one may be 1."""
    for other in others:
        if first.shape[1:] != other.shape[1:] or (len(first) != len(other) and 1 not in (len(first), len(other))):
            raise ModelError(f"{tuple(first.shape)} and {tuple(other.shape)} cannot be compared; expected one size")


def one_below_another(strips: Sequence[Tensor], shares: Sequence[float] = ()) -> Tensor:
    return torch.cat(list(strips), 2) if len(strips) > 1 else strips[0]


def weighted_mean(strips: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Of means over strips that of the whole."""
    return torch.stack([strip * share for strip, share in zip(strips, shares, strict=True)]).sum(0)


def in_fp32(maps: Tensor) -> Tensor:
    """Of maps that autocast made, fp32, in which sums are made; fp64 stays."""
    return maps if maps.dtype == torch.float64 else maps.float()
