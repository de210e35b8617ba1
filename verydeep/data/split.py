"""Splits that are drawn here: photos held out for validation and the test, by class."""

import hashlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from verydeep.data.record import DataSet, Names, Shares
from verydeep.errors import DataError

PARTS = ("train", "val", "test")


def divide(data: DataSet, shares: Shares, seed: int) -> DataSet:
    """Holds shares = (val, test) of every class out of photos without splits, or val's out of train without val.

    A class with two photos gives one for validation, a larger one at least one for each share above 0. A photo's place
    depends on the seed and its own key, so adding photos moves few others. What is divided comes in natural class
    order. Without shares nothing is held out. Raises DataError.
    """
    whole = "all" if "all" in data.splits else "train"
    if shares is None or "val" in data.splits or whole not in data.splits:
        return data
    photos = data.splits[whole]
    if not isinstance(photos.labels, np.ndarray):
        raise DataError(f"{data.name}: photos with several labels cannot be divided by class; add a split column")
    held_out = shares if whole == "all" else (shares[0], 0.0)
    places = drawn(photos.keys, photos.labels, len(data.classes), held_out, seed)
    if not (places == 1).any():
        raise DataError(
            f"{data.name} has at most one photo a class to divide; at least two are needed, for train and val"
        )
    return parted(data, whole, places)


def parted(data: DataSet, whole: str, places: npt.NDArray[np.int8]) -> DataSet:
    """The photos of a split by their places in PARTS, each part in class order; the other splits stay."""
    photos = data.splits[whole]
    by_class = np.argsort(photos.targets(), kind="stable")
    found = {part: photos.take(by_class[places[by_class] == i], part) for i, part in enumerate(PARTS)}
    splits = {part: own for part, own in found.items() if len(own)}
    return replace(data, splits=splits | {s: p for s, p in data.splits.items() if s != whole}, held_out=True)


def drawn(
    keys: Names, targets: npt.NDArray[np.int64], classes: int, shares: tuple[float, float], seed: int
) -> npt.NDArray[np.int8]:
    """0, 1 or 2 for each photo: train, val or test."""
    shuffled = by_class_and_hash(keys, targets, str(seed))
    places, first = np.zeros(len(keys), np.int8), 0
    for n in np.bincount(targets, minlength=classes).tolist():
        val, test = held_out_counts(n, shares)
        places[shuffled[first : first + val]] = 1
        places[shuffled[first + val : first + val + test]] = 2
        first += n
    return places


def held_out_counts(n: int, shares: tuple[float, float]) -> tuple[int, int]:
    val, test = (max(round(n * s), 1) if s and n >= 3 else round(n * s) for s in shares)
    if n == 2:
        val, test = 1, 0
    while val + test >= n > 0:
        val, test = (val, test - 1) if test >= val else (val - 1, test)
    return val, test


def by_class_and_hash(keys: Names, targets: npt.NDArray[np.int64], start: str) -> npt.NDArray[np.intp]:
    """All positions class by class, each class shuffled by a hash of its photos' keys."""
    begun = f"{start}\0".encode()
    rank = np.frombuffer(b"".join(hashlib.sha256(begun + key.encode()).digest()[:8] for key in keys), ">u8")
    return np.lexsort((rank, targets))


def fewer(data: DataSet, most: int | None) -> DataSet:
    """At most so many training photos, in the same order: of each class its share, chosen by their keys alone."""
    photos = data.split("train")
    if most is None or most >= len(photos):
        return data
    shuffled, counts = by_class_and_hash(photos.keys, photos.targets(), "fewer"), np.bincount(photos.targets())
    shares = counts * most / len(photos)
    taken = shares.astype(np.int64)
    taken[np.argsort(taken - shares, kind="stable")[: most - taken.sum()]] += 1  # the largest remainders round up
    first = np.cumsum(counts) - counts
    chosen = np.sort(np.concatenate([shuffled[f : f + n] for f, n in zip(first, taken, strict=True)]))
    return replace(data, splits={**data.splits, "train": photos.take(chosen, "train")})


def divide_again(data: DataSet, earlier: dict[str, str]) -> DataSet:
    """As `divide`, by key -> split of an earlier run; new photos are left out. Raises DataError where one has gone."""
    whole = "all" if "all" in data.splits else "train"
    number = {part: i for i, part in enumerate(PARTS)}
    places = np.array([number.get(earlier.get(key, ""), -1) for key in data.splits[whole].keys], np.int8)
    drawn_here = {key: split for key, split in earlier.items() if split == whole or split not in data.splits}
    if (places >= 0).sum() < len(drawn_here):
        present = set(data.splits[whole].keys)
        gone = next(key for key in drawn_here if key not in present)
        raise DataError(f"{data.name} no longer has {gone}, which the run was begun with; restore it or begin anew")
    return parted(data, whole, places)
