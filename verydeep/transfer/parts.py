"""Who trains and who tests: random splits with so many photos a class, or those that DATA gives."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from verydeep.collections import Kit
from verydeep.data.split import together
from verydeep.data.tree import listed
from verydeep.errors import ConfigError, DataError
from verydeep.words import several

Ids = npt.NDArray[np.int64]
HELD_BACK, CHOSEN = 0.2, "constants chosen on 20 % of train"  # appendix B
USUAL = (30, 50)  # photos a class to train and test on, as of Caltech-101, where data has no protocol of its own


class Part(NamedTuple):
    """One split: the examples to train on, those of them that choose the constant, and those to test on."""

    train: Ids
    choosing: Ids
    test: Ids


def parts_of(kit: Kit, per_class: int | None, splits: int | None, seed: int) -> tuple[list[Part], str]:
    """The splits, and how they were made, in words. Raises ConfigError and DataError."""
    if not any(kit.splits):
        if not kit.one_each:
            raise DataError(f"{kit.name}: photos of several classes are not split by class; give train, val and test")
        return random_parts(kit, per_class, splits, seed)
    ids = {name: np.flatnonzero(np.array(kit.splits) == name) for name in dict.fromkeys(kit.splits)}
    if per_class or splits:
        flag = "train_per_class" if per_class else "splits"
        raise ConfigError(f"{flag}: {kit.name} has splits of its own ({listed(list(ids))}); leave it out")
    tested = next((s for s in ("test", "val") if s in ids), "")
    if "train" not in ids or not tested:
        raise DataError(f"{kit.name} has {listed(list(ids))} alone; expected train and test, or train and val")
    train, choosing, chosen = ids["train"], held_back(kit, ids["train"], seed), CHOSEN
    if tested == "test" and "val" in ids:
        train, choosing = np.concatenate([train, ids["val"]]), ids["val"]
        chosen = "constants chosen on val, which is trained on then"
    how = f"trained on {len(train):,}, tested on {len(ids[tested]):,} of {tested}; {chosen}"
    return [Part(train, choosing, ids[tested])], how


def random_parts(kit: Kit, per_class: int | None, splits: int | None, seed: int) -> tuple[list[Part], str]:
    """k times so many photos of each class to train on, and the rest, or at most so many, to test on."""
    usual, most = kit.per_class or USUAL
    k, wanted = splits or (3 if kit.per_class else 5), per_class or usual
    targets, counts = kit.truth.argmax(1), (kit.truth > 0).sum(0)
    if per_class and (few := [f"{c} with {n}" for c, n in zip(kit.classes, counts, strict=True) if n <= per_class]):
        raise ConfigError(
            f"train_per_class: {per_class} to train on and one to test on are more than the photos of "
            f"{several(len(few), 'classes')} ({listed(few)}); give {counts.min() - 1} or fewer, or leave it out"
        )
    found = []
    for split in range(k):
        random, train, test = np.random.default_rng((seed, split)), list[Ids](), list[Ids]()
        held = whole_groups(kit, np.arange(len(targets)), (seed, split), lambda n: max(1, n // 5, n - wanted))
        for c, count in enumerate(counts):
            own = random.permutation(np.flatnonzero(targets == c))
            n = per_class or min(wanted, count - max(1, count // 5))
            rest = own[n:] if held is None else own[held[own]]
            train.append((own if held is None else own[~held[own]])[:n])
            test.append(rest[:most])
        ids = np.sort(np.concatenate(train))
        found.append(Part(ids, held_back(kit, ids, seed + split), np.sort(np.concatenate(test))))
    whole = ", groups whole" * bool(kit.groups)
    trained = f"{'up to ' * (not per_class or bool(whole))}{wanted} a class to train on"
    tested = f"{f'up to {most}' if most else 'the rest'} to test on"
    how = f"{several(k, 'random splits')}, {trained} and {tested} (seed {seed}){whole}"
    return found, f"{how}; {CHOSEN}"


def whole_groups(
    kit: Kit, ids: Ids, seed: tuple[int, ...], wanted: Callable[[int], int]
) -> npt.NDArray[np.bool_] | None:
    """Which of these examples are held out: whole groups, of n of a class about as many as wanted."""
    if not kit.groups:
        return None
    first, names = kit.truth[ids].argmax(1), [(kit.groups[i], 0 if kit.groups[i] else i) for i in ids.tolist()]
    unique = list(dict.fromkeys(names))
    rank = dict(zip(unique, np.random.default_rng((*seed, len(ids))).permutation(len(unique)).tolist(), strict=True))
    number, holds = np.array([rank[name] for name in names]), [Counter[int]() for _ in unique]
    for group, label in zip(number.tolist(), first.tolist(), strict=True):
        holds[group][label] += 1
    counts = np.bincount(first, minlength=len(kit.classes)).tolist()
    places = together(holds, [[wanted(n) for n in counts]], np.zeros(len(holds), np.int8))
    return np.asarray(places[number] > 0)


def held_back(kit: Kit, ids: Ids, seed: int) -> Ids:
    """20 % of each class, of one with several photos at least one; a photo of several counts for its first."""
    if (held := whole_groups(kit, ids, (seed,), lambda n: max(1, round(HELD_BACK * n)))) is not None:
        return ids[held]
    random, first, found = np.random.default_rng((seed, len(ids))), kit.truth[ids].argmax(1), []
    for c in np.unique(first):
        own = random.permutation(ids[first == c])
        found.append(own[: min(len(own) - 1, max(1, round(HELD_BACK * len(own))))])
    return np.sort(np.concatenate(found))


def sampled(kit: Kit, per_class: int | None, limit: int | None, seed: int) -> Kit:
    """What is described: without classes of one photo; of those without splits or protocol no more than a split needs;
    and at most `limit` in all, as many of each class as of the others while these last. Raises DataError."""
    everything, drawn, counts = len(kit.truth), kit.one_each and not any(kit.splits), (kit.truth > 0).sum(0)
    if drawn and (single := [c for c, n in zip(kit.classes, counts, strict=True) if n < 2]):
        note = f"warning: left out: {several(len(single), 'classes')} of one photo ({listed(single)}); each needs two"
        kit = kit.take(np.flatnonzero(counts[kit.truth.argmax(1)] > 1), single, note)
    if len(kit.classes) < 2:
        what = " of two photos or more" * drawn
        raise DataError(f"{kit.name} has {several(len(kit.classes), 'classes')}{what}; expected at least two")
    rank, seen = np.empty(len(kit.truth)), dict[tuple[str, int], int]()
    of = list(zip(kit.splits, kit.truth.argmax(1).tolist(), strict=True))
    for i in np.random.default_rng(seed).permutation(len(rank)).tolist():
        rank[i] = seen[of[i]] = seen.get(of[i], 0) + 1
    most = (per_class or USUAL[0]) + USUAL[1] if drawn and not kit.per_class else np.inf
    ids = np.argsort(rank, kind="stable")[: min(limit or everything, int((rank <= most).sum()))]
    note = f"{len(ids):,} of {everything:,} photos are taken, at most {rank[ids].max():.0f} of a class"
    return kit.take(np.sort(ids), (), note) if len(ids) < len(rank) else kit
