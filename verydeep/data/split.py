"""Splits that are drawn here: photos held out for validation and the test, by class, and those of a group together."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from itertools import chain, repeat

import numpy as np
import numpy.typing as npt

from verydeep.data.record import DataSet, Names, Photos, Shares
from verydeep.errors import DataError

PARTS = ("train", "val", "test")
Places = npt.NDArray[np.int8]  # of photos or groups: 0, 1 or 2, as in PARTS
ROUNDING = 1e-9  # of a sum of shares
Holds = list[Counter[int]]  # of each group the photos of each class


def divide(data: DataSet, shares: Shares, seed: int) -> DataSet:
    """Holds shares = (val, test) of every class out of photos without splits, or val's out of train without val.

    A class with two photos gives one for validation, a larger one at least one for each share above 0. A photo's place
    depends on the seed and its own key, so adding photos moves few others. Groups go whole, by their names instead of
    keys. What is divided comes in natural class order. Without shares nothing is held out. Raises DataError.
    """
    whole = "all" if "all" in data.splits else "train"
    if shares is None or "val" in data.splits or whole not in data.splits:
        return data
    photos = data.splits[whole]
    if not isinstance(photos.labels, np.ndarray):
        raise DataError(f"{data.name}: photos with several labels cannot be divided by class; add a split column")
    held_out = shares if whole == "all" else (shares[0], 0.0)
    places = drawn(photos, len(data.classes), held_out, seed)
    if not (places == 1).any():
        raise DataError(
            f"{data.name} has at most one {'group' if photos.groups else 'photo'} a class to divide; "
            "at least two are needed, for train and val"
        )
    return parted(data, whole, places)


def parted(data: DataSet, whole: str, places: Places) -> DataSet:
    """The photos of a split by their places in PARTS, each part in class order; the other splits stay."""
    photos = data.splits[whole]
    by_class = np.argsort(photos.targets(), kind="stable")
    found = {part: photos.take(by_class[places[by_class] == i], part) for i, part in enumerate(PARTS)}
    splits = {part: own for part, own in found.items() if len(own)}
    return replace(data, splits=splits | {s: p for s, p in data.splits.items() if s != whole}, held_out=True)


def drawn(photos: Photos, classes: int, shares: tuple[float, float], seed: int) -> Places:
    """Where each photo goes."""
    targets = photos.targets()
    counts = [held_out_counts(n, shares) for n in np.bincount(targets, minlength=classes).tolist()]
    if photos.groups:
        number, holds = by_group(photos, str(seed))
        return together(holds, list(zip(*counts, strict=True)), np.zeros(len(holds), np.int8))[number]
    shuffled = by_class_and_hash(photos.keys, targets, str(seed))
    places, first = np.zeros(len(targets), np.int8), 0
    for n, (val, test) in zip(np.bincount(targets, minlength=classes).tolist(), counts, strict=True):
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
    rank = np.frombuffer(b"".join(hashed(start, key) for key in keys), ">u8")
    return np.lexsort((rank, targets))


def hashed(start: str, name: str) -> bytes:
    return hashlib.sha256(f"{start}\0{name}".encode()).digest()[:8]


def by_group(photos: Photos, start: str) -> tuple[npt.NDArray[np.int64], Holds]:
    """(each photo's group, what each group holds), the groups in the order of a hash of their names.

    A photo without a group is one of its own, by its key; if every photo is, the order is that of `by_class_and_hash`.
    """
    names = [(name, "" if name else key) for name, key in zip(photos.groups or repeat(""), photos.keys, strict=False)]
    ranked = sorted(set(names), key=lambda name: (hashed(start, name[0] or name[1]), name))
    rank = {name: i for i, name in enumerate(ranked)}
    number, holds = np.array([rank[name] for name in names], np.int64), [Counter[int]() for _ in ranked]
    for group, label in zip(number.tolist(), photos.targets().tolist(), strict=True):
        holds[group][label] += 1
    return number, holds


def together(holds: Holds, wanted: Sequence[Sequence[int]], places: Places) -> Places:
    """Fills val, then test, with whole groups of those at 0, so that each class has about as many photos as wanted.

    At least one group of each class stays, and one for the test where three are there. First, in their order, go the
    groups that fit. Then, while any brings the shares of its classes nearer to those wanted, the one that does so most;
    a class of which nothing is held out yet counts as wrong by all of it. What a group gains only falls as others go
    before it, so one whose gain is still the largest when it is reckoned anew is the best of all.
    """
    photos, left = Counter[int](), Counter[int]()  # of each class, and the groups that hold it
    for group in np.flatnonzero(places == 0).tolist():
        photos.update(holds[group])
        left.update(holds[group].keys())
    keep = [{c: 1 + any(later[c] > 0 and n > 2 for later in wanted[i:]) for c, n in left.items()} for i in (1, 2)]
    for part, want in enumerate(wanted, 1):
        fill(holds, want, places, part, photos, left, keep[part - 1])
    return places


def fill(
    holds: Holds, want: Sequence[int], places: Places, part: int, photos: Counter[int], left: Counter[int],
    keep: dict[int, int],
) -> None:  # fmt: skip
    """One part of `together`. `left`: the groups of each class at 0, of which so many to `keep` stay there."""
    short = dict(enumerate(want))  # photos of each class that are still wanted

    def free(group: int) -> bool:
        return places[group] == 0 and all(left[c] > keep[c] for c in holds[group])

    def gain(group: int) -> float:
        return sum(
            (abs(short[c]) - abs(short[c] - n)) / photos[c] + (short[c] == want[c] > 0) for c, n in holds[group].items()
        )

    def take(group: int) -> None:
        places[group] = part
        for c, n in holds[group].items():
            short[c], left[c] = short[c] - n, left[c] - 1

    for group in range(len(holds)):
        if free(group) and all(n <= short[c] for c, n in holds[group].items()):
            take(group)
    heap = [(-gain(group), group) for group in range(len(holds)) if free(group)]
    heapify(heap)
    while heap and heap[0][0] < -ROUNDING:
        _, group = heappop(heap)
        if free(group):
            if heap and (now := -gain(group)) > heap[0][0]:
                heappush(heap, (now, group))
            elif gain(group) > ROUNDING:
                take(group)


def dealt(holds: Holds, folds: int) -> npt.NDArray[np.int64]:
    """The fold of each group: the largest groups first, each to the fold with the least of its classes so far.

    Two groups of each class stay outside a fold, to train and validate on, where so many are there. Of equal folds the
    smallest takes it; photos that all stand alone are dealt in turn, class by class.
    """
    photos = Counter(chain.from_iterable(own.elements() for own in holds))
    groups = Counter(chain.from_iterable(holds))
    held, within = [Counter[int]() for _ in range(folds)], [Counter[int]() for _ in range(folds)]  # the same, by fold
    found, totals = np.zeros(len(holds), np.int64), [own.total() for own in holds]
    alone = max(totals) == 1
    for group in sorted(range(len(holds)), key=lambda g: -totals[g]):
        items = holds[group].items()
        shares = [sum(n * own[c] / photos[c] ** 2 for c, n in items) for own in held]
        full = [any(own[c] > groups[c] - 3 for c in holds[group]) for own in within]
        fold = min(range(folds), key=lambda f: (full[f], shares[f], 0 if alone else held[f].total(), f))
        found[group] = fold
        held[fold].update(holds[group])
        within[fold].update(holds[group].keys())
    return found


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
