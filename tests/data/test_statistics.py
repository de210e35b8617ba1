"""Mean RGB and principal components against numpy, computed another way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from verydeep.data import statistics
from verydeep.data.record import Names, Photos
from verydeep.data.statistics import Statistics, measure
from verydeep.errors import DataError, PhotoError

RANDOM = np.random.default_rng(5)
MIX = np.array([[60, 20, 5], [50, -5, -20], [40, -25, 10]])


def coloured(height: int, width: int, centre: float = 128) -> np.ndarray:
    pixels = RANDOM.uniform(-1, 1, (height, width, 3)) @ MIX.T + centre
    return np.clip(pixels, 0, 255).astype(np.uint8)


def photos_of(*arrays: np.ndarray) -> Photos:
    keys = Names.of(str(i) for i in range(len(arrays)))
    return Photos("train", keys, np.zeros(len(arrays), np.int64), lambda id: Image.fromarray(arrays[id]))


def covariance(found: Statistics) -> np.ndarray:
    axes = np.array(found.components)
    return axes @ np.diag(found.eigenvalues) @ axes.T


def test_photos_of_one_size_are_one_heap_of_pixels() -> None:
    arrays = [coloured(16, 20, centre) for centre in (90, 120, 150)]
    found = measure(photos_of(*arrays), 16, 0)
    pixels = np.concatenate([a.reshape(-1, 3) for a in arrays]).astype(float)
    expected = np.cov(pixels.T, bias=True)
    assert np.allclose(found.mean, pixels.mean(0))
    assert np.allclose(covariance(found), expected)
    assert np.allclose(found.eigenvalues, np.linalg.svd(expected)[1])
    assert found.photos == 3
    assert {type(v) for v in (*found.mean, *found.eigenvalues, *sum(found.components, ()))} == {float}


def test_components_are_orthonormal_columns_by_falling_eigenvalue() -> None:
    found = measure(photos_of(coloured(30, 30)), 30, 0)
    axes = np.array(found.components)
    assert np.allclose(axes.T @ axes, np.eye(3))
    assert found.eigenvalues[0] > found.eigenvalues[1] > found.eigenvalues[2] > 0
    # The mix's first column is by far its longest, so the first component points along it.
    assert abs(axes[:, 0] @ MIX[:, 0]) / np.linalg.norm(MIX[:, 0]) > 0.98
    assert (axes.sum(0) >= 0).all()


def test_every_photo_has_the_same_weight() -> None:
    small, large = np.full((8, 8, 3), 10, np.uint8), np.full((8, 60, 3), 110, np.uint8)
    found = measure(photos_of(small, large), 8, 0)
    assert found.mean == (60, 60, 60)
    assert np.allclose(found.eigenvalues, (3 * 50**2, 0, 0))


def test_photos_are_rescaled_first() -> None:
    """A checkerboard of single pixels is grey at half its size."""
    board = np.repeat((np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)[:, :, None], 3, 2)
    assert measure(photos_of(board), 32, 0).eigenvalues[0] > 40_000
    assert measure(photos_of(board), 16, 0).eigenvalues[0] < 1_000


def test_grey_photos_have_one_component() -> None:
    grey = np.repeat(RANDOM.integers(0, 256, (10, 10, 1), dtype=np.uint8), 3, 2)
    found = measure(photos_of(grey), 10, 0)
    assert np.allclose(np.array(found.components)[:, 0], 1 / np.sqrt(3))
    assert np.isclose(found.eigenvalues[0], 3 * grey[..., 0].astype(float).var())
    assert max(found.eigenvalues[1:]) < 1e-6 <= found.eigenvalues[0]
    assert min(found.eigenvalues) >= 0


def test_at_most_so_many_photos_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "AT_MOST", 4)
    photos = photos_of(*(np.full((4, 4, 3), i * 10, np.uint8) for i in range(20)))
    assert measure(photos, 4, 1).photos == 4
    assert measure(photos, 4, 1) == measure(photos, 4, 1)
    assert len({measure(photos, 4, seed).mean for seed in range(5)}) > 1


def test_workers_change_nothing() -> None:
    photos = photos_of(*(coloured(12, 12) for _ in range(6)))
    assert measure(photos, 12, 0, workers=2) == measure(photos, 12, 0, workers=0)


def test_bad_photos_stop_or_are_left_out() -> None:
    good = photos_of(*(np.full((4, 4, 3), v, np.uint8) for v in (10, 20, 60)))

    def open_or_fail(asked: int) -> Image.Image:
        if asked == 2:
            raise PhotoError(str(asked), "is gone")
        return good.open(asked)

    photos = replace(good, content=open_or_fail)
    with pytest.raises(PhotoError, match="is gone"):
        measure(photos, 4, 0)
    bad: list[int] = []
    found = measure(photos, 4, 0, on_bad=lambda id, e: bad.append(id))
    assert (bad, found.mean, found.photos) == ([2], (15, 15, 15), 2)


def test_not_one_good_photo_is_explained() -> None:
    with pytest.raises(DataError, match="not one training photo"):
        measure(photos_of(), 4, 0)
