"""A folder of class folders, with or without train, val and test, or one that a list beside the photos tells of."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from verydeep.collections.layout import layout
from verydeep.collections.levels import Unlabelled
from verydeep.collections.lists import open_list
from verydeep.collections.table import LIST_SUFFIXES
from verydeep.config import Level
from verydeep.data.naming import is_hidden
from verydeep.data.record import DataSet, Names, Photos, files
from verydeep.data.tree import Tree, listed, passed_over, photo_names, tree_of
from verydeep.errors import DataError
from verydeep.words import several

ANSWERS = re.compile(r"sample|submission|(?<![a-z])test(?:ing)?(?![a-z])")  # lists that label no photos to train on


def open_folder(root: Path, least: int, classes: Level | None = None, groups: str | None = None) -> DataSet:
    """A folder of so many class folders at least, or of train/, val/, test/ folders of them, undivided.

    Raises DataError where no class can be found, or where a folder beside train/ would be passed over.
    """
    tree, reasons = tree_of(root), list[str]()
    try:
        found = layout(tree, least, classes)
    except Unlabelled as e:
        lists = lists_in(root, (tree, *tree.below.values()), least, groups, reasons)
        if len(lists) == 1:
            return by_list(root, tree, *lists.popitem(), reasons)
        some = f"; the lists {listed([path.name for path in lists])} name its photos: give one of them as DATA"
        raise DataError("; ".join([str(e) + some * bool(lists), *reasons])) from e
    whole = "all" if "all" in found.photos else "train"
    names, notes = list(found.photos[whole]), found.notes
    lists = lists_in(root, (tree,), least, groups, reasons)
    if lists and len(names) < 2:
        if len(lists) > 1:
            raise DataError(f"{root}: the lists {listed([p.name for p in lists])} name its photos: give one as DATA")
        return by_list(root, tree, *lists.popitem(), reasons)
    notes += [f"warning: {r}" for r in reasons if ".txt" not in r]
    for path, data in lists.items():
        how = beside_folders(data, {key: c for own in found.photos.values() for c, keys in own.items() for key in keys})
        if how == "more" and not classes:
            return by_list(root, tree, path, data, reasons)
        if how == "other" and not classes:
            raise DataError(
                f"{root}: {path.name} and the folders name different classes of the same photos; give {path} as DATA "
                "to take its own, or add --classes top to take the folders'"
            )
        if how != "same":
            notes.append(f"warning: {path.name} is not used, but the folders are; give {path} as DATA to take its own")
    for split, own in found.photos.items():
        if strange := next((c for c in own if c not in found.photos[whole]), None):
            there, known = (found.levels[s].path if s in found.levels else root for s in (split, whole))
            raise DataError(f"{there} has the class {strange!r}; expected only those of {known}")
    splits = {split: labelled(root, split, own, names) for split, own in found.photos.items()}
    return DataSet(str(root), tuple(names), splits, notes=tuple(notes))


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


def lists_in(
    root: Path, places: Iterable[Tree], least: int, groups: str | None, reasons: list[str]
) -> dict[Path, DataSet]:
    """The lists in these folders that name photos there; of others the reasons why not."""
    good = dict[Path, DataSet]()
    for place in places:
        for path in sorted(Path(place.path).iterdir()) if LIST_SUFFIXES & place.others.keys() else ():
            strange = is_hidden(path.name) or ANSWERS.search(path.stem.lower())
            if path.suffix.lower() not in LIST_SUFFIXES or strange:
                continue
            try:
                data = open_list(path, least, groups)
            except DataError as e:
                reasons.append(f"the list beside them cannot be taken: {e}")
                continue
            first = next(iter(data.splits.values()))
            if os.path.exists(first.name(0)):
                good[path] = data
            else:
                reasons.append(f"the list {path} names {first.keys[0]!r:.100}, which is not there")
    return good


def by_list(root: Path, tree: Tree, path: Path, data: DataSet, reasons: Sequence[str]) -> DataSet:
    """The data set of a list, as one of the folder."""
    inside, splits = os.path.relpath(path.parent, root), dict[str, Photos]()
    for split, photos in data.splits.items():
        keys = (os.path.normpath(os.path.join(inside, key)) for key in photos.keys)
        splits[split] = replace(photos, keys=Names.of(keys), place=os.path.join(root, ""))
    notes = [
        f"the classes come from {path.name}, the list beside the photos",
        *data.notes,
        *(f"warning: {r}" for r in reasons),
    ]
    if (left := len(tree) - sum(map(len, splits.values()))) > 0:
        notes.append(f"warning: passed over: {several(left, 'photos')} in the folder that are not in {path.name}")
    return replace(data, name=str(root), splits=splits, notes=tuple(notes))


def folder_levels(root: Path, classes: Level | None) -> dict[str, Path]:
    """Split -> the folder of its class folders; none where a list says the classes. Raises DataError."""
    try:
        return {split: Path(tree.path) for split, tree in layout(tree_of(root), 1, classes).levels.items()}
    except Unlabelled:
        return {}


def class_names(folder: Path, root: Path, notes: list[str]) -> dict[str, Names]:
    """Class name -> paths relative to root, both in natural order. Hidden and empty folders are no classes."""
    tree = tree_of(folder, f"{folder.relative_to(root)}/").opened()
    notes += passed_over(tree.full.values(), "below the class folders")
    return {name: photo_names(own) for name, own in tree.full.items()}


def labelled(root: Path, split: str, found: Mapping[str, Names], classes: Sequence[str]) -> Photos:
    """The photos of a split in class order."""
    labels = np.repeat(np.arange(len(classes)), [len(found.get(name, ())) for name in classes])
    return files(root, split, (key for name in classes if name in found for key in found[name]), labels)
