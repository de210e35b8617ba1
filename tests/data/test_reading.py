"""Work in threads: in order whatever takes how long, errors at their place, never far ahead. And photos that stay."""

from __future__ import annotations

import io
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from verydeep.data.reading import Room, in_order, kept, workers_for
from verydeep.data.record import Names, Photos
from verydeep.errors import PhotoError

WORKERS = pytest.mark.parametrize("workers", [0, 1, 2, 4])


def threads() -> int:
    return sum(t.name.startswith("photos") for t in threading.enumerate())


def waits(seed: int) -> Callable[[int], int]:
    def work(id: int) -> int:
        time.sleep(random.Random(seed * 1000 + id).uniform(0, 0.004))
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
    assert threads() == 0


@WORKERS
def test_without_on_bad_the_error_comes_after_what_went_before(workers: int) -> None:
    def work(id: int) -> int:
        if id >= 7:
            time.sleep(0.01 * (9 - id))  # a later photo fails earlier
            raise PhotoError(f"photo {id}", "is gone")
        return id

    found = in_order(work, range(9), workers)
    assert [next(found)[0] for _ in range(7)] == list(range(7))
    with pytest.raises(PhotoError, match="photo 7"):
        next(found)
    assert threads() == 0


@WORKERS
def test_other_errors_are_raised_even_where_bad_photos_are_skipped(workers: int) -> None:
    """Also one of what handles the bad photo."""

    def work(id: int) -> int:
        if id == 5:
            raise PhotoError(str(id), "is gone")
        return id

    for begin, error in ((lambda id: 1 // (5 - id), ZeroDivisionError), (work, KeyError)):
        found = in_order(begin, itertools.count(), workers, lambda id, e: {}[id])  # type: ignore[misc]
        assert [next(found)[0] for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(error):
            next(found)
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
    found = list(in_order(lambda id: together.wait(timeout=5) < 3, range(6), 3, ahead=1))
    assert found == [(id, True) for id in range(6)]


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


def test_without_workers_nothing_is_done_before_it_is_asked_for() -> None:
    done: list[tuple[int, int]] = []
    found = in_order(lambda id: done.append((id, threading.get_ident())), range(5), 0)
    next(found)
    next(found)
    assert done == [(0, threading.get_ident()), (1, threading.get_ident())]


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


# Photos that stay

SIZES = [(40 + 3 * i, 90 - 2 * i) for i in range(19)] + [(300, 400)]  # width, height
BYTES = [4 * w * h for w, h in SIZES]  # Pillow has four bytes for a pixel


def encoded(id: int) -> bytes:
    pixels = np.random.default_rng(id).integers(0, 256, (*SIZES[id][::-1], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG" if id % 2 else "PNG")
    return out.getvalue()


FILES = [encoded(id) for id in range(len(SIZES))]


class Shelf:
    """Photos in files, of which every reading is counted; id `lost` cannot be read."""

    def __init__(self, lost: int | None = None) -> None:
        self.read, self.lost, self.lock = Counter[int](), lost, threading.Lock()
        self.photos = Photos("train", Names.of(map(str, range(20))), np.zeros(20, np.int64), self.content)

    def content(self, id: int) -> bytes:
        with self.lock:
            self.read[id] += 1
        if id == self.lost:
            raise PhotoError(str(id), "is gone")
        return FILES[id]


def epoch(photos: Photos, workers: int = 0) -> list[int]:
    """Every photo once; the ids of the bad ones."""
    bad: list[int] = []
    list(in_order(lambda id: photos.open(id).tobytes(), range(20), workers, lambda id, e: bad.append(id)))
    return bad


@pytest.mark.parametrize("workers", [0, 4])
@pytest.mark.parametrize("bytes", [0, BYTES[0] - 1, 50_000, 200_000, 600_000, sum(BYTES) - 1, sum(BYTES)])
def test_what_stays_is_never_more_than_there_is_room_for(bytes: int, workers: int) -> None:
    shelf, room = Shelf(), Room(bytes)
    photos = kept(shelf.photos, room)
    epoch(photos, workers)
    assert shelf.read == Counter(range(20))
    for _ in range(2):
        epoch(photos, workers)
    stays = [id for id in range(20) if shelf.read[id] == 1]
    assert all(shelf.read[id] == 3 for id in range(20) if id not in stays)
    assert room.left == bytes - sum(BYTES[id] for id in stays) >= 0
    assert all(BYTES[id] > room.left for id in range(20) if id not in stays)  # not one more would fit
    assert workers or stays[:7] == [id for id in range(7) if sum(BYTES[: id + 1]) <= bytes]  # the first that fit


@pytest.mark.parametrize("smallest_side", [None, 48])
@pytest.mark.parametrize("bytes", [0, 60_000, 10**9])
def test_pixels_are_the_same_kept_or_not(bytes: int, smallest_side: int | None) -> None:
    plain = Shelf().photos
    photos = kept(plain, Room(bytes), smallest_side)
    assert (plain.open(19, smallest_side).size == (300, 400)) == (smallest_side is None)
    for id in [*range(20)] * 2:
        found, expected = photos.open(id), plain.open(id, smallest_side)
        assert (found.mode, found.size, found.tobytes()) == ("RGB", expected.size, expected.tobytes())


def test_everything_else_of_the_photos_is_the_same() -> None:
    plain = replace(Shelf().photos, place="here/", shards=np.zeros(20, np.int64))
    photos = kept(plain, Room(10**9))
    assert (photos.split, list(photos.keys), photos.name(3)) == ("train", list(plain.keys), "here/3")
    assert (photos.shards is plain.shards, photos.expect is plain.expect) == (True, True)
    assert photos.targets() is plain.targets()
    in_memory = replace(plain, in_memory=True)
    assert kept(in_memory, Room(10**9)) is in_memory


@pytest.mark.parametrize("workers", [0, 3])
def test_a_bad_photo_takes_no_room_and_is_tried_again(workers: int) -> None:
    shelf, room = Shelf(lost=6), Room(sum(BYTES))
    photos = kept(shelf.photos, room)
    assert [epoch(photos, workers) for _ in range(3)] == [[6]] * 3
    assert room.left == BYTES[6]
    shelf.lost = None
    assert epoch(photos, workers) == []
    assert room.left == 0


def test_splits_share_the_room() -> None:
    room, one, two = Room(sum(BYTES[:5])), Shelf(), Shelf()
    first, second = kept(one.photos, room), kept(two.photos, room)
    for id in (0, 1, 2):
        first.open(id)
    for id in (4, 3, 0):
        second.open(id)
    for id in [0, 1, 2, 3, 4] * 2:
        first.open(id)
        second.open(id)
    assert [one.read[id] for id in range(5)] == [1, 1, 1, 2, 2]
    assert [two.read[id] for id in range(5)] == [3, 2, 2, 1, 1]
    assert room.left == 0


def test_a_photo_that_two_threads_ask_for_at_once_takes_room_once() -> None:
    """As it happens in an epoch that shows a rare class's photos more than once."""
    shelf, room = Shelf(), Room(sum(BYTES))
    both = threading.Barrier(2)

    def content(id: int) -> bytes:
        both.wait(timeout=5)
        return shelf.content(id)

    photos = kept(replace(shelf.photos, content=content), room)
    side_by_side(2, lambda: photos.open(0))
    assert room.left == sum(BYTES) - BYTES[0]


def test_room_is_given_out_once_whoever_asks() -> None:
    room, taken = Room(1000), list[bool]()
    side_by_side(8, lambda: [taken.append(room.take(3)) for _ in range(100)])
    assert (sum(taken), room.left) == (333, 1)


def side_by_side(n: int, work: Callable[[], object]) -> None:
    running = [threading.Thread(target=work) for _ in range(n)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
