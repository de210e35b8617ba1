"""A folder of class folders, with or without train, val and test."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from verydeep.data import photo
from verydeep.data.naming import is_hidden, is_storable, natural
from verydeep.data.record import SPLIT_NAMES, DataSet, Names, Photos, files
from verydeep.errors import DataError
from verydeep.words import several


def open_folder(root: Path, least: int) -> DataSet:
    """A folder of so many class folders at least, or of train/, val/, test/ folders of them, undivided.

    Raises DataError where no class can be found, or where a folder beside train/ would be passed over.
    """
    parts = split_folders(root) or {"all": root}
    whole = "all" if "all" in parts else "train"
    found = {name: class_names(d, root, least if name == whole else 1) for name, d in parts.items()}
    classes = list(found[whole])
    for name, own in found.items():
        if strange := next((c for c in own if c not in found[whole]), None):
            raise DataError(f"{parts[name]} has the class {strange!r}; expected only those of {parts[whole]}")
    splits = {name: labelled(root, name, own, classes) for name, own in found.items()}
    return DataSet(str(root), tuple(classes), splits)


def split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder, which holds folders ("train" is also a vehicle); empty where the folders are classes."""
    parts, here = dict[str, Path](), folders(root)
    for d in here:
        if d.name.lower() in SPLIT_NAMES and folders(d):
            twin = parts.setdefault(SPLIT_NAMES[d.name.lower()], d)
            if twin != d:
                raise DataError(f"{root} has both {twin.name} and {d.name}, which mean the same split; keep one")
    if parts and "train" not in parts:
        names = ", ".join(d.name for d in parts.values())
        raise DataError(f"{root} has {names} but no train folder; expected train/, and val/ or test/")
    if parts and (other := next((d for d in here if d not in parts.values() and photo_names(d, root)), None)):
        raise DataError(
            f"{root} has photos in {other.name}, which is no split of class folders like {parts['train'].name}; "
            f"expected train/, val/ and test/ and no other photos, so move {other.name} elsewhere"
        )
    return parts


def folders(root: Path) -> list[Path]:
    return sorted((d for d in root.iterdir() if d.is_dir() and not is_hidden(d.name)), key=lambda d: natural(d.name))


def class_names(folder: Path, root: Path, at_least: int) -> dict[str, Names]:
    """Class name -> paths relative to root, both in natural order. Hidden and empty folders are no classes."""
    classes = {d.name: paths for d in folders(folder) if (paths := photo_names(d, root))}
    if len(classes) >= at_least:
        return classes
    if classes:
        what = f"has only one class folder with photos ({next(iter(classes))})"
    elif loose := sum(p.suffix.lower() in photo.SUFFIXES for p in folder.iterdir()):
        raise DataError(
            f"{folder} holds {several(loose, 'photos')} but no class folders; put the photos of each class into a "
            "folder of its name, or give a manifest (CSV: path,label)"
        )
    elif index := next(folder.glob("[!.]*.index"), None):
        raise DataError(f"{folder} holds shards and no class folders; give {index.with_suffix('')}-*.tar")
    else:
        hidden = sum(is_hidden(p.name) for p in folder.iterdir())
        what = "has no class folders with photos"
        what += f" ({hidden} hidden files and folders are passed over)" if hidden else ""
    raise DataError(f"{folder} {what}; expected at least two folders, each named after a class and holding its photos")


def labelled(root: Path, split: str, found: Mapping[str, Names], classes: Sequence[str]) -> Photos:
    """The photos of a split in class order."""
    labels = np.repeat(np.arange(len(classes)), [len(found.get(name, ())) for name in classes])
    return files(root, split, (key for name in classes if name in found for key in found[name]), labels)


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
