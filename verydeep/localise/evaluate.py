"""`localise evaluate`: the boxes of a split against the true ones; what has to be chosen is chosen on validation."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import verydeep
from verydeep.data.record import Photos
from verydeep.evaluate.classify import Entrant
from verydeep.evaluate.passes import Settings, settled
from verydeep.evaluate.sample import Sample, class_numbers, photos_for
from verydeep.evaluate.views import Scales, scales_for
from verydeep.localise.boxes import iou, relative
from verydeep.localise.locate import classifier_of, locator_of
from verydeep.localise.maps import FINER, THRESHOLDS, ClassMap, class_maps, parts_above
from verydeep.localise.measure import RIGHT, BoxTest, Rated, Truth
from verydeep.localise.task import with_boxes
from verydeep.net.classifier import Classifier
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.weights import load

KINDS = ("net", "mean box", "whole photo")  # what answers where; the same net always says what
COLUMNS = ("given", "dense", "top1", "top5")  # the class given: by the centre crop, by all places; not given
CURVE = tuple(n / 20 for n in range(6, 19))  # IoU above which a box is right, 0.3 to 0.9
MAPS_RIGHT = (0.3, 0.5, 0.7)  # IoU from which on a class map's box is right
MOST_TO_CHOOSE_ON = 2_000  # validation photos
SHOWN = 24  # wrong boxes in a record


def evaluate_any(
    models: Sequence[str], data: str, classifier: str | None, scales: Scales, merge: str, split: str | None,
    settings: Settings, *, limit: int | None = None, download: bool = False, ranks: Ranks = ALONE,
) -> list[dict[str, Any]]:  # fmt: skip
    """The records of box nets, each alone and several together, and of nets of classes those of their class maps."""
    tasks, more = {model: load(model).contract.task for model in models}, (limit, download, ranks)
    boxes = [model for model in tasks if tasks[model] != "classes"]
    what = classifier_of(boxes[0], classifier) if boxes else None
    groups = [[m] for m in boxes] + [boxes] * (len(boxes) > 1)
    found = [evaluate_boxes(group, data, what, scales, merge, split, settings, *more) for group in groups]
    scale = scales[0] if isinstance(scales, tuple) else None
    maps = [model for model in tasks if tasks[model] == "classes"]
    return found + [evaluate_maps(model, data, split, settings, scale, *more) for model in maps]


def evaluate_boxes(
    models: Sequence[str], data: str, classifier: str | None, scales: Scales = "single", merge: str = "greedy",
    split: str | None = None, settings: Settings | None = None, limit: int | None = None, download: bool = False,
    ranks: Ranks = ALONE, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The record of tests 1 and 2 of box nets, whose boxes are put together, with the classes of one net (appendix A).

    The threshold of merging is chosen on the validation photos. Beside the nets' boxes stand two answers that need
    none, the mean box of the validation photos and the whole photo. Errors are counts of photos with no IoU above 0.5.
    Raises ConfigError, DataError, ModelError and PhotoError.
    """
    settings, nets = settings or Settings(), {model: load(model) for model in models}
    what = load(classifier) if classifier else None
    locator = locator_of(nets, (classifier, what) if classifier and what else None, scales, merge, settings)
    test, tested, choosing = box_test(nets, data, split, settings, limit, download, ranks, progress)
    threshold, mean, tried = test.choose(locator, choosing.photos)
    found, skipped = test.rates(replace(locator, threshold=threshold), tested.photos, mean)
    names, contracts = locator.nets[0].contract.classes, [net.contract for net in locator.nets]
    return {
        **tested.about(), "models": list(nets), "sha256": [c.sha256 for c in contracts], "classifier": classifier,
        "classifier_sha256": what.contract.sha256 if what else None, "task": [c.task for c in contracts],
        "scales": [list(s) for s in locator.scales], "merge": merge, "threshold": threshold,
        "engine": locator.settings.engine, "precision": settings.precision, "mirror": settings.mirrors("dense"),
        "chosen_on": choosing.split, "chosen_photos": len(choosing.photos), "tried": tried, "mean_box": mean.tolist(),
        "classes": list(names), "photos_sha256": tested.fingerprint(), **error_counts(found),
        "worst": worst(found, tested.photos, names), "version": verydeep.__version__, "skipped": skipped,
    }  # fmt: skip


