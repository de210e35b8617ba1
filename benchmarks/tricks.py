"""What each trick of the recipe `modern` is worth: alone on the paper's recipe, and left out of `modern`.

    python benchmarks/tricks.py --out runs/tricks.jsonl
    python benchmarks/tricks.py --photos 55000 --net D --base_width 32 --batch 128 --scale 34 --out runs/all.jsonl

Unless told otherwise net A at a quarter of its width, 6,000 photos of Fashion-MNIST, 10 epochs of batches of 64, three
seeds, centre crop. A loop of its own, so that a trick that does not help needs no code in the package; in bf16 where
the machine multiplies it. About a minute a row on one thread; what the file has already is not trained again. Choose by
the errors on the 5,000 validation photos.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import re
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from verydeep import VGG
from verydeep.data.builtin import open_builtin
from verydeep.data.record import Photos
from verydeep.data.split import fewer
from verydeep.hardware import multiplies_bf16
from verydeep.net.initialise import initialise

CROP = 32


@dataclass(frozen=True)
class Size:
    """What is the same for all ways."""

    net: str = "A"
    base_width: int = 16
    photos: int = 6000
    epochs: int = 10
    batch: int = 64
    scale: int = 36


@dataclass(frozen=True)
class Way:
    """The paper's way, at a batch of 64."""

    init: str = "glorot"  # he, orthogonal, lsuv
    batch_norm: bool = False
    lr: float = 0.0025
    clip: float = 0.0
    schedule: str = "drops"  # cosine, cycle
    nesterov: bool = False
    weight_decay: float = 5e-4
    smoothing: float = 0.0
    dropout: float = 0.5
    unit: bool = False  # pixels divided by their standard deviation
    colour: bool = True
    flip: str = "chance"  # turns, never
    erase: float = 0.0
    average: float = 0.0
    wider: int = 0  # S is drawn from `scale` to as much more


PAPER = Way()
MODERN = Way(
    batch_norm=True, lr=0.1, schedule="cycle", nesterov=True, weight_decay=0.002, smoothing=0.1, dropout=0.2, unit=True,
    colour=False,
)  # fmt: skip
PLAIN = replace(MODERN, batch_norm=False, init="he", lr=0.02, weight_decay=0.001)
LARGE = replace(MODERN, weight_decay=5e-4)  # for many photos
WAYS = {
    "paper": PAPER, "modern": MODERN, "large": LARGE, "modern, but rate and decay": replace(LARGE, lr=0.05),
    "modern without batch norm: He, 0.02, decay 0.001": PLAIN,
} | {
    f"{name} {key} {value}": replace(way, **{key: value})
    for name, way, changes in (
        ("modern, but", MODERN, {
            "init": ["he", "orthogonal", "lsuv"], "schedule": ["cosine", "drops"], "lr": [0.05], "nesterov": [False],
            "weight_decay": [5e-4, 1e-3], "smoothing": [0.0], "dropout": [0.5], "unit": [False],
            "flip": ["turns", "never"], "erase": [0.5], "average": [0.998], "wider": [6], "colour": [True],
        }),
        ("large, but", LARGE, {
            "batch_norm": [False], "schedule": ["drops"], "nesterov": [False], "smoothing": [0.0], "dropout": [0.5],
            "flip": ["never"], "erase": [0.5], "average": [0.998], "wider": [6],
        }),
        ("without batch norm,", PLAIN, {"init": ["glorot", "orthogonal", "lsuv"], "clip": [1.0], "dropout": [0.0]}),
        ("paper, but", PAPER, {
            "batch_norm": [True], "init": ["he", "orthogonal", "lsuv"], "schedule": ["cosine", "cycle"], "lr": [0.01],
            "nesterov": [True], "smoothing": [0.1], "dropout": [0.2], "unit": [True], "flip": ["turns"], "erase": [0.5],
            "average": [0.998],
        }),
    )
    for key, values in changes.items()
    for value in values
}  # fmt: skip


