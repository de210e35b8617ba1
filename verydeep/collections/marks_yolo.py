"""Boxes of YOLO: a text a photo with a line an object, class cx cy w h relative to the upright photo."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from verydeep.collections.marks import Aside, Marked, centred, data_of, label_in, number, tight, understood
from verydeep.errors import DataError

LINE = re.compile(r"\d+(?:\.0+)?(?:[ \t]+-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE]-?\d+)?){4,}[ \t]*")
YAML = (".yaml", ".yml")
LARGEST = 2.0  # beyond it numbers are pixels
LONGEST_YAML = 1 << 20
NAMES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")


class ClassNames:
    """The names of class numbers, and where they come from; without any, numbers are names."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.file, self.names, self.points = "", dict[int, str](), False
        for path in files:
            with understood(path, "a list of class names"):
                data = data_of(path)
                if path.suffix.lower() in YAML:
                    found = self.of_yaml(data)
                else:
                    found = list(filter(None, map(str.strip, data.decode("utf-8-sig").splitlines())))
                if found:
                    pairs = found.items() if isinstance(found, dict) else enumerate(found)
                    self.names = {int(n): label_in(name, f"{path}: class {n}") for n, name in pairs}
                    self.file = str(path)
                    return

    def of_yaml(self, data: bytes) -> Any:
        if b"names" not in data:
            return None
        if len(data) > LONGEST_YAML:
            raise ValueError(f"it is longer than {LONGEST_YAML:,} bytes")
        whole = yaml.safe_load(data)
        self.points = isinstance(whole, dict) and "kpt_shape" in whole
        return whole.get("names") if isinstance(whole, dict) else None

    def name(self, number: int, where: str) -> str:
        if not self.names:
            return str(number)
        if number not in self.names:
            some = f"{len(self.names)} classes, {min(self.names)} to {max(self.names)}"
            raise DataError(
                f"{where}: class {number}, and {self.file} names {some}; if its names begin at 1, say so there, as in "
                f"names: {{1: {next(iter(self.names.values()))}, ...}}, else add what lacks"
            )
        return self.names[number]


def class_names(path: Path, files: Sequence[Path], base: Path, told: Aside) -> ClassNames:
    """By DATA itself if it is a YAML, else by the first file that has names, around photos and texts."""
    near = dict.fromkeys((base, base / "data", *(up for file in files for up in (file.parent, file.parent.parent))))
    texts = (folder / name for folder in near for name in NAMES)
    around = [*sorted(p for p in base.iterdir() if p.suffix.lower() in YAML), *texts, base.parent / "data.yaml"]
    found = ClassNames([path] if path.suffix.lower() in YAML else [p for p in around if p.is_file()])
    told.classes.update(found.names.values())
    told.notes.append(
        f"classes are named by {os.path.relpath(found.file, base)}" if found.file
        else "warning: there is no data.yaml or classes.txt: classes are called by number"
    )  # fmt: skip
    return found


def yolo(path: Path, told: Aside, names: ClassNames) -> Iterator[Marked]:
    boxes = []
    with understood(path, "YOLO's text"):
        for i, line in enumerate(data_of(path).decode("utf-8-sig").splitlines(), 1):
            if not (words := line.split()):
                continue
            where, values = f"{path} line {i}", list(map(number, words[1:]))
            if len(values) < 4 or not (kind := number(words[0])).is_integer():
                raise DataError(f"{where}: {line!r:.60}; expected a class number, then cx cy w h")
            if max(map(abs, values[: 4 if names.points else None])) > LARGEST:
                raise DataError(f"{where}: {line!r:.60}; expected numbers relative to the photo, 0 to 1")
            outline = len(values) > 5 and not len(values) % 2 and not names.points
            box = tight(zip(values[::2], values[1::2], strict=True)) if outline else centred(*values[:4])
            boxes.append((box, names.name(int(kind), where)))
    yield Marked((path.stem,), path, boxes, relative=True)
