"""Scale, crop, mirror and colour shift (section 3.1), drawn for a photo and not for a process (see order.py)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.data.order import COLOURS, CROPS, generator
from verydeep.data.photo import Pixels, rescale, scaled_size
from verydeep.data.statistics import Statistics


class Geometry(NamedTuple):
    """A crop: the photo at smallest side S, its window's top left corner there, and whether it is mirrored."""

    scale: int
    top: int
    left: int
    flip: bool


def draw(
    seed: int, epoch: int, id: int, height: int, width: int, crop: int, scales: tuple[int, int], flip: bool = True,
    turn: int = 0,
) -> Geometry:  # fmt: skip
    """S uniform in scales = [Smin, Smax], a uniform crop, mirrored with probability one half."""
    random = generator(seed, CROPS, epoch, id, turn)
    scale = int(random.integers(scales[0], scales[1], endpoint=True))
    rows, columns = scaled_size(height, width, scale)
    top = int(random.integers(rows - crop, endpoint=True))
    left = int(random.integers(columns - crop, endpoint=True))
    return Geometry(scale, top, left, bool(random.random() < 0.5) and flip)


def crop_of(photo: Image.Image, geometry: Geometry, crop: int) -> Pixels:
    """The crop of a geometry, mirrored where it says so: uint8 crop x crop x 3."""
    return rescale(photo, geometry.scale, (geometry.top, geometry.left, crop, crop), geometry.flip)


def draw_colour(
    seed: int, epoch: int, id: int, axes: npt.NDArray[np.float64], sigma: float, turn: int = 0
) -> npt.NDArray[np.float32]:
    """The shift of all pixels of a photo in grey levels, 3: axes (3 x 3) times three normal numbers."""
    return (axes @ generator(seed, COLOURS, epoch, id, turn).normal(0.0, sigma, 3)).astype(np.float32)


def colour_axes(statistics: Statistics, how: str) -> npt.NDArray[np.float64]:
    """Principal components in columns, each times its step in grey levels (paper of Krizhevsky 2012).

    `root`: the square root of the eigenvalue in 0-255 units. `literal`: the eigenvalue of pixels in 0-1, brought back
    to grey levels. `off`: zeros.
    """
    values = np.asarray(statistics.eigenvalues)
    steps = {"root": np.sqrt(values), "literal": values / 255.0, "off": np.zeros(3)}[how]
    return np.asarray(np.asarray(statistics.components) * steps, dtype=np.float64)
