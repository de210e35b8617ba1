"""Batches of crops: the order of an epoch, decoding ahead of the net, and where to resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from verydeep.config import Config
from verydeep.data import augment
from verydeep.data.order import epoch_order
from verydeep.data.photo import Pixels
from verydeep.data.reading import in_order, workers_for
from verydeep.data.record import Photos
from verydeep.data.statistics import Statistics
from verydeep.errors import PhotoError
from verydeep.ranks import ALONE, Ranks


class Member(NamedTuple):
    """One photo of a batch."""

    pixels: Pixels
    target: int
    shift: npt.NDArray[np.float32]


class Batch(NamedTuple):
    """Crops as they were cut and mirrored; colour happens on the device (`augmented`)."""

    number: int
    photos: torch.Tensor  # uint8 N x 3 x crop x crop, channels last in memory
    targets: torch.Tensor  # int64 N
    shifts: torch.Tensor  # float32 N x 3, grey levels


def bounds(photos: int, batch: int) -> list[tuple[int, int]]:
    """Where each batch of an epoch begins and ends. A single photo left over joins the batch before it."""
    starts = list(range(0, photos, batch))
    if len(starts) > 1 and photos % batch == 1:
        starts.pop()
    return list(zip(starts, [*starts, photos][1:], strict=True))


@dataclass
class Batches:
    """The training photos of a run in batches, of which each rank gets its part. `waited` counts the seconds the net waited."""

    photos: Photos
    config: Config
    statistics: Statistics
    on_bad: Callable[[int, PhotoError], None] | None = None
    ranks: Ranks = ALONE
    pinned: bool = False  # in memory that a GPU copies from without waiting
    waited: float = 0.0
    targets: npt.NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.targets = self.photos.targets()
        self.axes = augment.colour_axes(self.statistics, self.config.colour)

    def __len__(self) -> int:
        return len(bounds(len(self.photos), self.config.batch))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on; bad photos are missing, and with several ranks one may be left empty."""
        c = self.config
        order = epoch_order(c.seed, epoch, self.photos, c.balance == "sampling")
        parts = [self.ranks.part(first, end) for first, end in bounds(len(self.photos), c.batch)[start:]]
        own = np.concatenate([np.arange(part.start, part.stop) for part in parts] or [np.arange(0)])
        self.photos.expect(order.ids[own])

        def on_bad(place: int, e: PhotoError) -> None:
            if self.on_bad is None:
                raise e
            self.on_bad(int(order.ids[place]), e)

        def cut(place: int) -> Member:
            return self.cut(epoch, int(order.ids[place]), int(order.turns[place]))

        members = in_order(cut, map(int, own), workers_for(c.workers, self.photos.in_memory), on_bad)
        began = time.perf_counter()
        held = next(members, None)
        for number, part in enumerate(parts, start):
            batch = []
            while held is not None and held[0] < part.stop:
                batch.append(held[1])
                held = next(members, None)
            self.waited += time.perf_counter() - began
            yield self.collate(number, batch)
            began = time.perf_counter()

    def cut(self, epoch: int, id: int, turn: int) -> Member:
        c = self.config
        photo = self.photos.open(id)
        geometry = augment.draw(c.seed, epoch, id, photo.height, photo.width, c.crop, c.scales, c.flip, turn)
        shift = augment.draw_colour(c.seed, epoch, id, self.axes, c.colour_sigma, turn)
        return Member(augment.cut(photo, geometry, c.crop), int(self.targets[id]), shift)

    def collate(self, number: int, members: list[Member]) -> Batch:
        crop, n = self.config.crop, len(members)
        photos = np.stack([m.pixels for m in members]) if n else np.zeros((0, crop, crop, 3), np.uint8)
        shifts = np.stack([m.shift for m in members]) if n else np.zeros((0, 3), np.float32)
        batch = Batch(
            number,
            torch.from_numpy(photos).permute(0, 3, 1, 2),
            torch.tensor([m.target for m in members], dtype=torch.int64),
            torch.from_numpy(shifts),
        )
        return Batch(number, *(t.pin_memory() for t in batch[1:])) if self.pinned else batch
