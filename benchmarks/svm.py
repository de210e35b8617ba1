"""The table of linear SVMs at Caltech-101's size: ours beside scikit-learn's LinearSVC, seconds and accuracy.

    python benchmarks/svm.py            # 3,060 x 4,096, 102 classes, ten constants, three splits
    python benchmarks/svm.py --theirs 2 # LinearSVC at two of the constants only, the rest by their mean
    python benchmarks/svm.py --theirs 0 # ours alone

Rows are made up: classes are points of 60 dimensions, shown through a rectified random layer, with noise at both ends,
so that about 96 % can be told. Each split trains at ten constants on 80 % of its rows, and at the best of them on all.
Needs scikit-learn. Seconds are the processor's, which
others on the machine change less than the clock's. One thread, unless --threads says more.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch

from verydeep.transfer import CONSTANTS, fitted

CLASSES, TRAIN, TEST, WIDTH, HIDDEN = 102, 30, 20, 4096, 60


def rows_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    layer, centres = random.standard_normal((HIDDEN, WIDTH)), random.standard_normal((CLASSES, HIDDEN))
    labels = np.repeat(np.arange(CLASSES), TRAIN + TEST)
    inner = centres[labels] + 1.5 * random.standard_normal((len(labels), HIDDEN))
    x = np.maximum(inner @ layer / HIDDEN**0.5 + 0.5 * random.standard_normal((len(labels), WIDTH)) - 0.5, 0)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def split(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to learn from at ten constants, all to train on, those to test on."""
    place = np.concatenate([random.permutation(TRAIN + TEST) for _ in range(CLASSES)])
    return np.flatnonzero(place < TRAIN * 4 // 5), np.flatnonzero(place < TRAIN), np.flatnonzero(place >= TRAIN)


def main() -> None:
    from sklearn.svm import LinearSVC

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--theirs", type=int, default=len(CONSTANTS), help="constants that LinearSVC is given")
    parser.add_argument("--splits", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    x, labels = rows_of(0)
    truth, right = (2 * (labels[:, None] == np.arange(CLASSES)) - 1).astype(np.int8), list[float]()
    ours, theirs, difference, random = 0.0, 0.0, list[float](), np.random.default_rng(1)
    for _ in range(args.splits):
        learning, train, test = split(random)
        began = time.process_time()
        held = np.setdiff1d(train, learning)
        scores = [(m.scores(x[held]).argmax(1) == labels[held]).mean() for m in fitted(x[learning], truth[learning])]
        best = CONSTANTS[int(np.argmax(scores))]
        (found,) = fitted(x[train], truth[train], [best])
        ours += time.process_time() - began
        right.append(100 * (found.scores(x[test]).argmax(1) == labels[test]).mean())
        if not args.theirs:
            continue
        some = CONSTANTS[:: max(1, len(CONSTANTS) // args.theirs)][: args.theirs]
        began = time.process_time()
        for constant in some:
            LinearSVC(C=constant).fit(x[learning], labels[learning])
        spent = (time.process_time() - began) * len(CONSTANTS) / len(some)
        began = time.process_time()
        other = LinearSVC(C=best).fit(x[train], labels[train])
        theirs += spent + time.process_time() - began
        difference.append(right[-1] - 100 * other.score(x[test], labels[test]))
        apart = np.abs(other.decision_function(x[test]) - found.scores(x[test])).max()
        print(f"C = {best:.3g}: {right[-1]:.2f} % right, {difference[-1]:+.3f} against LinearSVC's", end=", ")
        print(f"scores at most {apart:.4f} apart", flush=True)
    print(f"{args.splits} splits, {args.threads} threads: ours {ours:.0f} s, LinearSVC {theirs:.0f} s", end="; ")
    print(f"{np.mean(right):.2f} % right, {np.mean(difference or [0.0]):+.3f}")


if __name__ == "__main__":
    main()
