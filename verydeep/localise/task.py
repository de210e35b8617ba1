"""Boxes as the loop's task: the targets, the loss and the validation (appendix A)."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from verydeep.box_config import BoxConfig
from verydeep.data.batches import Cut, TargetOf
from verydeep.data.reading import workers_for
from verydeep.data.record import DataSet, Photos
from verydeep.errors import ConfigError, DataError
from verydeep.evaluate.passes import Settings, own_part
from verydeep.evaluate.sample import class_numbers
from verydeep.hardware import device_for
from verydeep.localise.boxes import area, boxes_of, boxes_said, in_crop, iou, said_as
from verydeep.localise.locate import boxes_in_centre
from verydeep.localise.maps import FINER, boxes_from_maps, class_maps
from verydeep.localise.measure import RIGHT, truth_of
from verydeep.net.classifier import Classifier
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.train.loop import Facts, Goal
from verydeep.train.prepare import Task, run_training
from verydeep.train.skipped import Skipped
from verydeep.weights import check_task, load

UNIT = 10  # of the loss, in sides of a crop: tenths
WORDS = "{train_error:.2f} % of boxes wrong in training, {val_error:.2f} % in validation (mean IoU {val_iou:.3f})"


def train_boxes(
    data: str, config: BoxConfig, out: Path, download: bool = False, progress: Progress | None = None,
    ranks: Ranks = ALONE, one: bool = False,
) -> str:  # fmt: skip
    """Trains boxes on DATA into a run folder, or goes on where it stopped; returns why it ended. Raises as training.

    one: nothing else will say what is there, so that DATA may have one class only.
    """

    def photos_of(data: DataSet) -> DataSet:
        if one and len(data.classes) > 1:
            advice = "'verydeep train' makes a net that says which is there: add --classifier RUN"
            raise DataError(f"{data.name} has {len(data.classes)} classes; {advice}")
        return with_map_boxes(data, config) if config.boxes_from == "map" else with_boxes(data)

    digest = boxes_digest if config.boxes_from != "map" else lambda data: ""
    task = Task(goal, {"task": config.boxes, "log_size": config.log_size}, photos_of, 1, digest)
    return run_training(data, config, out, download, progress, ranks, task=task)


def boxes_digest(data: DataSet) -> str:
    """SHA-256 over all boxes; of built-in scenes, which compute theirs, none."""
    if any(photos.in_memory for photos in data.splits.values()):
        return ""
    digest = hashlib.sha256()
    for name, photos in sorted(data.splits.items()):
        digest.update(repr((name, [(id, photos.boxes[id]) for id in sorted(photos.boxes)])).encode())
    return digest.hexdigest()


def with_map_boxes(data: DataSet, config: BoxConfig) -> DataSet:
    """Photos for training and validation with the box of the start's class map for their class, whatever they had."""
    if not (start := config.init_from):
        raise ConfigError("boxes_from: a class map is a net's; 'verydeep localise train' takes --classifier or --from")
    net = load(start)
    check_task(start, net, "classes")
    numbers, splits = class_numbers(data.classes, data.name, net.contract.classes, start), dict(data.splits)
    settings = Settings(device=device_for(config.device).type, long_photos="middle")
    scale, on_bad = FINER * net.contract.test_scale, None if config.bad_photos == "stop" else lambda *bad: None
    for name in {"train", "val"} & splits.keys():
        photos, targets, boxes = splits[name], splits[name].targets(), {}
        how = {"workers": workers_for(config.workers, photos.in_memory), "on_bad": on_bad}
        for id, seen in class_maps(net, settings, scale, photos.open, range(len(photos)), **how):
            box = boxes_from_maps(seen.of(int(numbers[targets[id]])), config.map_threshold, seen.size.in_file)
            boxes[id] = ((tuple(box.tolist()), int(targets[id])),)
        splits[name] = replace(photos, boxes=boxes)
    note = f"boxes are those of the class map of {start}, at {config.map_threshold:g} of its height"
    return with_boxes(replace(data, splits=splits, notes=(*data.notes, note)))


def with_boxes(data: DataSet) -> DataSet:
    """The photos that have a box. Raises DataError for a split without any; a test split may have none."""
    splits, notes = dict(data.splits), list(data.notes)
    for name, photos in data.splits.items():
        ids, n = np.array([i for i in range(len(photos)) if photos.boxes.get(i)], np.int64), len(photos)
        if not len(ids) and name != "test":
            raise DataError(
                f"{data.name}: none of the {n} photos of {name} has a box; expected a list with a column 'box' of "
                "x0 y0 x1 y1 in pixels, or what a labelling tool exports (VOC XML, COCO, YOLO, ...)"
            )
        if len(ids) < n:
            splits[name] = photos.take(ids, name)
            notes.append(f"{n - len(ids)} of the {n} photos of {name} have no box and are left out")
    return replace(data, splits=splits, notes=tuple(notes))


