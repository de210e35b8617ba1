"""The index beside tar shards: where each photo's bytes lie, and its key, labels and boxes.

One safetensors file, mapped into memory, so that several processes share its pages. It keeps the photos in the order
of the data that was packed, not of the shards: ids, keys and splits are those of that data. A file from a
stranger is checked in full before a number of it is used.

    key_block uint8, key_ends int64 N     the keys, each ended by NUL
    group_block, group_ends               the same of the groups, if there are any
    shard int32, offset int64, size int32 N    where each photo's bytes are
    labels int64 N                        or label_ends int64 N behind each photo's, where it may have several or none
    box_photo, box_class int64 B, box_corners float64 B x 4    by rising photo
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

import verydeep
from verydeep.data.naming import is_storable
from verydeep.data.record import CHUNK, Box, Boxes, Labels, Names, Several, labels_between
from verydeep.errors import DataError
from verydeep.files.disk import mapped, saying
from verydeep.files.records import Within, record_of

ENTRY = "verydeep_shards"  # of the header's metadata
LONGEST_HEADER = 64 << 20
TYPES = {"U8": np.uint8, "I32": np.int32, "I64": np.int64, "F64": np.float64}
COLUMNS = {
    "key_block": "U8", "key_ends": "I64", "group_block": "U8", "group_ends": "I64",
    "shard": "I32", "offset": "I64", "size": "I32",
    "labels": "I64", "label_ends": "I64", "box_photo": "I64", "box_class": "I64", "box_corners": "F64",
}  # fmt: skip
OPTIONAL = ("label_ends", "group_block", "group_ends")
Array = npt.NDArray[Any]
Count = Annotated[int, Within(0)]


class Shard(NamedTuple):
    """One archive: its file's name, bytes and SHA-256."""

    name: str
    bytes: int
    sha256: str


class Column(NamedTuple):
    """What the header of a safetensors file says of an array."""

    dtype: str
    shape: tuple[Count, ...]
    data_offsets: tuple[Count, Count]


@dataclass(frozen=True)
class IndexFacts:
    """What the header says beside the arrays. `smallest_side`: bigger photos were rescaled to it."""

    MAY_LACK = {"grouped_by"}

    format: Literal[1]
    version: str
    photos: int
    classes: tuple[Annotated[str, Within(1)], ...]
    splits: tuple[tuple[Literal["all", "train", "val", "test"], Annotated[int, Within(1)]], ...]
    smallest_side: Annotated[int | None, Within(0)]
    shards: tuple[tuple[str, Count, str], ...]
    grouped_by: str = ""


@dataclass(frozen=True, eq=False)
class BoxTable(Mapping[int, tuple[tuple[Box, int], ...]]):
    """Boxes by rising photo."""

    photo: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    label: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    corners: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))  # B x 4

    def __getitem__(self, id: int) -> tuple[tuple[Box, int], ...]:
        start, end = np.searchsorted(self.photo, (id, id + 1)).tolist()
        if start == end:
            raise KeyError(id)
        found = zip(self.corners[start:end].tolist(), self.label[start:end].tolist(), strict=True)
        return tuple(((x0, y0, x1, y1), label) for (x0, y0, x1, y1), label in found)

    def __iter__(self) -> Iterator[int]:
        return iter(np.unique(self.photo).tolist())

    def __len__(self) -> int:
        return len(np.unique(self.photo))

    def __bool__(self) -> bool:
        return self.photo.size > 0


@dataclass(frozen=True)
class Index:
    """Photos by position over all splits, which follow one another: (name, photos)."""

    classes: tuple[str, ...]
    splits: tuple[tuple[str, int], ...]
    shards: tuple[Shard, ...]
    keys: Names
    shard: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int32]
    labels: Labels
    boxes: BoxTable = field(default_factory=BoxTable)
    smallest_side: int | None = None
    groups: Names | None = None
    grouped_by: str = ""

    def cut(self, first: int, end: int) -> tuple[Names, Labels, Boxes, Names | None]:
        """Keys, labels, boxes and groups of the photos first..end; keys without a copy where they are the first."""
        ends, labels, boxes = self.keys.ends, self.labels, self.boxes
        start = int(ends[first - 1]) + 1 if first else 0
        keys = Names(self.keys.block[start : int(ends[end - 1]) + 1], ends[first:end] - start if start else ends[:end])
        groups = self.groups and self.groups.take(np.arange(first, end))
        if isinstance(labels, Several):
            labels = labels_between(labels.values, labels.bounds[first : end + 1])
        else:
            labels = labels[first:end].copy()  # torch takes no array that cannot be written
        here = slice(*np.searchsorted(boxes.photo, (first, end)).tolist())
        return keys, labels, BoxTable(boxes.photo[here] - first, boxes.label[here], boxes.corners[here]), groups


def save_index(index: Index, path: Path) -> None:
    """Writes the file, the same bytes for the same index. Raises OSError."""
    from safetensors.numpy import save_file

    arrays: dict[str, Array] = {
        "key_block": index.keys.block, "key_ends": index.keys.ends,
        "shard": index.shard, "offset": index.offset, "size": index.size,
        "box_photo": index.boxes.photo, "box_class": index.boxes.label, "box_corners": index.boxes.corners,
    }  # fmt: skip
    if isinstance(index.labels, Several):
        arrays |= {"labels": index.labels.values, "label_ends": index.labels.bounds[1:]}
    else:
        arrays["labels"] = index.labels
    if index.groups:
        arrays |= {"group_block": index.groups.block, "group_ends": index.groups.ends}
    facts = {
        "format": 1, "version": verydeep.__version__, "photos": len(index.keys), "classes": index.classes,
        "splits": index.splits, "smallest_side": index.smallest_side, "shards": index.shards,
    } | ({"grouped_by": index.grouped_by} if index.groups else {})  # fmt: skip
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path, {ENTRY: json.dumps(facts)})


