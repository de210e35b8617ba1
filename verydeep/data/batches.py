"""Batches of crops: the order of an epoch, decoding ahead of the net, and where to resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

Crop = tuple[Pixels, int, npt.NDArray[np.float32]]  # with its class and the shift of its colours


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
    """The training photos of a run in batches, of which each rank gets its part."""

    photos: Photos
    config: Config
    statistics: Statistics
    on_bad: Callable[[int, PhotoError], None] | None = None
    ranks: Ranks = ALONE
    pinned: bool = False  # in memory that a GPU copies from without waiting
    waited: float = 0.0  # seconds that the net waited

    def __post_init__(self) -> None:
        self.targets = self.photos.targets()
        self.axes = augment.colour_axes(self.statistics, self.config.colour)

    def __len__(self) -> int:
        return len(bounds(len(self.photos), self.config.batch))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on; bad photos are missing, so that a batch may be empty."""
        c = self.config
        order = epoch_order(c.seed, epoch, self.photos, c.balance == "sampling")
        parts = [self.ranks.part(first, end) for first, end in bounds(len(self.photos), c.batch)[start:]]
        own = np.concatenate([np.arange(part.start, part.stop) for part in parts] or [np.arange(0)])
        self.photos.expect(order.ids[own])

        def on_bad(place: int, e: PhotoError) -> None:
            if self.on_bad is None:
                raise e
            self.on_bad(int(order.ids[place]), e)

        def crop_at(place: int) -> Crop:
            return self.crop(epoch, int(order.ids[place]), int(order.turns[place]))

        crops = in_order(crop_at, map(int, own), workers_for(c.workers, self.photos.in_memory), on_bad)
        began = time.perf_counter()
        held = next(crops, None)
        for number, part in enumerate(parts, start):
            batch = []
            while held is not None and held[0] < part.stop:
                batch.append(held[1])
                held = next(crops, None)
            self.waited += time.perf_counter() - began
            yield self.collate(number, batch)
            began = time.perf_counter()

    def crop(self, epoch: int, id: int, turn: int) -> Crop:
        c = self.config
        photo = self.photos.open(id)
        geometry = augment.draw(c.seed, epoch, id, photo.height, photo.width, c.crop, c.scales, c.flip, turn)
        shift = augment.draw_colour(c.seed, epoch, id, self.axes, c.colour_sigma, turn)
        return augment.cut(photo, geometry, c.crop), int(self.targets[id]), shift

    def collate(self, number: int, crops: list[Crop]) -> Batch:
        side = self.config.crop
        photos, shifts = np.empty((len(crops), side, side, 3), np.uint8), np.empty((len(crops), 3), np.float32)
        for i, (pixels, _, shift) in enumerate(crops):
            photos[i], shifts[i] = pixels, shift
        targets = torch.tensor([target for _, target, _ in crops], dtype=torch.int64)
        batch = Batch(number, torch.from_numpy(photos).permute(0, 3, 1, 2), targets, torch.from_numpy(shifts))
        return Batch(number, *(t.pin_memory() for t in batch[1:])) if self.pinned else batch
