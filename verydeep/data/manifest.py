"""What the lines of a list say together, and the list that a run wrote of its splits.

Lists as people bring them are read in collections/lists.py.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from verydeep.data.naming import is_storable, natural
from verydeep.data.record import SPLIT_NAMES, Box, DataSet, Names, Passed, Photos, compact, files
from verydeep.data.split import PARTS
from verydeep.data.tree import listed, passed
from verydeep.errors import DataError
from verydeep.words import several

MOST = 4_000  # labels or boxes of one photo
NO_AREA = "without a width or height"


class Line(NamedTuple):
    number: int
    key: str
    split: str
    group: str
    labels: tuple[str, ...]
    boxes: tuple[tuple[Box, str], ...] = ()


@dataclass(slots=True)
class Lines:
    """What the lines of one photo say together."""

    split: str
    group: str
    labels: tuple[str, ...] = ()
    boxes: tuple[tuple[Box, str], ...] = ()


def open_split(path: Path, least: int, root: Path) -> DataSet:
    """The data set of a list that a run wrote about the photos in `root`, names kept as they are. Raises DataError."""

    def lines() -> Iterator[Line]:
        for number, row in split_rows(path):
            key, label = (text_of(row.get(name), name, f"{path} line {number}", True) for name in ("path", "label"))
            if (split := str(row.get("split") or "").strip().lower()) not in ("", *SPLIT_NAMES):
                raise DataError(f"{path} line {number}: the split is {split!r:.100}, expected train, val or test")
            yield Line(number, key, SPLIT_NAMES.get(split, ""), row.get("group") or "", (label,))

    found = photos_by_path(path, lines())
    if not found:
        raise DataError(f"{path} names no photos; expected a header 'path,label' and one photo a line")
    return data_of_lines(path, found, root, least, "group" if "group" in next(split_rows(path))[1] else "")


def photos_by_path(path: Path, lines: Iterable[Line]) -> dict[str, Lines]:
    """Path -> what is said of it. Raises DataError naming the line."""
    found = dict[str, Lines]()
    for line in lines:
        said = found.setdefault(line.key, Lines(line.split, line.group))
        if (said.split, said.group) != (line.split, line.group):
            two = "splits" if said.group == line.group else "groups"
            raise DataError(f"{path} line {line.number}: {line.key} stands in two {two}")
        if max(len(said.labels), len(said.boxes)) > MOST:
            raise DataError(f"{path} line {line.number}: {line.key} has more than {MOST:,} labels or boxes")
        said.labels = tuple(dict.fromkeys((*said.labels, *line.labels))) if said.labels else line.labels
        said.boxes += line.boxes
    return found


def data_of_lines(
    path: Path, found: dict[str, Lines], root: Path, least: int, group: str = "",
    as_class: Mapping[str, str] | None = None,
) -> DataSet:  # fmt: skip
    """An undivided data set with at least so many classes. `as_class`: what labels are taken as. Raises DataError."""
    flat = without_area(found)
    used = {label for said in found.values() for label in (*said.labels, *(own for _, own in said.boxes))}
    notes, as_class = of_largest_boxes(found), {label: as_class[label] if as_class else label for label in used}
    classes = sorted(set(as_class.values()), key=natural)
    if len(classes) < least:
        raise DataError(f"{path} names {len(classes)} class; expected at least two different labels")
    splits = {said.split for said in found.values()}
    if "" in splits and len(splits) > 1:
        key = next(k for k, said in found.items() if not said.split)
        raise DataError(f"{path}: {key} has no split while others do; give every line a split, or none")
    place = {name: i for i, name in enumerate(classes)}
    number = {label: place[name] for label, name in as_class.items()}
    parts = {s or "all": photos_of_split(found, s, root, number) for s in ("", *PARTS) if s in splits}
    return DataSet(str(path), tuple(classes), parts, False, group, notes=tuple(notes), passed=tuple(flat))


def box_area(box: Box) -> float:
    """Of a box in pixels; 0 where it has no width or no height."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def without_area(found: Mapping[str, Lines]) -> list[Passed]:
    """Takes boxes without an area out of what is said, and says which."""
    flat = list[str]()
    for key, said in found.items():
        if some := [f"{key} {' '.join(f'{v:g}' for v in box)}" for box, _ in said.boxes if not box_area(box)]:
            flat += some
            labels = {label for _, label in said.boxes}
            said.boxes = tuple(one for one in said.boxes if box_area(one[0]))
            gone = labels - {label for _, label in said.boxes}
            said.labels = tuple(label for label in said.labels if label not in gone) or said.labels
    return passed("box-empty", flat, NO_AREA)


def of_largest_boxes(found: Mapping[str, Lines]) -> list[str]:
    """Gives photos whose labels are those of their boxes the class of the largest one, and says so."""
    many, seen, labels = 0, set[str](), set[str]()
    for said in found.values():
        own = {label for _, label in said.boxes}
        if len(own) > 1 and own == set(said.labels):
            said.labels = (max(said.boxes, key=lambda one: box_area(one[0]))[1],)
            many += 1
        seen |= own
        labels.update(said.labels)
    if not many:
        return []
    notes = [f"{several(many, 'photos')} with boxes of several classes: taken as of the class of the largest box"]
    if never := sorted(seen - labels, key=natural):
        notes.append(f"warning: {listed(never)}: never the largest box of a photo, so no photo is of that class")
    return notes


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


def split_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) of a CSV in UTF-8 with the columns path and label. Raises DataError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            if missing := {"path", "label"} - set(reader.fieldnames or ()):
                raise DataError(
                    f"{path}: the header lacks {' and '.join(sorted(missing))}; expected path,label[,split]"
                )
            for row in reader:
                yield reader.line_num, row
    except (OSError, ValueError, csv.Error) as e:
        raise DataError(f"{path}: is not a text manifest ({e})") from e


def text_of(value: object, name: str, where: str, exact: bool = False) -> str:
    """A name or number as text; unless `exact`, without blanks around it. Raises DataError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not exact:
        value = str(value)
    if isinstance(value, str) and is_storable(value) and (text := value if exact else value.strip()):
        return text
    raise DataError(f"{where}: {name} is {value!r:.200}, expected some text")


def box_of(value: Any, where: str) -> Box:
    """(x0, y0, x1, y1) in pixels of the upright photo, from four numbers or a text of four numbers."""
    try:
        x0, y0, x1, y1 = map(float, value.replace(",", " ").split() if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        x0 = y0 = x1 = y1 = math.nan
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise DataError(f"{where}: the box is {value!r:.200}, expected four numbers: pixels x0 y0 x1 y1")
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def write_split(data: DataSet, path: Path) -> None:
    """The splits and groups of a data set as a CSV manifest, so that a run keeps the ones it was trained with."""
    grouped = bool(data.grouped_by)
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("path", "label", "split", *["group"] * grouped))
        for split, photos in data.splits.items():
            for key, label, group in zip(photos.keys, photos.targets(), photos.groups or repeat(""), strict=False):
                writer.writerow((key, data.classes[label], split, *[group] * grouped))
