"""The training loop (section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from verydeep.config import Config
from verydeep.data.batches import Batch, Batches
from verydeep.errors import NonFiniteLoss
from verydeep.evaluate.scores import Scores
from verydeep.net.classifier import Classifier
from verydeep.net.vgg import VGG
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.run import Run
from verydeep.train.meter import Meter
from verydeep.train.schedule import Schedule, after_epoch
from verydeep.train.signals import Signals
from verydeep.train.state import Counters, restore, save
from verydeep.train.track import Tracker

RECORDS_AN_EPOCH = 20
EPOCH = "epoch {epoch}/{epochs}: loss {train_loss:.3f}, top-1 error {train_top1_error:.2f} % training, {val_top1_error:.2f} % validation"
SPEED = "; {photos_per_second:.0f} photos/s, {waiting_share:.0%} waiting for photos"
FAR = 3  # times the loss of guessing, ln(classes), which even new layers seldom pass
RANK_SEED = 0x9E3779B97F4A7C15  # odd, so that no two ranks share a seed
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def cross_entropy(outputs: Tensor, targets: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(loss summed over photos, number of top-1 errors) of logits N x K: multinomial logistic regression. `weight`: of each class, K."""
    return F.cross_entropy(outputs.float(), targets, weight, reduction="sum"), (outputs.argmax(1) != targets).sum()


@dataclass(frozen=True)
class Job:
    """What the loop works with. `validate` counts the errors of the net as it is."""

    config: Config
    run: Run
    classifier: Classifier
    batches: Batches
    validate: Callable[[Callable[[int], None]], Scores]
    device: torch.device
    bf16: bool
    progress: Progress
    tracker: Tracker
    objective: Objective = cross_entropy
    ranks: Ranks = ALONE

    def record(self, values: dict[str, object]) -> None:
        self.run.record(values)
        self.tracker.record(values)


