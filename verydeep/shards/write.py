"""Tar shards and their index as they are written: photos in the order they come, the index in the order of the data."""

import hashlib
import tarfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from verydeep.data.record import Box, DataSet, Names, Photos, compact
from verydeep.errors import DataError
from verydeep.shards.index import BoxTable, Index, Shard
from verydeep.shards.read import Family

Boxed = tuple[Box, int]  # and its class


class Writer:
    """The shards of a split, each of `limit` bytes and the photo that reached them; they are added to `shards`."""

    def __init__(self, target: Family, split: str, folder: Path, limit: int, shards: list[Shard]) -> None:
        self.target, self.split, self.folder, self.limit, self.shards = target, split, folder, limit, shards
        self.first, self.written = len(shards), sum(shard.bytes for shard in shards)
        self.file: BinaryIO | None = None

    def add(self, name: str, files: dict[str, bytes]) -> tuple[int, int, int]:
        """Writes a photo's files, the photo first; returns where its bytes are: shard, offset, size."""
        if self.file is None:
            self.name = self.target.shard(self.split, len(self.shards) - self.first)
            self.file, self.digest = (self.folder / self.name).open("wb", buffering=1 << 20), hashlib.sha256()
        start = self.file.tell()
        for ending, content in files.items():
            info = tarfile.TarInfo(f"{name}.{ending}")  # of no time and no owner: the same bytes every time
            info.size = len(content)
            self.put(info.tobuf(tarfile.USTAR_FORMAT), content, bytes(-len(content) % tarfile.BLOCKSIZE))
        self.written += self.file.tell() - start
        place = len(self.shards), start + tarfile.BLOCKSIZE, len(next(iter(files.values())))
        if self.file.tell() >= self.limit:
            self.close()
        return place

    def put(self, *blocks: bytes) -> None:
        assert self.file
        for block in blocks:
            self.file.write(block)
            self.digest.update(block)

    def close(self) -> None:
        """Ends the shard that was begun, if one was."""
        if self.file:
            with self.file:
                self.put(bytes(2 * tarfile.BLOCKSIZE))
                self.shards.append(Shard(self.name, self.file.tell(), self.digest.hexdigest()))
            self.file = None


def index_of(
    data: DataSet, places: npt.NDArray[np.int64], boxes: list[tuple[int, Boxed]], shards: tuple[Shard, ...],
    smallest_side: int | None,
) -> Index:  # fmt: skip
    """The index of all photos that were packed; boxes come with their photo. Raises DataError for an empty split."""
    packed, kept = places[:, 2] >= 0, list[Photos]()
    ends = np.cumsum([len(photos) for photos in data.splits.values()])
    for (split, photos), own in zip(data.splits.items(), np.split(packed, ends[:-1]), strict=True):
        ids = np.flatnonzero(own)
        if not len(ids):
            raise DataError(f"{data.name}: not one photo of the split {split!r} could be read")
        kept.append(photos if len(ids) == len(photos) else photos.take(ids, split))
    arrays = [photos.labels for photos in kept if isinstance(photos.labels, np.ndarray)]
    labels = (photos.record(id).labels for photos in kept for id in range(len(photos)))
    boxes = sorted(boxes, key=lambda found: found[0])
    number = np.cumsum(packed) - 1  # of a photo among those that were packed
    table = BoxTable(
        number[[id for id, _ in boxes]], np.array([label for _, (_, label) in boxes], np.int64),
        np.array([box for _, (box, _) in boxes], np.float64).reshape(-1, 4),
    )  # fmt: skip
    shard, offset, size = places[packed].T
    groups = (
        Names.of(name for photos in kept for name in photos.groups or [""] * len(photos)) if data.grouped_by else None
    )
    return Index(
        data.classes, tuple((photos.split, len(photos)) for photos in kept), shards,
        Names.of(key for photos in kept for key in photos.keys),
        shard.astype(np.int32), offset, size.astype(np.int32),
        np.concatenate(arrays) if len(arrays) == len(kept) else compact(labels),
        table, smallest_side, groups, data.grouped_by,
    )  # fmt: skip
