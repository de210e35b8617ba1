"""When the rate drops: sequences of validation errors worked out by hand."""

import pytest

from verydeep.config import Config
from verydeep.train.schedule import Schedule, after_epoch


def follow(errors, start=0.01, **fields):
    """(rate, drops, reason, ended) after each epoch."""
    config, s, found = Config(**fields), Schedule(start), []
    for epoch, error in enumerate(errors, 1):
        s, reason = after_epoch(s, config, epoch, error)
        found.append((round(s.rate, 12), s.drops, reason, s.ended))
    return found


def test_three_drops_and_the_end_by_hand():
    errors = [80, 70, 70, 70, 60, 60, 60, 59, 59.95, 59.5, 59, 59]
    # patience 2:  .   .   .  drop .   .  drop .   .   drop  .  end
    found = follow(errors, patience=2, least_gain=0.1)
    assert [rate for rate, *_ in found] == [1e-2] * 3 + [1e-3] * 3 + [1e-4] * 3 + [1e-5] * 3
    assert [drops for _, drops, *_ in found] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [bool(reason) for _, _, reason, _ in found] == [False] * 3 + [True] + [False] * 2 + [True] + [False] * 2 + [
        True,
        False,
        True,
    ]
    assert [ended for *_, ended in found] == [False] * 11 + [True]


def test_the_reasons_name_the_drop_the_rates_and_the_best_error():
    found = follow([50, 50, 50, 50, 50], patience=1, drops=3)
    assert (
        found[1][2]
        == "drop 1 of 3: rate 0.01 -> 0.001; the validation error has not fallen 0.1 below 50.00 for 1 epoch"
    )
    assert found[3][2].startswith("drop 3 of 3: rate 0.0001 -> 1e-05; ")
    assert found[4][2].startswith("training ends after epoch 5: ")
    assert found[4][2].endswith(", at the last rate")


def test_a_drop_starts_the_patience_anew_but_keeps_the_best():
    found = follow([40, 45, 44, 43, 42, 41], patience=2, drops=3)
    assert [drops for _, drops, *_ in found] == [0, 0, 1, 1, 2, 2]


def test_less_than_the_least_gain_is_no_improvement_even_when_it_adds_up():
    assert [drops for _, drops, *_ in follow([40, 39.6, 39.3, 38.9], patience=2, least_gain=1.0)] == [0, 0, 1, 1]
    assert follow([40, 39.6, 38.9], patience=2, least_gain=1.0)[-1][1] == 0


@pytest.mark.parametrize("best", [100 * n / 1000 for n in range(2, 1000, 7)])
def test_exactly_the_least_gain_is_an_improvement(best):
    """One photo of a thousand is 0.1 points, whatever binary fractions make of it."""
    s, _ = after_epoch(Schedule(0.01, best=best, stalled=3), Config(), 1, 100 * (round(best * 10) - 1) / 1000)
    assert s.stalled == 0
    assert s.best < best


def test_a_first_epoch_is_the_best_so_far_whatever_its_error():
    assert after_epoch(Schedule(0.01), Config(), 1, 250.0)[0][2:4] == (250.0, 0)


def test_no_drops_end_at_the_first_stall():
    assert [ended for *_, ended in follow([50, 50, 50], patience=2, drops=0)] == [False, False, True]


def test_another_factor():
    assert follow([50, 50], patience=1, drop_factor=4)[-1][0] == 0.0025


def test_drop_at_follows_the_epochs_and_nothing_else():
    found = follow([50] * 8, patience=1, drop_at=(3, 5), epochs=8)
    assert [rate for rate, *_ in found] == [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-4, 1e-4]
    assert found[2][2] == "drop 1 of 2: rate 0.01 -> 0.001; epoch 3 is in drop_at"
    assert [ended for *_, ended in found] == [False] * 7 + [True]
