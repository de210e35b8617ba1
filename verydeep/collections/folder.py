"""A folder of class folders, with or without train, val and test, or one that a list beside the photos tells of."""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from verydeep.collections.layout import layout, split_meant
from verydeep.collections.levels import Unlabelled
from verydeep.collections.lists import open_list
from verydeep.collections.table import LIST_SUFFIXES
from verydeep.collections.tools import open_annotated
from verydeep.config import Level
from verydeep.data.naming import is_hidden
from verydeep.data.record import DataSet, Names, Photos, files
from verydeep.data.split import PARTS
from verydeep.data.tree import Tree, listed, passed_over, tree_of
from verydeep.errors import DataError
from verydeep.words import several

ANSWERS = re.compile(
    r"sample|submission|(?<![a-z])test(?:ing)?(?![a-z])"
)  # lists that mostly label no photos to train on


def open_folder(root: Path, least: int, classes: Level | None = None, groups: str | None = None) -> DataSet:
    """A folder of so many class folders at least, or of train/, val/, test/ folders of them, undivided.

    Raises DataError where no class can be found, or where a folder beside train/ would be passed over.
    """
    tree, reasons = tree_of(root), list[str]()
    if not classes and (boxed := open_annotated(root, least, tree)):
        return boxed
    try:
        found, notes, passed = layout(tree, least, classes)
    except Unlabelled as e:
        if lists := lists_in((tree, *tree.below.values()), least, groups, reasons):
            return by_lists(root, tree, lists, reasons)
        raise DataError("; ".join([str(e), *reasons])) from e
    whole = "all" if "all" in found else "train"
    names = list(found[whole])
    lists = lists_in((tree,), least, groups, reasons)
    if lists and len(names) < 2:
        return by_lists(root, tree, lists, reasons)
    notes += [f"warning: {r}" for r in reasons if ".txt" not in r]
    for path, data in lists.items():
        how = beside_folders(data, {key: c for own in found.values() for c, keys in own.items() for key in keys})
        if how == "more" and not classes:
            return by_lists(root, tree, {path: data}, reasons)
        if how == "other" and not classes:
            raise DataError(
                f"{root}: {path.name} and the folders name different classes of the same photos; give {path} as DATA "
                "to take its own, or add --classes top to take the folders'"
            )
        if how != "same":
            notes.append(f"warning: {path.name} is not used, but the folders are; give {path} as DATA to take its own")
    for split, own in found.items():
        if strange := next((c for c in own if c not in found[whole]), None):
            raise DataError(f"{root}: {split} has the class {strange!r}; expected only those of {whole}")
    splits = {split: labelled(root, split, own, names) for split, own in found.items()}
    return DataSet(str(root), tuple(names), splits, notes=tuple(notes), passed=passed)


def beside_folders(data: DataSet, folders: Mapping[str, str]) -> str:
    """What a list says beside class folders, photo -> class: the `same`, `more` (splits or groups), `other` classes of
    all photos, or `some`thing of a part of them."""
    if not all(isinstance(p.labels, np.ndarray) for p in data.splits.values()):
        return "some"  # of several labels a photo, which no folder can say
    said = {key: data.classes[c] for p in data.splits.values() for key, c in zip(p.keys, p.targets(), strict=True)}
    if not folders.keys() <= said.keys():
        return "some"
    if any(said[key] != name for key, name in folders.items()):
        return "other"
    return "more" if data.grouped_by or set(data.splits) != {"all"} else "same"