def targets_of(photos: Photos, classes: int, c: BoxConfig) -> TargetOf:
    """What a net is to say of a crop, float32 R x 5: its numbers for each of R = 1 or K boxes, and 1 where it is asked.

    Of several boxes of a class the one of which the crop shows most is asked for, and only of the photo's own class if
    it has one and `box_classes` says so. To SCR all that is left is one class.
    """
    own, rows = photos.targets(), 1 if c.boxes == "SCR" else classes

    def target_of(id: int, cut: Cut) -> npt.NDArray[np.float32]:
        boxes, labels = boxes_of(photos, id, cut.size)
        boxes = in_crop(boxes, cut.geometry, c.crop, cut.size)
        shown, asked = area(np.clip(boxes, 0, 1)), np.zeros((rows, 5), np.float32)
        if c.box_classes == "own" and own[id] in labels:
            labels = np.where(labels == own[id], labels, -1)
        if rows == 1:
            labels = np.minimum(labels, 0)
        for label in set(labels.tolist()) - {-1}:
            best = max(np.flatnonzero(labels == label), key=lambda i: shown[i])
            if shown[best] > 0 and shown[best] / area(boxes[best]) >= c.least_seen:
                asked[label] = [*said_as(boxes[best], c.log_size), 1]
        return asked

    return target_of


def box_loss(outputs: Tensor, targets: Tensor, how: str, log_size: bool) -> tuple[Tensor, Tensor]:
    """(loss, wrong boxes in percent) summed over photos, of outputs N x 4 R and targets N x R x 5.

    Each box that is asked for adds half the squared Euclidean distance in tenths of the crop's side, in which the
    paper's rate fits, or its smooth form; the error of a photo is that of its boxes on average, and those of which no
    box is asked for have the mean error of the others that were given with them.
    """
    said, asked = outputs.float().view(targets[..., :4].shape), targets[..., 4]
    each = F.mse_loss if how == "euclidean" else F.smooth_l1_loss
    far = each(UNIT * said, UNIT * targets[..., :4], reduction="none").sum(-1)
    loss = (far * asked).sum() * (0.5 if how == "euclidean" else 1)
    with torch.no_grad():
        found, true = (boxes_said(x, log_size).double().cpu().numpy() for x in (said, targets[..., :4]))
        wrong = torch.from_numpy(iou(found, true) <= RIGHT).to(asked.device) * asked
    asking = (asked.sum(1) > 0).sum().clamp(min=1)
    return loss, 100 * (wrong.sum(1) / asked.sum(1).clamp(min=1)).sum() * len(asked) / asking


def goal(
    net: Classifier, photos: Photos, val: Photos, name: str, c: BoxConfig, settings: Settings, skipped: Skipped,
    ranks: Ranks,
) -> Goal:  # fmt: skip
    """Validation is test 1: the error is that of the centre crop's boxes, beside that of the mean of the true ones."""
    every, targets = np.arange(len(net.contract.classes)), val.targets()
    how = {"workers": workers_for(settings.workers, val.in_memory), "on_bad": skipped}

    def validate(progress: Callable[[int], None]) -> tuple[float, Facts]:
        own, rows = own_part(val, settings.batch, ranks), list[list[float]]()
        for id, size, boxes in boxes_in_centre(net, val.open, own, settings, progress=progress, **how):
            truth = truth_of(val, id, every, targets[id], size)
            if len(truth.boxes):
                rows.append([truth.best(truth.label, boxes[truth.label % len(boxes)]), *truth.largest])
        for key, reason in chain(*ranks.gather(skipped.unlisted)):
            skipped.list(key, reason)
        skipped.unlisted.clear()
        found = np.array([*chain(*ranks.gather(rows))]).reshape(-1, 5)
        if not len(found):
            raise DataError(f"{name}: none of its {len(val)} validation photos could be read")
        true = found[:, 1:]
        error, mean = (100 * float((x <= RIGHT).mean()) for x in (found[:, 0], iou(true, true.mean(0))))
        facts: Facts = {"val_iou": round(float(found[:, 0].mean()), 4), "val_mean_box": round(mean, 4)}
        if 0 < error >= mean:
            facts["doubt"] = f"{error:.1f} % of boxes are wrong, and {mean:.1f} % of one box for all, the mean"
        return error, facts

    objective = partial(box_loss, how=c.box_loss, log_size=c.log_size)
    none = np.zeros((0, 1 if c.boxes == "SCR" else len(every), 5), np.float32)
    return Goal(targets_of(photos, len(every), c), objective, validate, WORDS, no_targets=none)
