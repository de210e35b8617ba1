"""A folder of class folders, with or without train, val and test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from verydeep.data import photo
from verydeep.data.naming import is_hidden, is_storable, natural
from verydeep.data.record import SPLIT_NAMES, DataSet, Names, Photos, Shares, files
from verydeep.data.split import divide
from verydeep.errors import DataError
from verydeep.words import several


def open_folder(root: Path, shares: Shares, seed: int) -> DataSet:
    """A folder of class folders, or of train/, val/, test/ folders of class folders.

    Without splits each class is divided by `shares` = (val, test); with train/ but no val/ the validation
    photos are held out of train/. Without `shares` nothing is held out. Raises DataError where no class can be found,
    or where a folder beside train/ would be passed over.
    """
    parts = split_folders(root)
    if not parts:
        found = class_names(root, root, 2 if shares else 1)
        return divide(
            DataSet(str(root), tuple(found), {"all": labelled(root, "all", found, list(found))}), shares, seed
        )
    by_split = {
        name: class_names(folder, root, 2 if shares and name == "train" else 1) for name, folder in parts.items()
    }
    classes = list(by_split["train"])
    for name, found in by_split.items():
        if strange := [c for c in found if c not in classes]:
            raise DataError(
                f"{parts[name]} has the class {strange[0]!r}, which {parts['train']} does not; the splits must share their classes"
            )
    splits = {name: labelled(root, name, found, classes) for name, found in by_split.items()}
    return divide(DataSet(str(root), tuple(classes), splits), shares, seed)


def split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder; empty where the folders are classes. "train" is also a vehicle: only a folder that holds folders is a split."""
    parts: dict[str, Path] = {}
    for d in folders(root):
        if d.name.lower() in SPLIT_NAMES and folders(d):
            twin = parts.setdefault(SPLIT_NAMES[d.name.lower()], d)
            if twin != d:
                raise DataError(
                    f"{root} has both {twin.name} and {d.name}, which mean the same split; keep one of them"
                )
    if parts and "train" not in parts:
        raise DataError(
            f"{root} has {', '.join(d.name for d in parts.values())} but no train folder; expected train/, and val/ or test/"
        )
    if parts and (other := next((d for d in folders(root) if d not in parts.values() and photo_names(d, root)), None)):
        raise DataError(
            f"{root} has photos in {other.name}, which is no split of class folders like {parts['train'].name}; "
            f"expected train/, val/ and test/ with class folders and no other photos, so move {other.name} elsewhere"
        )
    return parts


def folders(root: Path) -> list[Path]:
    return sorted((d for d in root.iterdir() if d.is_dir() and not is_hidden(d.name)), key=lambda d: natural(d.name))


def class_names(folder: Path, root: Path, at_least: int) -> dict[str, Names]:
    """Class name -> paths relative to root, both in natural order. Hidden and empty folders are no classes."""
    found = {d.name: photo_names(d, root) for d in folders(folder)}
    classes = {name: paths for name, paths in found.items() if paths}
    if len(classes) >= at_least:
        return classes
    loose = [p for p in folder.iterdir() if p.suffix.lower() in photo.SUFFIXES]
    if not classes and loose:
        raise DataError(
            f"{folder} holds {several(len(loose), 'photos')} but no class folders; put the photos of each class into a folder of its name, "
            "or give a manifest (CSV: path,label)"
        )
    if not classes and (index := next(folder.glob("[!.]*.index"), None)):
        raise DataError(f"{folder} holds shards and no class folders; give {index.with_suffix('')}-*.tar")
    what = f"only one class folder with photos ({next(iter(classes))})" if classes else "no class folders with photos"
    hidden = sum(is_hidden(p.name) for p in folder.iterdir())
    passed = f" ({hidden} hidden files and folders are passed over)" if hidden and not classes else ""
    raise DataError(
        f"{folder} has {what}{passed}; expected at least two folders, each named after a class and holding its photos"
    )


def labelled(root: Path, split: str, found: dict[str, Names], classes: list[str]) -> Photos:
    """The photos of a split in class order."""
    present = [name for name in classes if name in found]
    labels = np.repeat([classes.index(name) for name in present], [len(found[name]) for name in present])
    return files(root, split, (key for name in present for key in found[name]), labels.astype(np.int64))


def photo_names(folder: Path, root: Path) -> Names:
    """Photo files at any depth below a class folder, relative to root, in natural order."""
    found = sorted(visible_photos(str(folder), os.path.relpath(folder, root)), key=natural)
    if strange := next((p for p in found if not is_storable(p)), None):
        raise DataError(f"{root}: the name {strange!a} is not UTF-8; rename it")
    return Names.of(found)


def visible_photos(folder: str, prefix: str) -> Iterator[str]:
    """Paths of photo files, without a Path or a system call for each; links to folders are not followed."""
    below = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
            elif os.path.splitext(entry.name)[1].lower() in photo.SUFFIXES and entry.is_file():
                yield f"{prefix}/{entry.name}"
    for name in below:
        yield from visible_photos(os.path.join(folder, name), f"{prefix}/{name}")
