"""From a configuration and photos to a job: split, statistics, net, start, warnings, estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from verydeep.config import Config
from verydeep.data.batches import Batches
from verydeep.data.manifest import write_split
from verydeep.data.reading import Room, kept
from verydeep.data.record import DataSet
from verydeep.data.source import location, open_data
from verydeep.data.split import fewer
from verydeep.data.statistics import Statistics
from verydeep.errors import DataError, NonFiniteLoss, RankError, RunError
from verydeep.evaluate.evaluation import Settings, count
from verydeep.evaluate.scores import Scores
from verydeep.files.disk import read_sealed, write_atomically, write_sealed
from verydeep.hardware import device_for, fast_allocation, free_memory, machine, multiplies_bf16, out_of_memory
from verydeep.net.initialise import gain_table, gain_warning, gains
from verydeep.net.vgg import VGG
from verydeep.paper import BATCH, LEARNING_RATE
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.run import Run, has_state, open_run
from verydeep.train import state
from verydeep.train.cost import seconds_a_photo
from verydeep.train.loop import Job, cross_entropy, train
from verydeep.train.skipped import Skipped
from verydeep.train.start import begin, first_weights, inherited, start_of, statistics_of
from verydeep.train.track import tracker
from verydeep.words import duration, several

HOUR = 3600
SAMPLE_PIXELS = (
    256 * 32 * 32
)  # for the gain table and the estimate: enough to run at full speed, little enough to be quick


def run_training(
    data: str, config: Config, out: Path, download: bool = False, progress: Progress | None = None, ranks: Ranks = ALONE,
    split: Path | None = None,
) -> str:  # fmt: skip
    """Trains DATA into the run folder `out`, or goes on where it stopped; returns why it ended.

    Several ranks share each batch; the first writes into the folder, which all of them must see. `split` is the manifest of a
    split that was drawn for several runs.

    Raises ConfigError, DataError, RunError, NonFiniteLoss, and Interrupted after a signal, with the state saved.
    """
    progress = progress or Progress()
    if config.freeze:  # before there is a folder
        VGG(config.net, batch_norm=config.batch_norm, device="meta").freeze(config.freeze)
    with ranks.first_alone():  # which may fetch the data
        drawn = kept_split(out, data) or split
        opened = open_data(data, (config.val_share, config.test_share), config.seed, download, drawn)
        opened = fewer(replace(opened, held_out=opened.held_out or drawn is not None), config.most_photos)
    with open_run(out, config, ranks) as run:
        with ranks.first_alone():
            remember(run, opened, location(data), ranks)
        if ended := finished_at(out):
            run.say(f"{out} is finished: {ended}")
            return ended
        job = prepare(run, opened, config, progress, ranks)
        try:
            run.say(ended := train(job))
        except NonFiniteLoss as e:
            good = f"the last good state is kept in {out / 'last'}" if has_state(out) else "nothing was saved yet"
            lower = min(config.lr / 10, LEARNING_RATE * config.batch / BATCH)
            other = "" if config.init == "glorot" else ", or --init glorot"
            raise NonFiniteLoss(f"{e}; {good}; start again with another --out and --lr {lower:.2g}{other}") from e
        except (MemoryError, RuntimeError) as e:
            if not out_of_memory(e):
                if ranks.size > 1:  # torch's words for a rank that has gone, while gradients are averaged
                    raise RankError(
                        f"rank {ranks.rank} of {ranks.size} cannot go on ({e}); the rank that stopped first says why"
                    ) from e
                raise
            parts = 2 * config.accumulate
            raise RunError(
                f"the memory does not hold {several(config.batch, 'photos')} at once; "
                f"start again with --accumulate {parts}, or a smaller net"
            ) from e
        finally:
            job.tracker.close()
    return ended


def kept_split(out: Path, data: str) -> Path | None:
    """The split that a run drew from DATA, if it did. Raises RunError if the run has other data."""
    if not has_state(out) or not (out / "run.json").exists():
        return None
    if (old := read_sealed(out / "run.json").get("location")) != location(data):
        raise RunError(f"{out} was begun on {old}, not on {location(data)}; give another --out")
    return out / "split.csv" if (out / "split.csv").exists() else None


def remember(run: Run, data: DataSet, where: str, ranks: Ranks = ALONE) -> None:
    """Writes what the run was trained on and with, or checks that it is still the same."""
    if not run.writes:
        return
    file = run.path / "run.json"
    made_with = machine() | {"ranks": ranks.size}
    found = {
        "data": data.name, "location": where, "fingerprint": data.fingerprint(),
        "photos": {s: len(p) for s, p in data.splits.items()}, "classes": list(data.classes), "made_with": made_with,
    }  # fmt: skip
    if not has_state(run.path):
        for earlier in ("split.csv", "statistics.json", "skipped.csv", "metrics.jsonl"):
            (run.path / earlier).unlink(missing_ok=True)
        if data.held_out:
            write_atomically(run.path / "split.csv", partial(write_split, data))
        write_sealed(file, found)
        return
    old = read_sealed(file)
    warn_of_other_machine(run, old.get("made_with", {}), made_with)
    if old.get("fingerprint") != found["fingerprint"]:
        raise RunError(
            f"{run.path} was begun with other photos ({old.get('photos')} then, {found['photos']} now); restore them, or give another --out"
        )


def warn_of_other_machine(run: Run, then: dict[str, object], now: dict[str, object]) -> None:
    """Going on with other arithmetic works, but not to the same bits."""
    names = ("torch", "pillow", "threads", "gpu", "bf16", "ranks")
    if changes := [f"{k} ({then[k]} then, {now[k]} now)" for k in names if k in then and then[k] != now[k]]:
        run.say(
            f"warning: this run was begun with another {', '.join(changes)}; the result will not be the same bit for bit"
        )


def finished_at(folder: Path) -> str:
    """Why the training in a run folder ended, or '' where it has not."""
    return state.read(folder / "last").counters.finished if has_state(folder) else ""


def prepare(run: Run, data: DataSet, config: Config, progress: Progress, ranks: Ranks = ALONE) -> Job:
    """Everything between a data set and the first step, said on the way."""
    fast_allocation()
    device = device_for(config.device)
    bf16 = takes_bf16(config, device)
    resumes, room = has_state(run.path), Room(int(config.keep * free_memory() / ranks.on_this_machine))
    photos = kept(data.split("train"), room, config.scales[1] if config.reduced else None)
    validation = kept(data.split("val"), room)
    say_data(run, data)
    eats = inherited(run, start := start_of(config, resumes))
    with ranks.first_alone():
        statistics = statistics_of(run, photos, config, eats)
    classifier = begin(config, data, statistics, eats)
    if not resumes:
        first_weights(run, classifier, config, start)
    if config.freeze:
        classifier.net.freeze(config.freeze)
    classifier.to(device)
    classifier.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    skipped = Skipped(run, photos, config.bad_photos)
    batches = Batches(photos, config, statistics, skipped, ranks, device.type == "cuda")
    settings = Settings(
        False, "bf16" if bf16 else "fp32", device.type, min(config.batch, 128), config.workers, config.bad_photos
    )

    def validate(progress: Callable[[int], None]) -> Scores:
        scores, bad = count(classifier, validation, settings, progress, ranks)
        for key, reason in [*chain(*ranks.gather(skipped.unlisted)), *((e.photo, e.reason) for e in bad)]:
            skipped.list(key, reason)
        skipped.unlisted.clear()
        if not scores.photos:
            raise DataError(f"{data.name}: none of its {len(validation)} validation photos could be read")
        return scores

    objective = (
        partial(cross_entropy, weight=class_weights(batches.targets).to(device))
        if config.balance == "loss"
        else cross_entropy
    )
    track = tracker(config.track if run.writes else "none", run.path)
    job = Job(config, run, classifier, batches, validate, device, bf16, progress, track, objective, ranks)
    if not resumes and run.writes:
        say_start(job, statistics)
    return job


def takes_bf16(config: Config, device: torch.device) -> bool:
    return config.precision == "bf16" or (config.precision == "auto" and multiplies_bf16(device))


def say_data(run: Run, data: DataSet) -> None:
    counts = ", ".join(f"{len(p)} {s}" for s, p in data.splits.items())
    how = " (held out by class, kept in split.csv)" if data.held_out else ""
    run.say(f"data: {data.name}, {several(len(data.classes), 'classes')}, photos: {counts}{how}")
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
            f"{data.name} has no validation photos, which steer the learning rate; add some or remove the empty val split"
        )


def class_weights(targets: npt.NDArray[np.int64]) -> torch.Tensor:
    """A weight for each class, float32 K, with which all classes count the same in the loss, and the mean photo counts 1."""
    counts = np.bincount(targets)
    return torch.from_numpy(len(targets) / (len(counts) * counts)).float()


def say_start(job: Job, statistics: Statistics) -> None:
    """The gain table, the literature's traps, and how long it will take."""
    c, run, net = job.config, job.run, job.classifier.net
    n = sum(p.numel() for p in net.parameters())
    run.say(
        f"net {c.net}: {n:,} parameters, crop {c.crop}, S = {c.scale_text}, on {job.device.type}{' in bf16' if job.bf16 else ''}"
    )
    measured = f"over {several(statistics.photos, 'photos')}" if not c.init_from else "of the net it starts from"
    run.say(f"mean RGB {', '.join(f'{v:.2f}' for v in job.classifier.contract.mean)} {measured}")
    if net.frozen:
        trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
        run.say(f"frozen up to {c.freeze}: {trained:,} of {n:,} parameters are trained")
    first = next(batch for batch in job.batches.epoch(0) if len(batch.targets))
    x = job.classifier.normalise(first.photos[: max(8, SAMPLE_PIXELS // c.crop**2)].to(job.device))
    rows = gains(net, x)
    run.say(gain_table(rows))
    if warning := gain_warning(rows, net.classes):
        run.say(f"warning: {warning}")
    if warning := rate_warning(c):
        run.say(f"warning: {warning}")
    seconds = estimate(job, x) * c.epochs
    run.say(
        f"estimated time: {duration(seconds)} for {several(c.epochs, 'epochs')}, less if the validation error stalls early"
    )
    if seconds > HOUR:
        run.say("that is over an hour; --recipe small trains net A on 64-pixel crops, --recipe demo on 32-pixel ones")


def rate_warning(c: Config) -> str | None:
    """The paper's rate belongs to its batch of 256: rates go with the batch (Krizhevsky 2014), give or take four.

    A net that starts from another may be fine-tuned at a tenth of it (section 3.1).
    """
    fitting = LEARNING_RATE * c.batch / BATCH
    if fitting / (40 if c.init_from else 4) <= c.lr <= fitting * 4:
        return None
    paper = f"{LEARNING_RATE:g} * {c.batch} / {BATCH} = {fitting:.2g}"
    return f"lr {c.lr:g} is far from the paper's rate for a batch of {c.batch} ({paper}); try --lr {fitting:.2g}"


def estimate(job: Job, x: torch.Tensor) -> float:
    """Seconds an epoch."""
    return seconds_a_photo(job.classifier.net, x, job.objective, job.bf16) * len(job.batches.photos)
