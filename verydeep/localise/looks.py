"""A look at many photos, each rank its own: the threshold of merging, and what is right photo by photo."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from verydeep.data.reading import workers_for
from verydeep.data.record import Photos
from verydeep.errors import DataError, PhotoError
from verydeep.evaluate.passes import Settings, own_part
from verydeep.localise.boxes import Floats, relative
from verydeep.localise.measure import RIGHT, Answer, Locator, Looked, Truth, truth_of
from verydeep.localise.merge import MERGES
from verydeep.progress import Progress
from verydeep.ranks import Ranks

FEW = 8  # true boxes of a photo that are kept for pictures


class Rated(NamedTuple):
    """One photo: IoU by kind of answer and column, whether the class is right, first and among the first; and the first
    pair of class and box, its probability, and the photo's true ones."""

    id: int
    iou: list[list[float]]
    right: list[bool]
    label: int
    probability: float
    box: list[float]
    truth: list[tuple[int, list[float]]]


class Looks(NamedTuple):
    """A look at many photos by several ranks. numbers: the net's of each class of the data."""

    numbers: npt.NDArray[np.int64]
    settings: Settings
    ranks: Ranks
    progress: Progress

    def choose(self, locator: Locator, photos: Photos) -> tuple[float, Floats, dict[str, list[float]]]:
        """(the threshold with the fewest top-5, then top-1 errors, the mean box relative to the photo, the errors)."""
        grid = MERGES[locator.merge][1]
        rows = [
            [*relative(truth.largest, seen.size), *chain(*(is_wrong(a, truth) for a in locator.pairs(seen, grid)))]
            for _, seen, truth in self.each(locator, photos, "choosing the threshold", [])
        ]
        every = np.array([row for part in self.ranks.gather(rows) for row in part])
        if not len(every):
            raise DataError(f"none of the {len(photos)} photos of {photos.split} could be read")
        errors = every[:, 4:].sum(0).astype(int).reshape(-1, 2).tolist()
        best = min(range(len(grid)), key=lambda i: (*errors[i], i))
        top5, top1 = map(list, zip(*errors, strict=True))
        return float(grid[best]), every[:, :4].mean(0), {"threshold": list(grid), "top5": top5, "top1": top1}

    def rates(self, locator: Locator, photos: Photos, mean: Floats) -> tuple[list[Rated], list[tuple[str, str]]]:
        """(what was measured, in the order of the ids; the photos that were skipped, and why)."""
        skipped = list[tuple[str, str]]()
        each = self.each(locator, photos, "boxes", skipped)
        rows = [rated(id, locator, seen, truth, mean) for id, seen, truth in each]
        found = sorted(Rated(*row) for part in self.ranks.gather(rows) for row in part)
        return found, [(p, r) for part in self.ranks.gather(skipped) for p, r in part]

    def each(
        self, locator: Locator, photos: Photos, label: str, skipped: list[tuple[str, str]]
    ) -> Iterator[tuple[int, Looked, Truth]]:
        """The rank's own photos that have a box inside of them."""

        def on_bad(id: int, e: PhotoError) -> None:
            if self.settings.bad_photos == "stop":
                raise PhotoError(photos.keys[id], f"{e.reason}; repair or remove it, or add --bad_photos skip")
            skipped.append((photos.keys[id], e.reason))

        workers, targets = workers_for(self.settings.workers, photos.in_memory), photos.targets()
        own = own_part(photos, self.settings.batch, self.ranks)
        with self.progress.bar(len(photos), label) as advance:
            tell = lambda n: advance(n * self.ranks.size, "")  # noqa: E731
            for id, seen in locator.looks(photos.open, own, workers=workers, on_bad=on_bad, progress=tell):
                truth = truth_of(photos, id, self.numbers, targets[id], seen.size)
                if len(truth.boxes):
                    yield id, seen, truth
                else:
                    skipped.append((photos.keys[id], "its boxes lie outside of it"))


def is_wrong(answers: Sequence[Answer], truth: Truth) -> tuple[bool, bool]:
    """Whether all pairs of class and box are wrong, and whether the first is."""
    found = [truth.best(a.label, a.box) <= RIGHT for a in answers]
    return all(found), found[0]


def rated(id: int, locator: Locator, seen: Looked, truth: Truth, mean: Floats) -> Rated:
    at = [locator.threshold]
    [pairs], [dense] = locator.pairs(seen, at), locator.boxes_for(seen, truth.label, at)
    height, width = seen.size
    fixed = mean * [width, height, width, height], np.array([0.0, 0.0, width, height])
    own = truth.rated(seen.given_box(truth.label), dense.box, [(a.label, a.box) for a in pairs])
    others = [truth.rated(box, box, [(a.label, box) for a in pairs]) for box in fixed]
    best = np.argsort(-seen.posteriors, kind="stable")[: len(pairs)].tolist()
    right = [best[0] in truth.labels, any(label in truth.labels for label in best)]
    label, box, boxes = pairs[0].label, pairs[0].box.round(1).tolist(), truth.boxes[:FEW].round(1).tolist()
    own_boxes = list(zip(truth.labels[:FEW].tolist(), boxes, strict=True))
    return Rated(id, [own, *others], right, label, round(float(seen.posteriors[label]), 4), box, own_boxes)
