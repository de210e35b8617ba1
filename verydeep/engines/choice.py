"""Which engine computes: by rule, or by a measurement that is remembered."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from verydeep.engines.scorers import Engine, Precision, scorer_for
from verydeep.errors import ConfigError, RunError, VeryDeepError
from verydeep.files.disk import read_json, seal_of, write_json
from verydeep.hardware import machine, multiplies_bf16
from verydeep.net.classifier import Classifier

TITLES: dict[Engine, str] = {"torch": "PyTorch", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
EXTRA = "pip install 'verydeep[fast]'"
PHOTOS, TURNS = 8, 3  # of a measurement
FEW = 20  # photos of net D, which take less time than other engines to start


class Runtime(NamedTuple):
    engine: Engine
    precision: Precision
    why: str = ""  # for people, where there is anything to say

    @property
    def line(self) -> str:
        return f"engine: {TITLES[self.engine]} in {self.precision}" + f" ({self.why})" * bool(self.why)


def chosen(
    asked: Engine, device: str, precision: Precision | None = None, nets: Sequence[Classifier] = (),
    photos: int = FEW + 1,
) -> Runtime:  # fmt: skip
    """The engine for a device, and the precision, where that is left open: what is faster there.

    asked: a name, of which ConfigError is raised where it is not installed; `auto`: on a CPU OpenVINO, which was the
    fastest on crops wherever it was measured, then ONNX Runtime in fp32, then PyTorch, which computes on all other
    devices, and few photos, as it starts first; `measure`: the fastest on crops of these nets, remembered by processor,
    threads and versions. Says so on stderr.
    """
    here = precision or ("bf16" if multiplies_bf16(torch.device(device)) else "fp32")
    if asked == "auto":
        few = device == "cpu" and photos <= FEW
        found = Runtime("torch", here, "which starts first") if few else by_rule(device, here)
    elif asked == "measure" and device == "cpu" and nets:
        found = by_measure(here, nets)
    elif asked in ("torch", "measure"):
        found = Runtime("torch", here)
    elif why := missing_for(asked):
        raise ConfigError(
            f"engine: {asked} cannot be used, {why}; {EXTRA} brings it, and --engine torch is always there"
        )
    else:
        found = Runtime(asked, here if asked == "openvino" else precision or "fp32")
    if asked in ("auto", "measure") and os.environ.get("RANK", "0") == "0":
        tell(found.line)
    return found


@cache
def tell(line: str) -> None:
    """Once."""
    print(line, file=sys.stderr)


def by_rule(device: str, precision: Precision) -> Runtime:
    if device != "cpu" or precision == "fp64":
        return Runtime("torch", precision)
    if not (without := missing_for("openvino")):
        return Runtime("openvino", precision)
    if precision == "fp32" and not missing_for("onnxruntime"):
        return Runtime("onnxruntime", precision)
    return Runtime("torch", precision, f"{without}; {EXTRA} brings OpenVINO, which is faster")


@cache
def missing_for(engine: str) -> str:
    """Why an engine cannot be used; nothing where it can."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # which its import begins
    for name in (engine, "onnx"):
        try:
            import_module(name)
        except ModuleNotFoundError as e:
            return f"{e.name or name} is not installed"
        except Exception as e:  # whatever a broken installation says
            return f"{name} cannot be loaded here: {(str(e).splitlines() or [type(e).__name__])[0]:.120}"
    return ""


def by_measure(precision: Precision, nets: Sequence[Classifier]) -> Runtime:
    """The engine that took least time for crops of these nets; one that computes no bf16 does not take part in it."""
    names = [n for n in TITLES if n == "torch" or not (missing_for(n) or (n, precision) == ("onnxruntime", "bf16"))]
    versions, shapes = {name: version(name) for name in names}, [vars(net.contract.shape) for net in nets]
    kept = (
        measured_folder() / f"{seal_of(machine() | {'precision': precision} | versions | {'nets': shapes})[:32]}.json"
    )
    with suppress(VeryDeepError):
        if kept.exists() and (known := read_json(kept).get("engine")) in names:
            return Runtime(known, precision, "as measured before")
    seconds = {name: [0.0] * TURNS for name in names}
    for net in nets:
        crop = net.contract.crop
        photos = torch.randint(0, 256, (PHOTOS, crop, crop, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
        taps = () if net.net.fc6 else ("pool5",)
        scorers = {name: scorer_for(net, name, precision, taps=taps) for name in names}
        for turn, (name, score) in product(range(-1, TURNS), scorers.items()):
            began = time.perf_counter()
            score(photos)
            if turn >= 0:  # the first prepares
                seconds[name][turn] += time.perf_counter() - began
    best = min(names, key=lambda name: median(seconds[name]))
    rates = (f"{TITLES[name]} {PHOTOS * len(nets) / median(seconds[name]):.3g}" for name in names)
    why = f"crops a second: {', '.join(rates)}"
    try:
        write_json(kept, {"engine": best})
    except RunError as e:
        why += f"; not remembered, {e}"
    return Runtime(best, precision, why)


def measured_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "verydeep" / "engines"
