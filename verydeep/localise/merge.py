"""One answer from many boxes: greedy merging (Sermanet 2014, appendix A), or non-maximum suppression."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from verydeep.localise.boxes import Floats, iou

Score = Callable[[Floats, Floats], Floats]
MOST = 400  # boxes of one class in one photo; of more those with the best class scores: the work grows as the cube


def centre_distance(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.linalg.norm((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2, axis=-1))


def match(a: Floats, b: Floats) -> Floats:
    """Distance of the centres in mean diagonals, plus 1 - IoU: 0 for equal boxes, 1 or more for those apart."""
    one, other = (np.linalg.norm(box[..., 2:] - box[..., :2], axis=-1) for box in (a, b))
    return np.asarray(centre_distance(a, b) / np.maximum((one + other) / 2, 1e-9) + 1 - iou(a, b))


def match_literally(a: Floats, b: Floats) -> Floats:
    """Distance of the centres plus the area of the intersection, as OverFeat's text says: equal boxes match worst.

    Both in pixels of the photo, the area by its root, so that they can be added.
    """
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    return np.asarray(centre_distance(a, b) + np.sqrt(np.prod(np.maximum(high - low, 0), -1)))


class Merged(NamedTuple):
    """Boxes M x 4 after so many merges, their ratings M, and how well the next pair matches."""

    boxes: Floats
    ratings: Floats
    upcoming: float


def merging(boxes: Floats, ratings: Floats, score: Score = match) -> Iterator[Merged]:
    """Box by box: the pair with the least score becomes its average, rated with the sum of both, until one is left.

    Which pair is next does not depend on a threshold, so one walk answers for all of them.
    """
    best = np.argsort(-ratings, kind="stable")[:MOST]
    boxes, ratings, alive = boxes[best].copy(), ratings[best].copy(), np.ones(len(best), bool)
    scores = score(boxes[:, None], boxes[None])
    scores[np.tril_indices(len(boxes))] = np.inf
    while True:
        i, j = divmod(int(scores.argmin()), len(boxes))
        yield Merged(boxes[alive], ratings[alive], float(scores[i, j]))
        if scores[i, j] == np.inf:
            return
        boxes[i], ratings[i], alive[j] = (boxes[i] + boxes[j]) / 2, ratings[i] + ratings[j], False
        scores[j], scores[:, j] = np.inf, np.inf
        new = np.where(alive, score(boxes[i], boxes), np.inf)
        scores[i, i + 1 :], scores[:i, i] = new[i + 1 :], new[:i]


def suppressing(boxes: Floats, ratings: Floats) -> Iterator[Merged]:
    """Non-maximum suppression, of which one answer a class keeps but the best rated box."""
    best = [int(ratings.argmax())]
    yield Merged(boxes[best], ratings[best], np.inf)


def answers_at(states: Iterable[Merged], thresholds: Sequence[float]) -> list[tuple[Floats, float]]:
    """For each threshold, which rise, the best rated (box, rating) once no pair scores less."""
    found, walk = [], iter(states)
    state = next(walk)
    for threshold in thresholds:
        while state.upcoming <= threshold:
            state = next(walk)
        best = int(state.ratings.argmax())
        found.append((state.boxes[best], float(state.ratings[best])))
    return found


class Merge(NamedTuple):
    """A way of merging, the thresholds to choose from, and the one where no test has chosen."""

    walk: Callable[[Floats, Floats], Iterator[Merged]]
    thresholds: tuple[float, ...]
    usual: float


MERGES = {
    "greedy": Merge(merging, tuple(n / 10 for n in range(1, 16)), 0.5),
    "literal": Merge(partial(merging, score=match_literally), (2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0), 20.0),
    "nms": Merge(suppressing, (0.0,), 0.0),
}
