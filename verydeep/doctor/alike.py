"""Copies among photos: the same bytes, or the same picture at another size, quality, brightness or with a trimmed border.

A photo's look is 64 signs of its lowest frequencies (after Zauner 2010). Looks that differ in at most REACH bits are
candidates, found by the bands they share (after Norouzi, Punjani and Fleet 2012), and each pair of candidates is
compared as 32 x 32 grey pictures.

Thresholds were measured on 8,000 photos of Fashion-MNIST, where garments of one class look alike but are none the same:
the most alike pair is 0.075 apart, the next 0.11. Copies of larger photos at half the size, at JPEG quality 30 to 95, or
15 % brighter are at most 0.06 apart nearly always; trimmed ones are, once their borders are aligned.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Ids = npt.NDArray[np.int64]
Looks = npt.NDArray[np.uint64]

SIDE, FINE = 32, 64  # of the pictures compared, and of those that are aligned first
SAME = 0.07  # root mean square difference, in standard deviations of the picture
WORTH_ALIGNING = 0.35
HOPELESS = 0.25  # after the coarsest steps
TRIMMED = 4.0  # of FINE: up to 6 % of a side may be missing
LEAST_CONTRAST = 4.0  # grey levels
SHIFT = 40.0  # grey levels by which the mean red, green or blue may differ
BANDS, WIDTH, REACH = 4, 16, 7  # four bands within one flipped bit each: every pair up to 7 bits apart shares one
MOST_COMPARED = 4096  # looks in one bucket that a look is compared with: thousands of alike photos stay linear
MOST_PAIRS = 20_000_000
CROWD = 16  # photos of one look that are compared with others
CHUNK = 1 << 20
FREQUENCIES = [(u, s - u) for s in range(1, 16) for u in range(s + 1) if max(u, s - u) < 11][:64]
COSINES = np.cos(np.pi * (np.arange(SIDE) + 0.5) * np.arange(11)[:, None] / SIDE)
GREY = np.array([0.299, 0.587, 0.114])


class Thumb(NamedTuple):
    grey: npt.NDArray[np.uint8]  # FINE x FINE
    colour: npt.NDArray[np.float64]  # the mean of red, green and blue
    small: bool  # the photo has no more pixels than that, so its borders cannot be aligned


class Groups(NamedTuple):
    """Photos that are copies of each other, by their numbers; `exact` where all bytes are the same."""

    members: list[Ids]
    exact: list[bool]
    complete: bool  # False where so many looked alike that not all pairs were compared


def thumb(photo: Image.Image, height: int, width: int) -> Thumb:
    """Of an RGB photo that was height x width before it was decoded smaller."""
    tiny = photo.resize((FINE, FINE), Image.Resampling.BOX)
    return Thumb(np.asarray(tiny.convert("L")), np.asarray(tiny, np.float64).mean((0, 1)), min(height, width) < FINE)


def look(grey: npt.NDArray[np.uint8]) -> int:
    """64 bits of a picture FINE x FINE."""
    halved = grey.reshape(SIDE, 2, SIDE, 2).mean((1, 3))
    waves = COSINES @ halved @ COSINES.T
    signs = np.array([waves[u, v] > 1e-6 for u, v in FREQUENCIES])
    return int(np.packbits(signs).view(np.uint64)[0])


def difference(a: Thumb, b: Thumb) -> float:
    """How unlike two pictures are, 0 to 2; brightness and contrast do not count, large shifts of colour do."""
    if np.abs(a.colour - b.colour).max() > SHIFT:
        return 2.0
    found = distance(a.grey, b.grey, np.zeros(4))
    return aligned(a.grey, b.grey, found) if SAME <= found < WORTH_ALIGNING and not (a.small or b.small) else found


def distance(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], trim: npt.NDArray[np.float64]) -> float:
    """With `trim` cut off left, top, right and bottom of a, or where it is negative of b."""
    x, y = shrunk(a, np.maximum(trim, 0)), shrunk(b, np.maximum(-trim, 0))
    return float(np.sqrt(((x - y) ** 2).mean()))


def shrunk(grey: npt.NDArray[np.uint8], trim: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    left, top, right, bottom = (float(t) for t in trim)
    box = (left, top, FINE - right, FINE - bottom)
    pixels = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box), np.float64)
    pixels = pixels - pixels.mean()
    return np.asarray(pixels / max(pixels.std(), LEAST_CONTRAST))


def aligned(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], best: float) -> float:
    """The smallest difference that trimming the borders of either gives, walking downhill."""
    trim = np.zeros(4)
    moves = [np.array(m) for m in np.vstack([np.eye(4), -np.eye(4)])]
    for step in (2.0, 1.0, 0.5):
        for _ in range(6):
            tries = [trim + step * m for m in moves if np.abs(trim + step * m).max() <= TRIMMED]
            found = [distance(a, b, t) for t in tries]
            if min(found) >= best:
                break
            best, trim = min(found), tries[int(np.argmin(found))]
            if best < SAME:
                return best
        if best > HOPELESS:
            return best
    return best


def copies(
    content: Looks, looks: Looks, ids: Ids, thumbs: Callable[[list[int]], Iterable[tuple[int, Thumb]]]
) -> Groups:
    """Groups of copies among the photos `ids`. content: N x 2, the hash of their bytes; looks: N.

    `thumbs` reads photos again, giving those it can.
    """
    order = np.lexsort((ids, content[ids, 1], content[ids, 0]))
    sorted_ids = ids[order]
    same = (content[sorted_ids[1:]] == content[sorted_ids[:-1]]).all(1)
    first = sorted_ids[np.r_[True, ~same]] if len(ids) else sorted_ids
    runs = np.split(sorted_ids, np.flatnonzero(~same) + 1) if same.any() else []
    equal = {int(run[0]): run for run in runs if len(run) > 1}
    pairs, complete = candidates(looks[first])
    linked = linked_groups(verified(first[pairs], thumbs))
    members, exact = [], []
    for group in linked:
        members.append(np.sort(np.concatenate([equal.pop(one, np.array([one])) for one in group])))
        exact.append(False)
    members += list(equal.values())
    exact += [True] * len(equal)
    by_first = sorted(range(len(members)), key=lambda i: int(members[i][0]))
    return Groups([members[i] for i in by_first], [exact[i] for i in by_first], complete)


def candidates(looks: Looks) -> tuple[Ids, bool]:
    """(pairs of positions whose looks are within REACH bits, M x 2; whether these are all)."""
    values, inverse = np.unique(looks, return_inverse=True)
    near, complete = near_pairs(values)
    by_value = np.argsort(inverse, kind="stable")
    counts = np.bincount(inverse, minlength=len(values))
    ends = np.cumsum(counts)
    found: list[tuple[int, int]] = []
    for value in np.flatnonzero(counts > 1).tolist():
        crowd = by_value[ends[value] - counts[value] : ends[value]].tolist()
        found += combinations(crowd[:CROWD], 2)
        found += product(crowd[:CROWD], crowd[CROWD:])
        complete = complete and len(crowd) <= CROWD
    lone = (counts[near] == 1).all(1)
    for a, b in near[~lone].tolist():
        found += product(*(by_value[ends[v] - counts[v] : ends[v]][:CROWD].tolist() for v in (a, b)))
    alone = by_value[(ends - counts)[near[lone]]]
    return np.concatenate([alone.reshape(-1, 2), np.array(found, np.int64).reshape(-1, 2)]), complete


def near_pairs(values: Looks) -> tuple[Ids, bool]:
    """(positions i < j of different looks within REACH bits, M x 2; whether these are all)."""
    found, complete, total = [np.zeros(0, np.int64)], True, 0
    for band in range(BANDS):
        keys = (values >> np.uint64(WIDTH * band) & np.uint64((1 << WIDTH) - 1)).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange((1 << WIDTH) + 1))
        for flip in [0, *(1 << bit for bit in range(WIDTH))]:
            here = np.arange(len(order)) if not flip else np.flatnonzero(keys[order] < keys[order] ^ flip)
            target = keys[order[here]] ^ flip
            low = here + 1 if not flip else starts[target]
            lengths = starts[target + 1] - low
            complete = complete and not (lengths > MOST_COMPARED).any()
            for a, b in ranges(here, low, np.minimum(lengths, MOST_COMPARED)):
                i, j = order[a], order[b]
                close = np.bitwise_count(values[i] ^ values[j]) <= REACH
                i, j = i[close], j[close]
                found.append(np.minimum(i, j) * len(values) + np.maximum(i, j))
                total += len(i)
            if total > MOST_PAIRS:
                complete = False
                break
    every = np.unique(np.concatenate(found))
    return np.stack([every // max(len(values), 1), every % max(len(values), 1)], 1), complete


def ranges(here: Ids, low: Ids, lengths: Ids) -> Iterator[tuple[Ids, Ids]]:
    """(here[k], low[k] ... low[k] + lengths[k] - 1) one after another, in chunks."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(here):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + CHUNK, "right")), start + 1)
        part = lengths[start:stop]
        within = np.arange(part.sum()) - np.repeat(np.cumsum(part) - part, part)
        yield np.repeat(here[start:stop], part), np.repeat(low[start:stop], part) + within
        start = stop


def verified(
    pairs: Ids, thumbs: Callable[[list[int]], Iterable[tuple[int, Thumb]]], memory: int = 16_384
) -> Iterator[tuple[int, int]]:
    """The pairs that are copies. Pictures are read again when needed; at most `memory` and a chunk of them are held."""
    held: OrderedDict[int, Thumb] = OrderedDict()
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    for first in range(0, len(pairs), 2048):
        part = pairs[first : first + 2048]
        wanted = np.unique(part).tolist()
        for id in wanted:
            if id in held:
                held.move_to_end(id)
        held.update(thumbs([id for id in wanted if id not in held]))
        for a, b in part.tolist():
            if a in held and b in held and difference(held[a], held[b]) < SAME:
                yield a, b
        while len(held) > memory:
            held.popitem(last=False)


def linked_groups(links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The connected parts of a graph."""
    parent: dict[int, int] = {}

    def root(a: int) -> int:
        while parent.setdefault(a, a) != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        return a

    for a, b in links:
        parent[root(a)] = root(b)
    groups: dict[int, list[int]] = {}
    for a in parent:
        groups.setdefault(root(a), []).append(a)
    return list(groups.values())
