"""Shards of 1.3 million photos: seconds to open, and memory of one and of two processes beside an empty data set.

    python benchmarks/shards.py --photos 1300000

The index is that of as many photos as ImageNet has in its 1,000 classes; they share a few hundred real ones in 540
shards (sparse files), so that little disk is needed. Each process opens the data, draws two epochs' order and reads
crops through Batches. Memory is the process's own (USS), and its share of what several have in common (PSS).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from verydeep.config import Config
from verydeep.data.batches import Batches, class_of
from verydeep.data.order import epoch_order
from verydeep.data.photo import encode
from verydeep.data.record import Names
from verydeep.data.source import open_data
from verydeep.data.statistics import Statistics
from verydeep.hardware import machine
from verydeep.shards.index import Index, Shard, save_index

SHARDS, CLASSES, REAL, ROOM = 540, 1_000, 300, 1 << 16


def build(folder: Path, photos: int) -> str:
    """An index of so many photos; each shard holds the same few."""
    random = np.random.default_rng(0)
    real = [encode(random.integers(0, 255, (96, 128, 3), dtype=np.uint8), "JPEG") for _ in range(REAL)]
    offsets = np.arange(REAL, dtype=np.int64) * ROOM
    for n in range(SHARDS):
        with (folder / f"big-train-{n:05d}.tar").open("wb") as f:
            f.truncate(REAL * ROOM)
            if n == 0:
                for at, content in zip(offsets, real, strict=True):
                    f.seek(at)
                    f.write(content)
        if n:
            (folder / f"big-train-{n:05d}.tar").unlink()
            (folder / f"big-train-{n:05d}.tar").hardlink_to(folder / "big-train-00000.tar")
    labels = np.arange(photos, dtype=np.int64) * CLASSES // photos
    chosen = random.integers(0, REAL, photos)
    index = Index(
        tuple(f"n{c:08d}" for c in range(CLASSES)),
        (("train", photos),),
        tuple(Shard(f"big-train-{n:05d}.tar", REAL * ROOM, "0" * 64) for n in range(SHARDS)),
        Names.of(f"n{c:08d}/n{c:08d}_{i}.JPEG" for i, c in enumerate(labels.tolist())),
        random.integers(0, SHARDS, photos).astype(np.int32),
        offsets[chosen],
        np.array([len(c) for c in real], np.int32)[chosen],
        labels,
    )
    save_index(index, folder / "big.index")
    return str(folder / "big-*.tar")


def memory() -> dict[str, float]:
    """MB of this process: all, its own, and with its share of what is shared."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    found = {line.split(":")[0]: int(line.split()[1]) / 1000 for line in lines}
    return {"rss": found["Rss"], "uss": found["Private_Clean"] + found["Private_Dirty"], "pss": found["Pss"]}


def work(data: str, read: int, shares: bool) -> dict[str, float]:
    """What one process does, with its figures."""
    open_data("builtin:fashion-mini")  # what every process has loaded
    began = time.perf_counter()
    photos = open_data(data, (0.1, 0.1) if shares else None).split("train")
    opened = time.perf_counter() - began
    if read:
        config = Config(crop=64, scale=72, batch=64, workers=2)
        batches = Batches(
            photos,
            config,
            Statistics((0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (1.0, 1.0, 1.0), 1),
            class_of(photos),
        )
        for epoch in range(2):
            epoch_order(0, epoch, photos)
            found = batches.epoch(epoch)
            began = time.perf_counter()
            for _ in range(min(read // 2 // config.batch, len(batches))):
                next(found)
            rate = read // 2 / (time.perf_counter() - began)
            found.close()
    else:
        rate = 0.0
    print("ready", flush=True)
    told()
    return {"seconds": opened, "photos": len(photos), "crops_per_second": rate, **memory()}


def told() -> None:
    """Waits for a line, so that two processes are measured while both are there."""
    sys.stdin.readline()


def processes(count: int, data: str, *words: str) -> list[dict[str, float]]:
    command = [sys.executable, __file__, "--data", data, *words]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    lines = []
    for _ in ("ready", "figures"):  # every process answers, then all go on
        lines = [p.stdout.readline() for p in running if p.stdout]
        for p in running:
            print(file=p.stdin, flush=True)
    for p in running:
        p.communicate()
    return [json.loads(line) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1_300_000)
    parser.add_argument("--read", type=int, default=4096)
    parser.add_argument("--shares", action="store_true", help="hold photos out for validation")
    parser.add_argument("--data", help=argparse.SUPPRESS)
    args = parser.parse_args()
    more = ["--read", str(args.read), *(["--shares"] if args.shares else [])]
    if args.data:
        print(json.dumps(work(args.data, args.read, args.shares)), flush=True)
        told()
        return
    with tempfile.TemporaryDirectory() as folder:
        data = build(Path(folder), args.photos)
        small = Path(folder) / "small"
        small.mkdir()
        empty = processes(1, build(small, 10 * CLASSES), *more)[0]
        one, two = processes(1, data, *more)[0], processes(2, data, *more)
        index = os.path.getsize(Path(folder) / "big.index") / 1e6
    beyond = {kind: round(one[kind] - empty[kind]) for kind in ("rss", "uss", "pss")}
    both = round(sum(p["pss"] for p in two) - 2 * empty["uss"])
    figures = {
        "index_mb": round(index),
        "empty": empty,
        "one": one,
        "two": two,
        "one_beyond_mb": beyond,
        "two_beyond_mb": both,
    }
    print(json.dumps({"machine": machine(), "photos": args.photos, "shares": args.shares, **figures}, indent=1))


if __name__ == "__main__":
    main()
