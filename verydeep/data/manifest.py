"""A manifest: one photo a line, as CSV with a header or as JSON lines.

CSV columns: path, label, and optionally split and box ("x0 y0 x1 y1"). JSON lines: {"path", "label" or
"labels", "split", "box" or "boxes": [{"label", "box"}]}. Paths are relative to the manifest's folder.
Several lines of one path, however it is spelled, are one photo with several labels or boxes.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verydeep.data.naming import is_storable, natural
from verydeep.data.record import SPLIT_NAMES, Box, DataSet, Photos, Shares, compact, files
from verydeep.data.split import divide
from verydeep.errors import DataError

SUFFIXES = frozenset({".csv", ".jsonl", ".ndjson"})


@dataclass(slots=True)
class Entry:
    """What the lines of one photo say together."""

    split: str
    labels: tuple[str, ...] = ()
    boxes: tuple[tuple[Box, str], ...] = ()


def open_manifest(path: Path, shares: Shares, seed: int, root: Path | None = None) -> DataSet:
    """The data set of a manifest; with `root`, of one that a run wrote about the photos there, whose names are kept as they are.

    Without splits each class is divided by shares = (val, test); with train but no val the validation photos
    are held out of train. Raises DataError naming the line.
    """
    entries = read_entries(path, exact=root is not None)
    root = root or path.parent
    classes = sorted({label for e in entries.values() for label in e.labels}, key=natural)
    if shares and len(classes) < 2:
        raise DataError(f"{path} names {len(classes)} class; expected at least two different labels")
    splits = {e.split for e in entries.values()}
    if "" in splits and len(splits) > 1:
        key = next(k for k, e in entries.items() if not e.split)
        raise DataError(f"{path}: {key} has no split while others do; give every line a split, or none")
    number = {label: i for i, label in enumerate(classes)}
    names = [s for s in ("", "train", "val", "test") if s in splits]
    return divide(
        DataSet(str(path), tuple(classes), {s or "all": chosen(entries, s, root, number) for s in names}), shares, seed
    )


def chosen(entries: dict[str, Entry], split: str, root: Path, number: dict[str, int]) -> Photos:
    """The photos of a split in line order; those without splits in class order, if each has one class."""
    found = [(key, e) for key, e in entries.items() if e.split == split]
    if not split and all(len(e.labels) == 1 for _, e in found):
        found.sort(key=lambda item: number[item[1].labels[0]])
    labels = compact(tuple(number[label] for label in e.labels) for _, e in found)
    boxes = {i: tuple((box, number[label]) for box, label in e.boxes) for i, (_, e) in enumerate(found) if e.boxes}
    return files(root, split or "all", (key for key, _ in found), labels, boxes)


def read_entries(path: Path, exact: bool = False) -> dict[str, Entry]:
    """Path -> what the manifest says of it; unless `exact`, blanks around names do not count, nor how a path is spelled."""
    entries: dict[str, Entry] = {}
    for line, row in rows(path):
        where = f"{path} line {line}"
        key = text_of(row.get("path"), "path", where, exact)
        key = key if exact else os.path.normpath(key)
        split = str(row.get("split") or "").strip().lower()
        if split and split not in SPLIT_NAMES:
            raise DataError(f"{where}: the split is {split!r}, expected train, val or test")
        entry = entries.setdefault(key, Entry(SPLIT_NAMES.get(split, "")))
        if entry.split != SPLIT_NAMES.get(split, ""):
            raise DataError(f"{where}: {key} stands in two splits")
        labels = row["labels"] if isinstance(row.get("labels"), list) and row["labels"] else [row.get("label")]
        for label in (text_of(value, "label", where, exact) for value in labels):
            if label not in entry.labels:
                entry.labels += (label,)
        for found in row["boxes"] if isinstance(row.get("boxes"), list) else [{"box": row.get("box")}]:
            if not isinstance(found, dict):
                raise DataError(f"{where}: boxes expects a list of {{label, box}}")
            if found.get("box") not in (None, ""):
                label = text_of(found.get("label") or labels[0], "label", where, exact)
                if label not in entry.labels:
                    entry.labels += (label,)
                entry.boxes += ((box_of(found["box"], where), label),)
    if not entries:
        raise DataError(f"{path} names no photos; expected a header 'path,label' and one photo a line")
    return entries


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(lines)
                missing = {"path", "label"} - set(reader.fieldnames or ())
                if missing:
                    raise DataError(
                        f"{path}: the header lacks {' and '.join(sorted(missing))}; expected path,label[,split][,box]"
                    )
                for row in reader:
                    yield reader.line_num, row
                return
            for number, line in enumerate(lines, 1):
                if line.strip():
                    value = json.loads(line)
                    if not isinstance(value, dict):
                        raise DataError(f"{path} line {number}: expected an object like {{'path': ..., 'label': ...}}")
                    yield number, value
    except json.JSONDecodeError as e:
        raise DataError(f"{path} line {number}: is not JSON ({e.msg})") from e
    except (OSError, ValueError, csv.Error, RecursionError) as e:
        raise DataError(f"{path}: is not a text manifest ({e})") from e


def text_of(value: object, name: str, where: str, exact: bool) -> str:
    if isinstance(value, str) and is_storable(value) and (text := value if exact else value.strip()):
        return text
    raise DataError(f"{where}: {name} is {value!r}, expected some text")


def box_of(value: object, where: str) -> Box:
    """(x0, y0, x1, y1) in pixels of the upright photo, from four numbers or a text of four numbers."""
    try:
        numbers = [float(v) for v in (value.replace(",", " ").split() if isinstance(value, str) else value)]  # type: ignore[attr-defined]
        x0, y0, x1, y1 = numbers
    except (TypeError, ValueError, OverflowError) as e:
        raise DataError(f"{where}: the box is {value!r}, expected four numbers x0 y0 x1 y1") from e
    if not all(math.isfinite(v) for v in numbers) or not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise DataError(f"{where}: the box is {value!r}, expected 0 <= x0 < x1 and 0 <= y0 < y1 in pixels")
    return x0, y0, x1, y1


def write_split(data: DataSet, path: Path) -> None:
    """The splits of a data set as a CSV manifest, so that a run keeps the ones it was trained with."""
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("path", "label", "split"))
        for split, photos in data.splits.items():
            for key, label in zip(photos.keys, photos.targets(), strict=True):
                writer.writerow((key, data.classes[label], split))
