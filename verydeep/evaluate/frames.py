"""The pixels of views: what is made of a photo once, what a net is given of it, and where in the photo that lies."""

from collections.abc import Collection
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.data import photo
from verydeep.data.photo import Pixels
from verydeep.evaluate.views import VIEWS, View
from verydeep.net.pixels import is_long, too_long
from verydeep.paper import STRIDE

LongPhotos = Literal["stop", "middle"]


class Frame(NamedTuple):
    """Pixels that are made of a photo once, whoever needs them: the crops of a view, or the whole of it, then of 0."""

    view: str
    scale: int
    crop: int


class Frames(NamedTuple):
    """What a pass holds of one photo: its height and width as it is upright, and its frames."""

    size: tuple[int, int]
    pixels: dict[Frame, Pixels]


def frames(image: Image.Image, wanted: Collection[tuple[View, int]], long_photos: LongPhotos = "stop") -> Frames:
    """The pixels, uint8 H x W x 3, that views at a crop need of a photo; what several views share is made once.

    A view of one crop takes a window of its own, as `predict` does. Several are cut out of the whole rescaled photo,
    whether or not dense evaluation needs that too; beyond 8:1 each is a window (uint8 N x crop x crop x 3). So what a
    net sees never depends on what else is asked. Of a photo beyond 8:1, which could fill the memory, dense evaluation
    takes the middle 8:1 part with `middle`, else raises LongPhotoError.
    """
    long = is_long(image)
    if long and long_photos == "stop" and any(VIEWS[view.name] is None for view, _ in wanted):
        raise too_long(image, "")
    needed = {frame_of(view, crop, long) for view, crop in wanted}
    return Frames((image.height, image.width), {frame: pixels(image, frame) for frame in needed})


def frame_of(view: View, crop: int, long: bool) -> Frame:
    corners = VIEWS[view.name]
    alone = corners is not None and (long or len(corners(crop, crop, crop)) == 1)
    return Frame(view.name, view.scale, crop) if alone else Frame("", view.scale, 0)


def pixels(image: Image.Image, frame: Frame) -> Pixels:
    corners = VIEWS.get(frame.view)
    if corners is None:
        return photo.middle(image, frame.scale)
    places = corners(*photo.scaled_size(image.height, image.width, frame.scale), frame.crop)
    return np.stack([photo.rescale(image, frame.scale, (*at, frame.crop, frame.crop)) for at in places])


def inputs(made: Frames, view: View, crop: int) -> list[Pixels]:
    """What the net sees of one photo, of one size: the photo, or its crops row by row."""
    corners = VIEWS[view.name]
    if (cut := made.pixels.get(Frame(view.name, view.scale, crop))) is not None:
        return list(cut)
    whole = made.pixels[Frame("", view.scale, 0)]
    if corners is None:
        return [whole]
    height, width, _ = whole.shape
    return [whole[top : top + crop, left : left + crop] for top, left in corners(height, width, crop)]


def windows(
    view: View, crop: int, size: tuple[int, int], number: int, cells: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """What the cells of a map see: h x w x 4, boxes (x0, y0, x1, y1) of crop x crop, in pixels of the upright photo.

    size: the photo's height and width; number: which of its inputs; cells: h and w of the map (section 3.2).
    """
    height, width = photo.scaled_size(*size, view.scale)
    corners, most = VIEWS[view.name], photo.MAX_ASPECT * view.scale
    middle = [((height - min(height, most)) // 2, (width - min(width, most)) // 2)]
    corner = (corners(height, width, crop) if corners else middle)[number]
    y, x = (start + STRIDE * np.arange(n) for start, n in zip(corner, cells, strict=True))
    y0, x0 = np.meshgrid(y, x, indexing="ij")
    scale = np.array([size[1] / width, size[0] / height] * 2)
    return np.asarray(np.stack([x0, y0, x0 + crop, y0 + crop], axis=-1) * scale)


def spread(
    boxes: npt.NDArray[np.float64], values: npt.NDArray[np.float64], area: tuple[float, ...], shape: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Values N of the cells of a map, whose windows are N x 4, over an area (x0, y0, x1, y1) of the photo: rows x
    columns, between the centres of the windows, and beyond the outermost as it is there."""
    centres = (boxes[:, :2] + boxes[:, 2:4]) / 2
    xs, ys = np.unique(centres[:, 0].round(6)), np.unique(centres[:, 1].round(6))
    grid = values[np.lexsort((centres[:, 0], centres[:, 1]))].reshape(len(ys), len(xs))
    down, across = (low + (np.arange(n) + 0.5) / n * (high - low)
                    for n, low, high in zip(shape, area[1::-1], area[:1:-1], strict=True))  # fmt: skip
    columns = np.stack([np.interp(across, xs, row) for row in grid])
    return np.stack([np.interp(down, ys, column) for column in columns.T], 1)
