"""Photos read ahead in threads, for decoding frees the interpreter's lock, and kept decoded while there is room."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from PIL import Image

from verydeep.data.record import Photos
from verydeep.errors import PhotoError

T = TypeVar("T")
MOST_WORKERS = 16
PIXEL = 4  # bytes in Pillow's memory


def workers_for(asked: int, in_memory: bool) -> int:
    """The number of decoding threads: as asked or, for -1, one a core that this process may use and no neighbour does.

    Photos already in memory need none. Beyond MOST_WORKERS the interpreter's lock is the limit.
    """
    if asked >= 0:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if in_memory else max(1, min(MOST_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def in_order(
    work: Callable[[int], T], ids: Iterable[int], workers: int,
    on_bad: Callable[[int, PhotoError], None] | None = None, ahead: int = 32,
) -> Iterator[tuple[int, T]]:  # fmt: skip
    """(id, work(id)) for every id in order, at most `ahead` per worker in advance; 0 workers work right here.

    A PhotoError goes to `on_bad` and its photo is left out; without `on_bad` it is raised.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="photos") if workers else None

    def begin(id: int) -> Callable[[], T]:
        return pool.submit(work, id).result if pool else partial(work, id)

    pending: deque[tuple[int, Callable[[], T]]] = deque()
    remaining = iter(ids)
    try:
        while True:
            while len(pending) < max(1, ahead * workers) and (upcoming := next(remaining, None)) is not None:
                pending.append((upcoming, begin(upcoming)))
            if not pending:
                return
            id, result = pending.popleft()
            try:
                value = result()
            except PhotoError as e:
                if on_bad is None:
                    raise
                on_bad(id, e)
            else:
                yield id, value
    finally:
        if pool:
            pool.shutdown(wait=True, cancel_futures=True)


class Room:
    """Bytes that decoded photos may take, shared by the splits and threads of a run."""

    def __init__(self, bytes: int) -> None:
        self.left = bytes
        self.lock = threading.Lock()

    def take(self, bytes: int) -> bool:
        """Whether they still fit; if so they are taken. Fewer than none are given back."""
        with self.lock:
            fits = bytes <= self.left
            self.left -= bytes if fits else 0
        return fits


def kept(photos: Photos, room: Room, smallest_side: int | None = None) -> Photos:
    """The same photos, the first that fit decoded only once; with `smallest_side` maybe smaller, as Photos.open says.

    What does not fit is decoded each time: pushing others out would not help, because an epoch asks for each once.
    """
    if photos.in_memory:
        return photos
    images: dict[int, Image.Image] = {}

    def content(id: int) -> Image.Image:
        image = images.get(id)
        if image is None:
            image = photos.open(id, smallest_side)
            size = PIXEL * image.width * image.height
            if room.take(size) and images.setdefault(id, image) is not image:  # another thread was faster
                room.take(-size)
        return image

    return replace(photos, content=content)
