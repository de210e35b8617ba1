"""What a training says before its first step: the data, the signal's way through the net, the traps, the time."""

import numpy as np
import torch
from torch import Tensor

from verydeep.config import Config
from verydeep.data.batches import Batches
from verydeep.data.record import DataSet
from verydeep.data.said import data_lines
from verydeep.data.statistics import Statistics
from verydeep.errors import DataError
from verydeep.net.classifier import Classifier
from verydeep.net.initialise import gain_table, gain_warning, gains
from verydeep.paper import BATCH, LEARNING_RATE
from verydeep.run import Run
from verydeep.train.cost import SAMPLE_PIXELS, seconds_a_photo
from verydeep.train.loop import Job
from verydeep.words import duration, several

HOUR = 3600


def say_data(run: Run, data: DataSet) -> None:
    """Raises DataError for a label out of range, a class without a training photo, and where nothing validates."""
    counts = ", ".join(f"{len(p)} {s}" for s, p in data.splits.items())
    how = " (held out by class, kept in split.csv)" if data.held_out else ""
    run.say(f"data: {data.name}, {several(len(data.classes), 'classes')}, photos: {counts}{how}")
    for line in data_lines(data):
        run.say(line)
    for photos in (data.split("train"), data.split("val")):
        targets = photos.targets()
        if len(strange := np.flatnonzero((targets < 0) | (targets >= len(data.classes)))):
            key, label = photos.keys[int(strange[0])], targets[strange[0]]
            raise DataError(f"{data.name}: {key} has the label {label}, outside 0 to {len(data.classes) - 1}")
    present = set(data.split("train").targets().tolist())
    if empty := [c for i, c in enumerate(data.classes) if i not in present]:
        raise DataError(f"{data.name}: the class {empty[0]!r} has no training photo; add some or remove the class")
    if not len(data.split("val")):
        raise DataError(
            f"{data.name} has no validation photos, which steer the rate; add some or remove the empty val split"
        )


def say_start(job: Job, statistics: Statistics) -> None:
    """The gain table, the literature's traps, and how long it will take."""
    c, run, net = job.config, job.run, job.classifier.net
    n = sum(p.numel() for p in net.parameters())
    where = f"on {job.device.type}{' in bf16' if job.bf16 else ''}"
    run.say(f"net {c.net}: {n:,} parameters, crop {c.crop}, S = {c.scale_text}, {where}")
    measured = f"over {several(statistics.photos, 'photos')}" if not c.init_from else "of the net it starts from"
    run.say(f"mean RGB {', '.join(f'{v:.2f}' for v in job.classifier.contract.mean)} {measured}")
    if net.frozen:
        trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
        run.say(f"frozen up to {c.freeze}: {trained:,} of {n:,} parameters are trained")
    x, targets = first_crops(job.batches, job.classifier, job.device)
    rows = gains(net, x)
    run.note("gains", gain_table(rows))
    for warning in filter(None, (gain_warning(rows, net.classes, c.init), rate_warning(c))):
        run.note("warning", warning)
    seconds = seconds_a_photo(net, x, targets, job.goal.objective, job.bf16) * job.batches.shown * c.epochs
    epochs = several(c.epochs, "epochs")
    run.say(f"estimated time: {duration(seconds)} for {epochs}, less if the validation error stalls early")
    if seconds > HOUR:
        run.say("that is over an hour; --recipe small trains net A on 64-pixel crops, --recipe demo on 32-pixel ones")


def first_crops(batches: Batches, classifier: Classifier, device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised crops and targets of the first photos of the first epoch, for a look at the net."""
    first = next(batch for batch in batches.epoch(0) if len(batch.targets))
    some = slice(max(8, SAMPLE_PIXELS // batches.config.crop**2))
    return classifier.normalise(first.photos[some].to(device)), first.targets[some].to(device)


def rate_warning(c: Config) -> str | None:
    """The paper's rate belongs to its batch of 256: rates go with the batch (Krizhevsky 2014), give or take four.

    A net that starts from another may be fine-tuned at a tenth of it (section 3.1).
    """
    if c.schedule != "drops":
        return None
    fitting = LEARNING_RATE * c.batch / BATCH
    if fitting / (40 if c.init_from else 4) <= c.lr <= fitting * 4:
        return None
    paper = f"{LEARNING_RATE:g} * {c.batch} / {BATCH} = {fitting:.2g}"
    return f"lr {c.lr:g} is far from the paper's rate for a batch of {c.batch} ({paper}); try --lr {fitting:.2g}"
