"""Where nets say that things are: the centre crop's boxes (test 1 of appendix A), and those of all places (test 2)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from verydeep.data.photo import PixelSize
from verydeep.engines import Scorer
from verydeep.errors import ModelError
from verydeep.evaluate.passes import Settings, Shown, scorer_of, settled
from verydeep.evaluate.sample import class_numbers, folder_of
from verydeep.evaluate.views import Scales, View, scales_for
from verydeep.files.disk import read_sealed
from verydeep.localise.boxes import Floats, boxes_at, boxes_in, clipped, iou, photo_by_photo, scores_at
from verydeep.localise.merge import MERGES, answers_at
from verydeep.net.classifier import Classifier
from verydeep.weights import check_task, load

TOP = 5  # classes of an answer
WHAT = "add --classifier MODEL"
AT_ONCE = 256  # places that are compared with all those of the classifier


class Looked(NamedTuple):
    """What nets say of one photo: class posteriors K; by class the boxes of test 1, R x 4; and all boxes of test 2,
    B x R x 4, with the class posteriors at the places they come from, B x K. R is 1 where all classes share a box."""

    size: PixelSize
    posteriors: Floats
    given: Floats
    boxes: Floats
    ratings: Floats

    def given_box(self, label: int) -> Floats:
        """The box of test 1 for a class, cut to the photo."""
        return clipped(self.given[label % len(self.given)], self.size)

    def best(self, most: int = TOP) -> list[int]:
        """The most probable classes of the photo."""
        return np.argsort(-self.posteriors, kind="stable")[:most].tolist()  # type: ignore[no-any-return]


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
    threshold: float = MERGES["greedy"].usual

    def looks(
        self, open_photo: Callable[[int], Image.Image], ids: Iterable[int], **how: Any
    ) -> Iterator[tuple[int, Looked]]:
        """(id, Looked) of photos in order; how: as `passes` is told."""
        shown = list[Shown]()
        if self.classifier:
            own = self.classifier.contract
            qs = sorted({own.test_scale} | {q for scales in self.scales for q in scales if q >= own.crop})
            score = picked(self.classifier, self.columns[0], self.settings)
            shown.append(Shown(score, own.crop, [View("dense", q) for q in qs], scores_at, 0, True))
        for i, (net, scales) in enumerate(zip(self.nets, self.scales, strict=True), 1):
            c, score = net.contract, picked(net, self.columns[i], self.settings)
            dense = Shown(score, c.crop, [View("dense", q) for q in scales], boxes_at(c), i, True)
            shown += [centre_view(net, score), dense]
        for id, size, parts in photo_by_photo(shown, open_photo, ids, self.settings, batches=1, **how):
            classes = parts.pop(0) if self.classifier else None
            yield id, looked(size, classes, [view for [view] in parts[::2]], parts[1::2])

    def pairs(self, seen: Looked, thresholds: Sequence[float], most: int = TOP) -> list[list[Answer]]:
        """For each threshold the best box of each of the best classes, the best rated first."""
        by_class = [self.boxes_for(seen, label, thresholds) for label in seen.best(most)]
        return [sorted(found, key=lambda a: -a.rating) for found in zip(*by_class, strict=True)]

    def boxes_for(self, seen: Looked, label: int, thresholds: Sequence[float]) -> list[Answer]:
        """For each threshold the best rated box of a class, cut to the photo."""
        boxes, ratings = seen.boxes[:, label % seen.boxes.shape[1]], seen.ratings[:, label]
        found = answers_at(MERGES[self.merge].walk(boxes, ratings), thresholds)
        return [Answer(label, rating, clipped(box, seen.size)) for box, rating in found]


def centre_view(net: Classifier, score: Scorer) -> Shown:
    c = net.contract
    return Shown(score, c.crop, [View("centre", c.test_scale)], boxes_at(c))


def boxes_in_centre(
    net: Classifier, open_photo: Callable[[int], Image.Image], ids: Iterable[int], settings: Settings, **how: Any
) -> Iterator[tuple[int, PixelSize, Floats]]:
    """Test 1 alone: (id, size, boxes R x 4) of photos in order."""
    shown = [centre_view(net, scorer_of(net, settings))]
    for id, size, [[rows]] in photo_by_photo(shown, open_photo, ids, settings, batches=1, **how):
        yield id, size, clipped(boxes_in(rows)[0], size)


def picked(net: Classifier, columns: npt.NDArray[np.int64], settings: Settings) -> Scorer:
    """What a net says of some of its classes, in this order; of SCR's one box all."""
    score, task = scorer_of(net, settings), net.contract.task
    if task == "SCR" or columns.tolist() == list(range(len(net.contract.classes))):
        return score
    each = 4 if task == "PCR" else 1
    rows = torch.from_numpy((each * columns[:, None] + np.arange(each)).ravel()).to(settings.device)
    return lambda photos: score(photos)[:, rows]


