"""The index beside tar shards: where each photo's bytes lie, and its key, labels and boxes.

One safetensors file, mapped into memory, so that several processes share its pages. It keeps the photos in the order
of the data that was packed, not of the shards, so that ids, keys and splits are those of that data. A file from a
stranger is checked in full before a number of it is used.

    key_block uint8, key_ends int64 N     the keys, each ended by NUL
    shard int32, offset int64, size int32 N    where each photo's bytes are
    labels int64 N                        or label_ends int64 N behind each photo's, where a photo may have several or none
    box_photo, box_class int64 B, box_corners float64 B x 4    by rising photo
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

import verydeep
from verydeep.data.naming import is_storable
from verydeep.data.record import CHUNK, Box, Boxes, Labels, Names
from verydeep.errors import DataError

FORMAT = 1
ENTRY = "verydeep_shards"  # of the header's metadata
LONGEST_HEADER = 64 << 20
TYPES = {"U8": np.uint8, "I32": np.int32, "I64": np.int64, "F64": np.float64}
NEEDED = {
    "key_block": "U8", "key_ends": "I64", "shard": "I32", "offset": "I64", "size": "I32", "labels": "I64",
    "box_photo": "I64", "box_class": "I64", "box_corners": "F64",
}  # fmt: skip
Array = npt.NDArray[Any]


class Shard(NamedTuple):
    """One archive: its file's name, bytes and SHA-256 ("" where nobody has measured it)."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """Photos by position over all splits, which follow one another. `smallest_side` is set where bigger photos were rescaled to it."""

    classes: tuple[str, ...]
    splits: tuple[tuple[str, int], ...]  # name, photos
    shards: tuple[Shard, ...]
    keys: Names
    shard: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int32]
    labels: Labels
    boxes: Boxes
    smallest_side: int | None = None


@dataclass(frozen=True, eq=False)
class Several(Sequence[tuple[int, ...]]):
    """Any number of labels a photo, one after another: those of photo i end before ends[i]."""

    values: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    start: int = 0

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> tuple[int, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> Several: ...
    def __getitem__(self, index: int | slice) -> tuple[int, ...] | Several:
        if isinstance(index, slice):
            first, end, step = index.indices(len(self))
            if step != 1:
                raise ValueError("labels can be cut, but not thinned")
            return Several(self.values, self.ends[first:end], int(self.ends[first - 1]) if first else self.start)
        end = self.ends[index]
        index %= len(self)
        return tuple(self.values[self.ends[index - 1] if index else self.start : end].tolist())

    def one_each(self) -> bool:
        return bool((self.ends == np.arange(self.start + 1, self.start + 1 + len(self))).all())


@dataclass(frozen=True, eq=False)
class BoxTable(Mapping[int, tuple[tuple[Box, int], ...]]):
    """Boxes by rising photo, without an object each; the first photo is number `first`, and `photos` of them count."""

    photo: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    corners: npt.NDArray[np.float64]  # B x 4
    first: int
    photos: int

    def __getitem__(self, id: int) -> tuple[tuple[Box, int], ...]:
        start, end = np.searchsorted(self.photo, (self.first + id, self.first + id + 1)).tolist()
        if start == end or not 0 <= id < self.photos:
            raise KeyError(id)
        found = zip(self.corners[start:end].tolist(), self.label[start:end].tolist(), strict=True)
        return tuple(((x0, y0, x1, y1), label) for (x0, y0, x1, y1), label in found)

    def __iter__(self) -> Iterator[int]:
        start, end = np.searchsorted(self.photo, (self.first, self.first + self.photos))
        return iter((np.unique(self.photo[start:end]) - self.first).tolist())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def part(index: Index, first: int, end: int) -> tuple[Names, Labels, Boxes]:
    """Keys, labels and boxes of the photos first..end; keys without a copy where they are the first."""
    ends, boxes = index.keys.ends, index.boxes
    start = int(ends[first - 1]) + 1 if first else 0
    keys = Names(index.keys.block[start : int(ends[end - 1]) + 1], ends[first:end] - start if start else ends[:end])
    labels = index.labels[first:end]
    if isinstance(labels, Several) and labels.one_each():
        labels = labels.values[labels.start : labels.start + len(labels)]
    if isinstance(labels, np.ndarray):
        labels = labels.copy()  # torch takes no array that cannot be written
    if not isinstance(boxes, BoxTable) or not len(boxes.photo):
        return keys, labels, {}
    return keys, labels, BoxTable(boxes.photo, boxes.label, boxes.corners, first, end - first)


def save_index(index: Index, path: Path) -> None:
    """Writes the file, the same bytes for the same index. Raises OSError."""
    from safetensors.numpy import save_file

    ids = [id for id, found in index.boxes.items() for _ in found]
    boxes = [(*box, label) for found in index.boxes.values() for box, label in found]
    table = np.array(boxes, np.float64).reshape(-1, 5)
    arrays: dict[str, Array] = {
        "key_block": index.keys.block, "key_ends": index.keys.ends,
        "shard": index.shard, "offset": index.offset, "size": index.size,
        "box_photo": np.array(ids, np.int64), "box_class": table[:, 4].astype(np.int64), "box_corners": np.ascontiguousarray(table[:, :4]),
    }  # fmt: skip
    if isinstance(index.labels, np.ndarray):
        arrays["labels"] = index.labels
    else:
        arrays["labels"] = np.array([label for found in index.labels for label in found], np.int64)
        arrays["label_ends"] = np.cumsum([len(found) for found in index.labels], dtype=np.int64)
    said = {
        "format": FORMAT, "version": verydeep.__version__, "photos": len(index.keys), "classes": index.classes, "splits": index.splits,
        "smallest_side": index.smallest_side, "shards": index.shards,
    }  # fmt: skip
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path, {ENTRY: json.dumps(said)})


