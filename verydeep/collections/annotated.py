"""The data set that the files of a labelling tool describe."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path

from verydeep.collections.classes import classes_by_label
from verydeep.collections.layout import split_meant
from verydeep.collections.marks import Aside, Marked, data_of, understood
from verydeep.collections.marks_json import coco, label_studio, labelme
from verydeep.collections.marks_xml import cvat, voc
from verydeep.collections.marks_yolo import class_names, yolo
from verydeep.collections.places import Places, Uprights, is_photo, split_in, stem
from verydeep.collections.signs import tools_of
from verydeep.data.manifest import MOST, NO_AREA, Lines, box_area, data_of_lines
from verydeep.data.naming import natural
from verydeep.data.record import SPLIT_WORDS, DataSet
from verydeep.data.tree import listed, passed
from verydeep.errors import DataError
from verydeep.words import several

NOT_THERE = "marked photos that are not there"
READERS = {"Pascal VOC": voc, "CVAT": cvat, "LabelMe": labelme, "Label Studio": label_studio}
ABOVE = re.compile("annot|label|xml|json|bbox|cls-loc", re.IGNORECASE)  # folders that lie beside those of photos


def annotated(path: Path, tool: str, files: Sequence[Path], least: int) -> DataSet:
    """The data set of a tool's files; DATA is `path`. Raises DataError."""
    root, told = path if path.is_dir() else path.parent, Aside()
    base, places = places_of(root)
    frames, lists = Uprights(root), dict[str, set[str]]()
    if tool == "YOLO":
        for own in (own for own in files if not places.called(own.stem) and tools_of(own)):
            told.leave(NOT_THERE, own.stem)
        files = [own for own in files if places.called(own.stem)]
        lists = listed_splits([base])
    elif tool == "Pascal VOC":
        lists = listed_splits(dict.fromkeys(own.parent.parent / "ImageSets" / "Main" for own in files))
    found = Gathered(places, frames, lists if lists.keys() & places.by_stem.keys() else {}, told)
    for mark in marks_of(tool, files, base, path, told):
        found.add(mark)
    lines = found.boxed()
    if not lines:
        some = "; ".join(told.lines())
        raise DataError(f"{path}: {tool}: no box of a photo below {base}" + f" ({some})" * bool(some))
    as_class, said = classes_by_label({label for one in lines.values() for label in one.labels})
    data = data_of_lines(path, lines, root, least, "", as_class)
    boxes = sum(len(one.boxes) for one in lines.values())
    where = f"{several(len(files), 'files')} such as " * (len(files) > 1) + os.path.relpath(files[0], root)
    some = f"{several(boxes, 'boxes')} of {several(len(data.classes), 'classes')} on {several(len(lines), 'photos')}"
    without, elsewhere = places.without(lines)
    unused = sorted(told.classes - as_class.keys(), key=natural)
    notes = [f"{tool}: {some}, by {where}", *told.lines(), *said, *data.notes, *frames.lines()]
    if elsewhere:
        notes.append(f"passed over: photos in folders without any box ({listed(elsewhere)})")
    over = (
        *passed("box-empty", found.flat, NO_AREA), *passed("box-outside", found.outside, "outside of their photos"),
        *passed("photo-without-box", without, "without a box"), *passed("class-without-box", unused, "without a box"),
    )  # fmt: skip
    return replace(data, notes=tuple(notes), passed=over)