def evaluate_maps(
    model: str, data: str, split: str | None = None, settings: Settings | None = None, scale: int | None = None,
    limit: int | None = None, download: bool = False, ranks: Ranks = ALONE, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The record of boxes from the dense class map of a classification net, its class given (MaxBoxAcc, MaxBoxAccV2).

    The threshold is chosen on the validation photos; beside it stands the best one, as the measure is defined.
    """
    net = load(model)
    settings = settled(settings or Settings(), [net])
    [scale] = scales_for(net.contract, (scale or FINER * net.contract.test_scale,))
    test, tested, choosing = box_test({model: net}, data, split, settings, limit, download, ranks, progress)

    def right(photos: Photos) -> tuple[Any, Any]:
        found, skipped = test.each(partial(class_maps, net, settings, scale), photos, "class maps", right_parts)
        return np.array(list(found.values())), skipped

    (chosen, _), (every, skipped) = right(choosing.photos), right(tested.photos)
    at, counts = int(chosen.sum(0)[1, 1].argmax()), every.sum(0)
    rates = 100 * counts / len(every)
    return {
        **tested.about(), "model": model, "sha256": net.contract.sha256, "photos": len(every),
        "engine": settings.engine, "precision": settings.precision, "mirror": settings.mirrors("dense"),
        "chosen_on": choosing.split, "threshold": THRESHOLDS[at], "scale": scale,
        "right": {"largest": counts[1, 1, at].item(), "any": counts[0, :, at].tolist()},
        "max_box_acc": round(rates[1, 1].max().item(), 2), "max_box_acc_v2": round(rates[0].max(-1).mean().item(), 2),
        "max_box_acc_chosen": round(rates[1, 1, at].item(), 2), "version": verydeep.__version__, "skipped": skipped,
    }  # fmt: skip


def box_test(
    nets: Mapping[str, Classifier], data: str, split: str | None, settings: Settings, limit: int | None,
    download: bool, ranks: Ranks, progress: Progress | None,
) -> tuple[BoxTest, Sample, Sample]:  # fmt: skip
    """(the test, the photos tested, those on which a threshold is chosen: of val, if there is one)."""
    first, known = next((model, net.contract.classes) for model, net in nets.items())
    with ranks.first_alone():
        entrants = [Entrant(model, net.contract, net, {}) for model, net in nets.items()]
        opened, sample = photos_for(entrants, data, split, limit, download)
        boxed = {s: p for s, p in opened.splits.items() if s == sample.split or (s != "train" and p.boxes)}
        if any(photos.boxes for photos in boxed.values()):  # otherwise it is said what was expected
            opened = replace(opened, splits=boxed)
        opened = with_boxes(opened.read_as(sample.photos.reading))
    chosen = "val" if "val" in opened.splits else sample.split
    name = sample.split if split or len(opened.split(sample.split)) else chosen  # a test split may have no boxes
    if chosen == name and ranks.first:
        print(f"note: the threshold is chosen on {name}, which is tested here too", file=sys.stderr)
    tested, choosing = (Sample(data, each, opened.split(each), None) for each in (name, chosen))
    progress = progress or Progress("auto" if ranks.first else "none")
    test = BoxTest(data, class_numbers(opened.classes, data, known, first), settings, ranks, progress)
    n = len(choosing.photos)  # which may stand class by class
    some = np.linspace(0, n - 1, min(n, MOST_TO_CHOOSE_ON)).astype(np.int64)
    return test, tested.first(limit), choosing._replace(photos=choosing.photos.take(some, chosen))


def error_counts(found: Mapping[int, Rated]) -> dict[str, Any]:
    """Errors as counts: by kind of answer and column at IoU 0.5, along the curve, and of classes alone."""
    iou, right = (np.array([getattr(r, name) for r in found.values()]) for name in ("iou", "right"))
    wrong = {kind: dict(zip(COLUMNS, n, strict=True))
             for kind, n in zip(KINDS, (iou <= RIGHT).sum(0).tolist(), strict=True)}  # fmt: skip
    given = {kind: n["given"] for kind, n in wrong.items()}
    curve = {column: [int((iou[:, 0, i] <= at).sum()) for at in CURVE] for i, column in enumerate(COLUMNS)}
    return {
        "photos": len(found), "errors": wrong,
        "class_errors": dict(zip(("top1", "top5"), (~right).sum(0).tolist(), strict=True)),
        "curve": {"iou": list(CURVE), **curve}, "collapsed": 0 < given["net"] >= given["mean box"],
        "mean_iou": round(float(iou[:, 0, 0].mean()), 4),
        "rows": [{"id": id, "iou": [round(x, 4) for x in r.iou[0]]} for id, r in found.items()],
    }  # fmt: skip


def worst(found: Mapping[int, Rated], photos: Photos, names: Sequence[str]) -> list[dict[str, Any]]:
    """The first pairs that are wrong, the surest class first."""
    wrong = [(id, r) for id, r in found.items() if r.iou[0][COLUMNS.index("top1")] <= RIGHT]
    return [
        {"id": id, "photo": photos.keys[id], "class": names[r.label], "probability": r.probability, "box": r.box,
         "truth": [{"class": names[label], "box": box} for label, box in r.truth]}
        for id, r in sorted(wrong, key=lambda row: -row[1].probability)[:SHOWN]
    ]  # fmt: skip


def right_parts(seen: ClassMap, truth: Truth) -> list[Any]:
    """Whether a class map's box is right: of any part or of the largest x MAPS_RIGHT x THRESHOLDS."""
    own, right = relative(truth.boxes[truth.labels == truth.label], truth.size), []
    for parts in parts_above(seen.of(truth.label), THRESHOLDS):
        best = iou(parts[:, None], own[None]).max(1, initial=0)
        right.append([[bool(x >= at) for at in MAPS_RIGHT] for x in (best.max(), best[0])])
    return np.moveaxis(np.array(right), 0, -1).tolist()  # type: ignore[no-any-return]
