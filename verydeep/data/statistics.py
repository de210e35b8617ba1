"""Mean RGB and principal components of the training photos (section 2.1 and Krizhevsky 2012)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from verydeep.data.order import epoch_order
from verydeep.data.photo import Pixels, middle
from verydeep.data.reading import in_order
from verydeep.data.record import Photos
from verydeep.errors import DataError, PhotoError

AT_MOST = 10_000


class Statistics(NamedTuple):
    """In 0-255 units; `components` has one principal component a column, by falling eigenvalue."""

    mean: tuple[float, float, float]
    components: tuple[tuple[float, float, float], ...]
    eigenvalues: tuple[float, float, float]
    photos: int


def measure(
    photos: Photos, smallest_side: int, seed: int, workers: int = 0,
    on_bad: Callable[[int, PhotoError], None] | None = None,
) -> Statistics:  # fmt: skip
    """Statistics over at most 10,000 photos drawn by the seed, rescaled to S, each with equal weight.

    A bad photo is handed to `on_bad` and left out; without `on_bad` its PhotoError is raised.
    """
    # Drawn from all photos, but on a remote store from a few shards.
    every = np.random.default_rng(seed).permutation(len(photos))
    chosen = (every if photos.shards is None else epoch_order(seed, 0, photos).ids)[:AT_MOST]
    photos.expect(chosen)
    first, second, n = np.zeros(3), np.zeros((3, 3)), 0
    moments = in_order(lambda id: moments_of(middle(photos.open(id), smallest_side)), chosen.tolist(), workers, on_bad)
    for _, (mean, square) in moments:
        first, second, n = first + mean, second + square, n + 1
    if not n:
        raise DataError("not one training photo could be read; 'verydeep check' says why of each")
    first, second = first / n, second / n
    values, vectors = np.linalg.eigh(second - np.outer(first, first))
    vectors = vectors * np.where(vectors.sum(0) < 0, -1.0, 1.0)  # a component's sign is free; fix it
    components = tuple(tuple(float(v) for v in row) for row in vectors[:, ::-1])
    return Statistics(tuple(map(float, first)), components, tuple(float(max(v, 0.0)) for v in values[::-1]), n)  # type: ignore[arg-type]


def moments_of(pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
    """Mean of x (3) and of x x^T (3 x 3) over the pixels of one photo, uint8 H x W x 3."""
    x = pixels.reshape(-1, 3).astype(np.float64)
    return x.mean(0), x.T @ x / len(x)