def pixels(photos: Photos, scale: int) -> tuple[Tensor, Tensor]:
    """Grey uint8 N x S x S, and the classes."""
    found = [np.array(photos.open(i).resize((scale, scale), 2))[..., 0] for i in range(len(photos))]
    return torch.from_numpy(np.stack(found)), torch.from_numpy(photos.targets())


def first_weights(net: VGG, how: str, seed: int, x: Tensor) -> None:
    """Glorot's, He's, orthogonal ones, or orthogonal ones scaled so that each layer says numbers of size one."""
    if how in ("glorot", "he"):
        return initialise(net, how, seed, None)
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    for m in layers:
        nn.init.orthogonal_(m.weight, gain=math.sqrt(2))
        nn.init.zeros_(m.bias)
    if how == "lsuv":
        for m in layers:
            said: list[Tensor] = []
            hook = m.register_forward_hook(lambda _m, _x, y, said=said: said.append(y))
            with torch.no_grad():
                net.eval()(x)
            hook.remove()
            m.weight.data /= said[0].std()
    return None


def rate(way: Way, t: float) -> float:
    """At a share t of all steps."""
    if way.schedule == "drops":
        return way.lr * (1 if t < 0.6 else 0.1 if t < 0.85 else 0.01)
    rise = 0.2 if way.schedule == "cycle" else 0.0
    if t < rise:
        return way.lr * (0.04 + 0.96 * t / rise)
    return way.lr * 0.5 * (1 + math.cos(math.pi * (t - rise) / (1 - rise)))


def middle(x: Tensor) -> Tensor:
    """The centre crops of N x S x S."""
    edge = (x.shape[1] - CROP) // 2
    return x[:, edge : edge + CROP, edge : edge + CROP]


def crops(way: Way, x: Tensor, ids: Tensor, epoch: int, mirrored_first: Tensor, g: torch.Generator) -> Tensor:
    """Uint8 B x 32 x 32 at random places, mirrored by chance, by turns or never."""
    x = x[ids]
    if way.wider:  # one S for the photos of a batch
        side = x.shape[1] + int(torch.randint(way.wider + 1, (), generator=g))
        x = F.interpolate(x[:, None], (side, side), mode="bilinear", antialias=True)[:, 0]
    corners = torch.randint(0, x.shape[1] - CROP + 1, (len(ids), 2), generator=g).tolist()
    found = torch.stack([one[t : t + CROP, s : s + CROP] for one, (t, s) in zip(x, corners, strict=True)])
    chance = torch.rand(len(ids), generator=g) < 0.5
    flip = {"chance": chance, "turns": mirrored_first[ids] ^ bool(epoch % 2), "never": torch.zeros_like(chance)}[
        way.flip
    ]
    return torch.where(flip[:, None, None], found.flip(2), found)


def erased(x: Tensor, share: float, g: torch.Generator) -> Tensor:
    """With a rectangle of 6 to 16 pixels a side set to the mean, in a share of the photos."""
    for one in x:
        if torch.rand((), generator=g) < share:
            h, w = torch.randint(6, 17, (2,), generator=g).tolist()
            t, s = (int(torch.randint(0, CROP + 1 - side, (1,), generator=g)) for side in (h, w))
            one[:, t : t + h, s : s + w] = 0
    return x


