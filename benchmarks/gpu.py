"""What a CUDA device reaches with net D at 224: inference and training, as verydeep runs it and as it could be run.

    python benchmarks/gpu.py --out runs/gpu

Beside the figures stand the device's own product of matrices in bf16 and the share of it that each way reaches. Every
way begins with uint8 photos that are copied to the device, as in real use, but for those called bare. Medians of so
many turns, all ways of a part in turns. Goals: inference at least 13,000 photos a second on an H100 and 1.5 times
eager; training at least 4,000. `--device cpu --batch 2 --base_width 8` only shows that the script runs.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from inference import classifier, in_turns, plain
from torch import nn

from verydeep.engines import scorer_for
from verydeep.hardware import machine
from verydeep.net.classifier import Classifier
from verydeep.net.sizes import sizes

Work = Callable[[], Any]


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
        c = classifier("D", given.base_width)
        work = times * sum(layer.multiply_adds for layer in sizes(c.net)) / 1e12
        found = in_turns(make(c, given.batch, given.device), given.turns, wait)
        rates = {name: given.batch / s for name, s in found.items()}
        print(f"\n{part}, net D at 224, batch {given.batch}")
        for name, rate in rates.items():
            print(f"  {name:<45}{rate:12,.1f} photos a second {100 * rate * work / top:7.1f} % of the product")
        with (given.out / "results.jsonl").open("a") as f:
            f.write(json.dumps({"part": part, "found": rates, "product": top, "machine": machine()}) + "\n")
