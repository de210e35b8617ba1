"""What an epoch has seen so far: sums on the device, read only when somebody asks."""

import math
import time

import torch
from torch import Tensor

from verydeep.errors import NonFiniteLoss
from verydeep.train.state import Counters


class Meter:
    """Sums of loss, error and photos of one epoch, and the time spent."""

    def __init__(self, now: Counters, device: torch.device) -> None:
        self.sums = torch.tensor([now.loss, now.error, now.photos], dtype=torch.float64, device=device)
        self.began = time.perf_counter()
        self.earlier = now.photos  # seen before this process went on
        self.shown = now.loss / now.photos if now.photos else math.nan
        self.unread = 0

    def add(self, sums: Tensor, every: int) -> None:
        """Adds a step's sums, float64 of 3; the loss that progress shows is read from the device every few steps."""
        self.sums += sums
        self.unread += 1
        if self.unread >= every:
            self.read()

    def read(self) -> tuple[float, float, float]:
        """(loss, error, photos) as numbers. Raises NonFiniteLoss."""
        loss, error, photos = self.sums.tolist()
        if not math.isfinite(loss):
            raise NonFiniteLoss("the loss is no longer a finite number")
        self.shown, self.unread = loss / max(photos, 1), 0
        return loss, error, photos

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def speed(self, waited: float) -> dict[str, float]:
        """How fast this process trained so far, as an epoch's record says it."""
        seconds = self.seconds
        rate = (self.sums[2].item() - self.earlier) / seconds
        return {
            "photos_per_second": round(rate, 1),
            "waiting_share": round(waited / seconds, 4),
            "seconds": round(seconds, 2),
        }

    def waiting(self, waited: float) -> str:
        """Share of this epoch's time that the net waited for photos, as text."""
        return f"{100 * waited / max(self.seconds, 1e-9):.0f} %"
