"""The data sets of appendix B as their publishers lay them out: VOC's classes and actions, Caltech-101 and 256."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.collections.folder import open_folder
from verydeep.collections.marks import tight, understood
from verydeep.collections.marks_xml import CORNERS, xml_of
from verydeep.data import photo
from verydeep.data.naming import natural
from verydeep.data.record import DataSet, Names, Photos, compact, files
from verydeep.data.split import PARTS
from verydeep.errors import DataError
from verydeep.words import several

LIST = re.compile(r"(.+)_(train|val|trainval|test)\.txt")
CALTECH = {"101_ObjectCategories": "Caltech-101", "256_ObjectCategories": "Caltech-256"}
# To train and, at most, to test on. The paper's 102 and 257 classes are those of the background and of clutter too.
PER_CLASS = {"Caltech-101": (30, 50), "Caltech-256": (60, None)}
Truth = npt.NDArray[np.int8]
Ids = npt.NDArray[np.int64]


class Kit(NamedTuple):
    """Examples of which it is known whether each class is there.

    truth: N x K of 1, there, -1, not there, and 0, not judged; splits: of each example, '' where there are none.
    shown: by name photos, and of each example which of them it is; per_class: photos a class to train and test on;
    groups: what stays together in a split.
    """

    name: str
    classes: tuple[str, ...]
    truth: Truth
    splits: tuple[str, ...]
    shown: dict[str, tuple[Photos, Ids]]
    one_each: bool  # whether each example is of exactly one class
    per_class: tuple[int, int | None] | None = None
    notes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()  # of each example, '' where it stands alone; none where nothing says groups

    def take(self, ids: Ids, without: Sequence[str] = (), note: str = "") -> "Kit":
        """These examples, and all classes but some."""
        stay = [i for i, c in enumerate(self.classes) if c not in without]
        return self._replace(
            classes=tuple(self.classes[i] for i in stay), truth=self.truth[ids][:, stay],
            splits=tuple(self.splits[i] for i in ids), notes=(*self.notes, *[note] * bool(note)),
            groups=tuple(self.groups[i] for i in ids) if self.groups else (),
            shown={name: (photos, of[ids]) for name, (photos, of) in self.shown.items()},
        )  # fmt: skip


def kit_of(data: DataSet) -> Kit:
    """Any data set, its splits one after another."""
    parts = [data.splits[s] for s in ("all", *PARTS) if s in data.splits]
    lengths = [len(part) for part in parts]
    starts, own = np.cumsum([0, *lengths]), [p.record(i).labels for p in parts for i in range(len(p))]
    one_each = all(len(labels) == 1 for labels in own)
    truth = np.full((len(own), len(data.classes)), -1, np.int8)
    for row, labels in zip(truth, own, strict=True):
        row[list(labels)] = 1
    places = [np.searchsorted(starts, i, "right") - 1 for i in range(len(own))]
    first = parts[0]
    names = Names.of(key for part in parts for key in part.keys)
    whole = replace(
        first, split="all", keys=names, labels=compact(own), boxes={}, shards=None, groups=None,
        content=lambda id: parts[places[id]].content(int(id - starts[places[id]])),
    )  # fmt: skip
    splits = tuple("" if part.split == "all" else part.split for part in parts for _ in range(len(part)))
    groups = tuple(name for part in parts for name in part.groups or ("",) * len(part)) if data.grouped_by else ()
    return Kit(data.name, data.classes, truth, splits, {"photo": (whole, np.arange(len(own)))}, one_each, None,
               data.notes, groups)  # fmt: skip


def open_kit(path: Path, actions: bool = False) -> Kit | None:
    """VOC's or Caltech's folder, or one that holds it; None for other data. Raises DataError.

    VOC: JPEGImages, Annotations and ImageSets/Main, CLASS_train.txt and so on, with 1, -1 and, for what is difficult,
    0; with `actions` ImageSets/Action, whose examples are persons. trainval stands for train where that is missing.
    """
    for inside, name in CALTECH.items():
        if (root := path if path.name == inside else path / inside).is_dir():
            return kit_of(open_folder(root, 2, "top"))._replace(name=name, per_class=PER_CLASS[name])
    roots = [path, *sorted([*path.glob("VOC20??"), *path.glob("VOCdevkit/VOC20??")])] if path.is_dir() else []
    what = "Action" if actions else "Main"
    lists = {root: own for root in roots if (own := class_lists(root / "ImageSets" / what))}
    if len(lists) > 1:
        raise DataError(f"{path} holds several years of VOC ({', '.join(r.name for r in lists)}); give one as DATA")
    if actions and not lists:
        raise DataError(f"{path}: there is no ImageSets/Action with lists such as jumping_train.txt; expected VOC2012")
    return next((voc_kit(root, own, actions) for root, own in lists.items()), None)


def class_lists(folder: Path) -> dict[tuple[str, str], Path]:
    """(class, split) -> its list."""
    found = [(m[1], m[2], own) for own in folder.glob("*.txt") if (m := LIST.fullmatch(own.name))]
    given = {split for _, split, _ in found}
    as_split = {s: s for s in given if s != "trainval"} | ({} if "train" in given else {"trainval": "train"})
    return {(c, as_split[split]): own for c, split, own in found if split in as_split}


def voc_kit(root: Path, lists: dict[tuple[str, str], Path], actions: bool) -> Kit:
    """The examples of all lists: (photo,), or (photo, number of the person) of actions."""
    classes = sorted({c for c, _ in lists}, key=natural)
    split_of, said = dict[tuple[str, ...], str](), dict[tuple[str, ...], dict[int, int]]()
    for (c, split), path in sorted(lists.items()):
        with understood(path, "a list of VOC"):
            for line in filter(None, map(str.split, path.read_text(encoding="utf-8").splitlines())):
                *example, value = line
                if len(example) != 1 + actions or value not in ("1", "0", "-1"):
                    wanted = "photo, person and 1, 0 or -1" if actions else "photo and 1, 0 or -1"
                    raise DataError(f"{path} says {' '.join(line)[:60]!r}; expected {wanted}")
                if split_of.setdefault(tuple(example), split) != split:
                    raise DataError(f"{path}: {example[0]} stands in {split} and in {split_of[tuple(example)]}")
                said.setdefault(tuple(example), {})[classes.index(c)] = int(value)
    examples = sorted(said, key=lambda e: (PARTS.index(split_of[e]), e))
    truth = np.array([[said[e].get(c, 0) for c in range(len(classes))] for e in examples], np.int8)
    names = list(dict.fromkeys(e[0] for e in examples))
    place = {name: i for i, name in enumerate(names)}
    keys = Names.of(f"JPEGImages/{name}.jpg" for name in names)
    shown = {"photo": (files(root, "all", keys, compact(() for _ in names)), np.array([place[e[0]] for e in examples]))}
    if actions:
        shown["person"] = (persons(root, examples), np.arange(len(examples)))
    judged = several(int((truth == 0).sum()), "answers")
    what = "persons" if actions else "photos"
    notes = (f"{root.name}: {several(len(examples), what)} in {several(len(names), 'photos')}; {judged} not judged",)
    return Kit(root.name, tuple(classes), truth, tuple(split_of[e] for e in examples), shown, False, None, notes)


def persons(root: Path, examples: list[tuple[str, ...]]) -> Photos:
    """What is inside a person's box, the object of this number, from 1, in the annotation."""

    def cut(id: int) -> Image.Image:
        name, number = examples[id]
        path, file = root / "Annotations" / f"{name}.xml", root / "JPEGImages" / f"{name}.jpg"
        with understood(path, "Pascal VOC's XML"):
            corners = xml_of(path).findall("object")[int(number) - 1].find("bndbox")
            x0, y0, x1, y1 = (corners.findtext(c) for c in CORNERS)  # type: ignore[union-attr]
            box = tight(((x0, y0), (x1, y1)))
        return photo.from_file(file).crop(box)

    keys = Names.of(f"JPEGImages/{name}.jpg#{number}" for name, number in examples)
    return Photos("all", keys, compact(() for _ in examples), cut, str(root / ""))
