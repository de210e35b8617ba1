"""What a labelled photo, a split and a data set are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.errors import DataError

Box = tuple[float, float, float, float]
Shares = tuple[float, float] | None  # of each class, held out for val and test
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One photo of a split. Boxes are (x0, y0, x1, y1) in pixels of the upright photo.

    `id` is the position in the split's canonical order. Of a folder that is natural class order, then natural
    path; of a split that a manifest gives, line order; of photos that were divided by class, or that are all of
    a manifest without splits, natural class order, then line order. `key` is the path or name a user would recognise.
    """

    id: int
    key: str
    split: str
    labels: tuple[int, ...]
    boxes: tuple[Box, ...] = ()
    box_labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Photos:
    """One split: labelled photos by position."""

    split: str
    keys: Sequence[str]
    labels: Sequence[tuple[int, ...]] | npt.NDArray[np.int64]
    open: Callable[[int], Image.Image] = field(repr=False)
    boxes: Mapping[int, tuple[tuple[Box, int], ...]] = field(default_factory=dict)
    in_memory: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    def record(self, id: int) -> Record:
        found = self.labels[id]
        labels = found if isinstance(found, tuple) else (int(found),)
        boxes = self.boxes.get(id, ())
        return Record(id, self.keys[id], self.split, labels, tuple(b for b, _ in boxes), tuple(c for _, c in boxes))

    def targets(self) -> npt.NDArray[np.int64]:
        """The one class of every photo, N. Raises DataError where a photo has none or several."""
        if isinstance(self.labels, np.ndarray):
            return self.labels
        for key, found in zip(self.keys, self.labels, strict=True):
            if len(found) != 1:
                raise DataError(f"{key} has {len(found)} labels; classification expects exactly one a photo")
        return np.array([found[0] for found in self.labels], dtype=np.int64)


@dataclass(frozen=True)
class DataSet:
    """Splits that share one list of classes. `held_out` says that the splits were drawn here, not given."""

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Photos]
    held_out: bool = False

    def split(self, name: str) -> Photos:
        if name not in self.splits:
            raise DataError(f"{self.name} has no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]

    def fingerprint(self) -> str:
        """SHA-256 over classes, splits, keys and labels: another value means other or reordered photos."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for name in sorted(self.splits):
            photos = self.splits[name]
            for id, key in enumerate(photos.keys):
                digest.update(f"{name}\0{key}\0{photos.record(id).labels}\n".encode())
        return digest.hexdigest()