def lists_in(places: Iterable[Tree], least: int, groups: str | None, reasons: list[str]) -> dict[Path, DataSet]:
    """The lists in these folders that name photos there; of others the reasons why not."""
    good = dict[Path, DataSet]()
    for place in places:
        paths = sorted(Path(place.path).iterdir()) if LIST_SUFFIXES & place.others.keys() else []
        paths = [p for p in paths if p.suffix.lower() in LIST_SUFFIXES and not is_hidden(p.name)]
        photos = {os.path.splitext(name)[0] for name in place.photos}
        if len(beside := [path for path in paths if path.stem in photos]) > 1:
            paths = [path for path in paths if path.stem not in photos]
            reasons.append(labels_beside(place, beside))
        for path in paths:
            answers = ANSWERS.search(path.stem.lower())
            try:
                data = open_list(path, 1 if split_meant(place.name) in ("val", "test") else least, groups)
            except DataError as e:
                reasons += [] if answers else [f"the list beside them cannot be taken: {e}"]
                continue
            first = next(iter(data.splits.values()))
            if os.path.exists(first.name(0)) and answers:
                reasons.append(f"{path.name} is passed over by its name; give {path} as DATA to take what it says")
            elif os.path.exists(first.name(0)):
                good[path] = data
            elif not answers:
                reasons.append(f"the list {path} names {first.keys[0]!r:.100}, which is not there")
    return good


def labels_beside(place: Tree, beside: Sequence[Path]) -> str:
    """What to say of a file for each photo, as cat_1.txt beside cat_1.jpg."""
    ending, photo = beside[0].suffix, next(name for name in place.photos if os.path.splitext(name)[0] == beside[0].stem)
    each = f'for f in *{ending}; do echo "${{f%.*}}{os.path.splitext(photo)[1]},$(head -n 1 "$f")"; done'
    line = f"(cd {shlex.quote(place.path)} && (echo path,label; {each}) > labels.csv)"
    some = f"{len(beside):,} files such as {beside[0].name} lie beside a photo of their name"
    return f"{some}; if each holds its class, this makes one list of them: {line}"


def by_lists(root: Path, tree: Tree, lists: Mapping[Path, DataSet], reasons: Sequence[str]) -> DataSet:
    """The data set of one list, or of one in each split's folder, as one of the folder. Raises DataError for others."""
    parts = {split: path for split in PARTS for path in lists if split_meant(path.parent.name) == split}
    names = [os.path.relpath(path, root) for path in lists]
    if alone := len(lists) == 1:
        parts = {"train": next(iter(lists))}
    elif "train" not in parts or len(parts) < len(lists) or any(set(data.splits) != {"all"} for data in lists.values()):
        raise DataError(f"{root}: the lists {listed(names)} name its photos: give one of them as DATA")
    whole, splits = lists[parts["train"]], dict[str, Photos]()
    number = {name: i for i, name in enumerate(whole.classes)}
    for part, path in parts.items():
        data, inside = lists[path], os.path.relpath(path.parent, root)
        if strange := next((c for c in data.classes if c not in number), None):
            raise DataError(f"{path} has the class {strange!r}; expected only those of {parts['train']}")
        numbers = np.array([number[c] for c in data.classes])
        for own, photos in data.splits.items():
            keys = Names.of(os.path.normpath(os.path.join(inside, key)) for key in photos.keys)
            labels = photos.labels if data is whole else numbers[photos.targets()]
            split = own if alone else part
            splits[split] = replace(photos, split=split, keys=keys, labels=labels, place=os.path.join(root, ""))
    named = " and ".join(names)
    notes = [f"the classes come from {named}, the list{'s' * (not alone)} beside the photos", *whole.notes]
    notes += [f"warning: {r}" for r in reasons]
    if (left := len(tree) - sum(map(len, splits.values()))) > 0:
        more = "'verydeep predict RUN PHOTOS --csv' says what is on them, once RUN is trained"
        notes.append(f"warning: passed over: {several(left, 'photos')} in the folder that are not in {named}; {more}")
    passed = passed_over([tree], [tree], "in the folder")
    return replace(whole, name=str(root), splits=splits, notes=tuple(notes), passed=passed)


def labelled(root: Path, split: str, found: Mapping[str, Names], classes: Sequence[str]) -> Photos:
    """The photos of a split in class order."""
    labels = np.repeat(np.arange(len(classes)), [len(found.get(name, ())) for name in classes])
    return files(root, split, (key for name in classes if name in found for key in found[name]), labels)
