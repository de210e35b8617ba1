"""From a configuration and photos to a job, and through it: split, statistics, net, start, loop."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from verydeep.config import Config
from verydeep.data.batches import Batches, bounds
from verydeep.data.reading import Room, kept
from verydeep.data.record import DataSet
from verydeep.data.said import data_lines
from verydeep.data.source import location, open_data
from verydeep.data.split import fewer
from verydeep.errors import NonFiniteLoss, RankError, RunError
from verydeep.evaluate.passes import Settings
from verydeep.hardware import computing, device_for, fast_allocation, free_memory, out_of_memory
from verydeep.net.initialise import level
from verydeep.net.inside import Memory
from verydeep.net.vgg import VGG
from verydeep.paper import BATCH, LEARNING_RATE
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.run import Run, has_state, open_run
from verydeep.train.advice import first_crops, say_data, say_start
from verydeep.train.classes import classification
from verydeep.train.cost import takes_bf16
from verydeep.train.loop import Goal, Job, train
from verydeep.train.remember import ended_early, finished_at, kept_corrections, kept_split, remember, threads_of
from verydeep.train.skipped import Skipped
from verydeep.train.start import begin, first_weights, inherited, start_of, statistics_of
from verydeep.train.state import reopen
from verydeep.train.track import tracker
from verydeep.words import several


class Task(NamedTuple):
    """What a net is trained for: its Goal, what its contract says of its answers, and the photos that it can use."""

    goal: Callable[..., Goal] = classification
    answers: Mapping[str, object] = {}
    photos_of: Callable[[DataSet], DataSet] = lambda data: data
    classes: int = 2  # at least
    digest: Callable[[DataSet], str] = lambda data: ""  # of what it learns of the photos beside their classes


CLASSES = Task()


def run_training(
    data: str, config: Config, out: Path, download: bool = False, progress: Progress | None = None,
    ranks: Ranks = ALONE, split: Path | None = None, task: Task = CLASSES,
) -> str:  # fmt: skip
    """Trains DATA into the run folder `out`, or goes on where it stopped; returns why it ended.

    Several ranks share each batch; the first writes into the folder, which all of them must see. `split` is the
    manifest of a split that was drawn for several runs.

    Raises ConfigError, DataError, RunError, NonFiniteLoss, and Interrupted after a signal, with the state saved.
    """
    progress = progress or Progress()
    device_for(config.device)
    if config.freeze:  # before there is a folder
        VGG(config.net, batch_norm=config.batch_norm, device="meta").freeze(config.freeze)
    with ranks.first_alone():  # which may fetch the data
        drawn = kept_split(out, data) or split
        opened = open_data(
            data, (config.val_share, config.test_share), config.seed, download, drawn, config.groups, config.classes,
            task.classes, *kept_corrections(out, config.corrections),
        )  # fmt: skip
        opened = task.photos_of(opened.read_as(config.reading))
        opened = fewer(replace(opened, held_out=opened.held_out or drawn is not None), config.most_photos)
    with open_run(out, config, ranks) as run, computing(config.threads or threads_of(out), run.say):
        with ranks.first_alone():
            remember(run, opened, location(data), ranks, task.digest(opened))
        if (ended := finished_at(out)) and ended_early(out, config):
            ranks.gather(None)  # all have looked
            if run.writes:
                reopen(out / "last")
            ranks.gather(None)
        elif ended:
            for line in (*data_lines(opened), f"{out} is finished: {ended}"):
                run.say(line)
            return ended
        with explained(config, out, ranks):
            job = prepare(run, opened, config, progress, ranks, task)
            try:
                run.say(ended := train(job))
            finally:
                job.tracker.close()
    return ended


@contextmanager
def explained(config: Config, out: Path, ranks: Ranks) -> Iterator[None]:
    """What ends a training early, with what was kept and what to try."""
    try:
        yield
    except NonFiniteLoss as e:
        good = f"the last good state is kept in {out / 'last'}" if has_state(out) else "nothing was saved yet"
        lower = min(config.lr / 10, LEARNING_RATE * config.batch / BATCH)
        other = "" if config.init == "glorot" else ", or --init glorot"
        raise NonFiniteLoss(f"{e}; {good}; start again with another --out and --lr {lower:.2g}{other}") from e
    except (MemoryError, RuntimeError) as e:
        if out_of_memory(e):
            raise RunError(
                f"the memory does not hold {several(config.batch, 'photos')} at once; "
                f"start again with --accumulate {2 * config.accumulate}, or a smaller net"
            ) from e
        if ranks.size > 1:  # torch's words for a rank that has gone, while gradients are averaged
            lost = f"rank {ranks.rank} of {ranks.size} cannot go on ({e}); the rank that stopped first says why"
            raise RankError(lost) from e
        raise


def prepare(
    run: Run, data: DataSet, config: Config, progress: Progress, ranks: Ranks = ALONE, task: Task = CLASSES
) -> Job:
    """Everything between a data set and the first step, said on the way."""
    fast_allocation()
    device = device_for(config.device)
    bf16 = takes_bf16(config, device)
    resumes, room = has_state(run.path), Room(int(config.keep * free_memory() / ranks.on_this_machine))
    photos = kept(data.split("train"), room, config.scales[1] if config.reduced else None)
    config = config.lasting(len(bounds(len(photos), config.batch)))
    say_data(run, data)
    taken = inherited(run, start := start_of(config, resumes))
    with ranks.first_alone():
        statistics = statistics_of(run, photos, config, taken)
    classifier = begin(config, data, statistics, taken, task.answers)
    if not resumes:
        first_weights(run, classifier, config, start)
    if config.freeze:
        classifier.net.freeze(config.freeze)
        if config.draws and device.type == "cpu":
            classifier.net.memory = Memory(room)
    classifier.to(device)
    classifier.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    skipped = Skipped(run, photos, config.bad_photos)
    precision, val = "bf16" if bf16 else "fp32", kept(data.split("val"), room)
    settings = Settings(False, precision, device.type, min(config.batch, 128), config.workers, config.bad_photos)  # type: ignore[arg-type]
    goal = task.goal(classifier, photos, val, data.name, config, settings, skipped, ranks)
    batches = Batches(
        photos, config, statistics, goal.target_of, skipped, ranks, device.type == "cuda", no_targets=goal.no_targets
    )
    track = tracker(config.track if run.writes else "none", run.path)
    if config.level and not resumes:
        level(classifier.net, first_crops(batches, classifier, device)[0])
    job = Job(config, run, classifier, batches, goal, device, bf16, progress, track, ranks)
    if not resumes and run.writes:
        say_start(job, statistics)
    return job
