"""A folder of class folders, with or without train, val and test, or one that a list beside the photos tells of."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from verydeep.collections.layout import layout
from verydeep.collections.levels import Unlabelled
from verydeep.config import Level
from verydeep.data.manifest import SUFFIXES, open_manifest
from verydeep.data.naming import is_hidden
from verydeep.data.record import DataSet, Names, Photos, files
from verydeep.data.tree import Tree, listed, passed_over, photo_names, tree_of
from verydeep.errors import DataError
from verydeep.words import several

ANSWERS = ("sample", "submission", "test")  # in names of lists that do not label photos to train on


def open_folder(root: Path, least: int, classes: Level | None = None, groups: str | None = None) -> DataSet:
    """A folder of so many class folders at least, or of train/, val/, test/ folders of them, undivided.

    Raises DataError where no class can be found, or where a folder beside train/ would be passed over.
    """
    tree, reasons = tree_of(root), list[str]()
    try:
        found = layout(tree, least, classes)
    except Unlabelled as e:
        if by_list := open_list(root, tree, least, groups, reasons):
            return by_list[1]
        raise DataError("; ".join([str(e), *reasons])) from e
    whole = "all" if "all" in found.photos else "train"
    names, notes = list(found.photos[whole]), found.notes
    if by_list := open_list(root, tree, least, groups, reasons):
        path, data = by_list
        if len(names) < 2:
            return data
        if set(data.classes) != set(names):
            words = f"warning: {path.name} names other classes than the folders and is not used"
            notes = [*notes, f"{words}; give {path} as DATA to take its own"]
    for split, own in found.photos.items():
        if strange := next((c for c in own if c not in found.photos[whole]), None):
            there, known = (found.levels[s].path if s in found.levels else root for s in (split, whole))
            raise DataError(f"{there} has the class {strange!r}; expected only those of {known}")
    splits = {split: labelled(root, split, own, names) for split, own in found.photos.items()}
    return DataSet(str(root), tuple(names), splits, notes=tuple(notes))


def open_list(
    root: Path, tree: Tree, least: int, groups: str | None, reasons: list[str]
) -> tuple[Path, DataSet] | None:
    """The one list in the folder, or in a folder of it, that names photos there; else why not, if lists are there.

    Raises DataError for several.
    """
    good = dict[Path, DataSet]()
    for place in (tree, *tree.below.values()):
        for path in sorted(Path(place.path).iterdir()) if SUFFIXES & place.others.keys() else ():
            strange = is_hidden(path.name) or any(word in path.stem.lower() for word in ANSWERS)
            if path.suffix.lower() not in SUFFIXES or strange:
                continue
            try:
                data = open_manifest(path, least, groups)
            except DataError as e:
                reasons.append(f"the list beside them cannot be taken: {e}")
                continue
            first = next(iter(data.splits.values()))
            if os.path.exists(first.name(0)):
                good[path] = data
            else:
                reasons.append(f"the list {path} names {first.keys[0]!r:.100}, which is not there")
    if len(good) > 1:
        names = listed([path.name for path in good], 5)
        raise DataError(
            f"{root} has several lists of its photos ({names}); give one as DATA, such as {next(iter(good))}"
        )
    for path, data in good.items():
        inside, splits = os.path.relpath(path.parent, root), dict[str, Photos]()
        for split, photos in data.splits.items():
            keys = (os.path.normpath(os.path.join(inside, key)) for key in photos.keys)
            splits[split] = replace(photos, keys=Names.of(keys), place=os.path.join(root, ""))
        notes = [f"the classes come from {path.name}, the list beside the photos", *data.notes]
        if (left := len(tree) - sum(map(len, splits.values()))) > 0:
            notes.append(f"warning: {several(left, 'photos')} in the folder are not in {path.name} and are passed over")
        return path, replace(data, name=str(root), splits=splits, notes=tuple(notes))
    return None


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
