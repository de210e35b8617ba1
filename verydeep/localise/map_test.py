"""`localise evaluate` of a net of classes: the boxes of its class map against the true ones."""

from typing import Any

import numpy as np

import verydeep
from verydeep.data.reading import workers_for
from verydeep.data.record import Photos
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.sample import class_numbers
from verydeep.localise.boxes import iou, relative
from verydeep.localise.evaluate import samples
from verydeep.localise.maps import FINER, THRESHOLDS, class_maps, parts_above
from verydeep.localise.measure import truth_of
from verydeep.progress import Progress
from verydeep.weights import load

RIGHT_AT = (0.3, 0.5, 0.7)


def evaluate_maps(
    model: str, data: str, split: str | None = None, settings: Settings | None = None, *, scale: int | None = None,
    limit: int | None = None, download: bool = False, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The record of boxes from the dense class map of a classification net, its class given (MaxBoxAcc, MaxBoxAccV2).

    The threshold is chosen on the validation photos; beside it stands the best one, as the measure is defined.
    """
    settings, progress = settings or Settings(), progress or Progress()
    net = load(model)
    opened, tested, choosing = samples([model], [net], data, split, limit, download)
    numbers = class_numbers(opened.classes, data, net.contract.classes, model)
    parts = []
    for one in (choosing, tested):
        with progress.bar(len(one.photos), "class maps") as advance:
            told = lambda n, advance=advance: advance(n, "")  # noqa: E731
            parts.append(right_by_threshold(net, one.photos, numbers, settings, scale, told))
    chosen, (right, photos) = int(parts[0][0][1, 1].argmax()), parts[1]
    rates = 100 * right / max(photos, 1)
    return {
        **tested.about(), "model": model, "sha256": net.contract.sha256, "photos": photos, "chosen_on": choosing.split,
        "threshold": THRESHOLDS[chosen], "scale": scale or FINER * net.contract.test_scale,
        "right": {"largest": right[1, 1, chosen].item(), "any": right[0, :, chosen].tolist()},
        "max_box_acc": round(rates[1, 1].max().item(), 2), "max_box_acc_v2": round(rates[0].max(-1).mean().item(), 2),
        "max_box_acc_chosen": round(rates[1, 1, chosen].item(), 2), "version": verydeep.__version__,
    }  # fmt: skip


def right_by_threshold(
    net: Any, photos: Photos, numbers: Any, settings: Settings, scale: int | None, progress: Any
) -> tuple[Any, int]:
    """(photos whose box is right: any part or the largest x IoU 0.3, 0.5, 0.7 x THRESHOLDS, all photos)."""
    right, n, targets = np.zeros((2, 3, len(THRESHOLDS)), int), 0, photos.targets()
    workers = workers_for(settings.workers, photos.in_memory)
    for id, size, map_of in class_maps(
        net, photos.open, range(len(photos)), settings, scale, workers=workers, progress=progress
    ):
        truth = truth_of(photos, id, numbers, targets[id], size)
        if not len(truth.boxes):
            continue
        own, n = relative(truth.boxes[truth.labels == truth.label], size), n + 1
        for t, parts in enumerate(parts_above(map_of(truth.label), THRESHOLDS)):
            best = iou(parts[:, None], own[None]).max(1, initial=0)
            right[:, :, t] += [[x >= at for at in RIGHT_AT] for x in (best.max(), best[0])]
    return right, n
