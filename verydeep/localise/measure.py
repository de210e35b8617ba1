"""Where nets say that things are, and how often they are right: tests 1 and 2 of appendix A, by one pass."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from verydeep.data.record import Photos
from verydeep.evaluate.passes import OnBad, Scorer, Settings, Shown, Told, passes, torch_scorer
from verydeep.evaluate.views import View
from verydeep.localise.boxes import Floats, area, boxes_of, clipped, iou
from verydeep.localise.merge import MERGES, answers_at
from verydeep.localise.places import boxes_at, scores_at
from verydeep.net.classifier import Classifier

TOP, RIGHT = 5, 0.5  # classes of an answer; the IoU of a right box is above this
KINDS = ("net", "mean box", "whole photo")  # what answers where; the same net always says what
COLUMNS = ("given", "dense", "top1", "top5")  # the class given: by the centre crop, by all places; not given


class Looked(NamedTuple):
    """What nets say of one photo: class posteriors K; by class the boxes of test 1, R x 4; and all boxes of test 2,
    B x R x 4, with the class posteriors at the places they come from, B x K. R is 1 where all classes share a box."""

    size: tuple[int, int]
    posteriors: Floats
    given: Floats
    boxes: Floats
    ratings: Floats

    def given_box(self, label: int) -> Floats:
        """The box of test 1 for a class, cut to the photo."""
        return clipped(self.given[label % len(self.given)], *self.size)


def picked(net: Classifier, columns: npt.NDArray[np.int64], settings: Settings) -> Scorer:
    """What a net says of some of its classes, in this order; of SCR's one box all."""
    score, task = torch_scorer(net, settings), net.contract.task
    if task == "SCR" or columns.tolist() == list(range(len(net.contract.classes))):
        return score
    each = 4 if task == "PCR" else 1
    rows = torch.from_numpy((each * columns[:, None] + np.arange(each)).ravel()).to(settings.device)
    return lambda photos: score(photos)[:, rows]


class Answer(NamedTuple):
    label: int
    rating: float  # summed class posteriors at the places that a box was merged from
    box: Floats


@dataclass(frozen=True, eq=False)
class Locator:
    """Box nets and the net that says what is there; without one there is one class.

    scales: of the dense boxes, by net; columns: where the classifier and each net have the classes of the first net.
    """

    classifier: Classifier | None
    nets: Sequence[Classifier]
    scales: Sequence[tuple[int, ...]]
    columns: Sequence[npt.NDArray[np.int64]]
    settings: Settings
    merge: str = "greedy"
    threshold: float = 0.5

    def looks(
        self, open_photo: Callable[[int], Image.Image], ids: Iterable[int], *, workers: int = 0,
        on_bad: OnBad | None = None, progress: Told = lambda n: None, dense: bool = True,
    ) -> Iterator[tuple[int, Looked]]:  # fmt: skip
        """(id, Looked) of photos in order; without `dense` test 1 alone."""
        sizes, shown = dict[int, tuple[int, int]](), list[Shown]()
        if dense and self.classifier:
            own = self.classifier.contract
            qs = sorted({own.test_scale} | {q for scales in self.scales for q in scales if q >= own.crop})
            score = picked(self.classifier, self.columns[0], self.settings)
            shown.append(Shown(score, own.crop, [View("dense", q) for q in qs], scores_at, 0, True))
        for i, (net, scales) in enumerate(zip(self.nets, self.scales, strict=True), 1):
            c, score = net.contract, picked(net, self.columns[i], self.settings)
            shown.append(Shown(score, c.crop, [View("centre", c.test_scale)], boxes_at(c), i))
            if dense:
                shown.append(Shown(score, c.crop, [View("dense", q) for q in scales], boxes_at(c), i, True))

        def opened(id: int) -> Image.Image:
            image = open_photo(id)
            sizes[id] = image.height, image.width
            return image

        for chunk, by_net in passes(
            shown, opened, ids, self.settings, workers=workers, on_bad=on_bad, progress=progress, batches=1
        ):
            for n, id in enumerate(chunk):
                parts = [[view[n] for view in by_view.values()] for by_view in by_net]
                classes = parts.pop(0) if dense and self.classifier else None
                yield id, looked(sizes.pop(id), classes, parts, dense)

    def pairs(self, seen: Looked, thresholds: Sequence[float]) -> list[list[Answer]]:
        """For each threshold the best box of each of the best classes, the best rated first."""
        best = np.argsort(-seen.posteriors, kind="stable")[:TOP].tolist()
        by_class = [self.boxes_for(seen, label, thresholds) for label in best]
        return [sorted(found, key=lambda a: -a.rating) for found in zip(*by_class, strict=True)]

    def boxes_for(self, seen: Looked, label: int, thresholds: Sequence[float]) -> list[Answer]:
        """For each threshold the best rated box of a class, cut to the photo."""
        boxes, ratings = seen.boxes[:, label % seen.boxes.shape[1]], seen.ratings[:, label]
        found = answers_at(MERGES[self.merge][0](boxes, ratings), thresholds)
        return [Answer(label, rating, clipped(box, *seen.size)) for box, rating in found]


