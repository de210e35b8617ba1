"""Intervals and verdicts against SciPy, and by hand."""

import pytest
from scipy.stats import binom, binomtest

from verydeep.evaluate.judge import by_class, chance, interval, judged, main_test, paired

CLASSES = ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("errors", "photos"), [(0, 1), (1, 1), (0, 24), (25, 142), (71, 142), (147, 1000), (9999, 10000)]
)
def test_intervals_are_wilsons(errors, photos):
    low, high = binomtest(errors, photos).proportion_ci(0.95, method="wilson")
    assert interval(errors, photos) == pytest.approx((100 * low, 100 * high), abs=0.006)


@pytest.mark.parametrize(
    ("right", "photos", "share"), [(0, 5, 0.5), (3, 5, 0.5), (130, 1000, 0.1), (40, 142, 0.25), (9, 9, 1.0)]
)
def test_chance_is_the_tail_of_a_binomial(right, photos, share):
    assert chance(right, photos, share) == pytest.approx(float(binom.sf(right - 1, photos, share)), rel=1e-9)


def test_one_answer_to_everything_is_no_learning():
    found = judged([(0, 1, 50), (1, 1, 40), (2, 1, 10)], CLASSES)
    assert found.guessing == 50.0
    assert found.doubt == "the net gives one answer, 'bee', to nearly every photo"


def test_no_better_than_the_largest_class_is_no_learning():
    assert (
        "no better than guessing: always saying 'ant'"
        in judged([(0, 0, 30), (0, 1, 20), (1, 0, 30), (2, 2, 20)], CLASSES).doubt
    )
    assert not judged([(0, 0, 45), (0, 1, 5), (1, 1, 25), (1, 0, 5), (2, 2, 20)], CLASSES).doubt


def test_a_class_that_is_nearly_everything_and_right_is_not_one_answer():
    assert "gives one answer" not in judged([(0, 0, 97), (1, 1, 1), (2, 0, 2)], CLASSES).doubt


def test_precision_recall_and_f1_by_hand():
    ant, bee, cat = by_class([(0, 0, 6), (0, 1, 2), (1, 1, 4)], CLASSES)
    assert (ant["photos"], ant["recall"], ant["precision"], ant["f1"]) == (8, 75.0, 100.0, 85.71)
    assert (bee["photos"], bee["recall"], bee["precision"], bee["f1"]) == (4, 100.0, 66.67, 80.0)
    assert (cat["photos"], cat["recall"], cat["precision"], cat["f1"]) == (0, None, None, None)


def test_a_paired_interval_by_hand():
    # a = 12.5, b = 4.5, n = 102: (8 -+ 1.96 * sqrt(17 - 64 / 102)) / 102
    assert paired(12, 4, 100) == pytest.approx((0.07, 15.62), abs=0.011)
    assert paired(5, 5, 100)[0] == -paired(5, 5, 100)[1]


def test_a_net_is_judged_by_the_last_test_that_tells_something():
    assert main_test([("centre", [256], 224), ("dense", [256], 224)]) == 1
    assert main_test([("centre", [36], 32), ("dense", [36], 32)]) == 0  # one cell
    assert main_test([("centre", [64], 32), ("dense", [64], 32), ("dense", [60, 64], 32)]) == 1
    assert main_test([("dense", [36], 32)]) == 0
