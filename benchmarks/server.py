"""A server under load beside `predict` over the same JPEG files, and beside the bare net.

    python benchmarks/server.py --model runs/mine --out runs/server       # your net, on photos that are made here
    python benchmarks/server.py --net D --out runs/server                 # random weights (seed 0)

The server runs in a process of its own, `verydeep serve MODEL`, and so does the client, on the same machine: 1 to 64
connections that stay open, each asking on as soon as it is answered. `predict` runs before and after. The net alone is
the engine on crops that are ready, at batch 1 and 16. Latencies in milliseconds, as the client sees them; stages are
the server's own, medians. A JSON line for each figure goes to results.jsonl.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from verydeep.contract import Contract
from verydeep.engines import chosen, scorer_for
from verydeep.hardware import machine
from verydeep.net.classifier import build
from verydeep.predict import photos_in, predictions
from verydeep.shape import Shape
from verydeep.weights import load

CLIENTS = (1, 2, 4, 8, 16, 32, 64)


def make_photos(folder: Path, photos: int, width: int, height: int) -> None:
    """Smooth noise, about as large in bytes as a photograph of its size."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for i in range(photos):
        small = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=90)


def make_net(net: str, path: Path) -> str:
    torch.manual_seed(0)
    colours = {"mean": (123.7, 116.8, 103.9), "std": (58.4, 57.1, 57.4)}
    build(Contract.of(Shape(net), [f"class {i}" for i in range(1000)], scales=(256, 256), **colours)).save(path)
    return str(path)


def bare(model: str, batch: int, seconds: float) -> float:
    """Crops a second of the engine alone."""
    net = load(model)
    engine, precision, _ = chosen("auto", "cpu", nets=[net])
    score, crop = scorer_for(net, engine, precision), net.contract.crop
    photos = torch.randint(0, 256, (batch, crop, crop, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    score(photos)
    each, end = list[float](), time.perf_counter() + seconds
    while time.perf_counter() < end or len(each) < 3:
        began = time.perf_counter()
        score(photos)
        each.append(time.perf_counter() - began)
    return batch / median(each)


def predicted(model: str, folder: Path, seconds: float) -> float:
    """Photos a second of `predict`, from files to rows; the first pass prepares."""
    net, paths, done, began = load(model), photos_in([str(folder)]), 0, 0.0
    for row in predictions(net, paths[:32]):
        assert row.error is None
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:
        done += sum(row.error is None for row in predictions(net, paths))
    return done / (time.perf_counter() - began)


@contextmanager
def server(model: str):
    command = [sys.executable, "-m", "verydeep", "serve", model, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield json.loads(running.stdout.readline())["url"].rpartition(":")[2], running.pid
        finally:
            running.terminate()


def resident(pid: int) -> int:
    """Megabytes that a process holds (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 10**6


async def ask(port: int, bodies: list[bytes], first: int, end: float, found: list[tuple[float, int, bytes]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = first
    while time.perf_counter() < end:
        body, began = bodies[number % len(bodies)], time.perf_counter()
        writer.write(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        answer = await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
        found.append((time.perf_counter() - began, int(head.split()[1]), answer))
        if found[-1][1] != 200:
            await asyncio.sleep(0.1)
        number += 1
    writer.close()


async def client(port: int, clients: int, seconds: float, folder: Path) -> dict[str, object]:
    """In a process of its own."""
    bodies, found = [file.read_bytes() for file in sorted(folder.glob("*.jpg"))], list[tuple[float, int, bytes]]()
    began = time.perf_counter()
    await asyncio.gather(*(ask(port, bodies, 7 * i, began + seconds, found) for i in range(clients)))
    wall, good = time.perf_counter() - began, sorted(took for took, status, _ in found if status == 200)
    stages = [json.loads(answer)["milliseconds"] for _, status, answer in found if status == 200]
    return {
        "clients": clients, "photos a second": len(good) / wall, "p50": 1000 * good[len(good) // 2],
        "p99": 1000 * good[min(len(good) - 1, int(0.99 * len(good)))], "answers": Counter(s for _, s, _ in found),
        "stages": {name: median(s[name] for s in stages) for name in stages[0]},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="MODEL; without it a net of random weights")
    parser.add_argument("--net", default="A", help="of random weights")
    parser.add_argument("--photos", type=int, default=128)
    parser.add_argument("--size", type=int, nargs=2, default=(500, 375))
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=10, help="of each load, and of predict")
    parser.add_argument("--out", type=Path, default=Path("runs/server"))
    parser.add_argument("--client", nargs=4, metavar=("PORT", "CLIENTS", "SECONDS", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        port, clients, seconds, folder = given.client
        print(json.dumps(asyncio.run(client(int(port), int(clients), float(seconds), Path(folder)))))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, (given.out / "results.jsonl").open("a") as records:

        def record(**values: object) -> None:
            print(json.dumps(values), flush=True)
            records.write(json.dumps(machine() | values) + "\n")

        folder = Path(place) / "photos"
        make_photos(folder, given.photos, *given.size)
        model = given.model or make_net(given.net, Path(place) / "net.safetensors")
        alone = {batch: bare(model, batch, given.seconds / 2) for batch in (1, 16)}
        record(what="the net alone", **{f"batch {batch}": rate for batch, rate in alone.items()})
        before = predicted(model, folder, given.seconds)
        with server(model) as (port, pid):
            rows = []
            for clients in given.clients:
                words = [port, str(clients), str(given.seconds), str(folder)]
                done = subprocess.run(
                    [sys.executable, __file__, "--client", *words], stdout=subprocess.PIPE, check=True
                )
                rows.append(json.loads(done.stdout))
                record(what="server", megabytes=resident(pid), **rows[-1])
        after = predicted(model, folder, given.seconds)
        record(what="predict", before=before, after=after)
    print("\n| clients | photos a second | of predict | of the net, batch 16 | p50 | p99 | p99 of the net's time |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        rate, each = r["photos a second"], 1000 / alone[1]
        ratios = f"{2 * rate / (before + after):.2f} | {rate / alone[16]:.2f}"
        print(f"| {r['clients']} | {rate:.1f} | {ratios} | {r['p50']:.1f} | {r['p99']:.1f} | {r['p99'] / each:.2f} |")


if __name__ == "__main__":
    main()
