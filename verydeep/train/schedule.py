"""When the learning rate drops: section 3.1, "divided by 10 when the validation accuracy stopped improving"."""

import math
from typing import Annotated, NamedTuple

from verydeep.config import Config
from verydeep.files.records import Within
from verydeep.words import several

Whole = Annotated[int, Within(0)]
LAST = ", the last"  # of the reason why a training ends that has had all its epochs
WARM_UP, LOWEST = 0.2, 0.04  # of one cycle: the share of the steps in which the rate rises, and what it rises from


class Schedule(NamedTuple):
    """Where the schedule stands: plain numbers, saved with the run. `best` is the least validation error so far."""

    rate: float
    drops: Whole = 0
    best: float = math.inf
    stalled: Whole = 0  # epochs since the best
    ended: bool = False


def rate_at(s: Schedule, config: Config, done: float) -> float:
    """The rate of a step, `done` being the share of all steps before it."""
    if config.schedule == "drops":
        return s.rate
    if done < WARM_UP:
        return s.rate * (LOWEST + (1 - LOWEST) * done / WARM_UP)
    return s.rate * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2


def after_epoch(s: Schedule, config: Config, epoch: int, error: float, steps: int = 1) -> tuple[Schedule, str]:
    """The schedule after epoch number `epoch` (from 1) of `steps` with its validation error, and the reason of a change
    or ''."""
    improved = (
        error < s.best and s.best - error >= config.least_gain - 1e-9
    )  # 64.1 - 64.0 is a little less than 0.1 in binary
    s = s._replace(best=error, stalled=0) if improved else s._replace(stalled=s.stalled + 1)
    s, why = after_more(s, config, epoch, steps)  # a longer training goes on from there
    if epoch < config.epochs or s.ended:
        return s, why
    return s._replace(ended=True), f"training ends after epoch {epoch}{LAST}"


def after_more(s: Schedule, config: Config, epoch: int, steps: int) -> tuple[Schedule, str]:
    """The same, whether more epochs follow or not."""
    if config.schedule != "drops":
        return s, ""
    if config.drop_at:
        if epoch in config.drop_at:
            return drop(s, config, f"epoch {epoch} is in drop_at")
        return s, ""
    if s.stalled < config.patience or s.stalled * steps < config.patience_steps:
        return s, ""
    stalled = several(s.stalled, "epochs")
    why = f"the validation error has not fallen {config.least_gain:g} below {s.best:.2f} for {stalled}"
    if s.drops == config.drops:
        return s._replace(ended=True), f"training ends after epoch {epoch}: {why}, at the last rate"
    return drop(s, config, why)


def drop(s: Schedule, config: Config, why: str) -> tuple[Schedule, str]:
    rate = s.rate / config.drop_factor
    return s._replace(
        rate=rate, drops=s.drops + 1, stalled=0
    ), f"drop {s.drops + 1} of {config.steps_down}: rate {s.rate:g} -> {rate:g}; {why}"
