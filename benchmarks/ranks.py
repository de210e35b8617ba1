"""When the gradients of a net travel between ranks, and what several ranks gain: a measured timeline and a reckoning.

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 benchmarks/ranks.py --net D --photos 8

DistributedDataParallel sums gradients in buckets, each as soon as backward has filled it. The table says for every
bucket which layers it holds, its bytes, when it was ready and when its sum was there, in milliseconds since backward
began. From the bytes and the times at which they are ready follows the speed-up of 4 ranks that share the paper's
batch of 256, by the formula of docs/results/scaling.md, for networks of 10, 25, 100 and 400 Gb/s.
"""

import argparse
import json
import time
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from verydeep.net.vgg import VGG
from verydeep.paper import BATCH
from verydeep.ranks import Ranks, joined

BYTES_A_SECOND = {f"{gigabits} Gb/s": gigabits * 1e9 / 8 for gigabits in (10, 25, 100, 400)}
FC = ("fc6", "fc7", "fc8")


class Timeline:
    """A communication hook that sums as DDP does by default and notes when."""

    def __init__(self, ranks: Ranks, names: dict[int, str]) -> None:
        self.ranks, self.names = ranks, names
        self.began = 0.0
        self.buckets: list[dict[str, Any]] = []

    def hook(self, state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        layers = list(dict.fromkeys(self.names[id(p)] for p in bucket.parameters()))
        gradient = bucket.buffer().div_(self.ranks.size)
        entry = {"layers": layers, "bytes": gradient.nbytes, "ready": time.perf_counter() - self.began}
        self.buckets.append(entry)

        def done(future: torch.futures.Future[list[Tensor]]) -> Tensor:
            entry["done"] = time.perf_counter() - self.began
            return future.value()[0]

        return dist.all_reduce(gradient, async_op=True).get_future().then(done)


def measure(ranks: Ranks, name: str, photos: int, crop: int, bf16: bool, steps: int) -> dict[str, Any]:
    """The timeline of the step of median duration, and the medians of forward and backward."""
    net = VGG(name, classes=1000, crop=crop).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    names = {id(p): n.rpartition(".")[0] for n, p in net.named_parameters()}
    together = ranks.together(net, torch.device("cpu"))
    timeline = Timeline(ranks, names)
    together.register_comm_hook(None, timeline.hook)  # type: ignore[operator]
    x, targets, found = torch.randn(photos, 3, crop, crop), torch.zeros(photos, dtype=torch.int64), []
    for _ in range(steps + 2):  # in the first two steps buckets are ordered and memory is found
        ranks.gather(None)
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(together(x).float(), targets)
        forward = time.perf_counter() - began
        timeline.buckets, timeline.began = [], time.perf_counter()
        loss.backward()  # type: ignore[no-untyped-call]
        found.append(
            {"forward": forward, "backward": time.perf_counter() - timeline.began, "buckets": timeline.buckets}
        )
        net.zero_grad()
    return sorted(found[2:], key=lambda s: s["backward"])[steps // 2]


def step_seconds(forward: float, buckets: list[tuple[float, int]], bandwidth: float, ranks: int) -> float:
    """A step when each bucket, (ready in seconds, bytes), is summed around a ring from the moment it is ready."""
    done = 0.0
    for ready, size in buckets:
        done = max(done, ready) + 2 * (ranks - 1) / ranks * size / bandwidth
    return forward + max(done, buckets[-1][0])


def speed_ups(measured: dict[str, Any], seconds: float, size: int = 4) -> dict[str, float]:
    """What `size` ranks gain over one that needs `seconds` for a batch: measured times, scaled to its speed."""
    scale = seconds / size / (measured["forward"] + measured["buckets"][-1]["ready"])
    buckets = [(b["ready"] * scale, b["bytes"]) for b in measured["buckets"]]
    return {
        name: seconds / step_seconds(measured["forward"] * scale, buckets, w, size)
        for name, w in BYTES_A_SECOND.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="D")
    parser.add_argument("--photos", type=int, default=8, help="a rank and step")
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    with joined() as ranks:
        found = measure(ranks, args.net, args.photos, args.crop, args.bf16, args.steps)
    if not ranks.first:
        return
    end, total, forward = found["buckets"][-1]["ready"], sum(b["bytes"] for b in found["buckets"]), found["forward"]
    print(
        f"net {args.net}, {ranks.size} ranks, {args.photos} photos each; "
        f"ms: forward {1e3 * forward:.0f}, backward {1e3 * end:.0f}"
    )
    for b in found["buckets"]:
        layers = f"{b['layers'][0]} to {b['layers'][-1]}" if len(b["layers"]) > 1 else b["layers"][0]
        print(
            f"{layers:<24}{b['bytes'] / 1e6:8.1f} MB ready {1e3 * b['ready']:7.0f} ms, summed {1e3 * b['done']:7.0f} ms"
        )
    fc = [b for b in found["buckets"] if set(b["layers"]) & set(FC)]
    share, ready = sum(b["bytes"] for b in fc) / total, max(b["ready"] for b in fc) / end
    print(f"buckets with FC layers: {share:.1%} of {total / 1e6:.0f} MB, ready after {ready:.0%} of backward")
    rates = {
        "this machine, one rank": args.photos / (forward + end),
        "100 photos/s a rank": 100,
        "1,000": 1000,
        "4,900": 4900,
    }
    for what, rate in rates.items():
        gains = speed_ups(found, BATCH / rate)
        print(
            f"{what} ({rate:.1f} photos/s): "
            + ", ".join(f"{gain:.2f} of 4 at {network}" for network, gain in gains.items())
        )
    print(json.dumps({"net": args.net, "ranks": ranks.size, "photos": args.photos, "bf16": args.bf16, **found}))


if __name__ == "__main__":
    main()
