"""What nets say beside the true boxes, photo by photo, each rank its own photos; and what merging needs to know."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from verydeep.data.photo import PixelSize
from verydeep.data.reading import workers_for
from verydeep.data.record import Photos
from verydeep.errors import DataError, PhotoError
from verydeep.evaluate.passes import Settings, own_part
from verydeep.localise.boxes import Floats, area, boxes_of, corner, iou, relative
from verydeep.localise.locate import Answer, Locator, Looked
from verydeep.localise.merge import MERGES
from verydeep.progress import Progress
from verydeep.ranks import Ranks

RIGHT = 0.5  # the IoU of a right box is above this
FEW = 8  # true boxes of a photo that are kept for pictures


class Truth(NamedTuple):
    """The boxes of a photo, N x 4 in its pixels, their classes N, the photo's own class, its height and width."""

    boxes: Floats
    labels: npt.NDArray[np.int64]
    label: int
    size: PixelSize

    @property
    def largest(self) -> Floats:
        """The largest box of the photo's own class, or if it has none, of all; relative to the photo."""
        own = self.boxes[self.labels == self.label] if self.label in self.labels else self.boxes
        return relative(own[area(own).argmax()], self.size)

    def best(self, label: int, box: Floats) -> float:
        """The greatest IoU with a true box of a class; 0 where there is none."""
        return float(iou(self.boxes[self.labels == label], box).max(initial=0))


def truth_of(photos: Photos, id: int, numbers: npt.NDArray[np.int64], label: int, size: PixelSize) -> Truth:
    """By the net's numbers of the classes, without the boxes that lie outside of the photo."""
    boxes, labels = boxes_of(photos, id, size)
    inside = area(boxes) > 0
    return Truth(boxes[inside], numbers[labels[inside]], int(numbers[label]), size)


class Rated(NamedTuple):
    """One photo: IoU by kind of answer and column, whether the class is right, first and among the first; and the first
    pair of class and box, its probability, and the photo's true ones."""

    iou: list[list[float]]
    right: list[bool]
    label: int
    probability: float
    box: list[float]
    truth: list[tuple[int, list[float]]]


class BoxTest(NamedTuple):
    """How photos of DATA are gone through. numbers: the net's of each class of DATA."""

    data: str
    numbers: npt.NDArray[np.int64]
    settings: Settings
    ranks: Ranks
    progress: Progress

    def each(
        self, looks: Callable[..., Iterator[tuple[int, Any]]], photos: Photos, label: str,
        measure: Callable[[Any, Truth], Any],
    ) -> tuple[dict[int, Any], list[dict[str, str]]]:  # fmt: skip
        """(by id, rising, what is measured of each photo that has a box inside; the photos skipped, and why).

        looks: of opened photos and ids, what is seen of each, with its size. Raises DataError where none is left.
        """
        rows, skipped = list[tuple[int, Any]](), list[dict[str, str]]()

        def skip(id: int, reason: str) -> None:
            skipped.append({"photo": photos.keys[id], "reason": reason})

        def on_bad(id: int, e: PhotoError) -> None:
            if self.settings.bad_photos == "stop":
                raise PhotoError(photos.keys[id], f"{e.reason}; repair or remove it, or add --bad_photos skip")
            skip(id, e.reason)

        workers, targets = workers_for(self.settings.workers, photos.in_memory), photos.targets()
        own = own_part(photos, self.settings.batch, self.ranks)
        with self.progress.bar(len(photos), label) as advance:
            tell = lambda n: advance(n * self.ranks.size, "")  # noqa: E731
            for id, seen in looks(photos.open, own, workers=workers, on_bad=on_bad, progress=tell):
                truth = truth_of(photos, id, self.numbers, targets[id], seen.size)
                if len(truth.boxes):
                    rows.append((id, measure(seen, truth)))
                else:
                    skip(id, "its boxes lie outside of it")
        found = sorted(chain(*self.ranks.gather(rows)), key=lambda row: row[0])
        if not found:
            reason = "could be read" if len(photos) else "has a box"
            raise DataError(f"{self.data}: none of the {len(photos)} photos of {photos.split} {reason}")
        return dict(found), list(chain(*self.ranks.gather(skipped)))

    def choose(self, locator: Locator, photos: Photos) -> tuple[float, Floats, dict[str, list[float]]]:
        """(the threshold with the fewest top-5, then top-1 errors, the mean box relative to the photo, the errors)."""
        grid = MERGES[locator.merge].thresholds

        def measure(seen: Looked, truth: Truth) -> list[float]:
            wrong = ([truth.best(a.label, a.box) <= RIGHT for a in answers] for answers in locator.pairs(seen, grid))
            return [*truth.largest, *chain(*((all(way), way[0]) for way in wrong))]

        found, _ = self.each(locator.looks, photos, "choosing the threshold", measure)
        every = np.array(list(found.values()), np.float64)
        errors = every[:, 4:].sum(0).astype(int).reshape(-1, 2).tolist()
        best = min(range(len(grid)), key=lambda i: (*errors[i], i))
        top5, top1 = map(list, zip(*errors, strict=True))
        return grid[best], every[:, :4].mean(0), {"threshold": list(grid), "top5": top5, "top1": top1}

    def rates(self, locator: Locator, photos: Photos, mean: Floats) -> tuple[dict[int, Rated], list[dict[str, str]]]:
        found, skipped = self.each(locator.looks, photos, "boxes", lambda *seen: rated(locator, mean, *seen))
        return {id: Rated(*row) for id, row in found.items()}, skipped


def rated(locator: Locator, mean: Floats, seen: Looked, truth: Truth) -> Rated:
    at, whole = [locator.threshold], corner(seen.size)
    [pairs], [dense] = locator.pairs(seen, at), locator.boxes_for(seen, truth.label, at)
    found = [columns(truth, seen.given_box(truth.label), dense.box, pairs)]
    for box in (mean * whole, whole * [0, 0, 1, 1]):
        found.append(columns(truth, box, box, [a._replace(box=box) for a in pairs]))
    right = [label in truth.labels for label in seen.best()]
    label, box, boxes = pairs[0].label, pairs[0].box.round(1).tolist(), truth.boxes[:FEW].round(1).tolist()
    own = list(zip(truth.labels[:FEW].tolist(), boxes, strict=True))
    return Rated(found, [right[0], any(right)], label, round(float(seen.posteriors[label]), 4), box, own)


def columns(truth: Truth, given: Floats, dense: Floats, pairs: Sequence[Answer]) -> list[float]:
    """IoU of the boxes for the photo's own class, of the first pair of class and box, the best of all pairs."""
    found = [truth.best(a.label, a.box) for a in pairs]
    return [truth.best(truth.label, given), truth.best(truth.label, dense), found[0], max(found)]
