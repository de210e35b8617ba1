"""What compares photos with each other: all inner products of their rows, in fp64, read by columns once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from verydeep.describe.descriptor import Rows
from verydeep.errors import ConfigError

MOST_COMPARED = 4_000  # photos of a matrix of dissimilarities; twice 128 MB are held
FITTED = 1_024  # the first photos, on which principal components are fitted
PIECE = 8 << 20  # values at once

Matrix = npt.NDArray[np.float64]


def pieces(rows: Rows) -> Iterator[tuple[slice, Matrix]]:
    step = max(1, PIECE // max(1, len(rows)))
    for i in range(0, rows.shape[1], step):
        yield slice(i, i + step), rows[:, i : i + step].astype(np.float64)


def inner_products(rows: Rows) -> Matrix:
    found = np.zeros((len(rows), len(rows)))
    for _, x in pieces(rows):
        found += x @ x.T
    return found


def dissimilarity(rows: Rows) -> Matrix:
    """1 - Pearson's correlation between the rows N x D, N x N; NaN where a row is NaN or constant."""
    means = rows.mean(1, dtype=np.float64)
    covariance = inner_products(rows)
    covariance -= np.outer(rows.shape[1] * means, means)
    lengths = np.sqrt(np.where((spread := np.diagonal(covariance)) > 0, spread, np.nan))
    covariance /= np.outer(lengths, lengths)
    found = np.subtract(1, covariance, out=covariance)
    np.fill_diagonal(found, np.where(np.isnan(lengths), np.nan, 0))
    return np.asarray(found)


def basis_of(rows: Rows, components: int, tap: str) -> Rows:
    """The mean of rows N x D, and so many principal components, of length 1: (1 + k) x D. Raises ConfigError."""
    good: Any = np.flatnonzero(np.isfinite(rows[:, 0]))  # a bad photo is NaN throughout
    most = min(len(good) - 1, rows.shape[1])
    if components > most:
        have = f"{len(good):,} photos that can be read, of {rows.shape[1]:,} values each"
        raise ConfigError(f"pool: pca:{components} of {tap} needs more than {have}; try pca:{most} or --pool mean")
    products = inner_products(rows)[np.ix_(good, good)]
    mean = products.mean(0)
    values, vectors = np.linalg.eigh(products - mean - mean[:, None] + mean.mean())
    values, vectors = values[::-1][:components], vectors[:, ::-1][:, :components]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(components)])
    inverse = np.divide(1, np.sqrt(np.abs(values)), out=np.zeros(components), where=values > 1e-12 * values[0])
    basis = np.empty((1 + components, rows.shape[1]), np.float32)
    for place, x in pieces(rows):
        basis[0, place], basis[1:, place] = x[good].mean(0), (vectors * inverse).T @ x[good]
    return basis


def write_array(values: npt.NDArray[Any], path: Path) -> None:
    """As np.save, which adds a suffix to names without."""
    with path.open("wb") as file:
        np.save(file, values, allow_pickle=False)
