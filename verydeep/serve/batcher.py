"""Photos of many clients through one net: decoded in a few threads, computed in one, in batches of what waits.

A photo alone goes at once. While the net computes, others gather in the lane of their task; lanes take turns, so that a
slow task holds up the quick ones for one turn of its own at most.
"""

import asyncio
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import prometheus_client as prometheus
from PIL import Image
from prometheus_client import Histogram

from verydeep.serve.limits import Limits, Problem, problem_of

SHARE = 0.2  # of the last turn in the mean seconds of a photo
SECONDS, PHOTOS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10), (1, 2, 4, 8, 16, 32)


class RouteTask(NamedTuple):
    """What a route makes of a photo.

    prepare: in a decoding thread, of the photo and what was asked, something small; compute: in the computing thread,
    of at most `most` such things, answers or errors. holds: it needs the decoded photo, so there is one at a time.
    """

    name: str
    prepare: Callable[[Image.Image, Any], Any]
    compute: Callable[[list[Any]], list[Any]]
    most: int
    holds: bool = False


@dataclass(eq=False)
class PhotoJob:
    task: RouteTask
    asked: Any
    data: bytes
    deadline: float
    answer: asyncio.Future[Any]
    since: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)  # by stage
    ended: threading.Event = field(default_factory=threading.Event)
    size: tuple[int, int] = (0, 0)  # width and height
    made: Any = None

    def spend(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self.since = self.seconds.get(stage, 0.0) + now - self.since, now

    @property
    def wanted(self) -> bool:
        return not self.ended.is_set() and time.perf_counter() < self.deadline


class Batcher:
    def __init__(self, decode: Callable[[bytes], Image.Image], limits: Limits) -> None:
        self.decode, self.limits = decode, limits
        self.pending, self.seconds = Counter[str](), dict[str, float]()  # by task: jobs, and the net's for one
        self.lanes, self.ready, self.open = OrderedDict[str, deque[PhotoJob]](), threading.Condition(), True
        self.pools = [ThreadPoolExecutor(limits.decoders), ThreadPoolExecutor(1)]
        self.registry = own = prometheus.CollectorRegistry()
        self.stages = Histogram("verydeep_stage_seconds", "of a photo", ["stage"], registry=own, buckets=SECONDS)
        self.sizes = Histogram("verydeep_batch_photos", "in a turn of the net", ["task"], registry=own, buckets=PHOTOS)
        self.rejected = prometheus.Counter("verydeep_rejected", "requests", ["reason"], registry=own)
        queue = prometheus.Gauge("verydeep_queue_photos", "photos received and not yet answered", registry=own)
        queue.set_function(self.pending.total)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def refuse(self, status: int, code: str, message: str, retry: float = 0, **how: Any) -> NoReturn:
        self.rejected.labels(code).inc()
        raise Problem(status, code, message, retry, **how)

    def late(self, retry: float) -> NoReturn:
        words = f"no answer within the {self.limits.deadline:g} s allowed; too many photos wait; try again later"
        self.refuse(503, "late", words, max(1, retry))

    def admit(self) -> None:
        """Raises Problem where another photo would wait too long."""
        ahead = sum(n * self.seconds.get(name, 0.0) for name, n in self.pending.items())
        if self.pending.total() >= self.limits.waiting:
            self.refuse(429, "busy", f"{self.limits.waiting} photos wait already; try again later", max(1, ahead))
        if ahead > self.limits.deadline:
            self.late(ahead - self.limits.deadline)

    async def answer(self, task: RouteTask, asked: Any, data: bytes, gone: asyncio.Future[Any]) -> dict[str, Any]:
        """Nothing where `gone` ends first. Raises Problem. In the event loop."""
        self.admit()
        loop, now = asyncio.get_running_loop(), time.perf_counter()
        job = PhotoJob(task, asked, data, now + self.limits.deadline, loop.create_future())
        self.pending[task.name] += 1
        try:
            self.pools[task.holds].submit(self.prepare, job)
            await asyncio.wait([job.answer, gone], timeout=self.limits.deadline, return_when="FIRST_COMPLETED")
            if job.answer.done():
                return dict(job.answer.result())
            if not gone.done():
                self.late(1)
            self.rejected.labels("gone").inc()
            return {}
        finally:
            job.ended.set()
            self.pending[task.name] -= 1

    def prepare(self, job: PhotoJob) -> None:
        """In a decoding thread."""
        if not job.wanted:
            return
        job.spend("queue")
        try:
            image = self.decode(job.data)
            job.size, job.data = image.size, b""
            job.made = job.task.prepare(image, job.asked)
            del image
        except Exception as e:
            self.deliver([job], [e])
            return
        job.spend("decode")
        with self.ready:
            self.lanes.setdefault(job.task.name, deque()).append(job)
            self.ready.notify()
        if job.task.holds:
            job.ended.wait()
            job.made = None

    def work(self) -> None:
        """The computing thread."""
        while jobs := self.take():
            task = jobs[0].task
            for job in jobs:
                job.spend("queue")
            found = self.computed(task, [job.made for job in jobs])
            for job in jobs:
                job.spend("net")
            each = jobs[0].seconds["net"] / len(jobs)
            self.seconds[task.name] = SHARE * each + (1 - SHARE) * self.seconds.get(task.name, each)
            self.sizes.labels(task.name).observe(len(jobs))
            self.deliver(jobs, found)

    def take(self) -> list[PhotoJob]:
        """The jobs of the next turn; none when it is over."""
        with self.ready:
            while self.open:
                for name, lane in list(self.lanes.items()):
                    jobs, in_time = list[PhotoJob](), int(self.limits.turn / self.seconds.get(name, self.limits.turn))
                    while lane and len(jobs) < max(1, min(lane[0].task.most, in_time)):
                        jobs += [job] if (job := lane.popleft()).wanted else []
                    if jobs:
                        self.lanes.move_to_end(name)
                        return jobs
                self.ready.wait()
        return []

    def computed(self, task: RouteTask, made: list[Any]) -> list[Any]:
        """Answers or errors; where all fail together each is tried alone."""
        try:
            return task.compute(made)
        except Exception as e:
            return [e] if len(made) == 1 else [self.computed(task, [one])[0] for one in made]

    def deliver(self, jobs: list[PhotoJob], found: list[Any]) -> None:
        loop = jobs[0].answer.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self.delivered, jobs, found)

    def delivered(self, jobs: list[PhotoJob], found: list[Any]) -> None:
        """In the event loop."""
        for job, answer in zip(jobs, found, strict=True):
            for stage, seconds in job.seconds.items():
                self.stages.labels(stage).observe(seconds)
            if job.ended.is_set():
                continue
            if isinstance(answer, Exception):
                job.answer.set_exception(problem_of(answer))
                continue
            times = {stage: round(1000 * s, 3) for stage, s in job.seconds.items()}
            size = dict(zip(("width", "height"), job.size, strict=True))
            job.answer.set_result(answer | {"photo": size, "milliseconds": times})

    def close(self) -> None:
        with self.ready:
            self.open = False
            self.ready.notify()
        self.thread.join()
        for pool in self.pools:
            pool.shutdown(cancel_futures=True)
