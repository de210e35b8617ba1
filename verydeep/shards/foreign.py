"""Shards that others packed, in the WebDataset convention: an index from their headers and small files.

Files of one name up to its first dot are one photo: NAME.jpg (or another photo's ending), and NAME.cls (a number or
a name), NAME.json ("label", "cls" or "class") or NAME.txt with its class. A shard called after train, val or test is of that split.
"""

from __future__ import annotations

import json
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from verydeep.data import photo
from verydeep.data.naming import is_storable, natural
from verydeep.data.record import SPLIT_NAMES, Names
from verydeep.errors import DataError
from verydeep.shards.index import Index, Shard
from verydeep.shards.tarfiles import Member, members

SPLIT = re.compile(rf"(?:^|[-_.])({'|'.join(SPLIT_NAMES)})(?=[-_.\d])", re.IGNORECASE)
TEXTS = ("json", "cls", "txt")  # where a class may stand; the first that names it counts
LONGEST_TEXT = 1 << 20


def index_of(paths: list[Path]) -> Index:
    """The index of shards here, in the order given, split by split. Raises DataError naming the shard and the photo."""
    split_of = {p: SPLIT_NAMES[found[1].lower()] if (found := SPLIT.search(p.name)) else "all" for p in paths}
    if "all" in (present := set(split_of.values())) and len(present) > 1:
        plain, named = (next(p for p in paths if (split_of[p] == "all") == without) for without in (True, False))
        raise DataError(
            f"{named} is of the split {split_of[named]}, but {plain} names none; give a pattern of those with splits"
        )
    order = sorted(paths, key=lambda p: ("all", "train", "val", "test").index(split_of[p]))
    columns: dict[str, array[int]] = {name: array("q") for name in ("shard", "offset", "size", "labels")}
    numbers: dict[str, int] = {}
    counts = dict.fromkeys((split_of[p] for p in order), 0)

    def keys() -> Iterator[str]:
        for n, path in enumerate(order):
            for member, label in photos_in(path):
                counts[split_of[path]] += 1
                found = (n, member.offset, member.size, numbers.setdefault(label, len(numbers)))
                for column, value in zip(columns.values(), found, strict=True):
                    column.append(value)
                yield f"{path.name}/{member.name}"

    names = Names.of(keys())
    if empty := next((p for p in order if not counts[split_of[p]]), None):
        raise DataError(f"{empty} holds no photos with a class; expected files like 000001.jpg and 000001.cls")
    classes = sorted(numbers, key=natural)
    place = np.empty(len(classes), np.int64)
    place[[numbers[c] for c in classes]] = np.arange(len(classes))
    shard, offset, size, labels = (np.frombuffer(column, np.int64) for column in columns.values())
    shards = tuple(Shard(p.name, os.path.getsize(p), "") for p in order)
    return Index(
        tuple(classes),
        tuple(counts.items()),
        shards,
        names,
        shard.astype(np.int32),
        offset,
        size.astype(np.int32),
        place[labels],
        {},
    )


def photos_in(path: Path) -> Iterator[tuple[Member, str]]:
    """Each photo of a shard and its class."""
    with path.open("rb", buffering=0) as archive:
        for name, files in samples(path):
            images = [m for ending, m in files.items() if f".{ending}" in photo.SUFFIXES]
            texts = {ending: read_text(archive.fileno(), files[ending], path) for ending in TEXTS if ending in files}
            if len(images) > 1:
                raise DataError(
                    f"{path}: {name} has {len(images)} photos ({', '.join(m.name for m in images)}); expected one a name"
                )
            if not images:
                continue
            label = next((found for ending, text in texts.items() if (found := label_in(ending, text))), None)
            if label is None or not is_storable(label) or not is_storable(images[0].name):
                raise DataError(
                    f"{path}: {images[0].name!a} has no class; expected it in {name}.cls, .json ('label') or .txt"
                )
            if images[0].size >= 1 << 31:
                raise DataError(f"{path}: {images[0].name} has {images[0].size >> 20} MiB, which is no photo")
            yield images[0], label


def samples(path: Path) -> Iterator[tuple[str, dict[str, Member]]]:
    """Files that follow one another and share their name up to its first dot: by what follows it, in lower case."""
    held, files = "", dict[str, Member]()
    for member in members(path):
        folder, slash, name = member.name.rpartition("/")
        start, dot, ending = name.partition(".")
        if not start or not dot:
            continue  # hidden, or without an ending
        if folder + slash + start != held:
            if files:
                yield held, files
            held, files = folder + slash + start, {}
        if ending.lower() in files:
            raise DataError(f"{path}: {member.name} is there twice; every photo needs a name of its own")
        files[ending.lower()] = member
    if files:
        yield held, files


def read_text(handle: int, member: Member, path: Path) -> str:
    if member.size > LONGEST_TEXT:
        raise DataError(f"{path}: {member.name} has {member.size:,} bytes, too many for a class")
    return os.pread(handle, member.size, member.offset).decode("utf-8", "replace")


def label_in(ending: str, text: str) -> str | None:
    """The class that a small file gives, or None."""
    if ending != "json":
        return text.strip() or None
    try:
        said: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    values = [said[name] for name in ("label", "cls", "class") if name in said] if isinstance(said, dict) else []
    return next(
        (str(v).strip() for v in values if isinstance(v, (str, int)) and not isinstance(v, bool) and str(v).strip()),
        None,
    )
