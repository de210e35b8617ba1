"""What a labelled photo, a split and a data set are. Nothing here holds an object per photo."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.colours import BEFORE, PLAINLY, Reading
from verydeep.data import photo
from verydeep.errors import DataError
from verydeep.near import meant

Box = tuple[float, float, float, float]
Boxes = Mapping[int, tuple[tuple[Box, int], ...]]  # photo -> (box, class), where it has any
Shares = tuple[float, float] | None  # of each class, held out for val and test
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
SPLIT_WORDS = SPLIT_NAMES | {"dev": "val", "eval": "test", "evaluation": "test", "holdout": "test"}  # of strangers
CHUNK = 1 << 16


@dataclass(frozen=True)
class Record:
    """One photo of a split. Boxes are (x0, y0, x1, y1) in pixels of the upright photo; `key` is its path or name.

    `id` is the position in the split's canonical order: of a folder, natural class order, then natural path; of a split
    that a manifest gives, line order; of photos divided by class, or of a manifest without splits, natural class order,
    then line order; of shards, the order they were packed in.
    """

    id: int
    key: str
    split: str
    labels: tuple[int, ...]
    boxes: tuple[Box, ...] = ()
    box_labels: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Names:
    """Texts one after another in a block of bytes, each ended by NUL; a million paths take 50 MB instead of 150.

    block: uint8; ends: int64 N, where each text's NUL stands. Both may be views of a mapped file.
    """

    block: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.int64]

    @staticmethod
    def of(texts: Iterable[str]) -> Names:
        if isinstance(texts, Names):
            return texts
        block, ends = bytearray(), array("q")
        for text in texts:
            block += text.encode()
            ends.append(len(block))
            block.append(0)
        return Names(np.frombuffer(bytes(block), np.uint8), np.frombuffer(bytes(ends), np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        end = self.ends[index]  # IndexError ends an iteration
        index %= len(self)
        return bytes(self.block[self.ends[index - 1] + 1 if index else 0 : end]).decode()

    def __iter__(self) -> Iterator[str]:
        """All texts; in chunks, because numpy is slow one by one."""
        start = 0
        for first in range(0, len(self), CHUNK):
            end = int(self.ends[min(first + CHUNK, len(self)) - 1]) + 1
            yield from bytes(self.block[start : end - 1]).decode().split("\0")
            start = end

    def take(self, ids: npt.NDArray[np.int64]) -> Names:
        """The texts at these positions."""
        starts, ends = np.where(ids > 0, self.ends[ids - 1] + 1, 0), self.ends[ids] + 1
        block, whole = bytearray(), self.block.data
        for start, end in zip(starts, ends, strict=True):
            block += whole[start:end]
        return Names(np.frombuffer(block, np.uint8), np.cumsum(ends - starts) - 1)


@dataclass(frozen=True, eq=False)
class Several(Sequence[tuple[int, ...]]):
    """Any number of labels a photo: those of photo i from bounds[i] to bounds[i + 1]."""

    values: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, id: Any) -> Any:
        i = range(len(self))[id]  # IndexError ends an iteration
        return tuple(self.values[self.bounds[i] : self.bounds[i + 1]].tolist())


Labels = npt.NDArray[np.int64] | Several  # an array where every photo has exactly one class


def labels_between(values: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64]) -> Labels:
    one_each = (np.diff(bounds) == 1).all()
    return values[bounds[0] : bounds[-1]] if one_each else Several(values, bounds)


def compact(labels: Iterable[tuple[int, ...]]) -> Labels:
    found = list(labels)
    return labels_between(np.fromiter(chain.from_iterable(found), np.int64), np.cumsum([0, *map(len, found)]))


@dataclass(frozen=True)
class Photos:
    """One split: labelled photos by position.

    `content` gives a photo's file as bytes, or the photo itself where it is in memory; `place` stands before its key in
    errors. `groups`: of each photo the name of those it belongs with, or ''. On a remote store, whose shards are best
    read one after another, `shards` gives each photo's, and `expect` is told which photos will be asked for, in order.
    """

    split: str
    keys: Names
    labels: Labels
    content: Callable[[int], bytes | Image.Image] = field(repr=False)
    place: str = ""
    boxes: Boxes = field(default_factory=dict)
    in_memory: bool = False
    shards: npt.NDArray[np.int64] | None = None
    expect: Callable[[npt.NDArray[np.int64]], None] = field(default=lambda ids: None, repr=False)
    groups: Names | None = None
    reading: Reading = PLAINLY

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, id: int) -> str:
        key = self.keys[id]
        return key if os.path.isabs(key) else self.place + key

    def open(self, id: int, smallest_side: int | None = None) -> Image.Image:
        """The upright RGB photo, maybe decoded smaller but no side below `smallest_side`. Raises PhotoError."""
        content = self.content(id)
        if not isinstance(content, bytes):
            return content
        return photo.decode(content, self.name(id), smallest_side, self.reading)

    def record(self, id: int) -> Record:
        found = self.labels[id]
        labels = found if isinstance(found, tuple) else (int(found),)
        boxes = self.boxes.get(id, ())
        return Record(id, self.keys[id], self.split, labels, tuple(b for b, _ in boxes), tuple(c for _, c in boxes))

    def targets(self) -> npt.NDArray[np.int64]:
        """The one class of every photo, N. Raises DataError where a photo has none or several."""
        if isinstance(self.labels, np.ndarray):
            return self.labels
        key, n = next((key, len(f)) for key, f in zip(self.keys, self.labels, strict=True) if len(f) != 1)
        raise DataError(f"{key} has {n} labels; classification expects exactly one a photo")

    def take(self, ids: npt.NDArray[np.int64], split: str) -> Photos:
        """The photos at these positions, in this order, as a split of their own."""
        labels = self.labels[ids] if isinstance(self.labels, np.ndarray) else compact(self.labels[int(i)] for i in ids)
        boxes = {new: self.boxes[i] for new, i in enumerate(map(int, ids)) if i in self.boxes} if self.boxes else {}
        shards = None if self.shards is None else self.shards[ids]
        return Photos(
            split, self.keys.take(ids), labels, lambda id: self.content(int(ids[id])), self.place, boxes,
            self.in_memory, shards, lambda chosen: self.expect(ids[chosen]), self.groups and self.groups.take(ids),
            self.reading,
        )  # fmt: skip

    def in_turn(self) -> npt.NDArray[np.int64]:
        """All photos in an order that suits where they are: shard after shard on a remote store."""
        return np.arange(len(self)) if self.shards is None else np.argsort(self.shards, kind="stable")


def files(
    root: str | os.PathLike[str], split: str, keys: Iterable[str], labels: Labels, boxes: Boxes | None = None
) -> Photos:
    """Photos in files, by their paths relative to a folder or by absolute ones."""
    place, names = os.path.join(root, ""), Names.of(keys)
    return Photos(split, names, labels, lambda id: photo.file_bytes(Path(place, names[id])), place, boxes or {})


@dataclass(frozen=True)
class Passed:
    """Things of one kind: a finding of `check` with the first names, and a line of other verbs, '' if they say none."""

    kind: str
    count: int
    names: tuple[str, ...]
    line: str


class Mended(NamedTuple):
    """A list of corrections: to how many photos it applied, and whether it is a run's own copy."""

    file: str
    sha256: str
    labels: int
    left_out: int
    remembered: bool


