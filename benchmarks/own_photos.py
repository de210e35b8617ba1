"""A few pictures of one's own: what `auto`, `modern` and `small` make of them, beside hand-made features and an SVM.

    verydeep weights fetch oxford-d-convolutions
    python benchmarks/own_photos.py /usr/share/tuxpaint/stamps --out runs/own --arms auto modern small hog
    python benchmarks/own_photos.py digits --out runs/digits --arms auto hog

The pictures and splits are those of finetuning.py: six categories, 120 pictures to train on, 24 to validate, 142 to
test; `digits` are scikit-learn's, 8 x 8: 300 to train on, 100 to validate, 1,397 to test. `hog` needs scikit-learn and
scikit-image: histograms of oriented gradients of 64 x 64 grey pixels, a linear SVM.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from finetuning import write_manifest
from PIL import Image

import verydeep
from verydeep.data import photo


def write_digits(seed: int, path: Path) -> None:
    """A manifest of one split of scikit-learn's digits, beside the digits themselves."""
    from sklearn.datasets import load_digits

    found = load_digits()
    folder = path.parent / "digits"
    folder.mkdir(exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(found.target))
    with path.open("w", newline="") as f:
        rows = csv.writer(f)
        rows.writerow(("path", "label", "split"))
        for place, i in enumerate(order):
            file = folder / f"{i}.png"
            Image.fromarray((found.images[i] * 255 / 16).round().astype(np.uint8)).save(file)
            split = "train" if place < 300 else "val" if place < 400 else "test"
            rows.writerow((file.absolute(), found.target[i], split))


def by_net(arm: str, manifest: Path, out: Path, seed: int, limit: str) -> dict[str, float]:
    """Errors in percent by protocol, of a recipe."""
    own: dict[str, Any] = {"time": limit} if arm == "auto" else {}
    record = verydeep.train(str(manifest), recipe=arm, out=out, seed=seed, **own)  # type: ignore[operator]
    return {r["protocol"]: r["top1_error"] for r in record["results"]}


def by_hand(manifest: Path) -> dict[str, float]:
    """Errors in percent of a linear SVM on histograms of oriented gradients."""
    from skimage.feature import hog
    from sklearn.svm import LinearSVC

    parts: dict[str, tuple[list[Any], list[str]]] = {"train": ([], []), "val": ([], []), "test": ([], [])}
    with manifest.open(newline="") as f:
        for row in csv.DictReader(f):
            grey = photo.centre_crop(photo.from_file(Path(row["path"])), 64, 64).mean(2)
            found = hog(grey, 9, (8, 8), (2, 2))
            parts[row["split"]][0].append(found)
            parts[row["split"]][1].append(row["label"])
    x, y = parts["train"][0] + parts["val"][0], parts["train"][1] + parts["val"][1]
    answers = LinearSVC(C=0.1, random_state=0).fit(np.array(x), y).predict(np.array(parts["test"][0]))
    wrong = sum(a != b for a, b in zip(answers, parts["test"][1], strict=True))
    return {"hog": round(100 * wrong / len(answers), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", help="the folder of the stamps, or 'digits'")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", default=["auto", "modern", "small", "hog"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--time", default="3m")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for arm in args.arms:
        found: dict[str, list[float]] = {}
        for seed in args.seeds:
            manifest = args.out / f"split-{seed}.csv"
            if args.pictures == "digits":
                write_digits(seed, manifest)
            else:
                write_manifest(Path(args.pictures), seed, manifest)
            began = time.perf_counter()
            out = args.out / f"{arm}-{seed}"
            errors = by_hand(manifest) if arm == "hog" else by_net(arm, manifest, out, seed, args.time)
            for name, error in errors.items():
                found.setdefault(name, []).append(error)
            print(f"{arm}, seed {seed}: {errors}, {time.perf_counter() - began:.0f} s", flush=True)
        for name, errors_ in found.items():
            spread = f" +- {statistics.stdev(errors_):.1f}" if len(errors_) > 1 else ""
            print(f"{arm}, {name}: {statistics.mean(errors_):.1f}{spread} %", flush=True)


if __name__ == "__main__":
    main()