def read_index(path: Path) -> Index:
    """The index in a file, mapped. Raises DataError where it is not one, or says what cannot be."""
    try:
        with path.open("rb") as f:
            mapped = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        arrays, said = parts_of(mapped)
        return checked(arrays, said)
    except OSError as e:
        raise DataError(f"{path} cannot be read ({e.strerror or e})") from e
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as e:
        raise DataError(
            f"{path} is not the index of shards, or damaged ({e}); write it again with 'verydeep pack'"
        ) from e


def parts_of(mapped: mmap.mmap) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of a safetensors file, as views of it, and what its header says."""
    length = int.from_bytes(mapped[:8], "little")
    if len(mapped) < 8 or length > min(len(mapped) - 8, LONGEST_HEADER):
        raise ValueError("no safetensors header")
    header = json.loads(mapped[8 : 8 + length])
    said = json.loads(header["__metadata__"][ENTRY])
    if said["format"] != FORMAT:
        raise ValueError(f"format {said['format']!r}, while this version reads {FORMAT}")
    arrays = {}
    for name in (*NEEDED, *(["label_ends"] if "label_ends" in header else [])):
        entry, start = header[name], 8 + length
        dtype = np.dtype(TYPES[entry["dtype"]])
        first, end = entry["data_offsets"]
        count = 1
        for side in entry["shape"]:
            count *= whole(side)
        if (
            entry["dtype"] != NEEDED.get(name, "I64")
            or whole(end) - whole(first) != count * dtype.itemsize
            or start + end > len(mapped)
        ):
            raise ValueError(f"{name} has another type or size")
        array = np.frombuffer(mapped, dtype, count, start + first) if count else np.zeros(0, dtype)
        arrays[name] = array.reshape(-1, 4) if name == "box_corners" else array
    return arrays, said


def whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r} is no count")
    return value


def checked(arrays: dict[str, Array], said: dict[str, Any]) -> Index:
    """Everything that reading a photo relies on. Raises ValueError and its kin."""
    shards = tuple(Shard(text(name), whole(size), text(sha256, empty=True)) for name, size, sha256 in said["shards"])
    classes = tuple(text(name) for name in said["classes"])
    splits = tuple((text(name), whole(n)) for name, n in said["splits"])
    n, side = len(arrays["key_ends"]), said["smallest_side"]
    need(n > 0 and all(len(arrays[name]) == n for name in ("shard", "offset", "size")), "columns of different lengths")
    need(len(set(classes)) == len(classes), "a class twice")
    names = [name for name, _ in splits]
    need(sum(count for _, count in splits) == n and all(count for _, count in splits), "splits that are not all photos")
    need(names == ["all"] or (len(set(names)) == len(names) and {*names} <= {"train", "val", "test"}), "unknown splits")
    for archive in shards:
        need(re.fullmatch(r"(?!\.)[^/\\]+\.tar", archive.name), f"a shard called {archive.name!r}")
        need(re.fullmatch(r"(?:[0-9a-f]{64})?", archive.sha256), "a wrong SHA-256")
    need(len({archive.name for archive in shards}) == len(shards), "a shard twice")
    shard, offset, size = arrays["shard"], arrays["offset"], arrays["size"]
    need(within(shard, len(shards)) and (offset >= 0).all() and (size >= 0).all(), "photos outside the shards")
    need(
        (offset <= np.array([s.bytes for s in shards], np.int64)[shard] - size).all(), "photos behind their shard's end"
    )
    keys = checked_keys(Names(arrays["key_block"], arrays["key_ends"]))
    labels: Labels = arrays["labels"]
    if "label_ends" in arrays:
        labels = Several(arrays["labels"], ends := arrays["label_ends"])
        need(
            len(ends) == n and ends[0] >= 0 and rising(ends) and ends[-1] == len(arrays["labels"]),
            "labels of other photos",
        )
    need(within(arrays["labels"], len(classes)) and len(labels) == n, "labels without a class")
    photo, corners = arrays["box_photo"], arrays["box_corners"]
    need(
        len(photo) == len(corners) == len(arrays["box_class"]) and rising(photo) and within(photo, n),
        "boxes without a photo",
    )
    need(
        within(arrays["box_class"], len(classes)) and bool(np.isfinite(corners).all()), "boxes without a class or place"
    )
    boxes = BoxTable(photo, arrays["box_class"], corners, 0, n)
    return Index(
        classes, splits, shards, keys, shard, offset, size, labels, boxes, None if side is None else whole(side)
    )


def checked_keys(keys: Names) -> Names:
    block, ends = keys.block, keys.ends
    need(ends[0] >= 0 and rising(ends, strictly=True) and ends[-1] == len(block) - 1, "keys out of order")
    need(not block[ends].any() and np.count_nonzero(block) == len(block) - len(ends), "a key with NUL")
    start = 0
    for first in range(0, len(ends), CHUNK):
        end = int(ends[min(first + CHUNK, len(ends)) - 1])
        str(block[start:end].data, "utf-8")
        start = end
    return keys


def text(value: object, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or empty) or not is_storable(value):
        raise ValueError(f"{value!r} is no name")
    return value


def rising(values: Array, strictly: bool = False) -> bool:
    return bool((values[1:] > values[:-1] if strictly else values[1:] >= values[:-1]).all())


def within(values: Array, end: int) -> bool:
    return not len(values) or bool(values.min() >= 0 and values.max() < end)


def need(fine: object, otherwise: str) -> None:
    if not fine:
        raise ValueError(otherwise)
