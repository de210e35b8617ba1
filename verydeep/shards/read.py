"""Tar shards in the WebDataset convention, read at random by an index.

DATA is a pattern: shards/flowers-%05d.tar, flowers-*.tar, flowers-{00000..00012}.tar, flowers.tar or the index itself,
shards/flowers.index. What stands before the number names the family, and so the index, which a store need not list.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from verydeep.data.record import DataSet, Photos
from verydeep.errors import DataError
from verydeep.files.disk import saying
from verydeep.shards.cache import Cache, fetch_index, photo_at
from verydeep.shards.index import Index, Shard, read_index

PATTERN = re.compile(
    r"(?P<stem>[^*?{}\[\]%]+?)"
    r"(?:\.index|(?:-?(?:%0?(?P<width>\d{0,2})d|\*|\?+|\{(?P<first>\d{1,9})\.\.(?P<last>\d{1,9})\}))?\.tar)"
)


class Family(NamedTuple):
    """What a pattern names: files of `folder` (a URL or a path, ending in its separator) called `stem` and a number."""

    folder: str
    stem: str
    listed: int | None = None  # how many the pattern lists
    width: int = 5

    @property
    def index_path(self) -> str:
        return f"{self.folder}{self.stem}.index"

    @property
    def hidden(self) -> Path:
        """Where the shards are written, before they are moved to their folder."""
        return Path(self.folder, f".{self.stem}.packing")

    def shard(self, split: str, number: int) -> str:
        return f"{self.stem}-{'' if split == 'all' else f'{split}-'}{number:0{self.width}d}.tar"


def family(data: str) -> Family:
    """What a pattern names. Raises DataError."""
    folder, slash, name = (data if "://" in data else os.path.expanduser(data)).rpartition("/")
    found = PATTERN.fullmatch(name)
    if not found:
        raise DataError(
            f"{data} names no shards; expected a pattern of plain tar files like shards/flowers-*.tar, "
            "shards/flowers-{00000..00012}.tar, or the index, shards/flowers.index"
        )
    listed = int(found["last"]) - int(found["first"]) + 1 if found["first"] else None
    return Family(folder + slash, found["stem"], listed, int(found["width"] or 5))


def open_shards(data: str) -> DataSet:
    """The data set packed into shards, undivided. Raises DataError."""
    data = data.removeprefix("file://")
    asked, remote = family(data), "://" in data
    if not remote and not Path(asked.index_path).exists():
        folder = asked.folder.rstrip("/") or "."
        raise DataError(
            f"{data}: the index {asked.index_path} does not exist; 'verydeep pack' writes it beside its shards. "
            f"Shards that others packed are read by their folder: 'verydeep pack hub:{folder} --out NEW-%05d.tar'"
        )
    found = fetch_index(asked.index_path) if remote else read_index(Path(asked.index_path))
    if asked.listed not in (None, n := len(found.shards)):  # an id counts through all of them
        raise DataError(f"{data} lists {asked.listed} shards, {asked.index_path} {n}; give {asked.stem}-*.tar for all")
    source = Cache(asked.folder, found) if remote else Local(asked.folder, found)
    counted = zip(found.splits, accumulate(n for _, n in found.splits), strict=True)
    splits = {split: photos_between(data, source, split, end - n, end) for (split, n), end in counted}
    return DataSet(data, found.classes, splits, grouped_by=found.grouped_by)


def photos_between(data: str, source: Cache | Local, split: str, first: int, end: int) -> Photos:
    """A split. On an object store a photo knows its shard, because those are best read one after another."""
    keys, labels, boxes, groups = source.index.cut(first, end)
    content = lambda id: source.read(first + id, f"{data}: {keys[id]}")  # noqa: E731
    photos = Photos(split, keys, labels, content, f"{data}: ", boxes, groups=groups)
    if isinstance(source, Local):
        return photos
    shards = source.index.shard[first:end].astype(np.int64)
    return replace(photos, shards=shards, expect=lambda ids: source.expect(ids + first))


class Local:
    """The shards in a folder here, which must be those that the index was written with. Raises DataError."""

    def __init__(self, folder: str, index: Index) -> None:
        self.folder, self.index = folder, index
        for shard in index.shards:
            path = folder + shard.name
            with saying(f"{path} cannot be read", "the index beside it lists it, so copy it there again", DataError):
                self.match(shard, os.stat(path).st_size)

    def match(self, shard: Shard, size: int) -> None:
        if size != shard.bytes:
            raise DataError(
                f"{self.folder}{shard.name} has {size:,} bytes, the index says {shard.bytes:,}; "
                "copy shards and index again together, or pack DATA again"
            )

    def read(self, at: int, name: str) -> bytes:
        """A photo's bytes. Raises PhotoError where the disk fails, DataError where the shard is missing or another."""
        shard = self.index.shards[int(self.index.shard[at])]
        path = self.folder + shard.name
        missing = saying(f"{path}, which holds {name}, cannot be read", "copy the shard there again", DataError)
        with missing, open(path, "rb", buffering=0) as file:
            self.match(shard, os.fstat(file.fileno()).st_size)
            return photo_at(file, self.index, at, name)
