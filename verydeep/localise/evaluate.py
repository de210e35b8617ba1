"""`localise evaluate`: the boxes of a split against the true ones; what merging needs is chosen on validation."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import verydeep
from verydeep.data.record import DataSet, Photos
from verydeep.errors import DataError, ModelError
from verydeep.evaluate.classify import Entrant
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.sample import Sample, class_numbers, photos_for
from verydeep.evaluate.views import Scales, scales_for
from verydeep.localise.looks import Looks, Rated
from verydeep.localise.measure import COLUMNS, KINDS, RIGHT, Locator
from verydeep.localise.task import with_boxes
from verydeep.net.classifier import Classifier
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.weights import check_task, load

CURVE = tuple(n / 20 for n in range(6, 19))  # IoU above which a box is right, 0.3 to 0.9
MOST_TO_CHOOSE_ON = 2_000  # validation photos
THRESHOLD = 0.5  # of greedy merging, where no test has chosen one
SHOWN = 24  # wrong boxes in a record
WHAT = "add --classifier MODEL"


def evaluate_boxes(
    models: Sequence[str], data: str, classifier: str | None, scales: Scales = "single", merge: str = "greedy",
    split: str | None = None, settings: Settings | None = None, *, limit: int | None = None, download: bool = False,
    ranks: Ranks = ALONE, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The record of tests 1 and 2 of box nets, whose boxes are put together, with the classes of one net (appendix A).

    The threshold of merging is chosen on the validation photos. Beside the nets' boxes stand two answers that need
    none, the mean box of the validation photos and the whole photo. Errors are counts of photos with no IoU above 0.5.
    Raises ConfigError, DataError, ModelError and PhotoError.
    """
    settings, progress = settings or Settings(), progress or Progress("auto" if ranks.first else "none")
    nets = {model: load(model) for model in models}
    locator = locator_of(nets, (classifier, load(classifier)) if classifier else None, scales, merge, settings)
    names = locator.nets[0].contract.classes
    with ranks.first_alone():
        opened, tested, choosing = samples(models, locator.nets, data, split, limit, download)
    looks = Looks(class_numbers(opened.classes, data, names, models[0]), settings, ranks, progress)
    threshold, mean, tried = looks.choose(locator, choosing.photos)
    if choosing.split == tested.split and ranks.first:
        print(f"note: the threshold of merging is chosen on {tested.split}, which is tested here too", file=sys.stderr)
    found, skipped = looks.rates(replace(locator, threshold=threshold), tested.photos, mean)
    if not found:
        raise DataError(f"{data}: none of the {len(tested.photos)} photos of {tested.split} could be read")
    return {
        **tested.about(), "models": list(models), "sha256": [net.contract.sha256 for net in locator.nets],
        "classifier": classifier,
        "classifier_sha256": locator.classifier.contract.sha256 if locator.classifier else None,
        "task": [net.contract.task for net in locator.nets], "scales": [list(s) for s in locator.scales],
        "merge": merge, "threshold": threshold, "chosen_on": choosing.split, "chosen_photos": len(choosing.photos),
        "tried": tried, "mean_box": mean.tolist(), "classes": list(names), "photos_sha256": tested.fingerprint(),
        **error_counts(found), "worst": worst(found, tested.photos, names), "version": verydeep.__version__,
        "skipped": [{"photo": p, "reason": r} for p, r in skipped],
    }  # fmt: skip


def samples(
    models: Sequence[str], nets: Sequence[Classifier], data: str, split: str | None, limit: int | None, download: bool
) -> tuple[DataSet, Sample, Sample]:
    """(the photos with boxes, those that are tested, those on which thresholds are chosen: of val, if there is one)."""
    entrants = [Entrant(model, net.contract, net, {}) for model, net in zip(models, nets, strict=True)]
    opened, sample = photos_for(entrants, data, split, limit, download)
    opened = with_boxes(opened.read_as(sample.photos.reading))
    chosen = "val" if "val" in opened.splits else sample.split
    tested, choosing = (Sample(data, name, opened.split(name), None) for name in (sample.split, chosen))
    return opened, tested.first(limit), choosing.first(MOST_TO_CHOOSE_ON)


def locator_of(
    nets: Mapping[str, Classifier], classifier: tuple[str, Classifier] | None, scales: Scales, merge: str,
    settings: Settings, threshold: float = THRESHOLD,
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
    qs = [scales_for(one.contract, scales) for one in nets.values()]
    return Locator(classifier[1] if classifier else None, list(nets.values()), qs, columns, settings, merge, threshold)


def error_counts(found: Sequence[Rated]) -> dict[str, Any]:
    """Errors as counts: by kind of answer and column at IoU 0.5, along the curve, and of classes alone."""
    iou = np.array([r.iou for r in found])
    wrong = {kind: dict(zip(COLUMNS, n, strict=True))
             for kind, n in zip(KINDS, (iou <= RIGHT).sum(0).tolist(), strict=True)}  # fmt: skip
    curve = {column: [int((iou[:, 0, i] <= at).sum()) for at in CURVE] for i, column in enumerate(COLUMNS)}
    first, top = (sum(not r.right[i] for r in found) for i in (0, 1))
    return {
        "photos": len(found), "errors": wrong, "class_errors": {"top1": first, "top5": top},
        "curve": {"iou": list(CURVE), **curve}, "collapsed": wrong["net"]["given"] >= wrong["mean box"]["given"],
        "mean_iou": round(float(iou[:, 0, 0].mean()), 4),
        "rows": [{"id": r.id, "iou": [round(x, 4) for x in r.iou[0]]} for r in found],
    }  # fmt: skip


def worst(found: Sequence[Rated], photos: Photos, names: Sequence[str]) -> list[dict[str, Any]]:
    """The first pairs that are wrong, the surest class first."""
    wrong = [r for r in found if r.iou[0][COLUMNS.index("top1")] <= RIGHT]
    return [
        {"id": r.id, "photo": photos.keys[r.id], "class": names[r.label], "probability": r.probability, "box": r.box,
         "truth": [{"class": names[label], "box": box} for label, box in r.truth]}
        for r in sorted(wrong, key=lambda r: -r.probability)[:SHOWN]
    ]  # fmt: skip
