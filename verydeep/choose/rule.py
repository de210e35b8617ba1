"""`--recipe auto`: what to train, chosen from the photos, the machine and the weights at hand, by a stated rule.

Learnt convolutions at hand: net D (or E) starts from them, block 5 and small FC layers are trained on a few crops of
each photo, at the largest crop that the photos fill and the time allows. None at hand, or photos too small for them:
the recipe `modern` from random weights, at as many steps as the time allows.
"""

import math
import re
import time
from typing import Any, NamedTuple

import numpy as np
import torch

from verydeep.data.record import DataSet, Photos
from verydeep.errors import ConfigError, PhotoError
from verydeep.hardware import device_for, fast_allocation, multiplies_bf16
from verydeep.net.vgg import VGG
from verydeep.train.classes import cross_entropy
from verydeep.train.cost import seconds_a_photo
from verydeep.weights import convolutions_at_hand
from verydeep.words import duration, several

CROPS = (224, 192, 160, 128, 96, 64)
TINY = 48  # pixels of the smaller side, below which photos show too little for convolutions learnt at 224
LOOKED_AT, TRIED = 64, 8  # photos whose sizes are looked at; and of the measured pass
DRAWS, SHOWN = 4, (40, 20_000)  # crops of each photo; how often one is shown at most, and all together
BLOCK_5 = 0.27  # of the work of all convolutions: training block 5 of net D, forward and back
TEST = 4.0  # crops that the centre crop and dense evaluation of a photo cost
SPARE = 0.8  # share of the time that a choice may be reckoned to take
STEPS, BATCH = (300, 6000), 64  # of training from random weights, by the recipe `modern`
FETCH = "'verydeep weights fetch oxford-d-convolutions' (62 MB)"


class Choice(NamedTuple):
    """A recipe, fields beside it, and three lines: what was seen, what was chosen, what to expect."""

    recipe: str | None
    fields: dict[str, Any]
    lines: tuple[str, str, str]


class Way(NamedTuple):
    """Fields, the seconds they take, what they are in words, and what to expect of it."""

    fields: dict[str, Any]
    took: float
    chose: str
    expect: str