def train(job: Job) -> str:
    """Trains from the last saved state, or from the net as it is, to the end of the schedule; returns why it ended."""
    c, run, net = job.config, job.run, job.classifier.net
    optimizer = torch.optim.SGD(parts(net, c), c.lr, c.momentum, weight_decay=c.weight_decay, fused=True)
    now, schedule = restore(run.path / "last", net, optimizer) or (Counters(), Schedule(c.lr))
    run.forget_after(now.step, now.epoch)
    together = job.ranks.together(net, job.device)
    record_every, warned = max(1, len(job.batches) // RECORDS_AN_EPOCH), False
    with Signals(job.ranks) as signals:
        while not now.finished:
            meter, job.batches.waited = Meter(now, job.device), 0.0
            net.train()
            with job.progress.bar(len(job.batches.photos), f"epoch {now.epoch + 1}/{c.epochs}", now.photos) as advance:
                for batch in job.batches.epoch(now.epoch, now.batch):
                    # Rate
                    for group in optimizer.param_groups:
                        group["lr"] = schedule.rate * group["factor"]
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
                        loss = float(sums[0] / sums[2])  # of this batch alone
                        job.record(
                            {"step": now.step, "epoch": now.epoch + 1, "lr": schedule.rate, "loss": round(loss, 6)}
                        )
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
            scores = job.validate(
                lambda _: signals.leave(f"saved before a validation in {run.path}; the same command resumes")
            )
            error = 100 * scores.top1_errors / scores.photos
            job.record(record := epoch_record(now, scores, schedule.rate) | speed)
            warned = say_epoch(job, record, warned)
            # Schedule
            schedule, reason = after_epoch(schedule, c, now.epoch + 1, error)
            ended = (
                reason
                if schedule.ended
                else f"training ends after epoch {c.epochs}, the last"
                if now.epoch + 1 == c.epochs
                else ""
            )
            if reason and not ended:
                run.note("drop", reason, now.step, now.epoch + 1)
            # Save
            if error < now.best_error:
                now = now._replace(best_error=error)
                if run.writes:
                    job.classifier.save(run.best)
            now = now._replace(epoch=now.epoch + 1, batch=0, loss=0.0, errors=0.0, photos=0, finished=ended)
            if run.writes:
                save(run.path / "last", net, optimizer, now, schedule)
            signals.agree()
            signals.leave(f"saved after epoch {now.epoch} in {run.path}; the same command resumes")
    return now.finished


def parts(net: VGG, c: Config) -> list[dict[str, Any]]:
    """The parameters that are trained, in groups with the factor of their rate."""
    factors = {"fc6": c.lr_fc, "fc7": c.lr_fc, "fc8": c.lr_last}
    found: dict[float, list[Tensor]] = {}
    for name, p in net.named_parameters():
        if p.requires_grad:
            found.setdefault(factors.get(name.partition(".")[0], c.lr_features), []).append(p)
    return [{"params": p, "factor": factor} for factor, p in found.items()]


def gradients(job: Job, net: nn.Module, batch: Batch, step: int, n: int) -> Tensor:
    """Adds a step's gradients, of the mean loss over its n photos on all ranks; returns [loss, errors, photos] summed, float64."""
    total, size = torch.zeros(3, dtype=torch.float64, device=job.device), job.ranks.size
    parts = [rows for rows in torch.arange(len(batch.targets)).tensor_split(job.config.accumulate) if len(rows)]
    for micro, rows in enumerate(
        parts := parts or [torch.arange(0)]
    ):  # a rank left without photos still takes part in the sum
        # Dropout: by seed, step, part and rank.
        torch.manual_seed(((job.config.seed << 40) + (step << 10) + micro ^ job.ranks.rank * RANK_SEED) % 2**64)
        targets = batch.targets[rows].to(job.device, non_blocking=True)
        with net.no_sync() if isinstance(net, DistributedDataParallel) and micro + 1 < len(parts) else nullcontext():
            with torch.autocast(job.device.type, torch.bfloat16, enabled=job.bf16):
                loss, errors = job.objective(net(augmented(job, batch, rows)), targets)
            (loss / (n / size)).backward()  # type: ignore[no-untyped-call]  # the ranks' gradients are averaged, not summed
        total += torch.stack(
            [loss.detach().double(), errors.double(), torch.full((), len(rows), dtype=torch.float64, device=job.device)]
        )
    return job.ranks.sum(total)


def augmented(job: Job, batch: Batch, rows: Tensor) -> Tensor:
    """Normalised float32 crops of a batch's rows, shifted in colour on the device, never clipped."""
    x = job.classifier.normalise(batch.photos[rows].to(job.device, non_blocking=True))
    shifts = batch.shifts[rows].to(job.device, non_blocking=True)[:, :, None, None] / job.classifier.std
    return x.add_(shifts).contiguous(memory_format=torch.channels_last)


def whole(now: Counters, meter: Meter, net: torch.nn.Module) -> Counters:
    """Counters with the epoch's sums, fit to be saved. Raises NonFiniteLoss for a loss or weights that are not finite."""
    try:
        loss, errors, photos = meter.read()
        if not all(bool(p.isfinite().all()) for p in net.parameters()):
            raise NonFiniteLoss("a weight is no longer a finite number")
    except NonFiniteLoss as e:
        raise NonFiniteLoss(f"{e} (epoch {now.epoch + 1}, step {now.step})") from e
    return now._replace(loss=loss, errors=errors, photos=int(photos))


def say_epoch(job: Job, record: dict[str, Any], warned: bool) -> bool:
    """Says how an epoch went, and unless `warned` that its loss is far above that of guessing; returns whether that has been said.

    Of an epoch that was trained before the run went on no speed is known.
    """
    c, classes = job.config, job.classifier.net.classes
    job.run.say((EPOCH + (SPEED if record["photos_per_second"] else "")).format(epochs=c.epochs, **record))
    if warned or record["train_loss"] <= FAR * math.log(classes):
        return warned
    other = "; from convolutions alone, --recipe finetune-features is gentler" if c.init_from else ""
    job.run.note(
        "warning",
        f"the loss of {record['train_loss']:.3f} is far above that of guessing, ln({classes}) = {math.log(classes):.3f}; "
        f"should it not fall, start again with another --out and --lr {c.lr / 10:.2g}{other}",
        record["step"],
        record["epoch"],
    )
    return True


def epoch_record(now: Counters, scores: Scores, rate: float) -> dict[str, Any]:
    validation = scores.as_dict()
    return {
        "step": now.step, "epoch": now.epoch + 1, "lr": rate,
        "train_loss": round(now.loss / max(now.photos, 1), 6), "train_top1_error": round(100 * now.errors / max(now.photos, 1), 4),
        "val_top1_error": validation["top1_error"], "val_top5_error": validation["top5_error"],
    }  # fmt: skip
