"""What a CUDA device reaches with net D at 224: inference and training, as verydeep runs it and as it could be run.

    python benchmarks/gpu.py --out runs/gpu

Beside the figures stand the device's own product of matrices in bf16 and the share of it that each way reaches. Every
way begins with uint8 photos that are copied to the device, as in real use, but for those called bare. Medians of so
many turns, all ways of a part in turns. Goals: inference at least 13,000 photos a second on an H100 and 1.5 times
eager; training at least 4,000. `--device cpu --batch 2 --base_width 8` only shows that the script runs.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from verydeep.contract import Contract
from verydeep.engines import scorer_for
from verydeep.hardware import machine
from verydeep.net.classifier import Classifier, build
from verydeep.net.sizes import sizes
from verydeep.shape import Shape

Work = Callable[[], Any]


def classifier(base_width: int) -> Classifier:
    torch.manual_seed(0)
    names = [f"class {i}" for i in range(1000)]
    contract = Contract.of(
        Shape("D", base_width=base_width), names, mean=(123.7, 116.8, 103.9), std=(58.4, 57.1, 57.4), scales=(256, 256)
    )
    return build(contract).eval()


def plain(c: Classifier) -> nn.Sequential:
    """The net as everybody writes it."""
    layers: list[nn.Module] = []
    for block in c.net.blocks:
        for layer in block:
            own = getattr(c.net, layer.name)
            layers += [nn.Conv2d(own.weight.shape[1], own.weight.shape[0], 3, padding=1), nn.ReLU(inplace=True)]
            layers[-2].load_state_dict(own.state_dict())
        layers.append(nn.MaxPool2d(2, 2))
    fc6, fc7, fc8 = (nn.Linear(fc.in_features, fc.out_features) for fc in (c.net.fc6, c.net.fc7, c.net.fc8))
    return nn.Sequential(*layers, nn.Flatten(), fc6, nn.ReLU(), nn.Dropout(), fc7, nn.ReLU(), nn.Dropout(), fc8)


def in_turns(ways: dict[str, Work], turns: int, wait: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each; two turns prepare."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-2, turns):
        for name, work in ways.items():
            wait()
            began = time.perf_counter()
            work()
            wait()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return {name: median(own) for name, own in seconds.items()}


def inference(c: Classifier, batch: int, device: str) -> dict[str, Work]:
    photos = torch.randint(0, 256, (batch, 224, 224, 3), dtype=torch.uint8)
    pixels = photos.pin_memory() if device == "cuda" else photos
    half = plain(c).eval().to(device, torch.bfloat16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    floats = torch.randn(batch, 3, 224, 224, device=device, dtype=torch.bfloat16)
    last, compiled = floats.contiguous(memory_format=torch.channels_last), torch.compile(half)
    own = scorer_for(c, "torch", "bf16", device)
    autocast = plain(c).eval().to(device)

    @torch.no_grad()
    def bare(net: Any, x: torch.Tensor) -> Any:
        return net(x)

    @torch.no_grad()
    def as_users_do() -> Any:
        with torch.autocast(device, torch.bfloat16):
            return autocast(floats.float())

    return {
        "bare, eager, bf16, channels last": lambda: bare(half, last),
        "bare, torch.compile, bf16, channels last": lambda: bare(compiled, last),
        "bare, autocast, as users run it": as_users_do,
        "verydeep, from uint8": lambda: own(pixels.permute(0, 3, 1, 2)),
    }


def training(c: Classifier, batch: int, device: str) -> dict[str, Work]:
    photos = torch.randint(0, 256, (batch, 224, 224, 3), dtype=torch.uint8)
    pixels = photos.pin_memory() if device == "cuda" else photos
    truth = torch.randint(0, 1000, (batch,), device=device)

    def step_of(net: nn.Module, logits: Callable[[], torch.Tensor], fused: bool) -> Work:
        optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4, fused=fused)

        def step() -> None:
            with torch.autocast(device, torch.bfloat16):
                loss = F.cross_entropy(logits().float(), truth)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        return step

    floats = torch.randn(batch, 3, 224, 224, device=device).contiguous(memory_format=torch.channels_last)
    eager, other = (plain(c).train().to(device, memory_format=torch.channels_last) for _ in range(2))  # type: ignore[call-overload]
    compiled, own = torch.compile(other), c.train().to(device)
    ready = lambda: own(pixels.to(device, non_blocking=True).permute(0, 3, 1, 2))  # noqa: E731
    return {
        "eager, bf16, channels last": step_of(eager, lambda: eager(floats), False),
        "torch.compile, fused SGD": step_of(other, lambda: compiled(floats), True),
        "verydeep's net, from uint8": step_of(own, ready, True),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--base_width", type=int, default=64)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    wait = torch.cuda.synchronize if given.device == "cuda" else lambda: None
    side = 8192 if given.device == "cuda" else 1024
    a = torch.randn(side, side, device=given.device, dtype=torch.bfloat16)
    top = 2 * side**3 / in_turns({"product": lambda: a @ a}, given.turns, wait)["product"] / 1e12
    print(machine(), f"\nproduct of matrices in bf16: {top:.4g} T operations a second")
    for part, make, times in (("inference", inference, 2), ("training", training, 6)):
        c = classifier(given.base_width)
        work = times * sum(layer.multiply_adds for layer in sizes(c.net)) / 1e12
        found = in_turns(make(c, given.batch, given.device), given.turns, wait)
        rates = {name: given.batch / s for name, s in found.items()}
        print(f"\n{part}, net D at 224, batch {given.batch}")
        for name, rate in rates.items():
            print(f"  {name:<45}{rate:12,.1f} photos a second {100 * rate * work / top:7.1f} % of the product")
        with (given.out / "results.jsonl").open("a") as f:
            f.write(json.dumps({"part": part, "found": rates, "product": top, "machine": machine()}) + "\n")