@dataclass(frozen=True)
class DataSet:
    """Splits that share one list of classes. `held_out` says that the splits were drawn here, not given."""

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Photos]
    held_out: bool = False
    grouped_by: str = ""  # the column or pattern that the groups come from
    columns: tuple[str, ...] = ()  # of the list that was read
    notes: tuple[str, ...] = ()  # how DATA was understood, a line each
    used: tuple[str, ...] = ()  # of its columns, those that mean something here
    passed: tuple[Passed, ...] = ()  # over, in a folder
    corrections: tuple[Mended, ...] = ()

    def split(self, name: str) -> Photos:
        if name not in self.splits:
            more = meant(name, self.splits, f"; it has {', '.join(self.splits)}")
            raise DataError(f"{self.name} has no split {name!r}{more}")
        return self.splits[name]

    def read_as(self, reading: Reading) -> DataSet:
        """The same photos, their colours read in this way."""
        return replace(self, splits={name: replace(p, reading=reading) for name, p in self.splits.items()})

    def fingerprint(self) -> str:
        """SHA-256 over classes, splits, keys, labels and how photos are read: another means that one differs."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for name in sorted(self.splits):
            keys, labels = self.splits[name].keys, self.splits[name].labels
            digest.update(f"\n{name} {len(keys)}\n".encode())
            digest.update(np.ascontiguousarray(keys.block).data)
            if isinstance(labels, np.ndarray):
                digest.update(labels.astype("<i8").tobytes())
            else:
                digest.update(repr(list(labels)).encode())
            if self.splits[name].reading != BEFORE:
                digest.update(f"\n{self.splits[name].reading.flags}".encode())
        return digest.hexdigest()