def read_index(path: Path) -> Index:
    """The index in a file, mapped. Raises DataError where it is not one, or says what cannot be."""
    try:
        with saying(f"{path} cannot be read", kind=DataError):
            arrays, facts = columns_of(mapped(path))
        return checked_index(arrays, facts)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError) as e:
        raise DataError(f"{path} is not the index of shards, or damaged ({e}); write it with 'verydeep pack'") from e


def columns_of(file: memoryview) -> tuple[dict[str, Array], IndexFacts]:
    """The arrays of a safetensors file, as views of it, and what its header says. Raises ValueError and its kin."""
    length = int.from_bytes(file[:8], "little")
    need(length <= LONGEST_HEADER, "no safetensors header")
    header, data = json.loads(bytes(file[8 : 8 + length])), np.frombuffer(file, np.uint8)[8 + length :]
    facts = record_of(IndexFacts, json.loads(header["__metadata__"][ENTRY]))
    arrays = {}
    for name in [name for name in COLUMNS if name in header or name not in OPTIONAL]:
        column = record_of(Column, header[name])
        need(column.dtype == COLUMNS[name], f"{name} is of type {column.dtype}")
        arrays[name] = data[slice(*column.data_offsets)].view(TYPES[column.dtype]).reshape(column.shape)
        need(arrays[name].ndim == 1 + (name == "box_corners"), f"{name} has another shape")
    return arrays, facts


def checked_index(arrays: dict[str, Array], facts: IndexFacts) -> Index:
    """Everything that reading a photo relies on. Raises ValueError and its kin."""
    shards, classes, names = tuple(Shard(*s) for s in facts.shards), facts.classes, [name for name, _ in facts.splits]
    keys, n, values = Names(arrays["key_block"], arrays["key_ends"]), len(arrays["key_ends"]), arrays["labels"]
    boxes = BoxTable(arrays["box_photo"], arrays["box_class"], arrays["box_corners"])
    shard, offset, size = arrays["shard"], arrays["offset"], arrays["size"]
    need(n > 0 and len(shard) == len(offset) == len(size) == n, "columns of different lengths")
    need(len(boxes.photo) == len(boxes.label) == len(boxes.corners), "boxes of different lengths")
    need(len(set(classes)) == len(classes) and all(map(is_storable, classes)), "a class twice, or not UTF-8")
    need(sum(count for _, count in facts.splits) == n, "splits that are not all photos")
    need(len(set(names)) == len(names) and ("all" not in names or len(names) == 1), "a split twice, or beside all")
    need(len({shard.name for shard in shards}) == len(shards), "a shard twice")
    for name, _, sha256 in shards:
        need(re.fullmatch(r"(?!\.)[^/\\\0]+\.tar", name) and is_storable(name), f"a shard called {name!r}")
        need(re.fullmatch(r"[0-9a-f]{64}", sha256), "a wrong SHA-256")
    for numbers, end, what in (
        (shard, len(shards), "photos outside the shards"), (values, len(classes), "labels without a class"),
        (boxes.photo, n, "boxes without a photo"), (boxes.label, len(classes), "boxes without a class"),
        (offset, 1 << 62, "photos before their shard"), (size, 1 << 31, "photos of a negative size"),
    ):  # fmt: skip
        need(numbers.min(initial=0) >= 0 and numbers.max(initial=-1) < end, what)
    need((offset <= np.array([s.bytes for s in shards])[shard] - size).all(), "photos behind their shard's end")
    need((np.diff(boxes.photo) >= 0).all() and boxes.corners.shape[1] == 4, "boxes out of order")
    need(np.isfinite(boxes.corners).all(), "boxes without a place")
    check_keys(keys)
    groups = Names(arrays["group_block"], arrays["group_ends"]) if facts.grouped_by else None
    need(groups is None or len(groups) == n, "groups of other photos")
    check_keys(groups or keys)
    labels: Labels = values
    if "label_ends" in arrays:
        bounds = np.concatenate([[0], arrays["label_ends"]])
        need((bounds[1:] >= bounds[:-1]).all() and bounds[-1] == len(values), "labels of other photos")
        labels = Several(values, bounds)
    need(len(labels) == n, "labels of other photos")
    where = shard, offset, size
    return Index(
        classes, facts.splits, shards, keys, *where, labels, boxes, facts.smallest_side, groups, facts.grouped_by
    )


def check_keys(keys: Names) -> None:
    """Each key ends in the one NUL after the last, and is UTF-8."""
    block, ends = keys.block, keys.ends
    need(ends[0] >= 0 and (ends[1:] > ends[:-1]).all() and ends[-1] == len(block) - 1, "keys out of order")
    need(not block[ends].any() and np.count_nonzero(block) == len(block) - len(ends), "a key with NUL")
    start = 0
    for end in [*ends[CHUNK - 1 :: CHUNK].tolist(), int(ends[-1])]:
        str(block[start:end].data, "utf-8")
        start = end


def need(fine: object, otherwise: str) -> None:
    if not fine:
        raise ValueError(otherwise)