def seconds_in(text: str) -> float:
    """Seconds of `90s`, `5m`, `2h`, or of a number. Raises ConfigError."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smh]?)", text, re.ASCII)
    if not found or not (seconds := float(found[1]) * {"m": 60, "h": 3600}.get(found[2], 1)):
        raise ConfigError(f"time: {text[:40]!r} is not understood; expected a length such as 90s, 5m or 2h")
    return seconds


def choose(data: DataSet, seconds: float, device: str = "auto", folds: int = 1) -> Choice:
    """What to train on these photos so that it, and its test, take about so many seconds; so long in each fold."""
    train, tested = data.split("train"), sum(len(p) for name, p in data.splits.items() if name != "train")
    side, (start, net) = median_side(train), next(iter(convolutions_at_hand().items()), ("", ""))
    there = f"weights at hand: {start}" if start else f"no learnt convolutions at hand, {FETCH} brings some"
    seen = f"{several(len(train), 'training photos')} of {several(len(data.classes), 'classes')}, "
    seen += f"smaller side about {side}; {there}"
    if start and side >= TINY:
        fields, took, chose, expect = tuned(len(train), tested, side, seconds, device_for(device))
        fields |= {"net": net, "init_from": start}
        recipe, chose = None, f"net {net} from {start}, {chose}"
    else:
        fields, took, chose, expect = anew(len(train), tested, side, seconds, device_for(device))
        recipe = "modern"
    beside = "of" if took <= seconds else "which is more than"
    chose += f"; about {duration(took)} {beside} the {duration(seconds)} it may take (--time)"
    chose += f", {duration(folds * took)} for {folds} folds" * (folds > 1)
    return Choice(recipe, fields, (seen, chose, expect))


def median_side(photos: Photos) -> int:
    """The median smaller side of some photos, in pixels; those that cannot be read are passed over."""
    sides = []
    for id in range(0, len(photos), max(1, len(photos) // LOOKED_AT)):
        try:
            sides.append(min(photos.open(id).size))
        except PhotoError:
            continue
    return int(np.median(sides)) if sides else 0


def tuned(photos: int, tested: int, side: int, seconds: float, device: torch.device) -> Way:
    """From learnt convolutions."""
    small, often = pass_seconds(device), max(3, min(SHOWN[0], SHOWN[1] // photos))

    def cost(crop: int, learnt: float, passes: int = often) -> float:
        """Seconds: the frozen part of each draw, what is trained, and the test."""
        passed = min(DRAWS, passes) * photos + passes * photos * learnt + TEST * tested
        return passed * small * (crop / CROPS[-1]) ** 2

    ways = [(crop, "pool4", BLOCK_5, often) for crop in CROPS] + [(CROPS[-1], "pool5", 0.0, n) for n in (often, 1)]
    fitting = [way for way in ways if way[0] <= max(CROPS[-1], side)]
    crop, freeze, learnt, passes = next((w for w in fitting if cost(w[0], *w[2:]) <= SPARE * seconds), fitting[-1])
    repeats = math.ceil(passes / 10)
    fields = {
        "freeze": freeze, "level": True, "crop": crop, "scale": (crop, crop * 4 // 3),
        "fc_width": 512, "init": "he", "colour": "off", "batch": 16, "lr": 0.002 if freeze == "pool4" else 0.003,
        "nesterov": True, "label_smoothing": 0.1, "schedule": "one-cycle",
        "epochs": passes // repeats, "repeats": repeats, "draws": DRAWS if passes > DRAWS else None,
    }  # fmt: skip
    expect = "less than half of the errors that random weights leave, where photos are few"
    if crop < (largest := fitting[0][0]):
        expect += f"; a crop of {largest} may be better: --time {cost(largest, BLOCK_5) / SPARE / 60 + 1:.0f}m"
    return Way(fields, cost(crop, learnt, passes), f"frozen up to {freeze}, crop {crop}", expect)


def anew(photos: int, tested: int, side: int, seconds: float, device: torch.device) -> Way:
    """From random weights by the recipe `modern`."""
    crop, scale = (32, 36) if side < TINY else (64, (72, 128))
    net, batch = VGG("A", classes=10, crop=crop, fc_width=512, base_width=32, batch_norm=True), BATCH
    x, targets = torch.zeros(batch, 3, crop, crop), torch.zeros(batch, dtype=torch.int64)
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    each = seconds_a_photo(net, x.to(device), targets.to(device), cross_entropy, multiplies_bf16(device))
    least, most = max(STEPS[0], photos // batch), STEPS[1]  # one pass at least
    wanted = max(least, min(most, 100 * photos // batch))
    steps = int(max(least, min(wanted, SPARE * (seconds - tested * each) / (batch * each))))
    fields = {"crop": crop, "scale": scale, "steps": steps, "pooling": "down" if crop == 32 else "up"}
    chose = f"net A, half as wide, with batch normalisation, from random weights, crop {crop}, {steps:,} steps"
    expect = "with a few hundred photos from random weights many errors remain"
    if photos >= 5_000:
        expect = "thousands of photos are enough to learn from random weights"
    elif side >= TINY:
        expect += f"; learnt convolutions are far better: {FETCH}, then the same command with another --out"
    return Way(fields, (batch * steps + tested) * each, chose, expect)


def pass_seconds(device: torch.device) -> float:
    """Seconds of the convolutions of net D for one photo of 64 x 64, measured."""
    fast_allocation()
    net = VGG("D", classes=2, crop=CROPS[-1], fc_width=1).to(device).eval()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.zeros(TRIED, 3, CROPS[-1], CROPS[-1], device=device).contiguous(memory_format=torch.channels_last)
    took = []
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bf16(device)):
        for _ in range(5):  # the least, for others may use the machine as well
            began = time.perf_counter()
            net.features(x)
            if device.type == "cuda":
                torch.cuda.synchronize()
            took.append(time.perf_counter() - began)
    return min(took) / TRIED
