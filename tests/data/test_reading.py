"""Work in threads: in order whatever takes how long, errors at their place, and never far ahead."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verydeep.data.reading import in_order, workers_for
from verydeep.errors import PhotoError

WORKERS = pytest.mark.parametrize("workers", [0, 1, 2, 4])


def threads() -> int:
    return sum(t.name.startswith("photos") for t in threading.enumerate())


def waits(seed: int, longest: float = 0.004) -> Callable[[int], int]:
    def work(id: int) -> int:
        time.sleep(random.Random(seed * 1000 + id).uniform(0, longest))
        return id * id

    return work


@WORKERS
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_results_come_in_the_order_asked_for(workers: int, seed: int) -> None:
    ids = random.Random(seed).choices(range(50), k=70)  # some more than once
    assert list(in_order(waits(seed), ids, workers, ahead=3)) == [(id, id * id) for id in ids]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.integers(1, 4), st.sets(st.integers(0, 29)), st.integers(0, 30))
def test_bad_photos_are_told_at_their_place_and_left_out(workers: int, ahead: int, lost: set[int], n: int) -> None:
    told: list[tuple[str, int]] = []

    def work(id: int) -> int:
        if id in lost:
            raise PhotoError(f"photo {id}", "is gone")
        return -id

    def on_bad(id: int, e: PhotoError) -> None:
        assert e.photo == f"photo {id}"
        told.append(("bad", id))

    for id, result in in_order(work, iter(range(n)), workers, on_bad, ahead):
        assert result == -id
        told.append(("good", id))
    assert told == [("bad" if id in lost else "good", id) for id in range(n)]


@WORKERS
def test_without_on_bad_the_error_comes_after_what_went_before(workers: int) -> None:
    def work(id: int) -> int:
        if id >= 7:
            time.sleep(0.01 * (9 - id))  # a later photo fails earlier
            raise PhotoError(f"photo {id}", "is gone")
        return id

    seen: list[int] = []
    with pytest.raises(PhotoError, match="photo 7"):
        seen.extend(id for id, _ in in_order(work, range(9), workers))
    assert threads() == 0
    found = in_order(work, range(9), workers)
    assert [next(found)[0] for _ in range(7)] == list(range(7))
    with pytest.raises(PhotoError, match="photo 7"):
        next(found)


@WORKERS
def test_other_errors_are_raised_even_where_bad_photos_are_skipped(workers: int) -> None:
    found = in_order(lambda id: 1 // (3 - id), range(9), workers, lambda id, e: None)
    assert [next(found)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert threads() == 0


@WORKERS
def test_an_error_in_on_bad_is_raised_and_the_threads_end(workers: int) -> None:
    def work(id: int) -> int:
        raise PhotoError(str(id), "is gone")

    def stop(id: int, e: PhotoError) -> None:
        raise PhotoError(f"{id}!", e.reason)

    with pytest.raises(PhotoError, match="0!: is gone"):
        next(in_order(work, itertools.count(), workers, stop))
    assert threads() == 0


@pytest.mark.parametrize(("workers", "ahead"), [(0, 32), (1, 1), (1, 8), (2, 3), (4, 5)])
def test_no_more_than_so_many_are_in_hand(workers: int, ahead: int) -> None:
    """Begun and not yet given out: what bounds the memory, however slow the consumer is."""
    begun: list[int] = []

    def ids() -> Iterator[int]:
        for id in range(60):
            begun.append(id)
            yield id

    given_out, most = 0, 0
    for _ in in_order(lambda id: id, ids(), workers, ahead=ahead):
        most = max(most, len(begun) - given_out)
        given_out += 1
        time.sleep(0.001)
    assert most == max(1, workers * ahead)
    assert given_out == len(begun) == 60


def test_as_many_work_at_once_as_there_are_workers() -> None:
    together = threading.Barrier(3)
    assert list(in_order(lambda id: together.wait(timeout=5) < 3, range(6), 3, ahead=1)) == [
        (id, True) for id in range(6)
    ]


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_end_when_nobody_asks_any_more(workers: int) -> None:
    done: list[int] = []

    def work(id: int) -> int:
        time.sleep(0.002)
        done.append(id)
        return id

    found = in_order(work, itertools.count(), workers, ahead=10)
    next(found)
    assert threads() == workers
    found.close()  # type: ignore[attr-defined]
    assert threads() == 0
    ended = len(done)
    assert ended < 10 * workers  # what had not been begun was dropped
    time.sleep(0.01)
    assert len(done) == ended


@WORKERS
def test_nothing_to_do_is_done_at_once(workers: int) -> None:
    assert list(in_order(lambda id: id, [], workers)) == []
    assert threads() == 0


def test_without_workers_nothing_is_done_before_it_is_asked_for() -> None:
    here, done = threading.get_ident(), list[int]()

    def work(id: int) -> int:
        assert threading.get_ident() == here
        done.append(id)
        return id

    found = in_order(work, range(5), 0)
    next(found)
    next(found)
    assert done == [0, 1]


def test_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One a core that this process may use, of those that its neighbours on the machine do not."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(6)), raising=False)
    assert [workers_for(n, memory) for n in (0, 3, 99) for memory in (False, True)] == [0, 0, 3, 3, 99, 99]
    assert (workers_for(-1, False), workers_for(-1, True)) == (6, 0)
    for neighbours, expected in (("1", 6), ("2", 3), ("4", 1), ("8", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", neighbours)
        assert workers_for(-1, False) == expected
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)), raising=False)
    assert workers_for(-1, False) == 16
    monkeypatch.delattr("os.sched_getaffinity")  # as on a Mac
    for cores, expected in ((64, 16), (4, 4), (None, 1)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert workers_for(-1, False) == expected
