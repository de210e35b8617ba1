"""The training loop (section 3.1)."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from verydeep.config import Config
from verydeep.data.batches import Batch, Batches, TargetOf
from verydeep.errors import NonFiniteLoss
from verydeep.net.classifier import Classifier
from verydeep.net.vgg import VGG
from verydeep.progress import Advance, Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.run import Run
from verydeep.train.meter import Meter
from verydeep.train.schedule import Schedule, after_epoch, rate_at
from verydeep.train.signals import Signals
from verydeep.train.state import Counters, restore, save
from verydeep.train.track import Tracker

RECORDS_AN_EPOCH = 20
SPEED = "; {photos_per_second:.0f} photos/s, {waiting_share:.0%} waiting for photos"
SHARED = "; interrupted and begun again with --threads 1 it may be faster, though not the same bit for bit"
PATIENT = 4  # after this part of the epochs it is said if nothing is learnt
FAR = 3  # times the loss of guessing, which even new layers seldom pass
RANK_SEED = 0x9E3779B97F4A7C15  # odd, so that no two ranks share a seed
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # outputs, targets -> loss and error, summed over photos
Facts = dict[str, float | str | None]  # "doubt", if any, says why nothing seems to be learnt
Validate = Callable[[Callable[[int], None]], tuple[float, Facts]]


class Goal(NamedTuple):
    """What a task asks of the loop. What an error is, it says: that steers the rate, and the best net has the least.

    validate: the error of the net as it is, and more facts of it for the record.
    """

    target_of: TargetOf
    objective: Objective
    validate: Validate
    words: str  # of an epoch's record, as "error {train_error:.2f} training, {val_error:.2f} validation"
    guessing: float = math.inf  # the loss of one who only guesses
    no_targets: npt.NDArray[Any] = np.zeros(0, np.int64)  # of a rank that gets no photo of a batch


@dataclass(frozen=True)
class Job:
    """What the loop works with."""

    config: Config
    run: Run
    classifier: Classifier
    batches: Batches
    goal: Goal
    device: torch.device
    bf16: bool
    progress: Progress
    tracker: Tracker
    ranks: Ranks = ALONE

    def record(self, values: dict[str, object]) -> None:
        self.run.record(values)
        self.tracker.record(values)

    def bar(self, now: Counters) -> AbstractContextManager[Advance]:
        label = f"epoch {now.epoch + 1}/{self.config.epochs}"
        return self.progress.paced(self.batches.shown, label, now.photos, self.slow)

    def slow(self, pace: str) -> None:
        shared = SHARED if self.device.type == "cpu" and torch.get_num_threads() > 1 else ""
        self.run.say(f"warning: {pace}; another program may use the processor or the disk{shared}")


def train(job: Job) -> str:
    """Trains from the last saved state, or from the net as it is, to the end of the schedule; returns why it ended."""
    c, run, net = job.config, job.run, job.classifier.net
    optimizer = torch.optim.SGD(parts(net, c), c.lr, c.momentum, 0.0, c.weight_decay, c.nesterov, fused=True)
    now, schedule = restore(run.path / "last", net, optimizer) or (Counters(), Schedule(c.lr))
    run.forget_after(now.step, now.epoch)
    together = job.ranks.together(net, job.device)
    record_every, last = max(1, len(job.batches) // RECORDS_AN_EPOCH), len(job.batches) * c.epochs
    warned, rate = False, rate_at(schedule, c, max(0, now.step - 1) / last)
    with Signals(job.ranks) as signals:
        while not now.finished:
            meter, job.batches.waited = Meter(now, job.device), 0.0
            net.train()
            with job.bar(now) as advance:
                for batch in job.batches.epoch(now.epoch, now.batch):
                    # Rate
                    rate = rate_at(schedule, c, now.step / last)
                    set_rate(optimizer, rate)
                    # Forward, backward, step
                    if n := signals.agree(len(batch.targets)):
                        sums = gradients(job, together, batch, now.step, n)
                        meter.add(sums, every=1 if job.device.type == "cpu" else 20)
                        optimizer.step()
                        optimizer.zero_grad()
                    # Measure
                    now = now._replace(batch=batch.number + 1, step=now.step + 1)
                    advance(n, f"loss {meter.shown:.3f}, waiting for photos {meter.waiting(job.batches.waited)}")
                    if n and now.step % record_every == 0:
                        job.record(step_record(now, rate, sums))
                    # Save
                    if now.step % c.save_every == 0 or signals.stop:
                        now = whole(now, meter, net)
                        if run.writes:
                            save(run.path / "last", net, optimizer, now, schedule)
                        signals.leave(f"saved at step {now.step} in {run.path}; the same command resumes")
            # Validate
            now = whole(now, meter, net)
            speed = meter.speed(job.batches.waited)
            if run.writes:
                save(run.path / "last", net, optimizer, now, schedule)
            left = f"saved before a validation in {run.path}; the same command resumes"
            error, facts = job.goal.validate(lambda _, left=left: signals.leave(left))  # type: ignore[misc]
            job.record(record := epoch_record(now, error, facts, rate) | speed)
            warned = say_epoch(job, record, warned)
            # Schedule
            schedule, reason = after_epoch(schedule, c, now.epoch + 1, error, len(job.batches))
            ended = reason if schedule.ended else ""
            if reason and not ended:
                run.note("drop", reason, now.step, now.epoch + 1)
            # Save
            if error < now.best_error or c.schedule != "drops":  # one cycle is made for its end
                now = now._replace(best_error=error)
                if run.writes:
                    job.classifier.save(run.best)
            now = now._replace(epoch=now.epoch + 1, batch=0, loss=0.0, error=0.0, photos=0, finished=ended)
            if run.writes:
                save(run.path / "last", net, optimizer, now, schedule)
            signals.agree()
            signals.leave(f"saved after epoch {now.epoch} in {run.path}; the same command resumes")
    return now.finished


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def parts(net: VGG, c: Config) -> list[dict[str, Any]]:
    """The parameters that are trained, in groups with the factor of their rate."""
    factors = {"fc6": c.lr_fc, "fc7": c.lr_fc, "fc8": c.lr_last}
    found: dict[float, list[Tensor]] = {}
    for name, p in net.named_parameters():
        if p.requires_grad:
            found.setdefault(factors.get(name.partition(".")[0], c.lr_features), []).append(p)
    return [{"params": p, "factor": factor} for factor, p in found.items()]


def gradients(job: Job, net: nn.Module, batch: Batch, step: int, n: int) -> Tensor:
    """Adds the gradients of the mean loss over n photos on all ranks; returns [loss, error, photos] summed, float64."""
    total, size = torch.zeros(3, dtype=torch.float64, device=job.device), job.ranks.size
    parts = [rows for rows in torch.arange(len(batch.targets)).tensor_split(job.config.accumulate) if len(rows)]
    parts = parts or [torch.arange(0)]  # a rank left without photos still takes part in the sum
    for micro, rows in enumerate(parts):
        # Dropout: by seed, step, part and rank.
        torch.manual_seed(((job.config.seed << 40) + (step << 10) + micro ^ job.ranks.rank * RANK_SEED) % 2**64)
        targets = batch.targets[rows].to(job.device, non_blocking=True)
        with net.no_sync() if isinstance(net, DistributedDataParallel) and micro + 1 < len(parts) else nullcontext():
            with torch.autocast(job.device.type, torch.bfloat16, enabled=job.bf16):
                loss, error = job.goal.objective(net(augmented(job, batch, rows)), targets)
            # The ranks' gradients are averaged, not summed.
            (loss / (n / size)).backward()  # type: ignore[no-untyped-call]
        photos = torch.full((), len(rows), device=job.device)
        total += torch.stack([value.detach().double() for value in (loss, error, photos)])
    return job.ranks.sum(total)


def augmented(job: Job, batch: Batch, rows: Tensor) -> Tensor:
    """Normalised float32 crops of a batch's rows, shifted in colour on the device, never clipped."""
    x = job.classifier.normalise(batch.photos[rows].to(job.device, non_blocking=True))
    shifts = batch.shifts[rows].to(job.device, non_blocking=True)[:, :, None, None] / job.classifier.std
    return x.add_(shifts).contiguous(memory_format=torch.channels_last)


