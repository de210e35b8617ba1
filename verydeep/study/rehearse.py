"""What a study would do and how long it would take here: nothing is written, a few crops go through each net."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from verydeep.config import Config
from verydeep.contract import Contract
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.views import components, ladder
from verydeep.hardware import device_for
from verydeep.net.sizes import sizes
from verydeep.net.vgg import VGG
from verydeep.report.page import rendered
from verydeep.report.tables import by_column
from verydeep.run import has_state
from verydeep.study.plan import Stage, Trial
from verydeep.study.tables import PLANNED, TRIED, stage_table
from verydeep.train.classes import cross_entropy
from verydeep.train.cost import SAMPLE_PIXELS, seconds_a_photo, takes_bf16
from verydeep.train.remember import finished_at
from verydeep.words import duration


class Speed(NamedTuple):
    """Seconds that a crop takes in training and in a test."""

    training: float
    test: float


def rehearse(
    plan: Sequence[Stage], tests: Sequence[Trial], out: Path, classes: Sequence[str], about: Mapping[str, Any]
) -> dict[str, Any]:
    """The plan as plain values: stages and tests with their sizes, and times measured on this machine."""
    speeds = {net: speed_of(c, len(classes)) for net, c in {s.net: s.config for s in plan}.items()}
    planned = [stage_plan(s, out, len(classes), speeds[s.net], about["photos"]) for s in plan]
    tried = [trial_plan(t, classes, speeds, about["photos"][about["split"]]) for t in tests]
    seconds = {"training": sum(s["seconds_left"] for s in planned), "tests": sum(t["seconds"] for t in tried)}
    asked = {"out": str(out), "photos": about["photos"], "split": about["split"]}
    return asked | {"stages": planned, "tests": tried, "seconds": seconds}


def speed_of(c: Config, classes: int) -> Speed:
    """A moment of training and of testing with noise."""
    device = device_for(c.device)
    net = VGG(**vars(c.shape(classes)), dropout=c.dropout, device=device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    n = min(c.batch, max(8, SAMPLE_PIXELS // c.crop**2))
    x = (60 * torch.randn(n, 3, c.crop, c.crop, device=device)).contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(n, dtype=torch.int64, device=device)
    training = seconds_a_photo(net, x, targets, cross_entropy, takes_bf16(c, device))
    net.eval()
    with torch.no_grad():
        for _ in range(2):
            began = time.perf_counter()
            float(net(x).sum())  # waits for the GPU
            seconds = time.perf_counter() - began
    return Speed(training, seconds / n)


def stage_about(stage: Stage, classes: int) -> dict[str, Any]:
    """What is known of a stage before it is trained."""
    c, layers = stage.config, sizes(VGG(**vars(stage.config.shape(classes)), device="meta"))
    return {
        "net": stage.net, "way": stage.way, "seed": c.seed, "scale": c.scale_text, "test_scale": stage.test_scale,
        "parent": stage.parent, "lr": c.lr, "epochs": c.epochs, "parameters": sum(s.parameters for s in layers),
        "multiply_adds": sum(s.multiply_adds for s in layers),
        "weight_layers": sum(s.name.startswith(("conv", "fc")) for s in layers),
    }  # fmt: skip


def stage_plan(stage: Stage, out: Path, classes: int, speed: Speed, photos: Mapping[str, int]) -> dict[str, Any]:
    c, folder = stage.config, out / stage.name
    state = "done" if finished_at(folder) else "begun" if has_state(folder) else "new"
    seconds = c.epochs * (c.repeats * photos["train"] * speed.training + photos["val"] * speed.test)
    times = {"state": state, "seconds": seconds, "seconds_left": seconds * (state != "done")}
    return {"name": stage.name, **stage_about(stage, classes), "drop_at": list(c.drop_at), **times}


def trial_plan(trial: Trial, classes: Sequence[str], speeds: Mapping[str, Speed], photos: int) -> dict[str, Any]:
    """A test, its forward passes in crops a photo, mirror images included, and its time."""
    n, passes, seconds, scales = min(trial.limit or photos, photos), 0.0, 0.0, set[int]()
    for stage in trial.stages:
        c = stage.config
        contract = Contract.of(
            c.shape(len(classes)), classes, mean=(0, 0, 0), std=(1, 1, 1), scales=c.scales, reading=c.reading
        )
        views = {v for step in ladder(trial.protocols, trial.scales) for v in components(step, contract, trial.scales)}
        own = sum(v.cost(c.crop) * (2 if c.flip and Settings().mirrors(v.name) else 1) for v in views) / c.crop**2
        scales |= {v.scale for v in views}
        passes, seconds = passes + own, seconds + own * n * speeds[c.net].test
    return {
        "stages": [s.name for s in trial.stages], "protocols": list(trial.protocols), "scales": sorted(scales),
        "photos": n, "passes": round(passes, 1), "seconds": seconds,
    }  # fmt: skip


def plan_text(record: Mapping[str, Any]) -> str:
    """The plan for a terminal."""
    stages = [s | {"time": duration(s["seconds"])} for s in record["stages"]]
    tests = [
        t | {"models": " + ".join(t["stages"]), "time": duration(t["seconds"])}
        | {name: ", ".join(map(str, t[name])) for name in ("protocols", "scales")}
        for t in record["tests"]
    ]  # fmt: skip
    shown = {
        "stages": stage_table(PLANNED, stages), "tests": by_column(TRIED, tests),
        "left": {name: duration(seconds) for name, seconds in record["seconds"].items()},
    }  # fmt: skip
    return rendered("study/plan.txt.j2", {**record, **shown}).rstrip()
