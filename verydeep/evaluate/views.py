"""What a net sees of a photo in a test (section 3.2): views, and the protocols that are plain means over views.

centre -> dense -> several scales -> crops -> both: the steps of the ladder, on which the same net goes from 9.9 to 7.2.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.contract import Contract
from verydeep.data import photo
from verydeep.data.photo import Pixels
from verydeep.errors import ConfigError, LongPhotoError
from verydeep.paper import STRIDE

Protocol = Literal["centre", "dense", "crops", "both"]
PROTOCOLS: tuple[Protocol, ...] = ("centre", "dense", "crops", "both")
Scales = Literal["single", "several"] | tuple[int, ...]
LongPhotos = Literal["stop", "middle"]
MOST_SCALES, LARGEST_SCALE = 32, 2048  # a photo of 8:1 at Q = 2048 has 34 megapixels, which take a net 9 GB
GRID = 5  # crops along a side


class View(NamedTuple):
    """One way to show a photo at smallest side Q."""

    name: Literal["centre", "dense", "crops"]
    scale: int

    def cost(self, crop: int) -> float:
        """About how many pixels of a photo go through the net, without the mirror image."""
        return {"centre": crop**2, "dense": 4 / 3 * self.scale**2, "crops": (GRID * crop) ** 2}[self.name]


class Step(NamedTuple):
    """One step of the ladder: a protocol at the single scale, or at all of several."""

    protocol: Protocol
    several: bool = False

    def __str__(self) -> str:
        return f"{self.protocol} at {'several scales' if self.several else 'one scale'}"


def protocols_in(text: str) -> list[Protocol]:
    """Protocols separated by commas, in the order of the ladder. Raises ConfigError."""
    given = text.split(",")
    if unknown := [w for w in given if w not in PROTOCOLS]:
        raise ConfigError(f"protocol: {unknown[0]!r} is not known; expected some of {','.join(PROTOCOLS)}, with commas")
    return [p for p in PROTOCOLS if p in given]


def scales_in(text: str) -> Scales:
    """`single`, `several`, or smallest sides Q separated by commas. Raises ConfigError."""
    if text == "single" or text == "several":
        return text  # type: ignore[return-value]
    given = text.split(",")
    digits = all(w.isascii() and w.isdigit() and len(w) < 6 for w in given)
    if len(given) > MOST_SCALES or not digits or not all(0 < int(w) <= LARGEST_SCALE for w in given):
        raise ConfigError(
            f"scales: {text[:60]!r} is not understood; "
            f"expected single, several, or up to {MOST_SCALES} numbers such as 256,384,512"
        )
    return tuple(map(int, given))


def scales_for(contract: Contract, scales: Scales) -> tuple[int, ...]:
    """The Q of a test, rising. Raises ConfigError for one below the crop.

    several: {S - 32, S, S + 32} at a crop of 224, in proportion at others and never below the crop; of a jittered net
    {Smin, (Smin + Smax) / 2, Smax}.
    """
    (least, most), crop, own = contract.scales, contract.crop, contract.test_scale
    found: tuple[int, ...] = (own,)
    if scales == "several":
        step = round(crop / 7)
        found = (least, own, most) if least < most else (max(crop, own - step), own, own + step)
    elif scales != "single":
        found = scales
    if (lowest := min(found)) < crop:
        raise ConfigError(f"scales: Q = {lowest} is smaller than the crop of {crop}; give {crop} or more")
    return tuple(sorted(set(found)))


def ladder(protocols: Sequence[Protocol], scales: Scales) -> list[Step]:
    """The results of a test, step by step. Dense stands there with one scale and with all."""
    several = scales == "several" or (scales != "single" and len(set(scales)) > 1)
    found = {"centre": [Step("centre")], "dense": [Step("dense"), Step("dense", several)]}
    return list(dict.fromkeys(s for p in PROTOCOLS if p in protocols for s in found.get(p, [Step(p, several)])))


def components(step: Step, contract: Contract, scales: Scales) -> tuple[View, ...]:
    """The views whose mean a step is. The single Q is the net's own, or the first number given where that is not among
    them. Raises ConfigError for a Q below the crop."""
    among, own = scales_for(contract, scales), contract.test_scale
    used = among if step.several else (own if isinstance(scales, str) or own in scales else scales[0],)
    if step.protocol != "both":
        return tuple(View(step.protocol, q) for q in used)
    return tuple(View(name, q) for name in ("dense", "crops") for q in used)


class Frame(NamedTuple):
    """Pixels that are made of a photo once, whoever needs them. crop: 0 where the photo stays whole."""

    kind: Literal["centre", "whole", "grid"]
    scale: int
    crop: int


class Frames(NamedTuple):
    """What a pass holds of one photo: its height and width as it is upright, and its frames."""

    size: tuple[int, int]
    pixels: dict[Frame, Pixels]


def frames(image: Image.Image, wanted: Iterable[tuple[View, int]], long_photos: LongPhotos = "stop") -> Frames:
    """The pixels, uint8 H x W x 3, that views at a crop need of a photo; what several views share is made once.

    The centre crop is always a window of its own, as in `predict`. The grid is cut out of the whole rescaled photo,
    whether or not dense evaluation needs that too; beyond 8:1 each crop is a window (uint8 25 x crop x crop x 3). So
    what a net sees never depends on what else is asked. Of a photo beyond 8:1, which could fill the memory, dense
    evaluation takes the middle 8:1 part with `middle`, else raises LongPhotoError.
    """
    long = max(image.size) > photo.MAX_ASPECT * min(image.size)
    if long and long_photos == "stop" and any(view.name == "dense" for view, _ in wanted):
        raise LongPhotoError(
            "",
            f"is {image.width} x {image.height}, longer than {photo.MAX_ASPECT}:1, too long for dense evaluation",
        )
    needed = {frame_of(view, crop, long) for view, crop in wanted}
    return Frames((image.height, image.width), {frame: pixels(image, frame) for frame in needed})


def frame_of(view: View, crop: int, long: bool) -> Frame:
    if view.name == "centre":
        return Frame("centre", view.scale, crop)
    return Frame("grid", view.scale, crop) if view.name == "crops" and long else Frame("whole", view.scale, 0)


def pixels(image: Image.Image, frame: Frame) -> Pixels:
    if frame.kind == "centre":
        return photo.centre_crop(image, frame.scale, frame.crop)
    if frame.kind == "whole":
        return photo.middle(image, frame.scale)
    corners = grid(*photo.scaled_size(image.height, image.width, frame.scale), frame.crop)
    return np.stack([photo.rescale(image, frame.scale, (*at, frame.crop, frame.crop)) for at in corners])


def inputs(made: Frames, view: View, crop: int) -> list[Pixels]:
    """What the net sees of one photo, of one size: a centre crop, the photo, or its 25 crops row by row."""
    if view.name == "crops" and (cut := made.pixels.get(frame_of(view, crop, True))) is not None:
        return list(cut)
    found = made.pixels[frame_of(view, crop, False)]
    if view.name != "crops":
        return [found]
    height, width, _ = found.shape
    return [found[top : top + crop, left : left + crop] for top, left in grid(height, width, crop)]


def grid(height: int, width: int, crop: int) -> list[tuple[int, int]]:
    """(top, left) of a regular 5x5 grid of crops, from edge to edge; the one in the middle is the centre crop."""
    return [(top, left) for top in line(height, crop) for left in line(width, crop)]


def line(side: int, crop: int) -> tuple[int, ...]:
    """Where the crops of a grid begin along a side; mirrored they stand where they did, but for one of an odd space."""
    space = side - crop
    quarter = round(space / 4)
    return 0, quarter, space // 2, space - quarter, space


def windows(
    view: View, crop: int, size: tuple[int, int], number: int, cells: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """What the cells of a map see: h x w x 4, boxes (x0, y0, x1, y1) of crop x crop, in pixels of the upright photo.

    size: the photo's height and width; number: which of its inputs; cells: h and w of the map (section 3.2).
    """
    height, width = photo.scaled_size(*size, view.scale)
    most = photo.MAX_ASPECT * view.scale
    corner = {
        "centre": lambda: photo.centre_window(height, width, crop)[:2],
        "crops": lambda: grid(height, width, crop)[number],
        "dense": lambda: ((height - min(height, most)) // 2, (width - min(width, most)) // 2),
    }[view.name]()
    y, x = (start + STRIDE * np.arange(n) for start, n in zip(corner, cells, strict=True))
    y0, x0 = np.meshgrid(y, x, indexing="ij")
    scale = np.array([size[1] / width, size[0] / height] * 2)
    return np.asarray(np.stack([x0, y0, x0 + crop, y0 + crop], axis=-1) * scale)
