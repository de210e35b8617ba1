"""Boxes as the loop's task: the configuration, the targets, the loss and the validation (appendix A)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from verydeep.config import Config
from verydeep.data.batches import Cut, TargetOf
from verydeep.data.reading import workers_for
from verydeep.data.record import DataSet, Photos
from verydeep.errors import DataError
from verydeep.evaluate.passes import Settings, own_part
from verydeep.files.records import Share, Within
from verydeep.localise.boxes import Floats, area, boxes_of, boxes_said, clipped, in_crop, iou, said_as, share_inside
from verydeep.localise.measure import Locator
from verydeep.net.classifier import Classifier
from verydeep.ranks import Ranks
from verydeep.train.loop import Facts, Goal
from verydeep.train.prepare import Task
from verydeep.train.skipped import Skipped

RIGHT = 0.5  # the least intersection over union of a right box is above this
WORDS = "{train_error:.2f} % of boxes wrong in training, {val_error:.2f} % in validation (mean IoU {val_iou:.3f})"


@dataclass(frozen=True, kw_only=True)
class BoxConfig(Config):
    boxes: Literal["SCR", "PCR"] = "PCR"
    """One box for all classes, or one for each class (appendix A)."""
    box_loss: Literal["euclidean", "smooth-l1"] = "euclidean"
    """Half the squared distance to the true box, or that near it and the distance far from it (Girshick 2015)."""
    log_size: bool = False
    """Width and height as logarithms (Girshick 2014)."""
    least_seen: Share = 0.5
    """A box of which a crop shows less than this share is not asked for there; others are asked for whole (open)."""
    lr: Annotated[float, Within(0, above=True)] = 1e-3
    """Learning rate at the start (appendix A)."""


def box_task(config: BoxConfig) -> Task:
    return Task(partial(goal), {"task": config.boxes, "log_size": config.log_size}, with_boxes)


def with_boxes(data: DataSet) -> DataSet:
    """The photos that have a box in the photo. Raises DataError for a split without any."""
    splits, notes = dict(data.splits), list(data.notes)
    for name, photos in data.splits.items():
        ids = np.array([i for i in range(len(photos)) if photos.boxes.get(i)], np.int64)
        if not len(ids):
            raise DataError(
                f"{data.name}: none of the {len(photos)} photos of {name} has a box; expected a list with a column "
                "'box' of x0 y0 x1 y1 in pixels, or what a labelling tool exports (VOC XML, COCO, YOLO, ...)"
            )
        if len(ids) < len(photos):
            splits[name] = photos.take(ids, name)
            notes.append(f"{len(photos) - len(ids)} of the {len(photos)} photos of {name} have no box and are left out")
    return replace(data, splits=splits, notes=tuple(notes))


def targets_of(photos: Photos, classes: int, c: BoxConfig) -> TargetOf:
    """What a net is to say of a crop, float32 R x 5: its numbers for each of R = 1 or K boxes, and 1 where it is asked.

    Of several boxes of a class the one of which the crop shows most is asked for; SCR asks for one of the photo's own
    class, or if it has none, of any.
    """
    own, rows = photos.targets(), 1 if c.boxes == "SCR" else classes

    def target_of(id: int, cut: Cut) -> npt.NDArray[np.float32]:
        boxes, labels = boxes_of(photos, id)
        boxes = in_crop(clipped(boxes, cut.height, cut.width), cut.geometry, c.crop, cut.height, cut.width)
        seen, shown = share_inside(boxes), area(np.clip(boxes, 0, 1))
        asked = np.zeros((rows, 5), np.float32)
        if rows == 1:
            labels = np.where((labels == own[id]) | ~(labels == own[id]).any(), 0, -1)
        for label in set(labels.tolist()) - {-1}:
            best = max(np.flatnonzero(labels == label), key=lambda i: shown[i])
            if shown[best] > 0 and seen[best] >= c.least_seen:
                asked[label] = [*said_as(boxes[best], c.log_size), 1]
        return asked

    return target_of


def box_loss(outputs: Tensor, targets: Tensor, how: str, log_size: bool) -> tuple[Tensor, Tensor]:
    """(loss, wrong boxes in percent) summed over photos, of outputs N x 4 R and targets N x R x 5.

    Each box that is asked for adds half the squared Euclidean distance, or its smooth form; the error of a photo is
    that of its boxes on average.
    """
    said, asked = outputs.float().view(len(outputs), -1, 4), targets[..., 4]
    each = F.mse_loss if how == "euclidean" else F.smooth_l1_loss
    loss = (each(said, targets[..., :4], reduction="none").sum(-1) * asked).sum() * (0.5 if how == "euclidean" else 1)
    with torch.no_grad():
        found, true = (boxes_said(x, log_size).double().cpu().numpy() for x in (said, targets[..., :4]))
        wrong = torch.from_numpy(iou(found, true) <= RIGHT).to(asked.device) * asked
    return loss, 100 * (wrong.sum(1) / asked.sum(1).clamp(min=1)).sum()


def given_class(
    net: Classifier, photos: Photos, settings: Settings, progress: Callable[[int], None], skipped: Skipped, ranks: Ranks
) -> tuple[Floats, Floats]:
    """Test 1: of each photo, N, the IoU of the box in the centre crop with one of the photo's class; and N x 4, the
    largest of those, relative to the photo."""
    every = np.arange(len(net.contract.classes))
    locator, targets = Locator(net, [net], [()], [every, every], settings), photos.targets()
    workers, rows = workers_for(settings.workers, photos.in_memory), list[list[float]]()
    for id, seen in locator.looks(
        photos.open, own_part(photos, settings.batch, ranks), workers=workers, on_bad=skipped, progress=progress,
        dense=False,
    ):  # fmt: skip
        boxes, labels = boxes_of(photos, id)
        own = clipped(boxes[labels == targets[id]] if targets[id] in labels else boxes, *seen.size)
        height, width = seen.size
        largest = own[area(own).argmax()] / [width, height, width, height]
        rows.append([iou(own, seen.given_box(targets[id])).max(), *largest])
    for key, reason in chain(*ranks.gather(skipped.unlisted)):
        skipped.list(key, reason)
    skipped.unlisted.clear()
    found = np.array([row for part in ranks.gather(rows) for row in part]).reshape(-1, 5)
    return found[:, 0], found[:, 1:]


def goal(
    classifier: Classifier, photos: Photos, val: Photos, name: str, c: BoxConfig, settings: Settings,
    skipped: Skipped, ranks: Ranks,
) -> Goal:  # fmt: skip
    objective = partial(box_loss, how=c.box_loss, log_size=c.log_size)

    def validate(progress: Callable[[int], None]) -> tuple[float, Facts]:
        found, true = given_class(classifier, val, settings, progress, skipped, ranks)
        if not len(found):
            raise DataError(f"{name}: none of its {len(val)} validation photos could be read")
        error, mean = (100 * float((x <= RIGHT).mean()) for x in (found, iou(true, true.mean(0))))
        facts: Facts = {"val_iou": round(float(found.mean()), 4), "val_mean_box": round(mean, 4)}
        if error >= mean:
            facts["doubt"] = f"{error:.1f} % of boxes are wrong, and {mean:.1f} % of one box for all, the mean"
        return error, facts

    return Goal(targets_of(photos, len(classifier.contract.classes), c), objective, validate, WORDS)
