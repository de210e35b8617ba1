"""ONNX's external data: numbers of a model that lie in other files beside it, where PyTorch's newer exporter puts them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from verydeep.errors import ModelError
from verydeep.files.disk import mapped
from verydeep.weights.wire import fields, text, whole

KEY, VALUE = 1, 2  # of an entry
MOST_FILES = 500  # each stays open; VGG-19 with batch norm has 102 tensors
LONGEST = 1000  # bytes of an entry's value
SHARED = 1 << 24  # bytes that tensors may take more than once, so that small files do not become much memory


class Files:
    """The files beside one model, each mapped once."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.homes = (
            model.parent.resolve(),
            model.resolve().parent,
        )  # the model may be a link itself, as in the caches of hubs
        self.named: dict[str, memoryview] = {}
        self.maps: dict[tuple[int, int], memoryview] = {}  # by what they are on the disk, whatever they are called
        self.taken = 0

    def numbers(self, name: str, said: Mapping[str, str], size: int) -> memoryview:
        """The bytes of a tensor: `size` of them where no length is said; a checksum is not looked at. Raises ValueError, ModelError."""
        location = said.get("location", "")
        data, first = self.file(location), decimal(said.get("offset", "0"))
        length = decimal(said["length"]) if "length" in said else size
        if first + length > len(data):
            raise ValueError(
                f"the numbers of {shown(name)} lie in bytes {first:,} to {first + length:,} of {shown(location)}, which has only "
                f"{len(data):,}; fetch that file again"
            )
        self.taken += length
        if self.taken > sum(len(m) for m in self.maps.values()) + SHARED:
            raise ValueError(f"its tensors take {self.taken:,} bytes of other files, many times over")
        return data[first : first + length]

    def file(self, location: str) -> memoryview:
        if location not in self.named:
            if len(self.named) == MOST_FILES:
                raise ValueError(f"its numbers lie in more than {MOST_FILES} files")
            self.named[location] = self.opened(location)
        return self.named[location]

    def opened(self, location: str) -> memoryview:
        path = PurePosixPath(location)
        if not location or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"its numbers lie in {shown(location) or 'no file'}, expected a path below its folder")
        places = [(home / path).resolve() for home in self.homes]
        there = next((place for place in places if place.exists()), places[0])
        if not any(there.is_relative_to(home) for home in self.homes):
            raise ValueError(f"its numbers lie in {shown(location)}, a link that leads out of its folder")
        try:
            if there.samefile(self.model):
                raise ValueError(f"its numbers lie in {shown(location)}, which is the model itself")
            disk = there.stat()
            if (key := (disk.st_dev, disk.st_ino)) not in self.maps:
                self.maps[key] = mapped(there)
        except FileNotFoundError as e:
            name = shown(location, 200)
            raise ModelError(
                f"{self.model} keeps its numbers in another file, which is missing; put {name} beside it"
            ) from e
        return self.maps[key]


def entry(message: memoryview, left: Iterator[int]) -> tuple[str, str]:
    """Key and value of one thing that is said of a place. Raises ValueError."""
    key, said = "", ""
    for number, value in fields(message, left):
        if number == KEY:
            key = text(value)
        elif number == VALUE:
            if len(whole(value)) > LONGEST:
                raise ValueError(f"a value of more than {LONGEST:,} bytes")
            said = whole(value).tobytes().decode("utf-8")
    return key, said


def decimal(said: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", said):
        raise ValueError(f"{shown(said) or 'nothing'} where a number of bytes was expected")
    return int(said)


def shown(said: str, most: int = 60) -> str:
    return repr(said[:most])[1:-1]
