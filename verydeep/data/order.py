"""The order of an epoch, and the generator behind everything random about photos.

Philox is counter-based: it draws by seed, stream, epoch, photo and turn, and by nothing that happened before. So an
epoch is the same for any number of workers and ranks and from any point on.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from verydeep.data.record import Photos

CROPS, COLOURS, ORDER, SAMPLE = range(4)  # streams of the generator that never meet
WINDOW = 16_384  # photos that a remote store is shuffled over


class Order(NamedTuple):
    """The photos of an epoch: which, and for which time in this epoch, counted from 0. Both int64 N."""

    ids: npt.NDArray[np.int64]
    turns: npt.NDArray[np.int64]


def generator(seed: int, stream: int, epoch: int, id: int, turn: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=(seed << 2) + stream, counter=[0, turn, epoch, id]))


def epoch_order(seed: int, epoch: int, photos: Photos, balanced: bool = False, repeats: int = 1) -> Order:
    """The photos of an epoch in random order, `repeats` times: each once or, balanced, every class equally often.

    On a remote store the shards come in random order, one after another, and a photo moves by up to WINDOW places.
    """
    random = generator(seed, ORDER, epoch, 0)
    every = np.arange(len(photos))
    chosen = Order(every, np.zeros_like(every))
    if balanced:
        chosen = balanced_sample(generator(seed, SAMPLE, epoch, 0), photos.targets())
    ids, turns = [], []
    for turn in range(repeats):
        if photos.shards is None:
            order = random.permutation(len(every))
        else:
            place = np.empty_like(every)
            place[np.argsort(random.permutation(int(photos.shards.max()) + 1)[photos.shards], kind="stable")] = every
            order = np.argsort(place[chosen.ids] + random.random(len(every)) * WINDOW, kind="stable")
        ids.append(chosen.ids[order])
        turns.append(chosen.turns[order] + turn * (int(chosen.turns.max(initial=0)) + 1))
    return Order(np.concatenate(ids), np.concatenate(turns))


def balanced_sample(random: np.random.Generator, targets: npt.NDArray[np.int64]) -> Order:
    """As many photos, equally many of every class give or take one: a rare class's return, a frequent one's rest."""
    by_class, counts = np.argsort(targets, kind="stable"), np.bincount(targets)
    present = random.permutation(np.flatnonzero(counts))
    quotas = np.zeros_like(counts)
    quotas[present] = len(targets) // len(present) + (np.arange(len(present)) < len(targets) % len(present))
    ids, turns, first = [], [], 0
    for count, quota in zip(counts.tolist(), quotas.tolist(), strict=True):
        members = by_class[first : first + count]
        rounds = [members] * (quota // max(count, 1)) + [random.permutation(members)[: quota % max(count, 1)]]
        ids += rounds
        turns += [np.full(len(r), turn) for turn, r in enumerate(rounds)]
        first += count
    return Order(np.concatenate(ids), np.concatenate(turns))
