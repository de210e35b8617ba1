"""What the net sees of a photo in a test: a crop in the middle, the whole photo, or a grid of crops (section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from verydeep.data import photo
from verydeep.data.photo import Pixels
from verydeep.errors import LongPhotoError

LongPhotos = Literal["stop", "middle"]
GRID = 5  # crops along a side


class View(NamedTuple):
    """One way to show a photo at smallest side Q."""

    name: Literal["centre", "dense", "crops"]
    scale: int

    def cost(self, crop: int) -> float:
        """About how many pixels of a photo go through the net, without the mirror image."""
        return {"centre": crop**2, "dense": 4 / 3 * self.scale**2, "crops": (GRID * crop) ** 2}[self.name]


class Frame(NamedTuple):
    """Pixels that are made of a photo once, whoever needs them. crop: 0 where the photo stays whole."""

    kind: Literal["centre", "whole", "grid"]
    scale: int
    crop: int


Frames = dict[Frame, Pixels]


def is_long(image: Image.Image) -> bool:
    """Beyond 8:1, where the whole rescaled photo could fill the memory."""
    return max(image.size) > photo.MAX_ASPECT * min(image.size)


def frames(image: Image.Image, wanted: Iterable[tuple[View, int]], long_photos: LongPhotos = "stop") -> Frames:
    """The pixels, uint8 H x W x 3, that views at a crop need of a photo; what several views share is made once.

    The centre crop is always a window of its own, as in `predict`. The grid is cut out of the whole rescaled photo, whether
    or not dense evaluation needs that too; beyond 8:1 each crop is a window (uint8 25 x crop x crop x 3). So what a net sees
    never depends on what else is asked. Of a photo beyond 8:1 dense evaluation takes the middle 8:1 part with `middle`, else
    raises LongPhotoError.
    """
    long, needed = is_long(image), set[Frame]()
    for view, crop in wanted:
        if view.name == "dense" and long and long_photos == "stop":
            raise LongPhotoError(
                "",
                f"is {image.width} x {image.height}, longer than {photo.MAX_ASPECT}:1, too long for dense evaluation; "
                "test its middle part with --long_photos middle, or use --protocol centre or crops",
            )
        needed.add(frame_of(view, crop, long))
    return {frame: pixels(image, frame) for frame in needed}


def frame_of(view: View, crop: int, long: bool) -> Frame:
    if view.name == "centre":
        return Frame("centre", view.scale, crop)
    return Frame("grid", view.scale, crop) if view.name == "crops" and long else Frame("whole", view.scale, 0)


def pixels(image: Image.Image, frame: Frame) -> Pixels:
    if frame.kind == "centre":
        return photo.centre_crop(image, frame.scale, frame.crop)
    if frame.kind == "whole":
        return photo.middle(image, frame.scale)
    size = photo.scaled_size(image.height, image.width, frame.scale)
    return np.stack(
        [photo.rescale(image, frame.scale, (*place, frame.crop, frame.crop)) for place in grid(*size, frame.crop)]
    )


def inputs(made: Frames, view: View, crop: int) -> list[Pixels]:
    """What the net sees of one photo, of one size: a centre crop, the photo, or its 25 crops row by row."""
    if view.name == "crops" and (cut := made.get(frame_of(view, crop, True))) is not None:
        return list(cut)
    found = made[frame_of(view, crop, False)]
    if view.name != "crops":
        return [found]
    height, width, _ = found.shape
    return [found[top : top + crop, left : left + crop] for top, left in grid(height, width, crop)]


def grid(height: int, width: int, crop: int) -> list[tuple[int, int]]:
    """(top, left) of a regular 5x5 grid of crops, from edge to edge; the one in the middle is the centre crop."""
    return [(top, left) for top in line(height, crop) for left in line(width, crop)]


def line(side: int, crop: int) -> tuple[int, ...]:
    """Where the crops of a grid begin along a side. Mirrored they stand where they stood, but for the middle one of an odd space."""
    space = side - crop
    quarter = round(space / 4)
    return 0, quarter, space // 2, space - quarter, space
