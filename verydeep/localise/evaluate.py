"""`localise evaluate`: boxes and classes of a split against the true ones; what merging needs is chosen on validation."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

import verydeep
from verydeep.data.reading import workers_for
from verydeep.data.record import Photos
from verydeep.errors import DataError, ModelError, PhotoError
from verydeep.evaluate.classify import Entrant
from verydeep.evaluate.passes import Settings, own_part
from verydeep.evaluate.sample import Sample, class_numbers, photos_for
from verydeep.evaluate.views import Scales, scales_for
from verydeep.localise.boxes import Floats, relative
from verydeep.localise.measure import COLUMNS, KINDS, Locator, Truth, truth_of
from verydeep.localise.merge import MERGES
from verydeep.localise.task import RIGHT, with_boxes
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.weights import load_task

CURVE = tuple(np.linspace(0.3, 0.9, 13).round(2).tolist())  # IoU above which a box is right
MOST_TO_CHOOSE_ON = 2_000  # validation photos
SHOWN, FEW = 24, 8  # wrong boxes in a record, and true boxes of a photo


class Rates(NamedTuple):
    """What was measured, photo by photo: ids, IoU by kind of answer and column, and whether the class was right."""

    ids: list[int]
    iou: Floats  # N x KINDS x COLUMNS
    classes: Floats  # N x 2: the first, one of the first five
    pairs: list[Any]  # of each photo (class, probability, box, true boxes) of the first pair
    skipped: list[tuple[str, str]]


def evaluate_boxes(
    models: Sequence[str], data: str, classifier: str, scales: Scales = "single", merge: str = "greedy",
    split: str | None = None, settings: Settings | None = None, *, limit: int | None = None, download: bool = False,
    ranks: Ranks = ALONE, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The record of tests 1 and 2 of box nets whose boxes are put together, with the classes of one net (appendix A).

    The threshold of merging is chosen on the validation photos. Beside the nets' boxes stand two answers that need
    none, the mean box of the validation photos and the whole photo. Errors are counts of photos with no IoU above 0.5.
    Raises ConfigError, DataError, ModelError and PhotoError.
    """
    settings, progress = settings or Settings(), progress or Progress("auto" if ranks.first else "none")
    locator = locator_of(models, classifier, scales, merge, settings)
    names = locator.nets[0].contract.classes
    entrants = [Entrant(m, net.contract, net, {}) for m, net in zip(models, locator.nets, strict=True)]
    with ranks.first_alone():
        opened, sample = photos_for(entrants, data, split, limit, download)
    opened = with_boxes(opened)
    numbers = class_numbers(opened.classes, data, names, models[0])
    tested = Sample(data, sample.split, opened.split(sample.split), None).first(limit)
    chosen_on = "val" if "val" in opened.splits else tested.split
    choosing = Sample(data, chosen_on, opened.split(chosen_on), None).first(MOST_TO_CHOOSE_ON)
    looks = Looks(numbers, settings, ranks, progress)
    threshold, mean, errors = looks.choose(locator, choosing.photos)
    if chosen_on == tested.split and ranks.first:
        print(f"note: the threshold of merging is chosen on {chosen_on}, which is tested here too", file=sys.stderr)
    locator = replace(locator, threshold=threshold)
    found = looks.rates(locator, tested.photos, mean)
    if not len(found.ids):
        raise DataError(f"{data}: none of the {len(tested.photos)} photos of {tested.split} could be read")
    return {
        **tested.about(), "models": list(models), "classifier": classifier,
        "sha256": [net.contract.sha256 for net in locator.nets], "classifier_sha256": locator.classifier.contract.sha256,
        "task": [net.contract.task for net in locator.nets], "scales": [list(s) for s in locator.scales],
        "merge": merge, "threshold": threshold, "chosen_on": chosen_on, "chosen_photos": len(choosing.photos),
        "tried": errors, "mean_box": mean.tolist(), "classes": list(names), "photos_sha256": tested.fingerprint(),
        **counted(found), "worst": worst(found, tested.photos, names), "version": verydeep.__version__,
    }  # fmt: skip


def locator_of(models: Sequence[str], classifier: str, scales: Scales, merge: str, settings: Settings) -> Locator:
    """Box nets and the net that says what is there, classes numbered as the first does. Raises ModelError."""
    nets, what = [load_task(m, "boxes") for m in models], load_task(classifier, "classes")
    own = nets[0].contract.classes
    columns = [class_numbers(own, models[0], n.contract.classes, m)
               for m, n in zip((classifier, *models), (what, *nets), strict=True)]  # fmt: skip
    if len({n.contract.reading for n in (what, *nets)}) > 1:
        raise ModelError(f"{classifier} and {models[0]} read photos differently; train both with the same flags")
    return Locator(what, nets, [scales_for(n.contract, scales) for n in nets], columns, settings, merge)


