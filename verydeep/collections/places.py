"""Which photo a labelling tool means, and its boxes in pixels of the upright photo."""

import os
import re
from collections import Counter
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import NamedTuple

from verydeep.collections.layout import split_meant
from verydeep.collections.locate import photos_below, plain
from verydeep.collections.marks import Marked
from verydeep.data import photo
from verydeep.data.record import Box
from verydeep.data.size import Size, stored_size
from verydeep.data.tree import listed
from verydeep.data.turning import TURNS, upright_size
from verydeep.errors import DataError, PhotoError
from verydeep.words import several

PHOTO_FOLDERS = frozenset({"images", "image", "imgs", "jpegimages", "photos", "data", "obj_train_data"})
PREFIX = re.compile("[0-9a-f]{8}-")  # that Label Studio puts before the names of what is uploaded, in all its exports
SLACK = 0.02  # of the proportion of a copy of another size, and one pixel


class Photo(NamedTuple):
    key: str
    folders: tuple[str, ...]


class Places:
    """The photos below a folder, by their names without suffix; keys are relative to `root`."""

    def __init__(self, base: Path, root: Path) -> None:
        self.root, self.by_stem, self.folders = root, dict[str, list[Photo]](), set[str]()
        inside = os.path.relpath(base, root)
        for path in photos_below(base):
            key = os.path.normpath(os.path.join(inside, path))
            folder, name = os.path.split(key)
            self.folders.add(folder)
            self.by_stem.setdefault(stem(name), []).append(Photo(key, words_of(folder)))

    def find(self, mark: Marked) -> str:
        """The key of the photo that is meant, '' where there is none. Raises DataError where it may be several."""
        found = dict.fromkeys(filter(None, (self.named(name, mark.file) for name in mark.names)))
        if len(found) > 1:
            one, other = [*found][:2]
            raise DataError(
                f"{mark.file}: is about {one} by its own name and about {other} by what it says; remove one"
            )
        return next(iter(found), "")

    def called(self, name: str) -> list[Photo]:
        return next(filter(None, map(self.by_stem.get, stems(name))), [])

    def named(self, name: str, file: Path) -> str:
        *above, last = name.replace("\\", "/").split("/")
        fitting = self.called(last)
        if is_photo(last):
            fitting = [p for p in fitting if os.path.basename(p.key) == last] or fitting
        if len(fitting) < 2:
            return fitting[0].key if fitting else ""
        inside = os.path.relpath(file.parent, self.root)
        beside = os.path.normpath(os.path.join(inside, *above, last))
        around = Counter((*words_of(inside), *map(folder_word, stem(file.name).split("_"))))

        def fits(one: Photo) -> tuple[bool, int, int, bool]:
            tail = 0
            while tail < min(len(above), len(one.folders)) and folder_word(above[-1 - tail]) == one.folders[-1 - tail]:
                tail += 1
            near = (around & Counter(one.folders)).total()
            return one.key == beside, tail, near, bool(PHOTO_FOLDERS & set(one.folders))

        best = max(map(fits, fitting))
        meant = [p.key for p in fitting if fits(p) == best]
        if len(meant) > 1:
            raise DataError(
                f"{file}: {name:.200} may be {' or '.join(meant[:3])}; write its path, or remove the others"
            )
        return meant[0]

    def without(self, keys: Collection[str]) -> tuple[list[str], list[str]]:
        """(Photos beside these that are not among them, folders of other photos)."""
        here = {os.path.dirname(key) for key in keys}
        photos = (p.key for own in self.by_stem.values() for p in own if p.key not in keys)
        return sorted(key for key in photos if os.path.dirname(key) in here), sorted(self.folders - here)


def is_photo(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in photo.SUFFIXES


def stem(name: str) -> str:
    """A name as it is looked for: without the suffix of a photo, which ILSVRC and others leave out."""
    return plain(os.path.splitext(name)[0] if is_photo(name) else name)


def stems(name: str) -> tuple[str, str]:
    """As it is, and without a prefix of Label Studio's."""
    return stem(name), stem(PREFIX.sub("", name, count=1))


@cache
def folder_word(folder: str) -> str:
    """train2017 and Training are one."""
    return split_meant(folder) or folder.lower()


@cache
def words_of(folder: str) -> tuple[str, ...]:
    return tuple(map(folder_word, folder.split("/")))


def split_in(key: str) -> str:
    """The split in the names of a photo's folders, or ''."""
    return next(filter(None, map(split_meant, key.split("/")[:-1])), "")


class Uprights:
    """Brings boxes into pixels of the upright photos, whose headers it reads, and counts what it did."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.turned, self.scaled, self.doubtful = list[str](), list[str](), list[str]()

    def lines(self) -> list[str]:
        """What was done, and what nobody can know."""
        told = (
            (self.turned, "", "turned by EXIF and marked unturned", "boxes are turned"),
            (self.scaled, "", "marked at another size", "boxes are scaled"),
            (self.doubtful, "warning: ", "turned by EXIF in a way that keeps the size", "boxes are taken as upright"),
        )
        return [
            f"{w}{several(len(own), 'photos')} {what} ({listed(own)}): {then}" for own, w, what, then in told if own
        ]

    def upright(self, key: str, mark: Marked) -> tuple[list[tuple[Box, str]], Size | None]:
        """(Boxes with their classes, the upright photo's size, None where it cannot be read). Raises DataError.

        A program that does not know EXIF marks the photo as it is stored, and gives that size. Where a turn keeps the
        size, nobody can know.
        """
        try:
            stored, turn = stored_size(self.root / key)
        except PhotoError:  # said when it is to be used
            return mark.boxes, None
        size = upright_size(stored, turn)
        if mark.relative:
            return scaled(mark.boxes, *size), size
        if turn in TURNS and (size == stored or not mark.size):
            self.doubtful.append(key)
        if mark.size in (None, size):
            return mark.boxes, size
        if mark.size == stored:
            self.turned.append(key)
            return turned_upright(mark.boxes, stored, turn), size
        for frame, others in ((size, self.scaled), (stored, self.turned)):
            width, height = mark.size
            unlike = abs(width * frame[1] - height * frame[0])
            if unlike <= min(max(frame), SLACK * height * frame[0]):
                others.append(key)
                boxes = scaled(mark.boxes, frame[0] / width, frame[1] / height)
                return boxes if frame is size else turned_upright(boxes, stored, turn), size
        raise DataError(
            f"{mark.file}: says that {key} has {mark.size[0]:g} x {mark.size[1]:g} pixels, and it has "
            f"{size[0]} x {size[1]}; mark the photo as it is now"
        )


def scaled(boxes: list[tuple[Box, str]], across: float, down: float) -> list[tuple[Box, str]]:
    return [((x0 * across, y0 * down, x1 * across, y1 * down), c) for (x0, y0, x1, y1), c in boxes]


def turned_upright(boxes: list[tuple[Box, str]], stored: Size, turn: int) -> list[tuple[Box, str]]:
    """From the stored photo, by an EXIF orientation from 5 to 8, which all swap its sides."""
    width, height = stored
    found = []
    for (x0, y0, x1, y1), label in boxes:
        left, right = (y0, y1) if turn in (5, 8) else (height - y1, height - y0)
        top, bottom = (x0, x1) if turn in (5, 6) else (width - x1, width - x0)
        found.append(((left, top, right, bottom), label))
    return found