def looked(
    size: PixelSize, classes: list[list[torch.Tensor]] | None, centres: list[torch.Tensor],
    dense: list[list[list[torch.Tensor]]],
) -> Looked:  # fmt: skip
    """One photo: what the classifier says by view, each box net of the centre crop, and each by view."""
    given = np.mean(np.broadcast_arrays(*(boxes_in(rows)[0] for rows in centres)), 0)
    said = [rows for views in dense for view in views for rows in view]
    most = max(boxes_in(rows).shape[1] for rows in said)  # where one net shares a box and another does not
    boxes = np.concatenate([np.broadcast_to(boxes_in(rows), (len(rows), most, 4)) for rows in said])
    if classes is None:
        return Looked(size, np.ones(1), given, boxes, np.ones((len(boxes), 1)))
    ways = [rows.numpy() for view in classes for rows in view]
    places, own = np.concatenate([rows[:, :4].numpy() for rows in said]), np.concatenate(ways)
    posteriors = np.mean([softmax(rows[:, 4:].mean(0)) for rows in ways], 0)
    some = np.array_split(places, len(places) // AT_ONCE + 1)  # of a large map all pairs would take gigabytes
    at = np.concatenate([iou(part[:, None], own[None, :, :4]).argmax(1) for part in some])
    return Looked(size, posteriors, given, boxes, softmax(own[:, 4:])[at])


def softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def locator_of(
    nets: Mapping[str, Classifier], classifier: tuple[str, Classifier] | None, scales: Scales, merge: str,
    settings: Settings, threshold: float | None = None,
) -> Locator:  # fmt: skip
    """Box nets and the net that says what is there, by name, classes numbered as the first does. Raises ModelError."""
    (first, net), *_ = nets.items()
    columns = []
    if classifier:
        check_task(*classifier, "classes")
    elif len(net.contract.classes) > 1:
        raise ModelError(f"{first} knows {len(net.contract.classes)} classes, so a net must say which; {WHAT}")
    for i, (name, one) in enumerate((classifier or (first, net), *nets.items())):
        if i:
            check_task(name, one, "boxes")
        if one.contract.reading != net.contract.reading:
            raise ModelError(f"{name} and {first} read photos differently; train both with the same flags")
        columns.append(class_numbers(net.contract.classes, first, one.contract.classes, name))
    if classifier and scales == "several" and len(set(classifier[1].contract.scales)) > 1:
        scales = scales_for(classifier[1].contract, scales)  # it rates best at scales that it knows
    qs = [scales_for(one.contract, scales) for one in nets.values()]
    threshold = MERGES[merge].usual if threshold is None else threshold
    what, where = classifier[1] if classifier else None, list(nets.values())
    settings = settled(settings, [*where, what] if what else where)
    return Locator(what, where, qs, columns, settings, merge, threshold)


def classifier_of(model: str, given: str | None) -> str | None:
    """The net that says what is there: the one given, or the one that a box run was started from; none for one class.
    Raises ModelError."""
    net, run = load(model), folder_of(model)
    check_task(model, net, "boxes")
    if given or len(net.contract.classes) == 1:
        return given
    start = read_sealed(run / "run.json").get("started_from") if run else None
    if not start:
        raise ModelError(f"{model} does not say which net says what is there; {WHAT}")
    if load(path := str(start["path"])).contract.sha256 != start["sha256"]:
        raise ModelError(f"{path} is no longer the net that {model} was started from; {WHAT}")
    return path
