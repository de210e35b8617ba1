"""When the rate drops: sequences of validation errors worked out by hand."""

import pytest

from verydeep.config import Config
from verydeep.train.schedule import Schedule, after_epoch, rate_at


def follow(errors, **fields):
    """(rate, drops, reason, ended) after each epoch."""
    config, s, found = Config(**fields), Schedule(0.01), []
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
    assert [i for i, (_, _, reason, _) in enumerate(found) if reason] == [3, 6, 9, 11]
    assert [ended for *_, ended in found] == [False] * 11 + [True]


def test_the_reasons_name_the_drop_the_rates_and_the_best_error():
    reasons = [reason for _, _, reason, _ in follow([50, 50, 50, 50, 50], patience=1, drops=3)]
    why = "the validation error has not fallen 0.1 below 50.00 for 1 epoch"
    assert reasons[1] == f"drop 1 of 3: rate 0.01 -> 0.001; {why}"
    assert reasons[3] == f"drop 3 of 3: rate 0.0001 -> 1e-05; {why}"
    assert [ended for *_, ended in follow([50, 50, 50], patience=2, drops=0)] == [False, False, True]
    assert reasons[4] == f"training ends after epoch 5: {why}, at the last rate"


DROPS = [
    ([40, 45, 44, 43, 42, 41], {"drops": 3}, [0, 0, 1, 1, 2, 2]),  # a drop starts the patience anew but keeps the best
    ([40, 39.6, 39.3, 38.9], {"least_gain": 1.0}, [0, 0, 1, 1]),  # less than the least gain, even when it adds up
    ([40, 39.6, 38.9], {"least_gain": 1.0}, [0, 0, 0]),
    ([250, 250], {"patience": 1}, [0, 1]),  # a first epoch is the best so far whatever its error
]


@pytest.mark.parametrize(("errors", "fields", "drops"), DROPS)
def test_drops_by_hand(errors, fields, drops):
    assert [drop for _, drop, *_ in follow(errors, **({"patience": 2} | fields))] == drops


@pytest.mark.parametrize("best", [100 * n / 1000 for n in range(2, 1000, 7)])
def test_exactly_the_least_gain_is_an_improvement(best):
    """One photo of a thousand is 0.1 points, whatever binary fractions make of it."""
    s, _ = after_epoch(Schedule(0.01, best=best, stalled=3), Config(), 1, 100 * (round(best * 10) - 1) / 1000)
    assert s.stalled == 0
    assert s.best < best


def test_drop_at_follows_the_epochs_and_nothing_else():
    """By another factor too."""
    found = follow([50] * 8, patience=1, drop_at=(3, 5), epochs=8, drop_factor=4)
    assert [rate for rate, *_ in found] == [1e-2] * 2 + [2.5e-3] * 2 + [6.25e-4] * 4
    assert found[2][2] == "drop 1 of 2: rate 0.01 -> 0.0025; epoch 3 is in drop_at"
    assert [ended for *_, ended in found] == [False] * 7 + [True]


def test_one_cycle_rises_over_a_fifth_and_falls_to_nothing() -> None:
    c, s = Config(schedule="one-cycle", lr=0.5, epochs=3), Schedule(0.5)
    assert rate_at(s, c, 0) == pytest.approx(0.02)
    assert rate_at(s, c, 0.1) == pytest.approx((0.02 + 0.5) / 2)
    assert rate_at(s, c, 0.2) == 0.5
    assert rate_at(s, c, 0.6) == pytest.approx(0.25)  # in the middle of a cosine
    assert rate_at(s, c, 1 - 1e-6) == pytest.approx(0, abs=1e-9)
    assert [after_epoch(s, c, epoch, 50.0)[1] for epoch in (1, 2, 3)] == [
        "",
        "",
        "training ends after epoch 3, the last",
    ]
    assert rate_at(s, Config(lr=0.5), 0.9) == 0.5


def test_a_plateau_of_few_steps_drops_nothing() -> None:
    c, s = Config(patience=2, patience_steps=30), Schedule(0.1, best=50.0)
    for epoch in (1, 2):
        s, why = after_epoch(s, c, epoch, 60.0, steps=10)
        assert not why
    assert "drop 1 of 3" in after_epoch(s, c, 3, 60.0, steps=10)[1]


@pytest.mark.parametrize("at", range(1, 12))
def test_a_training_that_had_its_epochs_and_gets_more_ends_as_a_longer_one(at):
    """Also where the error stalls in the very epoch that was to be the last."""
    errors = [80, 70, 70, 70, 60, 60, 60, 59, 59.95, 59.5, 59, 59]
    config, s = Config(patience=2, epochs=at), Schedule(0.01)
    for epoch, error in enumerate(errors, 1):
        s, reason = after_epoch(s, config, epoch, error)
        if epoch == at:
            assert (s.ended, reason) == (True, f"training ends after epoch {at}, the last")
            config, s = Config(patience=2, epochs=20), s._replace(ended=False)
    assert (s.rate, s.drops, s.ended) == (pytest.approx(1e-5), 3, True)


def test_a_training_that_is_through_in_its_last_epoch_has_no_more_to_do():
    assert follow([50, 50, 50], patience=1, drops=1, epochs=3)[-1][2].endswith("for 1 epoch, at the last rate")
