"""The left side of training, from JPEG files to normalised crops of 224 on the device, beside Pillow + torch.

    python benchmarks/data.py --workers 2 --repeats 5

Theirs is what torch's documentation shows: a Dataset that opens a file with Pillow, rescales its smallest side to 256,
cuts a random crop, mirrors it, and gives a normalised float tensor; a DataLoader with as many worker processes.
Ours is the Batches and the first step of verydeep's training with as many threads: full decoding, reduced decoding (the
default), and the second epoch of a small set that stays decoded in memory. All take turns on the same files; photos a
second are medians, ratios are medians of the ratios of neighbours. The consumer only waits, so the loader has them all.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from decoding import natural
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from verydeep.config import Config
from verydeep.data.batches import Batches, class_of
from verydeep.data.reading import Room, kept
from verydeep.data.record import Photos, files
from verydeep.data.statistics import Statistics
from verydeep.hardware import machine

SIZES = {(640, 427): 512, (2400, 1600): 64, (4000, 3000): 32}
STATISTICS = Statistics(
    (124.0, 117.0, 104.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (900.0, 80.0, 10.0), 1
)
MEAN = torch.tensor(STATISTICS.mean).view(3, 1, 1)


class Theirs(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[index]) as image:
            rgb = image.convert("RGB")
        ratio = 256 / min(rgb.size)
        rgb = rgb.resize((round(rgb.width * ratio), round(rgb.height * ratio)), Image.Resampling.BILINEAR)
        left, top = random.randint(0, rgb.width - 224), random.randint(0, rgb.height - 224)
        crop = rgb.crop((left, top, left + 224, top + 224))
        if random.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(crop)).permute(2, 0, 1).float() - MEAN, 0


def theirs(paths: list[Path], workers: int, batch: int) -> Callable[[], float]:
    loader = DataLoader(Theirs(paths), batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    return lambda: timed(lambda: sum(len(x.contiguous(memory_format=torch.channels_last)) for x, _ in loader))


def ours(photos: Photos, workers: int, batch: int) -> Callable[[], float]:
    batches = Batches(photos, Config(batch=batch, workers=workers), STATISTICS, class_of(photos))
    epochs = iter(range(10**6))

    def epoch() -> int:
        seen = 0
        for b in batches.epoch(next(epochs)):
            x = b.photos.float().sub_(MEAN).add_(b.shifts[:, :, None, None])
            seen += len(x.contiguous(memory_format=torch.channels_last))
        return seen

    return lambda: timed(epoch)


def timed(epoch: Callable[[], int]) -> float:
    began = time.perf_counter()
    return epoch() / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)  # the cores belong to the loaders
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        for (width, height), n in SIZES.items():
            names, data = [f"{width}-{i}.jpg" for i in range(n)], natural(width, height)
            for name in names:
                Path(folder, name).write_bytes(data)
            photos = files(folder, "train", names, np.zeros(n, np.int64))
            ways = {
                "Pillow + DataLoader": theirs([Path(folder, name) for name in names], args.workers, args.batch),
                "ours, full decoding": ours(photos, args.workers, args.batch),
                "ours": ours(kept(photos, Room(0), 256), args.workers, args.batch),
                "ours, kept in memory": ours(kept(photos, Room(8 << 30), 256), args.workers, args.batch),
            }
            for way in ways.values():
                way()  # starts processes, fills the page cache and the memory
            rates = [{name: way() for name, way in ways.items()} for _ in range(args.repeats)]
            print(f"{width} x {height}, {len(data) >> 10} KiB, {args.workers} workers")
            for name in ways:
                rate = statistics.median(r[name] for r in rates)
                ratio = statistics.median(r[name] / r["Pillow + DataLoader"] for r in rates)
                print(f"  {name:<22}{rate:8.1f} photos/s, {ratio:5.2f} x")


if __name__ == "__main__":
    main()