def wrong(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Percent, by the centre crop."""
    net.eval()
    with torch.no_grad():
        parts = zip(x.split(500), y.split(500), strict=True)
        count = sum(int((net(part).argmax(1) != targets).sum()) for part, targets in parts)
    return 100 * count / len(y)


def trained(way: Way, size: Size, seed: int, data: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Errors in percent on validation and test photos after training this way, and the seconds it took."""
    bf16 = multiplies_bf16(torch.device("cpu"))
    (x, y), g = data["train"], torch.Generator().manual_seed(seed)
    mean, spread = x.float().mean(), x.float().std()

    def taken(b: Tensor) -> Tensor:
        b = (b[:, None].expand(-1, 3, -1, -1).float() - mean) / (spread if way.unit else 1)
        return b.contiguous(memory_format=torch.channels_last)

    torch.manual_seed(seed)
    net: nn.Module = VGG(
        size.net, classes=10, crop=CROP, fc_width=512, base_width=size.base_width, batch_norm=way.batch_norm,
        dropout=way.dropout, pooling="down",
    )  # fmt: skip
    first_weights(net, way.init, seed, taken(middle(x[:256])))  # type: ignore[arg-type]
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    descent = torch.optim.SGD(net.parameters(), way.lr, 0.9, weight_decay=way.weight_decay, nesterov=way.nesterov)
    mirrored_first, mean_net = torch.rand(len(x), generator=g) < 0.5, copy.deepcopy(net)
    per, order, began = len(x) // size.batch, torch.arange(len(x)), time.perf_counter()
    for step in range(per * size.epochs):
        epoch, place = divmod(step, per)
        order = torch.randperm(len(x), generator=g) if place == 0 else order
        ids = order[place * size.batch : (place + 1) * size.batch]
        seen = taken(crops(way, x, ids, epoch, mirrored_first, g))
        if way.colour:
            seen = seen + torch.randn(size.batch, 1, 1, 1, generator=g) * 0.1 * (1 if way.unit else spread)
        if way.erase:
            seen = erased(seen, way.erase, g)
        for group in descent.param_groups:
            group["lr"] = rate(way, step / (per * size.epochs))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            said = net.train()(seen)
        loss = F.cross_entropy(said.float(), y[ids], label_smoothing=way.smoothing)
        descent.zero_grad()
        loss.backward()
        if way.clip:
            nn.utils.clip_grad_norm_(net.parameters(), way.clip)
        descent.step()
        if way.average:
            kept = min(way.average, (1 + step) / (10 + step))
            for old, new in zip(mean_net.state_dict().values(), net.state_dict().values(), strict=True):
                old.copy_(old * kept + new * (1 - kept) if old.is_floating_point() else new)
    seconds, judged = time.perf_counter() - began, mean_net if way.average else net
    found = {s: wrong(judged, taken(middle(data[s][0])), data[s][1]) for s in ("val", "test")}
    return {**found, "seconds": round(seconds, 1)}


def table(rows: Iterable[dict[str, float | str]]) -> str:
    by_way: dict[str, list[dict[str, float | str]]] = {}
    for row in rows:
        by_way.setdefault(str(row["way"]), []).append(row)
    lines = ["| way | validation | test | seeds |", "| --- | --- | --- | --- |"]
    for way, found in by_way.items():
        cells = []
        for split in ("val", "test"):
            values = [float(r[split]) for r in found]
            spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        lines.append(f"| {way} | {' | '.join(cells)} | {len(found)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    for name, value in asdict(Size()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--ways", default="", help="only those in whose names this pattern is found")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    size = Size(**{name: getattr(args, name) for name in asdict(Size())})
    done = {(r["way"], r["seed"]) for r in rows if r["size"] == asdict(size)}
    fashion = fewer(open_builtin("fashion"), size.photos)
    data = {name: pixels(fashion.split(name), size.scale) for name in ("train", "val", "test")}
    for seed in args.seeds:
        for name, way in WAYS.items():
            if (name, seed) not in done and re.search(args.ways, name):
                found = trained(way, size, seed, data)
                rows.append({"way": name, "seed": seed, **found, "fields": asdict(way), "size": asdict(size)})
                with args.out.open("a") as f:
                    f.write(json.dumps(rows[-1]) + "\n")
                print({k: v for k, v in rows[-1].items() if k not in ("fields", "size")}, flush=True)
    print(table(r for r in rows if r["size"] == asdict(size)))


if __name__ == "__main__":
    main()
