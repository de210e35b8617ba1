"""Boxes without boxes: where the dense class map of a classification net is high, by one threshold.

MaxBoxAcc (Choe 2020): the box of the largest part of the map above a threshold is right at an IoU of 0.5 or more.
MaxBoxAccV2: the best of the boxes of all parts, the mean over IoU 0.3, 0.5 and 0.7. Both take the best threshold.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.data.photo import PixelSize
from verydeep.evaluate.frames import spread
from verydeep.evaluate.passes import Settings, Shown, scorer_of
from verydeep.evaluate.views import View
from verydeep.localise.boxes import Floats, Sides, corner, photo_by_photo, scores_at
from verydeep.net.classifier import Classifier

GRID = 48  # points a side on which a map is looked at
THRESHOLDS = tuple(n / 20 for n in range(1, 20))  # from the least value of a photo's map, 0, to the greatest, 1
FINER = 3  # Q in training scales: a map of several cells, whose windows see parts of what the net was trained on


class ClassMap(NamedTuple):
    """The maps of a photo of this height and width, as rows of window and scores, of it and of its mirror image."""

    size: PixelSize
    ways: list[Floats]

    def of(self, label: int) -> Floats:
        """Of a class, GRID x GRID from 0 to 1 over the whole photo: between the centres of the windows, and beyond the
        outermost as it is there."""
        area = (0, 0, self.size[1], self.size[0])
        total = np.sum([spread(way[:, :4], way[:, 4 + label], area, (GRID, GRID)) for way in self.ways], 0)
        low, high = total.min(), total.max()
        return np.asarray((total - low) / (high - low)) if high > low else np.ones_like(total)


def class_maps(
    net: Classifier, settings: Settings, scale: int, open_photo: Callable[[int], Image.Image], ids: Iterable[int],
    **how: Any,
) -> Iterator[tuple[int, ClassMap]]:  # fmt: skip
    """(id, its maps) of photos in order; how: as `passes` is told."""
    shown = Shown(scorer_of(net, settings), net.contract.crop, [View("dense", scale)], scores_at, apart=True)
    for id, size, [[ways]] in photo_by_photo([shown], open_photo, ids, settings, **how):
        yield id, ClassMap(size, [way.numpy() for way in ways])


def parts_above(map: Floats, thresholds: Iterable[float]) -> list[Floats]:
    """For each threshold the boxes N x 4 of the connected parts at or above it, from 0 to 1, the largest part first."""
    found = []
    for threshold in thresholds:
        number = connected(map >= threshold)
        names, sizes = np.unique(number[number > 0], return_counts=True)
        boxes = []
        for name in names[np.argsort(-sizes, kind="stable")]:
            rows, columns = np.nonzero(number == name)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        found.append(np.array(boxes, np.float64).reshape(-1, 4) / map.shape[0])
    return found


def connected(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """A number for each connected part of a mask, the same in all of it, sides touching; 0 outside."""
    number = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        before = number
        for way in (slice(None), slice(None, None, -1)):
            number = run_maxima(run_maxima(number, way).T, way).T
        if (number == before).all():
            return number


def run_maxima(number: npt.NDArray[np.int64], way: slice) -> npt.NDArray[np.int64]:
    """The greatest number so far in each run of a row, read in one direction."""
    rows = number[:, way]
    run = (rows == 0).cumsum(1) * (rows.max(initial=0) + 1)  # grows by more than any number from run to run
    return np.where(rows > 0, np.maximum.accumulate(rows + run, 1) - run, 0)[:, way]


def boxes_from_maps(map: Floats, threshold: float, size: Sides) -> Floats:
    """The box of the largest part, in pixels of the photo."""
    [parts] = parts_above(map, [threshold])
    return np.asarray(parts[0] * corner(size))
