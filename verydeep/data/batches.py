"""Batches of crops: the order of an epoch, decoding ahead of the net, and where to resume."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from verydeep.config import Config
from verydeep.data import augment
from verydeep.data.order import Order, epoch_order
from verydeep.data.photo import Pixels, PixelSize
from verydeep.data.reading import in_order, workers_for
from verydeep.data.record import Photos
from verydeep.data.statistics import Statistics
from verydeep.errors import PhotoError
from verydeep.ranks import ALONE, Ranks


class Cut(NamedTuple):
    """A crop, uint8 crop x crop x 3, and how it was cut out of an upright photo of this size."""

    pixels: Pixels
    geometry: augment.Geometry
    size: PixelSize


TargetOf = Callable[[int, Cut], object]  # by photo id and crop: what the net is to say, a number or an array
Member = tuple[Pixels, object, npt.NDArray[np.float32]]  # of a batch: its crop, target and shift


class Batch(NamedTuple):
    """Crops as they were cut and mirrored; colour happens on the device (`augmented`)."""

    number: int
    photos: torch.Tensor  # uint8 N x 3 x crop x crop, channels last in memory
    targets: torch.Tensor  # int64 N of classes, or what the task's targets are
    shifts: torch.Tensor  # float32 N x 3, grey levels


def bounds(photos: int, batch: int) -> list[tuple[int, int]]:
    """Where each batch of an epoch begins and ends. A single photo left over joins the batch before it."""
    starts = list(range(0, photos, batch))
    if len(starts) > 1 and photos % batch == 1:
        starts.pop()
    return list(zip(starts, [*starts, photos][1:], strict=True))


def class_of(photos: Photos) -> TargetOf:
    """The one class of every photo. Raises DataError where a photo has none or several."""
    targets = photos.targets()
    return lambda id, cut: targets[id]


@dataclass
class Batches:
    """The training photos of a run in batches, each rank gets its part. `waited`: seconds the net has waited."""

    photos: Photos
    config: Config
    statistics: Statistics
    target_of: TargetOf
    on_bad: Callable[[int, PhotoError], None] | None = None
    ranks: Ranks = ALONE
    pinned: bool = False  # in memory that a GPU copies from without waiting
    waited: float = 0.0
    no_targets: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)  # of no photos

    def __post_init__(self) -> None:
        self.axes = augment.colour_axes(self.statistics, self.config.colour)

    def __len__(self) -> int:
        return len(bounds(self.shown, self.config.batch))

    @property
    def shown(self) -> int:
        """Photos of an epoch, each as often as it is shown."""
        return len(self.photos) * self.config.repeats

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on; bad photos are missing; a rank's part may be empty."""
        c = self.config
        order = epoch_order(c.seed, epoch, self.photos, c.balance == "sampling", c.repeats)
        parts = [self.ranks.part(first, end) for first, end in bounds(self.shown, c.batch)[start:]]
        own = np.concatenate([np.arange(part.start, part.stop) for part in parts] or [np.arange(0)])
        self.photos.expect(order.ids[own])

        def on_bad(place: int, e: PhotoError) -> None:
            if self.on_bad is None:
                raise e
            self.on_bad(int(order.ids[place]), e)

        workers = workers_for(c.workers, self.photos.in_memory)
        members = in_order(partial(self.cut, epoch, order), map(int, own), workers, on_bad)
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

    def cut(self, epoch: int, order: Order, place: int) -> Member:
        c, id, turn = self.config, int(order.ids[place]), int(order.turns[place])
        if c.draws:
            epoch, turn = (epoch * c.repeats + turn) % c.draws, 0
        photo = self.photos.open(id)
        geometry = augment.draw(c.seed, epoch, id, photo.height, photo.width, c.crop, c.scales, c.flip, turn)
        shift = augment.draw_colour(c.seed, epoch, id, self.axes, c.colour_sigma, turn)
        cut = Cut(augment.crop_of(photo, geometry, c.crop), geometry, PixelSize.of(photo))
        return cut.pixels, self.target_of(id, cut), shift

    def collate(self, number: int, members: list[Member]) -> Batch:
        crop = self.config.crop
        pixels, said, moved = zip(*members, strict=True) if members else ((), (), ())
        photos = np.array(pixels, np.uint8).reshape(-1, crop, crop, 3).transpose(0, 3, 1, 2)
        targets, shifts = np.asarray(said) if said else self.no_targets, np.array(moved, np.float32).reshape(-1, 3)
        self.no_targets = targets[:0]
        tensors = map(torch.from_numpy, (photos, targets, shifts))
        return Batch(number, *(t.pin_memory() if self.pinned else t for t in tensors))
