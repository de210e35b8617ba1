"""Tar shards and their index as they are written: photos in the order they come, the index in the order of the data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from verydeep.data.record import Box, DataSet, Labels, Names, Photos, compact
from verydeep.errors import DataError
from verydeep.shards.index import Index, Shard
from verydeep.shards.read import Family
from verydeep.shards.tarfiles import BLOCK, END, header, padding

Scale = tuple[float, float] | None  # what boxes are multiplied by, across and down
Found = tuple[tuple[Box, int], ...]


class Place(NamedTuple):
    shard: int
    offset: int
    size: int


@dataclass
class Writer:
    """Shards one after another, of `limit` bytes and the photo that reached them. `before` counts the photos of earlier splits."""

    target: Family
    folder: Path
    limit: int
    shards: list[Shard] = field(default_factory=list)
    file: BinaryIO | None = None
    before: int = 0
    written: int = 0
    split: str = ""
    number: int = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.file.close()

    def add(self, split: str, name: str, files: dict[str, bytes]) -> Place:
        """Writes a photo's files, the photo first; returns where its bytes are."""
        if self.file is None:
            self.number = self.number + 1 if split == self.split else 0
            self.split, self.at, self.digest = split, 0, hashlib.sha256()
            self.name = self.target.shard(split, self.number)
            self.file = (self.folder / self.name).open("wb", buffering=1 << 20)
        start = self.at
        place = Place(len(self.shards), start + BLOCK, len(next(iter(files.values()))))
        for ending, content in files.items():
            self.put(header(f"{name}.{ending}", len(content)), content, padding(len(content)))
        self.written += self.at - start
        if self.at >= self.limit:
            self.finish()
        return place

    def put(self, *blocks: bytes) -> None:
        assert self.file
        for block in blocks:
            self.file.write(block)
            self.digest.update(block)
            self.at += len(block)

    def finish(self) -> None:
        """Ends the shard that was begun, if one was."""
        if self.file:
            self.put(END)
            self.file.close()
            self.file = None
            self.shards.append(Shard(self.name, self.at, self.digest.hexdigest()))


class Part:
    """Where the photos of one split went."""

    def __init__(self, photos: Photos) -> None:
        n = len(photos)
        self.photos = photos
        self.shard, self.offset, self.size = np.zeros(n, np.int32), np.zeros(n, np.int64), np.full(n, -1, np.int32)
        self.scales: dict[int, Scale] = {}  # of photos that have boxes

    def put(self, id: int, place: Place, scale: Scale) -> None:
        self.shard[id], self.offset[id], self.size[id] = place
        if scale and id in self.photos.boxes:
            self.scales[id] = scale


def index_of(data: DataSet, parts: list[Part], shards: tuple[Shard, ...], smallest_side: int | None) -> Index:
    """The index of all photos that were put. Raises DataError where a split has none."""
    taken = [np.flatnonzero(part.size >= 0) for part in parts]
    if lost := next((part.photos.split for part, ids in zip(parts, taken, strict=True) if not len(ids)), None):
        raise DataError(f"{data.name}: not one photo of the split {lost!r} could be read")
    kept = [
        part.photos if len(ids) == len(part.photos) else part.photos.take(ids, part.photos.split)
        for part, ids in zip(parts, taken, strict=True)
    ]
    first, boxes = 0, dict[int, Found]()
    for part, ids, photos in zip(parts, taken, kept, strict=True):
        for id in photos.boxes:
            boxes[first + id] = scaled(photos.boxes[id], part.scales.get(int(ids[id])))
        first += len(ids)
    arrays = [photos.labels for photos in kept if isinstance(photos.labels, np.ndarray)]
    several = (photos.record(id).labels for photos in kept for id in range(len(photos)))
    labels: Labels = np.concatenate(arrays) if len(arrays) == len(kept) else compact(several)
    return Index(
        data.classes,
        tuple((photos.split, len(photos)) for photos in kept),
        shards,
        joined([photos.keys for photos in kept]),
        np.concatenate([part.shard[ids] for part, ids in zip(parts, taken, strict=True)]),
        np.concatenate([part.offset[ids] for part, ids in zip(parts, taken, strict=True)]),
        np.concatenate([part.size[ids] for part, ids in zip(parts, taken, strict=True)]),
        labels,
        dict(sorted(boxes.items())),
        smallest_side,
    )


def joined(parts: list[Names]) -> Names:
    starts = [0, *np.cumsum([len(part.block) for part in parts]).tolist()]
    return Names(
        np.concatenate([p.block for p in parts]),
        np.concatenate([p.ends + at for p, at in zip(parts, starts, strict=False)]),
    )


def scaled(boxes: Found, scale: Scale) -> Found:
    if scale is None:
        return boxes
    across, down = scale
    return tuple(((x0 * across, y0 * down, x1 * across, y1 * down), label) for (x0, y0, x1, y1), label in boxes)
