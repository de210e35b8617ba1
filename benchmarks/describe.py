"""Photos a second of `describe`, beside the bare net and a plain hook loop; and its memory, over more and more photos.

    python benchmarks/describe.py speed --photos 16 --repeats 3
    python benchmarks/describe.py memory --photos 10000 100000
    python benchmarks/describe.py unpooled --photos 8 24

speed: a net with random weights, JPEGs of crop x crop made here, one forward pass a photo (no mirror image), taps by
their mean. `bare` is the net's forward pass alone, on pixels that lie ready; `hooks` is the loop that people write;
`describe` reads the files and writes the folder. They take turns; medians. The target is 0.9 of the bare net. Beside
the wall time stands the CPU time of all threads, which other work on the machine disturbs less.
memory: a narrow net, the same 500 photos again and again; the largest resident memory of a process for each count.
unpooled: all 16 layers of net D as they are, on photos of 224; the target is 4 GB.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from verydeep.contract import Contract
from verydeep.describe import Describer, Manner, describe_into
from verydeep.net.classifier import Classifier, build
from verydeep.net.initialise import initialise
from verydeep.progress import Progress
from verydeep.ranks import ALONE

LAYERS = [f"conv{b}_{i}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)] + ["fc6", "fc7", "fc8"]
TAPS = ("conv1_2", "conv3_3", "conv5_3", "relu7")


def net_of(name: str, crop: int, base_width: int, fc_width: int) -> Classifier:
    classes = tuple(f"class {i}" for i in range(1000))
    contract = Contract(name, classes, crop, fc_width, base_width, False, "up", (120.0,) * 3, (1.0,) * 3, (crop, crop))
    classifier = build(contract)
    initialise(classifier.net, "he")
    return classifier.eval()


def jpegs(folder: Path, count: int, side: int) -> list[str]:
    random = np.random.default_rng(0)
    for i in range(count):
        pixels = random.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((side, side)).save(folder / f"{i}.jpg", quality=90)
    return [str(folder / f"{i}.jpg") for i in range(count)]


def describe(net: Classifier, photos: list[str], out: Path, taps: tuple[str, ...], pool: str, device: str) -> None:
    way = Manner(taps, pool, str(net.contract.crop), "average", False, False, "fp32")
    describe_into(out, Describer({"net": net}, way, device), photos, ALONE, Progress("none"))


@torch.no_grad()
def bare(net: Classifier, photos: torch.Tensor, batch: int) -> None:
    for i in range(0, len(photos), batch):
        net(photos[i : i + batch].to(net.mean.device)).cpu()


@torch.no_grad()
def hooks(net: Classifier, photos: list[str], batch: int, taps: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What people write: a hook on each layer, lists of what it saw, photos of one size."""
    found: dict[str, list[np.ndarray]] = {tap: [] for tap in taps}

    def keep(tap: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, given: object, output: torch.Tensor) -> None:
            values = output.mean((2, 3)) if output.ndim > 2 else output
            found[tap].append(values.cpu().numpy())

        return hook

    handles = [getattr(net.net, tap.replace("relu7", "fc7")).register_forward_hook(keep(tap)) for tap in taps]
    for i in range(0, len(photos), batch):
        pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in photos[i : i + batch]])
        net(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(net.mean.device))
    for handle in handles:
        handle.remove()
    return {tap: np.concatenate(parts) for tap, parts in found.items()}


def speed(args: argparse.Namespace, folder: Path) -> None:
    net = net_of(args.net, args.crop, args.base_width, args.fc_width).to(args.device)
    photos = jpegs(folder, args.photos[0], args.crop)
    ready = torch.from_numpy(np.stack([np.array(Image.open(p)) for p in photos])).permute(0, 3, 1, 2)
    outs = iter(folder / f"out{i}" for i in range(99))
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: bare(net, ready, args.batch),
        "hooks": lambda: hooks(net, photos, args.batch, TAPS),
        "describe": lambda: describe(net, photos, next(outs), ("descriptor",), "mean", args.device),
        "describe, 4 taps": lambda: describe(net, photos, next(outs), TAPS, "mean", args.device),
    }
    clocks = {"wall": time.perf_counter, "CPU": time.process_time}
    seconds: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in ways} for clock in clocks}
    for turn in range(args.repeats + 1):
        for name, work in ways.items():
            began = {clock: now() for clock, now in clocks.items()}
            work()
            for clock, now in clocks.items():
                seconds[clock][name] += [now() - began[clock]] * (turn > 0)  # the first warms up
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"net {args.net}, crop {args.crop}, base width {args.base_width}, {len(photos)} photos, fp32, {where}")
    for clock, by_name in seconds.items():
        for name, taken in by_name.items():
            ratio = statistics.median(b / t for b, t in zip(by_name["bare"], taken, strict=True))
            rate, each = len(photos) / statistics.median(taken), ", ".join(f"{t:.2f}" for t in taken)
            print(f"{clock:<5}{name:<18}{rate:9.1f} photos/s  {ratio:5.2f} of bare   ({each} s)")


def memory(args: argparse.Namespace, folder: Path) -> None:
    """In a process of its own for each count, as the largest resident memory never falls."""
    if args.child:
        crop, pool, taps = (224, "none", tuple(LAYERS)) if args.what == "unpooled" else (32, "mean", TAPS)
        net = net_of("D", crop, *((64, 4096) if args.what == "unpooled" else (2, 16)))
        photos, began = jpegs(folder, min(args.photos[0], 500), crop), time.perf_counter()
        photos = (photos * (1 + args.photos[0] // len(photos)))[: args.photos[0]]
        describe(net, photos, folder / "out", taps, pool, args.device)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        size = sum(file.stat().st_size for file in (folder / "out").iterdir()) / 2**20
        taken = time.perf_counter() - began
        print(
            f"{args.what}: {len(photos):>7,} photos, {taken:7.1f} s, {size:9.1f} MiB of rows, at most {most:7.1f} MiB"
        )
        return
    for count in args.photos:
        command = [sys.executable, __file__, args.what, "--photos", str(count), "--device", args.device, "--child"]
        subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "memory", "unpooled"))
    parser.add_argument("--photos", type=int, nargs="+", default=[16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--net", default="D")
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--base_width", type=int, default=64)
    parser.add_argument("--fc_width", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (speed if args.what == "speed" else memory)(args, Path(folder))


if __name__ == "__main__":
    main()
