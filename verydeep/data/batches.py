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
from verydeep.data.photo import Pixels
from verydeep.data.reading import in_order, workers_for
from verydeep.data.record import Photos
from verydeep.data.statistics import Statistics
from verydeep.errors import PhotoError


class Batch(NamedTuple):
    """Crops as they were cut; mirroring and colour happen on the device (`augmented`)."""

    number: int
    photos: torch.Tensor  # uint8 N x 3 x crop x crop, channels last in memory
    targets: torch.Tensor  # int64 N
    flips: torch.Tensor  # bool N
    shifts: torch.Tensor  # float32 N x 3, grey levels


def bounds(photos: int, batch: int) -> list[tuple[int, int]]:
    """Where each batch of an epoch begins and ends. A single photo left over joins the batch before it."""
    starts = list(range(0, photos, batch))
    if len(starts) > 1 and photos % batch == 1:
        starts.pop()
    return list(zip(starts, [*starts, photos][1:], strict=True))


@dataclass
class Batches:
    """The training photos of a run in batches. `waited` counts the seconds the net waited for photos."""

    photos: Photos
    config: Config
    statistics: Statistics
    on_bad: Callable[[int, PhotoError], None] | None = None
    waited: float = 0.0
    targets: npt.NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.targets = self.photos.targets()
        self.axes = augment.colour_axes(self.statistics, self.config.colour)

    def __len__(self) -> int:
        return len(bounds(len(self.photos), self.config.batch))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on; a batch whose photos are all bad is left out."""
        order = augment.epoch_order(self.config.seed, epoch, len(self.photos))
        parts = bounds(len(order), self.config.batch)[start:]
        if not parts:
            return
        ids = [int(i) for i in order[parts[0][0] :]]
        workers = workers_for(self.config.workers, self.photos.in_memory)
        crops = in_order(lambda id: self.cut(epoch, id), ids, workers, self.on_bad)
        place = {id: parts[0][0] + i for i, id in enumerate(ids)}
        began = time.perf_counter()
        held = next(crops, None)
        for index, (_, end) in enumerate(parts, start):
            members = []
            while held is not None and place[held[0]] < end:
                members.append((held[0], *held[1]))
                held = next(crops, None)
            self.waited += time.perf_counter() - began
            if members:
                yield self.collate(index, epoch, members)
            began = time.perf_counter()

    def cut(self, epoch: int, id: int) -> tuple[Pixels, bool]:
        photo, c = self.photos.open(id), self.config
        geometry = augment.draw(c.seed, epoch, id, photo.height, photo.width, c.crop, c.scales, c.flip)
        return augment.cut(photo, geometry, c.crop), geometry.flip

    def collate(self, index: int, epoch: int, members: list[tuple[int, Pixels, bool]]) -> Batch:
        ids = [id for id, _, _ in members]
        shifts = np.stack([augment.draw_colour(self.config.seed, epoch, id, self.axes, self.config.colour_sigma) for id in ids])
        return Batch(
            index,
            torch.from_numpy(np.stack([crop for _, crop, _ in members])).permute(0, 3, 1, 2),
            torch.from_numpy(self.targets[ids]),
            torch.tensor([flip for _, _, flip in members]),
            torch.from_numpy(shifts),
        )
