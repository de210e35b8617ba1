"""The input of foreign nets. Files do not say it, and differ in it at the same names and shapes (decision 10)."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, TypeAlias

from verydeep.errors import ConfigError
from verydeep.files.records import Within, taken

Colours: TypeAlias = tuple[float, float, float]
Order: TypeAlias = Literal["RGB", "BGR"]


class ContractWarning(UserWarning):
    """A foreign file does not say all, and something was assumed or left out."""


class Input(NamedTuple):
    """(x - mean) / std of pixels x of 0-255; mean and std are in 0-255 units and in the order given."""

    order: Order
    mean: Colours
    std: Colours = (1.0, 1.0, 1.0)

    def rgb(self) -> tuple[Colours, Colours]:
        """Mean and std as our contracts have them."""
        return (self.mean, self.std) if self.order == "RGB" else (self.mean[::-1], self.std[::-1])

    @property
    def name(self) -> str | None:
        """In INPUTS."""
        return next((name for name, known in INPUTS.items() if known == self), None)

    def __str__(self) -> str:
        named = f"{self.name}: " if self.name else ""
        return f"{named}{self.order}, mean {shortly(self.mean)}, std {shortly(self.std)} of 0-255"


def times_255(colours: Colours) -> Colours:
    return colours[0] * 255, colours[1] * 255, colours[2] * 255


Level: TypeAlias = Annotated[float, Within(0, 255)]
Spread: TypeAlias = Annotated[float, Within(0, 255, above=True)]
WRITTEN = tuple[Order, tuple[Level, Level, Level], tuple[Spread, Spread, Spread]]
WRITTEN_OUT = "ORDER:mean:std of 0-255, such as RGB:123.68,116.78,103.94:1,1,1"
TORCHVISION = times_255((0.485, 0.456, 0.406)), times_255((0.229, 0.224, 0.225))
INPUTS = {
    "bgr-255": Input("BGR", (103.939, 116.779, 123.68)),  # the paper's own nets and what was converted from them
    "rgb-255": Input("RGB", (123.68, 116.779, 103.939)),  # the same with conv1_1 turned, as in MatConvNet
    "rgb-01-std": Input("RGB", *TORCHVISION),  # trained with torchvision
    # torchvision's features-only D: std is 1 / 255 of 0-1
    "rgb-255-rounded": Input("RGB", times_255((0.48235, 0.45882, 0.40784))),
    "rgb-01": Input("RGB", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),  # 0-1 and no mean
}
# Of nets of a layout
USUAL = {
    "caffe": "bgr-255", "keras": "bgr-255", "matconvnet": "rgb-255", "torchvision": "rgb-01-std", "timm": "rgb-01-std",
    "caffe's names": "bgr-255",
}  # fmt: skip


def input_of(given: str | Input) -> Input:
    """By name, or written out as ORDER:mean:std, such as RGB:123.68,116.78,103.94:1,1,1. Raises ConfigError."""
    if isinstance(given, Input):
        return given
    if found := INPUTS.get(given):
        return found
    order, *numbers = given.split(":")
    if not numbers:
        raise ConfigError(f"expects: {given!r:.80} is not known; try one of {', '.join(INPUTS)}, or {WRITTEN_OUT}")
    try:
        parts = [order.upper(), *(tuple(map(float, part.split(","))) for part in numbers)]
        order, mean, std = taken(parts if len(numbers) > 1 else [*parts, (1.0, 1.0, 1.0)], WRITTEN)
    except ValueError as e:
        of = "RGB or BGR, a mean of three numbers from 0 to 255, and a std of three above 0 and up to 255, or 1,1,1"
        raise ConfigError(f"expects: {given!r:.80} is not understood; write {WRITTEN_OUT}: {of}") from e
    if 0 < max(mean) <= 1:
        of_255 = times_255(mean), times_255(std) if max(std) <= 1 else std
        word = ":".join((order, *(",".join(f"{c:.9g}" for c in colours) for colours in of_255)))
        raise ConfigError(f"expects: the mean of {given!r:.80} looks like 0-1; multiply by 255: {word}")
    return Input(order, mean, std)


def input_in(order: Order, mean: Colours, std: Colours) -> Input:
    """Of this order, from mean and std in RGB."""
    return Input(order, *Input(order, mean, std).rgb())


def input_word(its: Input) -> str:
    """As `input_of` reads it, by name or to the last digit."""
    mean, std = (",".join(repr(float(c)).removesuffix(".0") for c in colours) for colours in its[1:])
    return its.name or f"{its.order}:{mean}:{std}"


def shortly(colours: Sequence[float]) -> str:
    return " ".join(f"{c:.6g}" for c in colours)
