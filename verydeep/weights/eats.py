"""What foreign nets eat. Files do not say it, and files of the same names and shapes differ in it (decision 10)."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Literal, NamedTuple, TypeAlias

from verydeep.errors import ConfigError

Colours: TypeAlias = tuple[float, float, float]


class ContractWarning(UserWarning):
    """A foreign file does not say all, and something was assumed or left out."""


class Eats(NamedTuple):
    """(x - mean) / std of pixels x of 0-255; mean and std are in 0-255 units and in the order given."""

    order: Literal["RGB", "BGR"]
    mean: Colours
    std: Colours = (1.0, 1.0, 1.0)

    def rgb(self) -> tuple[Colours, Colours]:
        """Mean and std as our contracts have them."""
        return (self.mean, self.std) if self.order == "RGB" else (turned(self.mean), turned(self.std))


def turned(colours: Colours) -> Colours:
    return colours[2], colours[1], colours[0]


def times_255(colours: Colours) -> Colours:
    return colours[0] * 255, colours[1] * 255, colours[2] * 255


EATS = {
    "bgr-255": Eats("BGR", (103.939, 116.779, 123.68)),  # the paper's own nets and what was converted from them
    "rgb-255": Eats("RGB", (123.68, 116.779, 103.939)),  # the same with conv1_1 turned, as in MatConvNet
    "rgb-01-std": Eats("RGB", times_255((0.485, 0.456, 0.406)), times_255((0.229, 0.224, 0.225))),  # trained with torchvision
    "rgb-255-rounded": Eats("RGB", times_255((0.48235, 0.45882, 0.40784))),  # torchvision's features-only D: std is 1 / 255 of 0-1
    "rgb-01": Eats("RGB", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),  # 0-1 and no mean
}


def eats_of(given: str | Eats) -> Eats:
    """By name, or written out as ORDER:mean:std, such as RGB:123.68,116.78,103.94:1,1,1. Raises ConfigError."""
    if isinstance(given, Eats):
        return given
    if found := EATS.get(given):
        return found
    order, *numbers = given.split(":")
    with suppress(ValueError, KeyError):
        mean, std = ([float(n) for n in text.split(",")] for text in (*numbers, "1,1,1")[:2])
        if len(numbers) < 3 and len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std))) and min(std) > 0:
            shape = (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
            return {"RGB": Eats("RGB", *shape), "BGR": Eats("BGR", *shape)}[order]
    raise ConfigError(
        f"eats: {given!r:.80} is not known; try one of {', '.join(EATS)}, or ORDER:mean:std of 0-255, such as "
        "RGB:123.68,116.78,103.94:1,1,1"
    )