class Gathered:
    """What marks say together, by photo."""

    def __init__(self, places: Places, frames: Uprights, lists: dict[str, set[str]], told: Aside) -> None:
        self.places, self.frames, self.lists, self.told = places, frames, lists, told
        self.found, self.flat, self.outside = dict[str, Lines](), list[str](), list[str]()

    def add(self, mark: Marked) -> None:
        if not (key := self.places.find(mark)):
            self.told.leave(NOT_THERE, mark.names[-1] or mark.names[0])
            return
        split, listed_in = mark.split or split_in(key), self.lists.get(stem(os.path.basename(key)), set[str]())
        if self.lists and not split:
            if len(listed_in) > 1:
                raise DataError(f"{key} stands in the lists of {' and '.join(sorted(listed_in))}")
            if not listed_in:
                self.told.leave("photos that stand in no list of a split", key)
                return
            (split,) = listed_in
        boxes, size = self.frames.upright(key, mark)
        said = self.found.setdefault(key, Lines(split, ""))
        if said.split != split:
            raise DataError(f"{mark.file}: {key} stands in two splits, {said.split} and {split}")
        if len(said.boxes) + len(boxes) > MOST:
            raise DataError(f"{mark.file}: {key} has more than {MOST:,} boxes")
        good = []
        for box, label in boxes:
            x0, y0, x1, y1 = box
            if not all(map(isfinite, box)):
                raise DataError(f"{mark.file}: a box of {key} has no bounds")
            inside = not size or (x1 > 0 and y1 > 0 and x0 < size[0] and y0 < size[1])
            if box_area(box) and inside:
                good.append((box, label))
            else:
                (self.outside if box_area(box) else self.flat).append(f"{key} {x0:g} {y0:g} {x1:g} {y1:g}")
        said.boxes += tuple(good)

    def boxed(self) -> dict[str, Lines]:
        """Photos with boxes in natural order; one split of all where none is to train."""
        found = {key: self.found[key] for key in sorted(self.found, key=natural) if self.found[key].boxes}
        splits = {said.split for said in found.values()}
        if alone := "train" not in splits and splits not in (set(), {""}):
            self.told.notes.append(f"only photos of {listed(sorted(splits))} have boxes: all are taken together")
        for said in found.values():
            said.labels = tuple(dict.fromkeys(label for _, label in said.boxes))
            said.split = "" if alone else said.split
        return found


def places_of(root: Path) -> tuple[Path, Places]:
    """The folder that photos lie in, and these: the given one, or one above it where it is one of annotations."""
    base = Path(os.path.abspath(root))
    while not (places := Places(base, root)).by_stem and (ABOVE.search(base.name) or split_meant(base.name)):
        base = base.parent
    return base, places


def marks_of(tool: str, files: Sequence[Path], base: Path, path: Path, told: Aside) -> Iterator[Marked]:
    """What the files say, one after another."""
    if tool == "COCO":
        for file, split in coco_splits(files):
            yield from coco(file, told, split)
        return
    read = partial(yolo, names=class_names(path, files, base, told)) if tool == "YOLO" else READERS[tool]
    for file in files:
        yield from read(file, told)


def coco_splits(files: Sequence[Path]) -> list[tuple[Path, str]]:
    """Each file with the split in its name or its folder's. Raises DataError where several may be the same."""
    files = [path for path in files if "instances" in path.name.lower()] or list(files)
    words = {path: [*re.split(r"[_.\-]", path.stem), path.parent.name] for path in files}
    splits = {path: next(filter(None, map(split_meant, own)), "") for path, own in words.items()}
    if len(files) > 1 and ("" in splits.values() or len({*splits.values()}) < len(files)):
        raise DataError(
            f"{files[0].parent} holds {listed([path.name for path in files])}, whose names do not say a split each, "
            "such as train, val and test; give one of them as DATA, or call them so"
        )
    return list(splits.items()) if len(files) > 1 else [(files[0], "")]


def listed_splits(folders: Iterable[Path]) -> dict[str, set[str]]:
    """Photo, without its suffix -> splits, by train.txt, val.txt and test.txt; what trainval.txt adds is to train."""
    found, rest = dict[str, set[str]](), dict[str, set[str]]()
    for path in (path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.txt"))):
        split = SPLIT_WORDS.get(path.stem.lower(), "")
        if not split and path.stem != "trainval":
            continue
        with understood(path, "a list of photos"):
            lines = data_of(path).decode("utf-8-sig", "replace").splitlines()
        for line in filter(None, map(str.strip, lines)):
            name = stem(os.path.basename(line if is_photo(line) else line.split()[0]))
            (found if split else rest).setdefault(name, set()).add(split or "train")
    return rest | found
