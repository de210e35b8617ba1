"""SIGINT and SIGTERM while training: finish the step, save, leave."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

import torch

from verydeep.errors import Interrupted
from verydeep.ranks import ALONE, Ranks


class Signals:
    """Remembers the first signal inside a `with`; a second interrupts at once. Only the main thread gets any.

    Several ranks stop together at the next `agree`, and go on when signals are repeated: torchrun passes on what the
    terminal already sent, and ends by force what does not stop in 30 seconds.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.received = self.told = 0
        self.previous: dict[int, object] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self.previous = {n: signal.signal(n, self.remember) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def remember(self, number: int, frame: FrameType | None) -> None:
        if self.received and self.ranks.size == 1:
            raise KeyboardInterrupt
        self.received = number

    def agree(self, photos: int = 0) -> int:
        """The sum of `photos` over the ranks; on the way a signal that one of them received reaches all."""
        if self.ranks.size == 1:
            return photos
        known = (signal.SIGINT, signal.SIGTERM)
        total, *received = self.ranks.sum(torch.tensor([photos, *(self.received == n for n in known)])).tolist()
        self.told = next((n for n, count in zip(known, received, strict=True) if count), 0)
        return int(total)

    @property
    def stop(self) -> int:
        """The signal to leave by, or 0."""
        return self.received if self.ranks.size == 1 else self.told

    def leave(self, message: str) -> None:
        """Raises Interrupted once a signal was received; call it when the state is saved."""
        if self.stop:
            raise Interrupted(f"interrupted by {signal.Signals(self.stop).name}: {message}", self.stop)