def looked(
    size: tuple[int, int], views: list[list[torch.Tensor]] | None, parts: list[list[Any]], dense: bool
) -> Looked:
    """One photo: what the classifier says by view, then of each box net the centre crop and what it says by view."""
    if not dense:
        given, none = np.mean([given_of(p[0]) for p in parts], 0), np.zeros((0, 1))
        return Looked(size, none[:, 0], given, none[..., None], none)
    given = np.mean(np.broadcast_arrays(*(given_of(p[0]) for p in parts[::2])), 0)
    said = [rows.numpy() for p in parts[1::2] for view in p for rows in view]
    boxes = [rows[:, 4:].reshape(len(rows), -1, 4) for rows in said]
    most = max(b.shape[1] for b in boxes)  # where one net shares a box and another does not
    boxes = [np.broadcast_to(b, (len(b), most, 4)) for b in boxes]
    if views is None:
        return Looked(size, np.ones(1), given, np.concatenate(boxes), np.ones((sum(map(len, boxes)), 1)))
    classes = [rows.numpy() for view in views for rows in view]
    scores = np.concatenate([rows[:, 4:] for rows in classes])
    posteriors = np.mean([softmax(rows[:, 4:].mean(0)) for rows in classes], 0)
    places, own = (np.concatenate([rows[:, :4] for rows in some]) for some in (said, classes))
    at = iou(places[:, None], own[None]).argmax(1)
    return Looked(size, posteriors, given, np.concatenate(boxes), softmax(scores)[at])


def given_of(rows: torch.Tensor) -> Floats:
    return np.asarray(rows[0, 4:].reshape(-1, 4).numpy())


def softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


class Truth(NamedTuple):
    """The boxes of a photo, N x 4 in its pixels, their classes N, and the photo's own class."""

    boxes: Floats
    labels: npt.NDArray[np.int64]
    label: int

    @property
    def largest(self) -> Floats:
        """The largest box of the photo's own class, or if it has none, of all."""
        own = self.boxes[self.labels == self.label] if self.label in self.labels else self.boxes
        return np.asarray(own[area(own).argmax()])

    def best(self, label: int, box: Floats) -> float:
        """The greatest IoU with a true box of a class; 0 where there is none."""
        return float(iou(self.boxes[self.labels == label], box).max(initial=0))

    def rated(self, given: Floats, dense: Floats, pairs: Sequence[tuple[int, Floats]]) -> list[float]:
        """COLUMNS: IoU of the boxes for the photo's own class, of the first pair of class and box, the best of all."""
        found = [self.best(*pair) for pair in pairs]
        return [self.best(self.label, given), self.best(self.label, dense), found[0], max(found)]


def truth_of(photos: Photos, id: int, numbers: npt.NDArray[np.int64], label: int, size: tuple[int, int]) -> Truth:
    """By the net's numbers of the classes. Boxes are cut to the photo; those outside of it are left out."""
    boxes, labels = boxes_of(photos, id)
    boxes = clipped(boxes, *size)
    inside = area(boxes) > 0
    return Truth(boxes[inside], numbers[labels[inside]], int(numbers[label]))
