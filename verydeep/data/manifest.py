"""A manifest: one photo a line, as CSV with a header or as JSON lines.

CSV columns: path, label, and optionally split, box ("x0 y0 x1 y1") and group, or another of groups.COLUMNS. JSON lines:
{"path", "label" or "labels", "split", "box" or "boxes": [{"label", "box"}], "group"}. Paths are relative to the
manifest's folder. Several lines of one path, however it is spelled, are one photo with several labels or boxes.
"""

import csv
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

from verydeep.data.groups import group_column
from verydeep.data.naming import is_storable, natural
from verydeep.data.record import SPLIT_NAMES, Box, DataSet, Names, Photos, compact, files
from verydeep.data.split import PARTS
from verydeep.errors import DataError

SUFFIXES = frozenset({".csv", ".jsonl", ".ndjson"})


@dataclass(slots=True)
class Lines:
    """What the lines of one photo say together."""

    split: str
    group: str
    labels: tuple[str, ...] = ()
    boxes: tuple[tuple[Box, str], ...] = ()


def open_manifest(path: Path, least: int, groups: str | None = None, root: Path | None = None) -> DataSet:
    """The data set of a manifest with at least so many classes, undivided. Raises DataError naming the line.

    groups: the column that says them, instead of a known one. With `root` the manifest is one that a run wrote about
    the photos there, and names are kept as they are.
    """
    found, columns = lines_by_photo(path, groups, exact=root is not None)
    root = root or path.parent
    classes = sorted({label for said in found.values() for label in said.labels}, key=natural)
    if len(classes) < least:
        raise DataError(f"{path} names {len(classes)} class; expected at least two different labels")
    splits = {said.split for said in found.values()}
    if "" in splits and len(splits) > 1:
        key = next(k for k, said in found.items() if not said.split)
        raise DataError(f"{path}: {key} has no split while others do; give every line a split, or none")
    number = {label: i for i, label in enumerate(classes)}
    parts = {s or "all": photos_of_split(found, s, root, number) for s in ("", *PARTS) if s in splits}
    return DataSet(str(path), tuple(classes), parts, False, group_column(columns, groups), columns)


def photos_of_split(every: dict[str, Lines], split: str, root: Path, number: dict[str, int]) -> Photos:
    """The photos of a split in line order; those without splits in class order, if each has one class."""
    own = [(key, said) for key, said in every.items() if said.split == split]
    if not split and all(len(said.labels) == 1 for _, said in own):
        own.sort(key=lambda item: number[item[1].labels[0]])
    labels = compact(tuple(number[label] for label in said.labels) for _, said in own)
    boxed = ((i, said.boxes) for i, (_, said) in enumerate(own) if said.boxes)
    boxes = {i: tuple((box, number[label]) for box, label in found) for i, found in boxed}
    groups = Names.of(said.group for _, said in own) if any(said.group for _, said in own) else None
    return replace(files(root, split or "all", (key for key, _ in own), labels, boxes), groups=groups)


def lines_by_photo(path: Path, groups: str | None, exact: bool) -> tuple[dict[str, Lines], tuple[str, ...]]:
    """Path -> what is said of it; all columns. Unless `exact`, blanks around names do not count, nor a path's form."""
    found, columns = dict[str, Lines](), dict[str, Any]()
    for line, row in rows(path):
        columns.update(row)
        column = group_column(columns, groups)
        where = f"{path} line {line}"
        key = text_of(row.get("path"), "path", where, exact)
        key = key if exact else os.path.normpath(key)
        given = str(row.get("split") or "").strip().lower()
        if given and given not in SPLIT_NAMES:
            raise DataError(f"{where}: the split is {given!r}, expected train, val or test")
        group = row.get(column)
        group = str(group) if isinstance(group, (int, float)) else group
        group = "" if group is None or group == "" else text_of(group, column, where, exact)
        said = found.setdefault(key, Lines(SPLIT_NAMES.get(given, ""), group))
        if (said.split, said.group) != (SPLIT_NAMES.get(given, ""), group):
            raise DataError(f"{where}: {key} stands in two {'splits' if said.group == group else 'groups'}")
        several = row["labels"] if isinstance(row.get("labels"), list) and row["labels"] else [row.get("label")]
        labels, boxes = [text_of(label, "label", where, exact) for label in several], []
        for around in row["boxes"] if isinstance(row.get("boxes"), list) else [{"box": row.get("box")}]:
            if not isinstance(around, dict):
                raise DataError(f"{where}: boxes expects a list of {{label, box}}")
            if around.get("box") not in (None, ""):
                labels.append(text_of(around.get("label") or labels[0], "label", where, exact))
                boxes.append((box_of(around["box"], where), labels[-1]))
        said.labels = tuple(dict.fromkeys((*said.labels, *labels)))
        said.boxes += tuple(boxes)
    if not found:
        raise DataError(f"{path} names no photos; expected a header 'path,label' and one photo a line")
    return found, tuple(filter(None, columns))


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(lines)
                if missing := {"path", "label"} - set(reader.fieldnames or ()):
                    lacks = " and ".join(sorted(missing))
                    raise DataError(f"{path}: the header lacks {lacks}; expected path,label[,split][,box]")
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


def box_of(value: Any, where: str) -> Box:
    """(x0, y0, x1, y1) in pixels of the upright photo, from four numbers or a text of four numbers."""
    try:
        x0, y0, x1, y1 = map(float, value.replace(",", " ").split() if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        x0 = y0 = x1 = y1 = math.nan
    if not (0 <= x0 < x1 < math.inf and 0 <= y0 < y1 < math.inf):
        raise DataError(f"{where}: the box is {value!r}, expected pixels x0 y0 x1 y1, 0 <= x0 < x1 and 0 <= y0 < y1")
    return x0, y0, x1, y1


def write_split(data: DataSet, path: Path) -> None:
    """The splits and groups of a data set as a CSV manifest, so that a run keeps the ones it was trained with."""
    grouped = bool(data.grouped_by)
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("path", "label", "split", *["group"] * grouped))
        for split, photos in data.splits.items():
            for key, label, group in zip(photos.keys, photos.targets(), photos.groups or repeat(""), strict=False):
                writer.writerow((key, data.classes[label], split, *[group] * grouped))
