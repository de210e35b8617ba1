"""Decoded photos that stay: how often each is decoded, how much room they take, and that nobody can tell."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from verydeep.data.reading import Room, kept
from verydeep.data.reading import in_order
from verydeep.data.record import Names, Photos
from verydeep.errors import PhotoError

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
        n = len(SIZES)
        self.photos = Photos("train", Names.of(str(i) for i in range(n)), np.zeros(n, np.int64), self.content)

    def content(self, id: int) -> bytes:
        with self.lock:
            self.read[id] += 1
        if id == self.lost:
            raise PhotoError(str(id), "is gone")
        return FILES[id]


def epoch(photos: Photos, workers: int = 0) -> list[int]:
    """Every photo once; the ids of the bad ones."""
    bad: list[int] = []
    for _ in in_order(lambda id: photos.open(id).tobytes(), range(len(photos)), workers, lambda id, e: bad.append(id)):
        pass
    return bad


@pytest.mark.parametrize("workers", [0, 4])
def test_with_room_enough_every_photo_is_decoded_once(workers: int) -> None:
    shelf, room = Shelf(), Room(sum(BYTES))
    photos = kept(shelf.photos, room)
    for _ in range(3):
        epoch(photos, workers)
    assert shelf.read == Counter(range(20))
    assert room.left == 0


@pytest.mark.parametrize("workers", [0, 4])
@pytest.mark.parametrize("bytes", [0, BYTES[0] - 1, 50_000, 200_000, 600_000, sum(BYTES) - 1])
def test_what_stays_is_never_more_than_there_is_room_for(bytes: int, workers: int) -> None:
    shelf, room = Shelf(), Room(bytes)
    photos = kept(shelf.photos, room)
    epoch(photos, workers)
    first = Counter(shelf.read)
    for _ in range(2):
        epoch(photos, workers)
    assert first == Counter(range(20))
    stays = [id for id in range(20) if shelf.read[id] == 1]
    assert all(shelf.read[id] == 3 for id in range(20) if id not in stays)
    assert room.left == bytes - sum(BYTES[id] for id in stays) >= 0
    assert all(BYTES[id] > room.left for id in range(20) if id not in stays)  # not one more would fit


def test_the_first_that_fit_stay() -> None:
    shelf, room = Shelf(), Room(sum(BYTES[:7]) + 5)
    photos = kept(shelf.photos, room)
    epoch(photos)
    epoch(photos)
    assert [id for id in range(20) if shelf.read[id] == 1] == list(range(7))
    assert room.left == 5


@pytest.mark.parametrize("smallest_side", [None, 48])
@pytest.mark.parametrize("bytes", [0, 60_000, 10**9])
def test_pixels_are_the_same_kept_or_not(bytes: int, smallest_side: int | None) -> None:
    plain = Shelf().photos
    photos = kept(plain, Room(bytes), smallest_side)
    assert (plain.open(19, smallest_side).size == (300, 400)) == (smallest_side is None)
    for _ in range(2):
        for id in range(20):
            found, expected = photos.open(id), plain.open(id, smallest_side)
            assert (found.mode, found.size) == ("RGB", expected.size)
            assert found.tobytes() == expected.tobytes()


def test_everything_else_of_the_photos_is_the_same() -> None:
    plain = replace(Shelf().photos, place="here/", shards=np.zeros(20, np.int64))
    photos = kept(plain, Room(10**9))
    assert (photos.split, list(photos.keys), photos.name(3)) == ("train", list(plain.keys), "here/3")
    assert photos.shards is plain.shards
    assert photos.expect is plain.expect
    assert photos.targets() is plain.targets()


@pytest.mark.parametrize("workers", [0, 3])
def test_a_bad_photo_takes_no_room_and_is_tried_again(workers: int) -> None:
    shelf, room = Shelf(lost=6), Room(sum(BYTES))
    photos = kept(shelf.photos, room)
    assert [epoch(photos, workers) for _ in range(3)] == [[6]] * 3
    assert room.left == BYTES[6]
    shelf.lost = None
    assert epoch(photos, workers) == []
    assert room.left == 0


def test_photos_in_memory_are_left_alone() -> None:
    photos = replace(Shelf().photos, in_memory=True)
    assert kept(photos, Room(10**9)) is photos


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
    threads = [threading.Thread(target=photos.open, args=(0,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert room.left == sum(BYTES) - BYTES[0]


def test_room_is_given_out_once_whoever_asks() -> None:
    room, taken = Room(1000), list[bool]()
    threads = [threading.Thread(target=lambda: [taken.append(room.take(3)) for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(taken), room.left) == (333, 1)


def test_a_kept_photo_costs_no_decoding() -> None:
    shelf = Shelf()
    slow = replace(shelf.photos, content=lambda id: time.sleep(0.05) or shelf.content(id))
    photos = kept(slow, Room(10**9))
    image = photos.open(3)
    assert photos.open(3) is image
    assert shelf.read[3] == 1
