"""Work on photos in threads, with results in the order asked for. Decoding and rescaling free the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from verydeep.errors import PhotoError

T = TypeVar("T")
MOST_WORKERS = 16


def workers_for(asked: int, in_memory: bool) -> int:
    """The number of decoding threads: as asked or, for -1, one a core that this process may use and its neighbours do not.

    Photos already in memory need none. Beyond MOST_WORKERS the interpreter's lock is the limit.
    """
    if asked >= 0:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if in_memory else max(1, min(MOST_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def in_order(
    work: Callable[[int], T],
    ids: Iterable[int],
    workers: int,
    on_bad: Callable[[int, PhotoError], None] | None = None,
    ahead: int = 32,
) -> Iterator[tuple[int, T]]:
    """(id, work(id)) for every id in order, at most `ahead` per worker in advance; 0 workers work right here.

    A PhotoError goes to `on_bad` and its photo is left out; without `on_bad` it is raised.
    """
    for id, result in results(work, ids, workers, ahead):
        try:
            value = result()
        except PhotoError as e:
            if on_bad is None:
                raise
            on_bad(id, e)
        else:
            yield id, value


def results(
    work: Callable[[int], T], ids: Iterable[int], workers: int, ahead: int
) -> Iterator[tuple[int, Callable[[], T]]]:
    """(id, what gives work(id) or raises its error) for every id in order."""
    if workers == 0:
        yield from ((id, partial(work, id)) for id in ids)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="photos")
    pending: deque[tuple[int, Future[T]]] = deque()
    remaining = iter(ids)
    try:
        while True:
            while len(pending) < ahead * workers and (upcoming := next(remaining, None)) is not None:
                pending.append((upcoming, pool.submit(work, upcoming)))
            if not pending:
                return
            id, future = pending.popleft()
            yield id, future.result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
