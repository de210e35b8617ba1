"""Copies among photos: the same bytes, or the same picture at another size, quality, brightness or trim.

A photo's look is 64 signs of its lowest frequencies (after Zauner 2010). Looks that differ in at most REACH bits are
candidates, found by the bands they share (after Norouzi, Punjani and Fleet 2012), and each pair of candidates is
compared as 32 x 32 grey pictures.

Thresholds were measured on 8,000 photos of Fashion-MNIST, where garments of one class look alike but none are the same:
the most alike pair is 0.075 apart, the next 0.11. Copies of larger photos at half the size, JPEG quality 30 to 95 or
15 % brighter are at most 0.06 apart nearly always; trimmed ones are, once their borders are aligned.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Ids = npt.NDArray[np.int64]
Looks = npt.NDArray[np.uint64]
Thumbs = Callable[[list[int]], Iterable[tuple[int, "Thumb"]]]  # reads photos again, giving those it can

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
FREQUENCIES = tuple(np.array([(u, s - u) for s in range(1, 16) for u in range(s + 1) if max(u, s - u) < 11][:64]).T)
COSINES = np.cos(np.pi * (np.arange(SIDE) + 0.5) * np.arange(11)[:, None] / SIDE)
MOVES = np.vstack([np.eye(4), -np.eye(4)])


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
    waves = COSINES @ grey.reshape(SIDE, 2, SIDE, 2).mean((1, 3)) @ COSINES.T
    return int(np.packbits(waves[FREQUENCIES] > 1e-6).view(np.uint64)[0])


def unlikeness(a: Thumb, b: Thumb) -> float:
    """0 to 2; brightness, contrast and trimmed borders do not count, large shifts of colour do."""
    if np.abs(a.colour - b.colour).max() > SHIFT:
        return 2.0
    best, trim = distance(a.grey, b.grey, np.zeros(4)), np.zeros(4)
    if not SAME <= best < WORTH_ALIGNING or a.small or b.small:
        return best
    for step in (2.0, 1.0, 0.5):  # downhill
        for _ in range(6):
            tries = [trim + step * m for m in MOVES if np.abs(trim + step * m).max() <= TRIMMED]
            found = [distance(a.grey, b.grey, t) for t in tries]
            if min(found) >= best:
                break
            best, trim = min(found), tries[int(np.argmin(found))]
            if best < SAME:
                return best
        if best > HOPELESS:
            break
    return best


def distance(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], trim: npt.NDArray[np.float64]) -> float:
    """With `trim` cut off left, top, right and bottom of a, or where it is negative of b."""
    x, y = shrunk(a, np.maximum(trim, 0)), shrunk(b, np.maximum(-trim, 0))
    return float(np.sqrt(((x - y) ** 2).mean()))


def shrunk(grey: npt.NDArray[np.uint8], trim: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    left, top, right, bottom = trim.tolist()
    box = (left, top, FINE - right, FINE - bottom)
    pixels = np.array(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box), np.float64)
    pixels -= pixels.mean()
    return np.asarray(pixels / max(pixels.std(), LEAST_CONTRAST))


def copies(content: Looks, looks: Looks, ids: Ids, thumbs: Thumbs) -> Groups:
    """Groups of copies among the photos `ids`. content: N x 2, the hash of their bytes; looks: N."""
    order = ids[np.lexsort((ids, content[ids, 1], content[ids, 0]))]
    starts = np.flatnonzero(np.r_[[True] * len(ids[:1]), (content[order[1:]] != content[order[:-1]]).any(1)])
    first = order[starts]
    equal = {int(run[0]): run for run in np.split(order, starts[1:]) if len(run) > 1}
    pairs, complete = candidates(looks[first])
    linked = linked_groups(real_copies(first[pairs], thumbs))
    found = [(np.sort(np.concatenate([equal.pop(one, np.array([one])) for one in group])), False) for group in linked]
    found += [(run, True) for run in equal.values()]
    found.sort(key=lambda group: int(group[0][0]))
    return Groups([members for members, _ in found], [exact for _, exact in found], complete)


def candidates(looks: Looks) -> tuple[Ids, bool]:
    """(pairs of positions whose looks are within REACH bits, M x 2; whether these are all)."""
    values, inverse, counts = np.unique(looks, return_inverse=True, return_counts=True)
    by_value, starts = np.argsort(inverse, kind="stable"), np.cumsum(counts) - counts
    near, complete = near_pairs(values)
    lone = (counts[near] == 1).all(1)
    found: list[tuple[int, int]] = []
    for a, b in near[~lone].tolist():
        found += product(*(by_value[starts[v] :][: min(counts[v], CROWD)].tolist() for v in (a, b)))
    for value in np.flatnonzero(counts > 1).tolist():
        crowd = by_value[starts[value] :][: counts[value]].tolist()
        found += combinations(crowd[:CROWD], 2)
        found += product(crowd[:CROWD], crowd[CROWD:])
    pairs = np.concatenate([by_value[starts[near[lone]]], np.array(found, np.int64).reshape(-1, 2)])
    return pairs, complete and counts.max(initial=0).item() <= CROWD


def near_pairs(values: Looks) -> tuple[Ids, bool]:
    """(positions i < j of different looks within REACH bits, M x 2; whether these are all)."""
    found, complete, total = [np.zeros(0, np.int64)], True, 0
    for band in range(BANDS):
        keys = (values >> np.uint64(WIDTH * band) & np.uint64((1 << WIDTH) - 1)).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange((1 << WIDTH) + 1))
        for flip in [0, *(1 << bit for bit in range(WIDTH))]:
            here = np.flatnonzero(keys[order] < keys[order] ^ flip) if flip else np.arange(len(order))
            target = keys[order[here]] ^ flip
            low = starts[target] if flip else here + 1
            lengths = starts[target + 1] - low
            complete = complete and not (lengths > MOST_COMPARED).any()
            lengths = np.minimum(lengths, MOST_COMPARED)
            step = CHUNK // max(lengths.max(initial=0), 1)
            for part in (slice(first, first + step) for first in range(0, len(here), step)):
                n = lengths[part]
                within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
                i, j = order[np.repeat(here[part], n)], order[np.repeat(low[part], n) + within]
                close = np.bitwise_count(values[i] ^ values[j]) <= REACH
                found.append(np.minimum(i, j)[close] * len(values) + np.maximum(i, j)[close])
                total += len(found[-1])
            if total > MOST_PAIRS:
                complete = False
                break
    return np.stack(np.divmod(np.unique(np.concatenate(found)), max(len(values), 1)), 1), complete


def real_copies(pairs: Ids, thumbs: Thumbs, memory: int = 16_384) -> Iterator[tuple[int, int]]:
    """Those of the pairs. Pictures are read again when needed; at most `memory` and a chunk of them are held."""
    held: dict[int, Thumb] = {}
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    for part in (pairs[first : first + 2048] for first in range(0, len(pairs), 2048)):
        if len(held) > memory:
            held.clear()
        held.update(thumbs([id for id in np.unique(part).tolist() if id not in held]))
        for a, b in part.tolist():
            if a in held and b in held and unlikeness(held[a], held[b]) < SAME:
                yield a, b


def linked_groups(links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The connected parts of a graph."""
    parts: dict[int, list[int]] = {}  # each member's own, one list for all of them
    for a, b in links:
        one, other = parts.setdefault(a, [a]), parts.setdefault(b, [b])
        if one is not other:
            small, large = sorted((one, other), key=len)
            large += small
            parts.update(dict.fromkeys(small, large))
    return list({id(part): part for part in parts.values()}.values())
