"""Boxes from class maps: connected parts against a flood by hand, maps between windows, MaxBoxAcc of a worked case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verydeep.localise.maps import GRID, ClassMap, boxes_from_maps, connected, parts_above


def flooded(mask):
    """Parts one after another, from cell to cell."""
    number, parts = np.zeros(mask.shape, int), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if number[start]:
            continue
        parts += 1
        waiting = [start]
        while waiting:
            y, x = waiting.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not number[y, x]:
                number[y, x] = parts
                waiting += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return number


@given(st.integers(0, 2**31), st.floats(0.1, 0.9))
@settings(max_examples=100, deadline=None)
def test_connected_parts_are_those_of_a_flood(seed, density):
    random = np.random.default_rng(seed)
    mask = random.random(random.integers(1, 14, 2)) < density
    ours, theirs = connected(mask), flooded(mask)
    pairs = set(zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert ((ours > 0) == mask).all()


def test_a_spiral_is_one_part():
    mask = np.zeros((9, 9), bool)
    mask[0], mask[:, 8], mask[8], mask[2:, 0], mask[2, :7], mask[2:7, 6], mask[6, 2:7] = (True,) * 7
    assert len(np.unique(connected(mask))) == 2


def test_the_largest_part_comes_first_and_its_box_is_tight():
    heat = np.zeros((10, 10))
    heat[1:3, 1:3], heat[5:9, 4:10] = 1.0, 0.6
    high, low = parts_above(heat, [0.8, 0.5])
    assert high.tolist() == [[0.1, 0.1, 0.3, 0.3]]
    assert low.tolist() == [[0.4, 0.5, 1.0, 0.9], [0.1, 0.1, 0.3, 0.3]]
    assert boxes_from_maps(heat, 0.5, (50, 200)).tolist() == [80, 25, 200, 45]


def test_a_map_lies_where_its_windows_do():
    """One window in nine says yes, in the lower left; the map is highest there."""
    places = [[x, y, x + 40, y + 40] for y in (0, 30, 60) for x in (0, 30, 60)]
    rows = np.array([[*place, 0.0, float(i == 6)] for i, place in enumerate(places)])
    heat = ClassMap((100, 100), [rows]).of(1)
    assert heat.shape == (GRID, GRID)
    assert (heat.min(), heat.max()) == (0, 1)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert (x < GRID * 0.25, y > GRID * 0.75) == (True, True)
    assert heat[: GRID // 2].max() < 0.05
    assert ClassMap((100, 100), [rows]).of(0).min() == 1  # nothing said of it: all of the photo
    assert ClassMap((100, 100), [rows, rows]).of(1) == pytest.approx(heat)
