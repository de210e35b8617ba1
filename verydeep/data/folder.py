"""A folder of class folders, with or without train, val and test."""

from __future__ import annotations

from pathlib import Path

from verydeep.data import photo
from verydeep.data.naming import is_hidden, is_storable, natural
from verydeep.data.record import SPLIT_NAMES, DataSet, Shares
from verydeep.data.split import assemble, hold_out, per_class
from verydeep.errors import DataError


def open_folder(root: Path, shares: Shares, seed: int) -> DataSet:
    """A folder of class folders, or of train/, val/, test/ folders of class folders.

    Without splits each class is divided by `shares` = (val, test); with train/ but no val/ the validation
    photos are held out of train/. Without `shares` nothing is held out. Raises DataError where no class can be found,
    or where a folder beside train/ would be passed over.
    """
    # "train" is also a vehicle: only a folder that holds folders is a split.
    parts: dict[str, Path] = {}
    for d in folders(root):
        if d.name.lower() in SPLIT_NAMES and folders(d):
            twin = parts.setdefault(SPLIT_NAMES[d.name.lower()], d)
            if twin != d:
                raise DataError(f"{root} has both {twin.name} and {d.name}, which mean the same split; keep one of them")
    if parts and "train" not in parts:
        raise DataError(f"{root} has {', '.join(d.name for d in parts.values())} but no train folder; expected train/, and val/ or test/")
    if parts and (other := next((d for d in folders(root) if d not in parts.values() and photo_files(d, root)), None)):
        raise DataError(
            f"{root} has photos in {other.name}, which is no split of class folders like {parts['train'].name}; "
            f"expected train/, val/ and test/ with class folders and no other photos, so move {other.name} elsewhere"
        )
    if not parts:
        rows = class_rows(root, root, 2 if shares else 1)
        return hold_out(str(root), root, rows, {}, shares, seed)
    by_split = {name: class_rows(folder, root, 2 if shares and name == "train" else 1) for name, folder in parts.items()}
    classes = list(by_split["train"])
    for name, rows in by_split.items():
        if strange := [c for c in rows if c not in classes]:
            raise DataError(
                f"{parts[name]} has the class {strange[0]!r}, which {parts['train']} does not; the splits must share their classes"
            )
    if "val" in by_split or shares is None:
        return assemble(str(root), root, classes, by_split)
    train = hold_out(str(root), root, by_split["train"], {}, (shares[0], 0.0), seed)
    kept = {name: per_class(photos, train.classes) for name, photos in train.splits.items()}
    return assemble(str(root), root, classes, {**kept, **{n: r for n, r in by_split.items() if n != "train"}}, held_out=True)


def folders(root: Path) -> list[Path]:
    return sorted((d for d in root.iterdir() if d.is_dir() and not is_hidden(d.name)), key=lambda d: natural(d.name))


def class_rows(folder: Path, root: Path, at_least: int) -> dict[str, list[str]]:
    """Class name -> paths relative to root, both in natural order. Hidden and empty folders are no classes."""
    found = {d.name: photo_files(d, root) for d in folders(folder)}
    classes = {name: paths for name, paths in found.items() if paths}
    if len(classes) >= at_least:
        return classes
    loose = [p for p in folder.iterdir() if p.suffix.lower() in photo.SUFFIXES]
    if not classes and loose:
        raise DataError(
            f"{folder} holds {len(loose)} photos but no class folders; put the photos of each class into a folder of its name, "
            "or give a manifest (CSV: path,label)"
        )
    what = f"only one class folder with photos ({next(iter(classes))})" if classes else "no class folders with photos"
    raise DataError(f"{folder} has {what}; expected at least two folders, each named after a class and holding its photos")


def photo_files(folder: Path, root: Path) -> list[str]:
    """Photo files at any depth below a class folder, relative to root, in natural order."""
    paths = (p.relative_to(root) for p in folder.rglob("*") if p.suffix.lower() in photo.SUFFIXES)
    visible = (p.as_posix() for p in paths if not any(is_hidden(part) for part in p.parts))
    found = sorted((p for p in visible if (root / p).is_file()), key=natural)
    if strange := next((p for p in found if not is_storable(p)), None):
        raise DataError(f"{root}: the name {strange!a} is not UTF-8; rename it")
    return found
