"""Dense evaluation at three scales with mirror images against 150 crops of the same photos: seconds a photo, ratio.

    python benchmarks/dense.py --photos 1 --repeats 2

Net D, crop 224, Q = 256, 384, 512, photos of 4:3, random weights and pixels made here, which cost what real ones do.
Both are the components of one pass of `evaluate`, rescaling included, and they take turns; medians. The target is a
quarter. Beside the wall time stands the CPU time of all threads, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from PIL import Image

from verydeep.contract import Contract
from verydeep.evaluate.classify import answers, entrant
from verydeep.evaluate.passes import Settings, Spent
from verydeep.evaluate.views import Step
from verydeep.hardware import device_for
from verydeep.net.classifier import build
from verydeep.net.initialise import initialise

SCALES, STEPS = (256, 384, 512), (Step("dense", several=True), Step("crops", several=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--net", default="D")
    parser.add_argument("--crop", type=int, default=224, help="Q goes with it: 8/7, 12/7 and 16/7 of the crop")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()

    scales = tuple(q * args.crop // 224 for q in SCALES)
    classes = tuple(f"class {i}" for i in range(1000))
    contract = Contract(
        args.net, classes, args.crop, 4096, 64, False, "up", (120.0,) * 3, (1.0,) * 3, (scales[0], scales[2])
    )
    classifier = build(contract)
    initialise(classifier.net, "he")
    random = np.random.default_rng(0)
    size = (scales[1] * 3 // 2, scales[1] * 2, 3)
    photos = [Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)) for _ in range(args.photos)]
    settings = Settings(precision=args.precision, device=device_for(args.device).type, batch=args.batch)

    clocks = {"wall": time.perf_counter, "CPU": time.process_time}
    seconds: dict[str, dict[str, list[float]]] = {clock: {step.protocol: [] for step in STEPS} for clock in clocks}
    passes = dict[str, float]()
    for _ in range(args.repeats):
        for step in STEPS:
            spent, began = Spent(), {clock: now() for clock, now in clocks.items()}
            models = [entrant("", classifier, [step], scales)]
            for _ids, _found in answers(models, photos.__getitem__, range(len(photos)), settings, spent=spent):
                pass
            for clock, now in clocks.items():
                seconds[clock][step.protocol].append((now() - began[clock]) / len(photos))
            passes[step.protocol] = sum(spent.pixels.values()) / len(photos) / args.crop**2
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(
        f"net {args.net}, crop {args.crop}, Q = {', '.join(map(str, scales))}, "
        f"{args.photos} photos of 4:3, {args.precision}, {where}"
    )
    for clock, by_name in seconds.items():
        for name, taken in by_name.items():
            all_of_them = ", ".join(f"{t:.3f}" for t in taken)
            print(
                f"{clock:<5}{name:<6} {statistics.median(taken):9.3f} s a photo   "
                f"{passes[name]:6.1f} passes   ({all_of_them})"
            )
        ratio = statistics.median(d / c for d, c in zip(by_name["dense"], by_name["crops"], strict=True))
        print(
            f"{clock:<5}dense costs {ratio:.3f} of crops "
            f"(pixels: {passes['dense'] / passes['crops']:.3f}; target: 0.25 or less)"
        )


if __name__ == "__main__":
    main()