def whole(now: Counters, meter: Meter, net: torch.nn.Module) -> Counters:
    """Counters with the epoch's sums, to be saved. Raises NonFiniteLoss for a loss or weights that are not finite."""
    try:
        loss, error, photos = meter.read()
        if not all(bool(p.isfinite().all()) for p in net.parameters()):
            raise NonFiniteLoss("a weight is no longer a finite number")
    except NonFiniteLoss as e:
        raise NonFiniteLoss(f"{e} (epoch {now.epoch + 1}, step {now.step})") from e
    return now._replace(loss=loss, error=error, photos=int(photos))


def say_epoch(job: Job, record: dict[str, Any], warned: bool) -> bool:
    """Says how an epoch went, and unless `warned` that its loss is far above that of guessing; returns whether it has.

    Of an epoch that was trained before the run went on no speed is known.
    """
    c, loss = job.config, record["train_loss"]
    head = f"epoch {record['epoch']}/{c.epochs}: loss {loss:.3f}, "
    job.run.say(head + (job.goal.words + SPEED * (record["photos_per_second"] > 0)).format(**record))
    doubt = ""
    if loss > FAR * job.goal.guessing:
        levels = c.init_from and not (c.level or c.batch_norm)
        other = "; from convolutions alone, --level true makes the usual rates fit" * bool(levels)
        doubt = f"the loss of {loss:.3f} is far above that of guessing, {job.goal.guessing:.3f}; should it not fall, "
        doubt += f"start again with another --out and --lr {c.lr / 10:.2g}{other}"
    elif record.get("doubt") and record["epoch"] == -(-c.epochs // PATIENT):
        doubt = f"nothing is learnt so far: on the validation photos {record['doubt']}"
    if doubt and not warned:
        job.run.note("warning", doubt, record["step"], record["epoch"])
    return warned or bool(doubt)


def step_record(now: Counters, rate: float, sums: Tensor) -> dict[str, Any]:
    loss = round(float(sums[0] / sums[2]), 6)  # of this batch alone
    return {"step": now.step, "epoch": now.epoch + 1, "lr": rate, "loss": loss}


def epoch_record(now: Counters, error: float, facts: Facts, rate: float) -> dict[str, Any]:
    n = max(now.photos, 1)
    return {
        "step": now.step, "epoch": now.epoch + 1, "lr": rate, "train_loss": round(now.loss / n, 6),
        "train_error": round(now.error / n, 4), "val_error": round(error, 4), **facts,
    }  # fmt: skip
