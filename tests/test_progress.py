from __future__ import annotations

import pytest

from verydeep import progress
from verydeep.progress import Progress
from verydeep.words import duration, several


def test_lines_tell_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 0.0, 5.0, 20.0, 40.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    with Progress("lines").bar(400, "epoch 1/2") as advance:
        advance(50, "")
        advance(150, "loss 2.000")
        advance(200, "")
    assert capsys.readouterr().err == "epoch 1/2: 200/400 photos, 10/s, 20 s left, loss 2.000\n"


def test_none_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("none").bar(3, "x") as advance:
        advance(3, "done")
    assert capsys.readouterr().err == ""


def test_a_bar_is_drawn_and_gone(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("bar").bar(3, "photos") as advance:
        advance(3, "loss 1.0")
    assert capsys.readouterr().out == ""


def test_auto_draws_no_bar_where_stderr_is_no_terminal() -> None:
    assert Progress().style == "lines"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.3, "less than a second"), (42, "42 s"), (420, "7 min"), (12_600, "3.5 h"), (1_036_800, "12 days")],
)
def test_durations_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "plural", "words"),
    [
        (1, "epochs", "1 epoch"),
        (1, "classes", "1 class"),
        (0, "photos", "0 photos"),
        (2000, "entries", "2,000 entries"),
    ],
)
def test_one_thing_is_said_as_one(count: int, plural: str, words: str) -> None:
    assert several(count, plural) == words


def test_a_pace_that_falls_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = 0.0, list[str]()
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    shown = Progress("none")
    for epoch, rate in enumerate((100, 100, 300, 300, 90, 90, 50, 50)):  # photos a second; two epochs are a stretch
        with shown.paced(15 * rate, f"epoch {epoch}", 0, told.append) as advance:
            for _ in range(3):
                now += 5.0
                advance(5 * rate, "")
        now += 1_000.0  # of validation, which is no training
    assert told == ["90 photos/s, where it was 300 before"]
