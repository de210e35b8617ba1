"""SIGINT and SIGTERM while training: finish the step, save, leave."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

import torch

from verydeep.errors import Interrupted
from verydeep.ranks import Ranks


class Signals:
    """Remembers the first signal inside a `with`; a second one interrupts at once. Elsewhere than the main thread it does nothing."""

    def __init__(self) -> None:
        self.received = 0
        self.previous: dict[int, object] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self.previous = {n: signal.signal(n, self.remember) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def remember(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = number

    def agree(self, ranks: Ranks, photos: int) -> int:
        """The sum of `photos` over the ranks; on the way a signal that one of them received reaches all, so that they leave together."""
        if ranks.size == 1:
            return photos
        known = (signal.SIGINT, signal.SIGTERM)
        total, *received = ranks.sum(torch.tensor([photos, *(self.received == n for n in known)])).tolist()
        self.received = next((n for n, ranks_told in zip(known, received, strict=True) if ranks_told), 0)
        return int(total)

    def leave(self, message: str) -> None:
        """Raises Interrupted once a signal was received; call it when the state is saved."""
        if self.received:
            raise Interrupted(f"interrupted by {signal.Signals(self.received).name}: {message}", self.received)