def counted(found: Rates) -> dict[str, Any]:
    """Errors as counts: by kind of answer and column at IoU 0.5, along the curve, and of classes alone."""
    wrong = {kind: {c: int((found.iou[:, k, i] <= RIGHT).sum()) for i, c in enumerate(COLUMNS)}
             for k, kind in enumerate(KINDS)}  # fmt: skip
    curve = {c: [int((found.iou[:, 0, i] <= at).sum()) for at in CURVE] for i, c in enumerate(COLUMNS)}
    first, top = (int((column == 0).sum()) for column in found.classes.T)
    return {
        "photos": len(found.ids), "errors": wrong, "class_errors": {"top1": first, "top5": top},
        "curve": {"iou": list(CURVE), **curve}, "collapsed": wrong["net"]["given"] >= wrong["mean box"]["given"],
        "mean_iou": round(float(found.iou[:, 0, 0].mean()), 4),
        "skipped": [{"photo": p, "reason": r} for p, r in found.skipped],
        "rows": [{"id": i, "iou": r} for i, r in zip(found.ids, found.iou[:, 0].round(4).tolist(), strict=True)],
    }  # fmt: skip


def worst(found: Rates, photos: Photos, names: Sequence[str]) -> list[dict[str, Any]]:
    """The first pairs that are wrong, the surest class first."""
    wrong = [n for n in range(len(found.ids)) if found.iou[n, 0, COLUMNS.index("top1")] <= RIGHT]
    wrong.sort(key=lambda n: -found.pairs[n][1])
    rows = [(found.ids[n], *found.pairs[n]) for n in wrong[:SHOWN]]
    return [
        {"id": id, "photo": photos.keys[id], "class": names[label], "probability": p, "box": box,
         "truth": [{"class": names[c], "box": b} for c, b in own], "split": photos.split}
        for id, label, p, box, own in rows
    ]  # fmt: skip


class Looks(NamedTuple):
    """A look at many photos by several ranks. numbers: the net's of each class of the data."""

    numbers: Any
    settings: Settings
    ranks: Ranks
    progress: Progress

    def choose(self, locator: Locator, photos: Photos) -> tuple[float, Floats, dict[str, list[int]]]:
        """(the threshold with the fewest top-5, then top-1 errors, the mean box relative to the photo, the errors)."""
        grid = MERGES[locator.merge][1]
        rows = [
            [*relative(truth.largest, seen.size), *(x for answers in locator.pairs(seen, grid) for x in wrong(answers, truth))]
            for _, seen, truth in self.each(locator, photos, "choosing the threshold", [])
        ]
        every = np.array([row for part in self.ranks.gather(rows) for row in part]).reshape(-1, 4 + 2 * len(grid))
        if not len(every):
            raise DataError(f"none of the {len(photos)} photos of {photos.split} could be read")
        errors = every[:, 4:].sum(0).astype(int).reshape(-1, 2)
        best = min(range(len(grid)), key=lambda i: (*errors[i], i))
        tried = {"threshold": list(grid), "top5": errors[:, 0].tolist(), "top1": errors[:, 1].tolist()}
        return float(grid[best]), every[:, :4].mean(0), tried

    def rates(self, locator: Locator, photos: Photos, mean: Floats) -> Rates:
        rows, skipped = list[tuple[int, Any, Any]](), list[tuple[str, str]]()
        for id, seen, truth in self.each(locator, photos, "boxes", skipped):
            height, width = seen.size
            pairs = [(a.label, a.box) for a in locator.pairs(seen, [locator.threshold])[0]]
            [dense] = locator.boxes_for(seen, truth.label, [locator.threshold])
            given = seen.given_box(truth.label)
            fixed = mean * [width, height, width, height], np.array([0.0, 0, width, height])
            others = [truth.rated(box, box, [(c, box) for c, _ in pairs]) for box in fixed]
            right = [c in truth.labels for c in np.argsort(-seen.posteriors, kind="stable")[: len(pairs)]]
            label, box = pairs[0]
            own = [(int(c), b.round(1).tolist()) for c, b in zip(truth.labels[:FEW], truth.boxes[:FEW], strict=True)]
            first = label, round(float(seen.posteriors[label]), 4), box.round(1).tolist(), own
            ious = [truth.rated(given, dense.box, pairs), *others]
            rows.append((id, ious, [float(right[0]), float(any(right))], first))
        every = sorted(chain(*self.ranks.gather(rows)), key=lambda row: row[0])
        lost = [(p, r) for part in self.ranks.gather(skipped) for p, r in part]
        ids, ious, classes, firsts = zip(*every, strict=True) if every else ((), (), (), ())
        return Rates(list(ids), np.array(ious), np.array(classes), list(firsts), lost)

    def each(self, locator: Locator, photos: Photos, label: str, skipped: list[tuple[str, str]]) -> Any:
        """(id, Looked, Truth) of the rank's own photos."""

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


def wrong(answers: Sequence[Any], truth: Truth) -> tuple[bool, bool]:
    """Whether all pairs of class and box are wrong, and whether the first is."""
    found = [truth.best(a.label, a.box) <= RIGHT for a in answers]
    return all(found), found[0]
