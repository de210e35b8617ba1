"""What a study would do and how long it would take here: nothing is written, a few crops go through each net."""

from __future__ import annotations

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
from verydeep.run import has_state
from verydeep.study.plan import Limits, Stage, Trial, trials
from verydeep.train.cost import seconds_a_photo
from verydeep.train.prepare import SAMPLE_PIXELS, finished_at, takes_bf16
from verydeep.words import aligned, duration

STAGE_COLUMNS = ("stage", "parameters", "multiply-adds", "starts from", "rate", "epochs", "time", "state")
TRIAL_COLUMNS = ("test of", "protocols", "Q", "photos", "passes", "time")


class Speed(NamedTuple):
    """Seconds that a crop takes in training and in a test."""

    training: float
    test: float


def rehearse(
    plan: Sequence[Stage], out: Path, classes: Sequence[str], photos: Mapping[str, int], split: str, limits: Limits
) -> dict[str, Any]:
    """The plan as plain values: stages and tests with their sizes, and times measured on this machine. photos: by split."""
    nets = {s.net: net_of(s.config, len(classes), "meta") for s in plan}
    speeds = {s.net: measure(s.config, len(classes)) for s in {s.net: s for s in plan}.values()}
    stages = [stage_values(s, out, nets[s.net], speeds[s.net], photos) for s in plan]
    tests = [trial_values(t, classes, speeds, photos[split]) for t in trials(plan, limits)]
    seconds = {"training": sum(s["seconds_left"] for s in stages), "tests": sum(t["seconds"] for t in tests)}
    return {
        "out": str(out),
        "photos": dict(photos),
        "split": split,
        "stages": stages,
        "tests": tests,
        "seconds": seconds,
    }


def net_of(c: Config, classes: int, device: torch.device | str) -> VGG:
    return VGG(**vars(c.shape(classes)), dropout=c.dropout, device=device)


def measure(c: Config, classes: int) -> Speed:
    """A moment of training and of testing with noise."""
    device = device_for(c.device)
    net = net_of(c, classes, device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    n = min(c.batch, max(8, SAMPLE_PIXELS // c.crop**2))
    x = (60 * torch.randn(n, 3, c.crop, c.crop, device=device)).contiguous(memory_format=torch.channels_last)
    training = seconds_a_photo(net, x, bf16=takes_bf16(c, device))
    net.eval()
    with torch.no_grad():
        for _ in range(2):
            began = time.perf_counter()
            float(net(x).sum())  # waits for the GPU
            seconds = time.perf_counter() - began
    return Speed(training, seconds / n)


def stage_values(stage: Stage, out: Path, net: VGG, speed: Speed, photos: Mapping[str, int]) -> dict[str, Any]:
    c, folder = stage.config, out / stage.name
    state = "done" if finished_at(folder) else "begun" if has_state(folder) else "new"
    seconds = c.epochs * (photos["train"] * speed.training + photos["val"] * speed.test)
    return {
        "name": stage.name, "net": stage.net, "scale": c.scale_text, "parameters": sum(s.parameters for s in sizes(net)),
        "multiply_adds": sum(s.multiply_adds for s in sizes(net)), "parent": stage.parent, "lr": c.lr, "epochs": c.epochs,
        "drop_at": list(c.drop_at), "state": state, "seconds": seconds, "seconds_left": 0.0 if state == "done" else seconds,
    }  # fmt: skip


def trial_values(trial: Trial, classes: Sequence[str], speeds: Mapping[str, Speed], photos: int) -> dict[str, Any]:
    """A test, its forward passes in crops a photo, mirror images included, and its time."""
    n, passes, seconds, scales = min(trial.limit or photos, photos), 0.0, 0.0, set[int]()
    for stage in trial.stages:
        c = stage.config
        contract = Contract.of(c.shape(len(classes)), classes, mean=(0, 0, 0), std=(1, 1, 1), scales=c.scales)
        views = {v for step in ladder(trial.protocols, trial.scales) for v in components(step, contract, trial.scales)}
        own = sum(v.cost(c.crop) * (2 if Settings().mirrors(v.name) else 1) for v in views) / c.crop**2
        scales |= {v.scale for v in views}
        passes, seconds = passes + own, seconds + own * n * speeds[stage.net].test
    return {
        "stages": [s.name for s in trial.stages], "protocols": list(trial.protocols), "scales": sorted(scales), "photos": n,
        "passes": round(passes, 1), "seconds": seconds,
    }  # fmt: skip


def text(record: Mapping[str, Any]) -> str:
    """The plan for a terminal."""
    stages = [
        (
            s["name"], f"{s['parameters']:,}", f"{s['multiply_adds']:,}", s["parent"] or "random weights", f"{s['lr']:g}",
            str(s["epochs"]), duration(s["seconds"]), s["state"],
        )
        for s in record["stages"]
    ]  # fmt: skip
    tests = [
        (
            " + ".join(t["stages"]), ", ".join(t["protocols"]), ", ".join(map(str, t["scales"])), f"{t['photos']:,}",
            f"{t['passes']:g}", duration(t["seconds"]),
        )
        for t in record["tests"]
    ]  # fmt: skip
    photos = ", ".join(f"{n:,} {split}" for split, n in record["photos"].items())
    left = record["seconds"]
    return "\n".join(
        [
            f"photos: {photos}; val steers the training, the tables count {record['split']}", "",
            aligned(STAGE_COLUMNS, stages), "", aligned(TRIAL_COLUMNS, tests), "",
            "Passes: what a photo costs, in forward passes of one crop. Times follow from a moment's measurement on this machine.",
            f"Still to do: {duration(left['training'])} of training, and {duration(left['tests'])} of tests if no result is kept from an "
            "earlier call. Where reading photos is slower than the net, it takes longer.",
        ]
    )  # fmt: skip
