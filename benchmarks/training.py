"""Training on small photos beside a plain PyTorch loop of the same net: photos a second, and their ratio.

    python benchmarks/training.py --nets A D --batch 256

The plain loop is what a user writes first: fp32, channels first, torch.optim.SGD, ready float crops. Ours is
the training step of verydeep with its own batches of builtin:fashion-mini, mirrored and shifted in colour. Beside both
stands what would be reached if each operation took what it takes in a product of matrices, and ours as a share of it.
Each measurement is a process of its own; they take turns, and the ratio is that of neighbours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from verydeep.config import Config
from verydeep.data.record import DataSet
from verydeep.data.source import open_data
from verydeep.hardware import machine, multiplies_bf16
from verydeep.net.sizes import sizes
from verydeep.net.vgg import VGG, column
from verydeep.progress import Progress
from verydeep.run import open_run
from verydeep.shape import Shape
from verydeep.train.loop import gradients
from verydeep.train.prepare import prepare

WARM, TIMED = 1, 3


def plain_net(name: str, fc_width: int, crop: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for block in column(name):
        for layer in block:
            layers += [nn.Conv2d(channels, layer.width, layer.kernel, padding=layer.kernel // 2), nn.ReLU(inplace=True)]
            channels = layer.width
        layers.append(nn.MaxPool2d(2, 2))
    widths = ((512 * (crop // 32) ** 2, fc_width), (fc_width, fc_width))
    head = [m for a, b in widths for m in (nn.Linear(a, b), nn.ReLU(inplace=True), nn.Dropout())]
    return nn.Sequential(*layers, nn.Flatten(), *head, nn.Linear(fc_width, 10))


def timed(step: Callable[[], object], photos: float) -> float:
    for _ in range(WARM):
        step()
    began = time.perf_counter()
    for _ in range(TIMED):
        step()
    return TIMED * photos / (time.perf_counter() - began)


def measure_plain(name: str, batch: int, fc_width: int, crop: int) -> float:
    net = plain_net(name, fc_width, crop)
    optimizer = torch.optim.SGD(net.parameters(), 1e-2, 0.9, weight_decay=5e-4)
    x, y = torch.randn(batch, 3, crop, crop), torch.randint(10, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    return timed(step, batch)


def measure_ours(name: str, batch: int, fc_width: int, crop: int) -> float:
    config = Config(net=name, crop=crop, fc_width=fc_width, scale=round(crop * 8 / 7), batch=batch)  # type: ignore[arg-type]
    data: DataSet = open_data("builtin:fashion-mini")
    with tempfile.TemporaryDirectory() as folder, open_run(Path(folder) / "run", config) as run:
        job = prepare(run, data, config, Progress("none"))
        net = job.classifier.net.train()
        optimizer = torch.optim.SGD(
            net.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay, fused=True
        )
        batches = (b for epoch in range(100) for b in job.batches.epoch(epoch) if len(b.targets) == batch)

        def step() -> None:
            gradients(job, job.classifier.net, batch := next(batches), 0, len(batch.targets))
            optimizer.step()
            optimizer.zero_grad()

        return timed(step, batch)


def measure_product(name: str, batch: int, fc_width: int, crop: int) -> float:
    """Photos a second if each operation of training took what it takes in a product of matrices 4096 x 4096."""
    a = torch.rand(4096, 4096, dtype=torch.bfloat16 if multiplies_bf16(torch.device("cpu")) else torch.float32)
    net = VGG(**vars(Shape(name, classes=10, crop=crop, fc_width=fc_width)), device="meta")
    return timed(lambda: a @ a, 4096**3 / (3 * sum(s.multiply_adds for s in sizes(net))))


MEASURES = {"plain": measure_plain, "ours": measure_ours, "product": measure_product}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=["A", "D"])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--fc-width", type=int, default=512)
    parser.add_argument("--crop", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", choices=list(MEASURES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        rate = MEASURES[args.measure](args.nets[0], args.batch, args.fc_width, args.crop)
        print(json.dumps(rate))
        return
    rows = []
    for net in args.nets:
        own = {"nets": net, "batch": args.batch, "fc-width": args.fc_width, "crop": args.crop}
        command = [sys.executable, __file__, *(str(x) for name, value in own.items() for x in (f"--{name}", value))]
        pairs = []
        for _ in range(args.repeats):
            answers = [
                subprocess.run([*command, "--measure", which], check=True, capture_output=True, text=True).stdout
                for which in MEASURES
            ]
            pairs.append([float(a.splitlines()[-1]) for a in answers])
            print(f"{net}: plain {pairs[-1][0]:.0f}, ours {pairs[-1][1]:.0f} photos/s", file=sys.stderr)
        plain, ours, product = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = sorted(b / a for a, b, _ in pairs)
        rows.append(
            {
                "net": net,
                "plain": plain,
                "ours": ours,
                "of the product of matrices": ours / product,
                "ratio": statistics.median(ratios),
                "least": ratios[0],
                "most": ratios[-1],
            }
        )
    print(
        json.dumps(
            {
                "machine": machine(),
                "batch": args.batch,
                "crop": args.crop,
                "fc_width": args.fc_width,
                "repeats": args.repeats,
                "rows": rows,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
