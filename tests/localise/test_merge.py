"""Merging against plain loops over pairs, and the two scores on boxes that can be worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verydeep.localise import merge
from verydeep.localise.merge import MERGES, answers_at, match, match_literally, merging


def overlap(a, b):
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def ours(a, b):
    centres = math.hypot((a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2)
    diagonal = (math.hypot(a[2] - a[0], a[3] - a[1]) + math.hypot(b[2] - b[0], b[3] - b[1])) / 2
    sizes = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return centres / diagonal + 1 - overlap(a, b) / (sum(sizes) - overlap(a, b))


def literally(a, b):
    return math.hypot((a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2) + math.sqrt(overlap(a, b))


def merged_by_hand(boxes, ratings, threshold, score):
    """Lists, every pair anew each time."""
    left = [(list(map(float, b)), float(r)) for b, r in zip(boxes, ratings, strict=True)]
    while len(left) > 1:
        pairs = [(score(left[i][0], left[j][0]), i, j) for i in range(len(left)) for j in range(i + 1, len(left))]
        best, i, j = min(pairs)
        if best > threshold:
            break
        mean = [(x + y) / 2 for x, y in zip(left[i][0], left[j][0], strict=True)]
        left[i] = (mean, left[i][1] + left[j][1])
        del left[j]
    return max(left, key=lambda item: item[1])


@st.composite
def many(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    n = draw(st.integers(1, 14))
    low = random.uniform(0, 50, (n, 2))
    return np.concatenate([low, low + random.uniform(4, 40, (n, 2))], 1), random.uniform(0.01, 1, n)


@pytest.mark.parametrize(("name", "score"), [("greedy", ours), ("literal", literally)])
@given(drawn=many())
@settings(max_examples=60, deadline=None)
def test_greedy_merging_is_that_of_plain_loops(name, score, drawn):
    boxes, ratings = drawn
    how, thresholds, _ = MERGES[name]
    order = np.argsort(-ratings, kind="stable")  # in which both take pairs that match alike
    for threshold, (box, rating) in zip(thresholds, answers_at(how(boxes, ratings), thresholds), strict=True):
        expected, most = merged_by_hand(boxes[order], ratings[order], threshold, score)
        assert rating == pytest.approx(most)
        assert box == pytest.approx(expected)


@given(drawn=many())
def test_nms_keeps_the_best_rated_box(drawn):
    boxes, ratings = drawn
    [(box, rating)] = answers_at(MERGES["nms"].walk(boxes, ratings), [0.0])
    assert (rating, box.tolist()) == (ratings.max(), boxes[ratings.argmax()].tolist())


def test_read_literally_equal_boxes_match_worst():
    box, near, far = (np.array(b, float) for b in ([0, 0, 20, 20], [2, 2, 22, 22], [60, 60, 80, 80]))
    assert match(box, box) == 0
    assert match(box, near) < match(box, far)
    assert match_literally(box, box) == 20  # the root of the whole area
    assert match_literally(box, near) > match_literally(box, np.array([9.0, 9, 11, 11]))


def test_two_clusters_stay_two_and_their_ratings_add_up():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 70, 70], [51, 50, 71, 70], [49, 50, 69, 70]], float)
    states = list(merging(boxes, np.array([0.2, 0.3, 0.1, 0.1, 0.1])))
    assert [len(s.boxes) for s in states] == [5, 4, 3, 2, 1]
    two = states[3]
    assert sorted(two.ratings.round(6).tolist()) == [0.3, 0.5]
    assert two.upcoming > 1 > states[2].upcoming
    assert two.boxes[two.ratings.argmax()] == pytest.approx([0.5, 0, 10.5, 10])


def test_of_very_many_boxes_the_best_rated_are_merged(monkeypatch):
    monkeypatch.setattr(merge, "MOST", 3)
    boxes = np.array([[i * 100, 0, i * 100 + 10, 10] for i in range(6)], float)
    first = next(merging(boxes, np.array([0.1, 0.9, 0.2, 0.8, 0.3, 0.7])))
    assert sorted(first.boxes[:, 0].tolist()) == [100, 300, 500]
