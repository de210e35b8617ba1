"""Progress of long work on stderr: a bar on a terminal, a line every ten seconds elsewhere, or nothing."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from verydeep.words import duration

Advance = Callable[[int, str], None]
LINE_SECONDS = 10.0
PACE_SECONDS, SLOW = 30.0, 3  # the stretch over which a pace is taken; how many times slower than before is said


class Progress:
    """style: `bar`, `lines`, `none`, or `auto`, which draws a bar where stderr is a terminal."""

    def __init__(self, style: Literal["auto", "bar", "lines", "none"] = "auto") -> None:
        self.style = style if style != "auto" else "bar" if sys.stderr.isatty() else "lines"
        self.seen, self.spent, self.best, self.told = 0, 0.0, 0.0, False

    @contextmanager
    def paced(self, total: int, label: str, done: int, slow: Callable[[str], None]) -> Iterator[Advance]:
        """As `bar`; `slow` is told once where a stretch is several times slower than the fastest before it."""
        last = time.perf_counter()
        with self.bar(total, label, done) as drawn:

            def advance(n: int, words: str) -> None:
                nonlocal last
                drawn(n, words)
                now = time.perf_counter()
                self.seen, self.spent, last = self.seen + n, self.spent + now - last, now
                if self.spent < PACE_SECONDS:
                    return
                pace, self.seen, self.spent = self.seen / self.spent, 0, 0.0
                if pace * SLOW < self.best and not self.told:
                    self.told = True
                    slow(f"{pace:.0f} photos/s, where it was {self.best:.0f} before")
                self.best = max(self.best, pace)

            yield advance

    @contextmanager
    def bar(self, total: int, label: str, done: int = 0, unit: str = "photos") -> Iterator[Advance]:
        """Inside the `with`, call advance(n, words) as photos, or what `unit` names, are done."""
        if self.style == "bar":
            with drawn_bar(total, label, done, unit) as advance:
                yield advance
        elif self.style == "lines":
            yield lines(total, label, done, unit)
        else:
            yield lambda n, words: None


@contextmanager
def drawn_bar(total: int, label: str, done: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Rich

    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24),
        TextColumn(f"{{task.completed}}/{{task.total}} {unit}"), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(), TextColumn("{task.fields[words]}"),
    )  # fmt: skip
    with Rich(*columns, console=Console(stderr=True), transient=True) as rich:
        task = rich.add_task(label, total=total, completed=done, rate="", words="")
        began, first = time.perf_counter(), done

        def advance(n: int, words: str) -> None:
            nonlocal done
            done += n
            rate = (done - first) / max(time.perf_counter() - began, 1e-9)
            rich.update(task, completed=done, rate=f"{rate:.0f}/s", words=words)

        yield advance


def lines(total: int, label: str, done: int, unit: str) -> Advance:
    began, first, last = time.perf_counter(), done, time.perf_counter()

    def advance(n: int, words: str) -> None:
        nonlocal done, last
        done += n
        now = time.perf_counter()
        if now - last < LINE_SECONDS or done >= total:
            return
        last, rate = now, (done - first) / max(now - began, 1e-9)
        left = f", {duration((total - done) / rate)} left" if rate else ""
        more = f", {words}" if words else ""
        print(f"{label}: {done}/{total} {unit}, {rate:.0f}/s{left}{more}", file=sys.stderr, flush=True)

    return advance
