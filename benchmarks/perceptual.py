"""Memory of a distance and its gradient in the picture: `checkpoint=True` beside a plain implementation.

    python benchmarks/perceptual.py

Each in a process of its own, which says how much its resident memory peaked and how long it took. Net D at full width
with random weights, and random heads in the published layout: memory does not depend on values.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from verydeep import perceptual
from verydeep.contract import Contract
from verydeep.net.classifier import build
from verydeep.shape import Shape

WIDTHS = (64, 128, 256, 512, 512)
GRAMS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
KINDS = ("nothing", "LPIPS", "DISTS", "Content", "Style")


class Plain(nn.Module):
    """VGG-16 as it is usually written: a row of layers, all maps of which autograd keeps."""

    def __init__(self, blurs: bool) -> None:
        super().__init__()
        self.layers, self.names, channels = nn.ModuleList(), [], 3
        for block, (width, count) in enumerate(zip(WIDTHS, (2, 2, 3, 3, 3), strict=True), 1):
            for i in range(count):
                self.layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                self.names += [f"conv{block}_{i + 1}", f"relu{block}_{i + 1}"]
                channels = width
            self.layers.append(Blur(width) if blurs else nn.MaxPool2d(2))
            self.names.append(f"pool{block}")
        self.requires_grad_(False)

    def forward(self, x: Tensor, wanted: tuple[str, ...]) -> list[Tensor]:
        found = []
        for name, layer in zip(self.names, self.layers, strict=True):
            x = layer(x)
            if name in wanted:
                found.append(x)
            if len(found) == len(wanted):
                return found
        raise ValueError(wanted)


class Blur(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("window", (row[:, None] * row).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (F.conv2d(x**2, self.window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


def plain(kind: str, x: Tensor, y: Tensor, heads: dict[str, Tensor]) -> Tensor:
    wanted = {"Style": GRAMS, "Content": ("relu4_2",)}.get(kind, LAYERS)
    net = Plain(kind == "DISTS")
    of_x, of_y = net(x, wanted), net(y, wanted)
    total = torch.zeros(())
    for i, (a, b) in enumerate(zip(of_x, of_y, strict=True)):
        if kind == "LPIPS":
            a, b = (m / (m.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for m in (a, b))
            total = total + F.conv2d((a - b) ** 2, heads[f"lin{i}.model.1.weight"]).mean()
        elif kind == "DISTS":
            mean_a, mean_b = a.mean((2, 3), keepdim=True), b.mean((2, 3), keepdim=True)
            var_a, var_b = ((a - mean_a) ** 2).mean((2, 3)), ((b - mean_b) ** 2).mean((2, 3))
            both = (a * b).mean((2, 3)) - (mean_a * mean_b).flatten(1)
            total = total + ((2 * mean_a * mean_b + 1e-6) / (mean_a**2 + mean_b**2 + 1e-6)).sum()
            total = total + ((2 * both + 1e-6) / (var_a + var_b + 1e-6)).sum()
        elif kind == "Style":
            a, b = (m.flatten(2) @ m.flatten(2).transpose(1, 2) / m[0, 0].numel() for m in (a, b))
            total = total + F.mse_loss(a, b)
        else:
            total = total + F.mse_loss(a, b)
    return total


def ours(kind: str, x: Tensor, y: Tensor, heads: dict[str, Tensor], checkpoint: bool) -> Tensor:
    net = build(Contract.of(Shape("D", 1, 32, 1), ("",), mean=(127.5,) * 3, std=(64.0,) * 3, scales=(32, 32)))
    if kind in ("Content", "Style"):
        return getattr(perceptual, kind)(net, checkpoint=checkpoint)(x, y).sum()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(heads, Path(folder) / "heads.pth")
        return getattr(perceptual, kind)(net, Path(folder) / "heads.pth", checkpoint=checkpoint)(x, y).sum()


def heads_of(kind: str) -> dict[str, Tensor]:
    if kind == "LPIPS":
        return {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(WIDTHS)}
    return {name: torch.rand(1, 3 + sum(WIDTHS), 1, 1) for name in ("alpha", "beta")}


def measure(kind: str, way: str, side: int) -> None:
    torch.manual_seed(0)
    x, y = torch.rand(1, 3, side, side, requires_grad=True), torch.rand(1, 3, side, side)
    heads, began = heads_of(kind), time.perf_counter()
    if kind != "nothing":
        (plain(kind, x, y, heads) if way == "plain" else ours(kind, x, y, heads, way == "checkpoint")).backward()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, round(time.perf_counter() - began, 1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--one", nargs=2)
    asked = parser.parse_args()
    if asked.one:
        measure(*asked.one, asked.side)
        sys.exit()
    for kind in KINDS:
        for way in ("plain", "ours", "checkpoint") if kind != "nothing" else ("-",):
            words = [sys.executable, __file__, "--side", str(asked.side), "--one", kind, way]
            mib, seconds = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
            print(f"{kind:8}{way:11}{int(mib):6,} MiB {seconds:>6} s", flush=True)
