"""Splits that are drawn here: photos held out for validation and the test, by class, and those of a group together."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
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
        i = next(i for i, own in enumerate(photos.labels) if len(own) != 1)
        some = f"{photos.keys[i]} for one ({', '.join(data.classes[c] for c in photos.labels[i][:3])})"
        raise DataError(f"{data.name}: photos with several labels cannot be divided by class: {some}; give each one")
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
    begun = f"{start}\0".encode()
    rank = np.frombuffer(b"".join(hashlib.sha256(begun + key.encode()).digest()[:8] for key in keys), ">u8")
    return np.lexsort((rank, targets))


def by_group(photos: Photos, start: str) -> tuple[npt.NDArray[np.int64], Holds]:
    """(each photo's group, what each group holds), groups in the order of a hash of their names.

    A photo without a group is one of its own, by its key, as all are where there are no groups.
    """
    names = [(name, "" if name else key) for name, key in zip(photos.groups or repeat(""), photos.keys, strict=False)]
    unique = list(dict.fromkeys(names))
    order = by_class_and_hash(Names.of(map("".join, unique)), np.zeros(len(unique), np.int64), start)
    rank = {unique[i]: n for n, i in enumerate(order.tolist())}
    number, holds = np.array([rank[name] for name in names]), [Counter[int]() for _ in unique]
    for group, label in zip(number.tolist(), photos.targets().tolist(), strict=True):
        holds[group][label] += 1
    return number, holds


def together(holds: Holds, wanted: Sequence[Sequence[int]], places: Places) -> Places:
    """Fills val, then test, with whole groups of those at 0, so that each class has about as many photos as wanted.

    First go the groups that fit, in their order; then those that still bring the shares of their classes nearer to the
    wanted ones, where a class of which nothing is held out counts as wrong by all of it. One group of each class stays,
    and of three or more one for the test.
    """
    rest = [holds[group] for group in np.flatnonzero(places == 0).tolist()]
    photos, left = Counter(chain.from_iterable(own.elements() for own in rest)), Counter(chain.from_iterable(rest))
    keep = [{c: 1 + (n > 2 and any(w[c] for w in wanted[i:])) for c, n in left.items()} for i in range(1, 3)]

    def fill(part: int, want: Sequence[int]) -> None:
        short = dict(enumerate(want))

        def gain(group: int) -> float:
            own = holds[group]
            if places[group] or any(left[c] <= keep[part - 1][c] for c in own):
                return 0.0
            nearer = ((abs(short[c]) - abs(short[c] - n)) / photos[c] for c, n in own.items())
            return sum(nearer) + sum(short[c] == want[c] > 0 for c in own)

        for fitting in (True, False):
            for group in sorted(range(len(holds)), key=lambda g: 0 if fitting else -gain(g)):
                own = holds[group]
                if gain(group) > ROUNDING and not (fitting and any(n > short[c] for c, n in own.items())):
                    places[group] = part
                    left.subtract(own.keys())
                    short.update({c: short[c] - n for c, n in own.items()})

    for part, want in enumerate(wanted, 1):
        fill(part, want)
    return places


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
