"""Tar shards in the WebDataset convention, read at random by an index.

DATA is a pattern: shards/flowers-%05d.tar, flowers-*.tar, flowers-{00000..00012}.tar, flowers.tar or the index itself,
shards/flowers.index. What stands before the number names the family, and so the index, which an object store need not list.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from verydeep.data import photo
from verydeep.data.naming import natural
from verydeep.data.record import DataSet, Names, Photos
from verydeep.errors import DataError, PhotoError
from verydeep.shards import index
from verydeep.shards.cache import Cache, fetch_index, read_exactly
from verydeep.shards.foreign import index_of
from verydeep.shards.index import Index, Shard

SPELLED = (
    "expected a pattern like shards/flowers-*.tar, shards/flowers-{00000..00012}.tar or the index, shards/flowers.index"
)
NUMBER = re.compile(r"-?(?:%0?(?P<width>\d*)d|\*|\?+|\{(?P<first>\d+)\.\.(?P<last>\d+)\})$")


class Family(NamedTuple):
    """What a pattern names: files of `folder` (a URL or a path, ending in its separator) called `stem` and a number."""

    folder: str
    stem: str
    names: tuple[str, ...] = ()  # where the pattern lists them
    width: int = 5

    @property
    def index_path(self) -> str:
        return f"{self.folder}{self.stem}.index"

    def shard(self, split: str, number: int) -> str:
        return f"{self.stem}-{'' if split == 'all' else f'{split}-'}{number:0{self.width}d}.tar"


def family(data: str) -> Family:
    """What a pattern names. Raises DataError."""
    data = data if "://" in data else os.path.expanduser(data)
    folder, slash, name = data.rpartition("/")
    if name.endswith((".tar.gz", ".tgz")):
        raise DataError(f"{data}: photos can be read only from plain tar; unpack the shards once with gzip -d")
    stem, _, ending = name.rpartition(".")
    if not stem or ending not in ("tar", "index"):
        raise DataError(f"{data} names no shards; {SPELLED}")
    found = NUMBER.search(stem) if ending == "tar" else None
    base, width = stem[: found.start()] if found else stem, 5
    names: tuple[str, ...] = ()
    if found and found["first"]:
        if not 0 <= int(found["last"][:9]) - int(found["first"][:9]) < 1_000_000:
            raise DataError(f"{data}: {found[0]} is no range; {SPELLED}")
        start = stem[: found.start("first") - 1]
        names = tuple(
            f"{start}{i:0{len(found['first'])}d}.tar" for i in range(int(found["first"]), int(found["last"]) + 1)
        )
    if found and found["width"]:
        width = int(found["width"])
    if not base or set("*?{}[]%") & set(base):
        raise DataError(f"{data}: only the number may be left open; {SPELLED}")
    return Family(folder + slash, base, names, width)


def open_shards(data: str) -> DataSet:
    """The data set packed into shards, undivided. Those without an index are read by their headers, if they are here. Raises DataError."""
    data = data.removeprefix("file://")
    asked = family(data)
    if "://" in data:
        found = fetch_index(asked.index_path)
        every_listed(data, asked, found)
        return opened(data, found, Cache(asked.folder, found.shards))
    if Path(asked.index_path).exists():
        found = index.read_index(Path(asked.index_path))
        every_listed(data, asked, found)
        for shard in found.shards:
            check(asked.folder + shard.name, shard)
        return opened(data, found, None, asked.folder)
    if data.endswith(".index"):
        raise DataError(
            f"{data} does not exist; write it with 'verydeep pack DATA --out {data.removesuffix('.index')}-%05d.tar'"
        )
    return opened(data, index_of(files_of(data, asked)), None, asked.folder)


def every_listed(data: str, asked: Family, found: Index) -> None:
    """A pattern that lists its shards must list those of the index, because an id counts through all of them."""
    names = {shard.name for shard in found.shards}
    if asked.names and set(asked.names) != names:
        raise DataError(
            f"{data} lists {len(asked.names)} shards, {asked.index_path} other ones ({len(names)}); give {asked.stem}-*.tar for all"
        )


def files_of(data: str, asked: Family) -> list[Path]:
    """The shards here that a pattern means, in natural order. Raises DataError where there are none, or one is missing."""
    folder, name = Path(asked.folder or "."), data.rpartition("/")[2]
    if asked.names:
        found = [folder / name for name in asked.names]
        if gone := next((p for p in found if not p.is_file()), None):
            raise DataError(f"{data}: {gone} does not exist")
        return found
    wanted = re.compile(
        re.escape(name).replace(r"\*", ".*").replace(r"\?", ".") if "%" not in name else asked_number(name)
    )
    try:
        found = [p for p in folder.iterdir() if wanted.fullmatch(p.name) and p.is_file() and not p.name.startswith(".")]
    except OSError as e:
        raise DataError(f"{data}: {folder} cannot be read ({e.strerror or e}); {SPELLED}") from e
    if not found:
        raise DataError(f"{data}: there is no such shard, and no index {asked.index_path}; {SPELLED}")
    return sorted(found, key=lambda p: natural(p.name))


def asked_number(name: str) -> str:
    return re.sub(r"%0?\d*d", r"\\d+", re.escape(name))


def opened(data: str, found: Index, cache: Cache | None, folder: str = "") -> DataSet:
    """The splits of an index. On an object store a photo knows its shard, because those are best read one after another."""
    splits, first = {}, 0
    for split, n in found.splits:
        keys, labels, boxes = index.part(found, first, first + n)
        photos = Photos(split, keys, labels, reader(data, found, first, keys, cache, folder), f"{data}: ", boxes)
        if cache:
            shards = found.shard[first : first + n].astype(np.int64)
            photos = replace(photos, shards=shards, expect=partial(expect_from, cache, found.shard, first))
        splits[split] = photos
        first += n
    return DataSet(data, found.classes, splits)


def expect_from(cache: Cache, shards: npt.NDArray[np.int32], first: int, ids: npt.NDArray[np.int64]) -> None:
    cache.expect(shards, ids + first)


def reader(
    data: str, found: Index, first: int, keys: Names, cache: Cache | None, folder: str
) -> Callable[[int], bytes]:
    """Photo of the split whose first is number `first` -> its file's bytes."""

    def content(id: int) -> bytes:
        at, name = first + id, f"{data}: {keys[id]}"
        shard, offset, size = int(found.shard[at]), int(found.offset[at]), int(found.size[at])
        if size > photo.MAX_BYTES:
            raise PhotoError(name, f"has {size >> 20} MiB, more than the {photo.MAX_BYTES >> 20} MiB allowed")
        if cache:
            return cache.read(at, shard, offset, size, name)
        return read_local(folder + found.shards[shard].name, found.shards[shard], offset, size, name)

    return content


def read_local(path: str, shard: Shard, offset: int, size: int, name: str) -> bytes:
    """A photo's bytes from a shard here. Raises PhotoError where the disk fails, DataError where the shard is another."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as e:
        raise DataError(
            f"{path}, which holds {name}, cannot be read ({e.strerror or e}); copy the shard there again"
        ) from e
    try:
        match(path, shard, os.fstat(handle).st_size)
        return read_exactly(handle, offset, size)
    except OSError as e:
        raise PhotoError(name, f"cannot be read from {path} ({e.strerror or e})") from e
    finally:
        os.close(handle)


def check(path: str, shard: Shard) -> None:
    """Raises DataError where a shard is missing or not the one the index was written with."""
    try:
        match(path, shard, os.stat(path).st_size)
    except OSError as e:
        raise DataError(
            f"{path} cannot be read ({e.strerror or e}); the index beside it lists it, so copy it there again"
        ) from e


def match(path: str, shard: Shard, size: int) -> None:
    if size != shard.bytes:
        raise DataError(
            f"{path} has {size:,} bytes, the index says {shard.bytes:,}; copy shards and index again together, or pack DATA again"
        )
