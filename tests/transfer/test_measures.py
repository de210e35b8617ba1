"""Average precision by hand, and by scikit-learn where the definitions agree."""

import numpy as np
import pytest

from verydeep.transfer import average_precision, class_recall


def test_eleven_points_by_hand():
    # Ranks 1, 3 and 6 of six have the class: precision 1, 2/3, 3/6 at recalls 1/3, 2/3, 1.
    # Recalls 0 to 0.3 find 1, four of them; 0.4 to 0.6 find 2/3, three; 0.7 to 1 find 1/2, four.
    scores = np.array([9, 8, 7, 6, 5, 4], np.float32)
    truth = np.array([1, -1, 1, -1, -1, 1], np.int8)
    found = average_precision(scores, truth)
    assert found.eleven == pytest.approx((4 * 1 + 3 * 2 / 3 + 4 / 2) / 11)
    assert found.every == found.steps == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)


def test_a_later_better_precision_counts_for_voc():
    # Ranks 2 and 3 have it: precision 1/2, 2/3. VOC takes the best from a recall on: 2/3 everywhere.
    found = average_precision(np.array([3, 2, 1], np.float32), np.array([-1, 1, 1], np.int8))
    assert (found.eleven, found.every) == pytest.approx((2 / 3, 2 / 3))
    assert found.steps == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_difficult_photos_are_not_judged():
    scores, truth = np.array([5, 4, 3, 2], np.float32), np.array([0, 1, -1, 1], np.int8)
    assert average_precision(scores, truth) == average_precision(scores[1:], truth[1:])
    assert average_precision(scores, np.array([0, -1, -1, 0], np.int8)) is None


def test_recalls_that_are_whole_tenths():
    # Ten photos in order: at recall 3/10, no fraction of two, the third photo is the one that counts.
    truth = np.array([1, 1, 1] + [-1] * 7 + [1] * 7, np.int8)
    found = average_precision(-np.arange(17, dtype=np.float32), truth)
    assert found.eleven == pytest.approx((4 * 1 + 7 * 10 / 17) / 11)


def test_scikit_learn_agrees():
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(3)
    for n in (5, 40, 300):
        scores, truth = random.permutation(n).astype(np.float32), np.where(random.random(n) < 0.3, 1, -1)
        truth[0] = 1
        found = average_precision(scores, truth.astype(np.int8))
        assert found.steps == pytest.approx(metrics.average_precision_score(truth > 0, scores))
        there = (truth > 0)[np.argsort(-scores)]
        precision = np.cumsum(there) / np.arange(1, n + 1)
        assert found.every == pytest.approx(np.mean([precision[i:].max() for i in np.flatnonzero(there)]))


def test_recall_by_class():
    scores = np.eye(3, dtype=np.float32)[[0, 1, 1, 1]]
    truth = (2 * np.eye(3)[[0, 0, 1, 1]] - 1).astype(np.int8)
    assert class_recall(scores, truth) == [0.5, 1.0, None]
