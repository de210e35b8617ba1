"""ONNX's external data: numbers of a model in other files beside it, where PyTorch's newer exporter puts them."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from verydeep.errors import ModelError
from verydeep.files.disk import mapped

SHARED = 1 << 24  # bytes that tensors may take more than once, so that small files do not become much memory


class Beside:
    """The files beside one model."""

    def __init__(self, model: Path) -> None:
        self.model = model
        # The model may be a link itself, as in the caches of hubs.
        self.homes = (model.parent.resolve(), model.resolve().parent)
        self.sizes: dict[tuple[int, int], int] = {}  # by what they are on the disk, whatever they are called
        self.taken = 0

    def numbers(self, said: Mapping[str, str], size: int) -> memoryview:
        """The bytes of a tensor, `size` where no length is said. Raises ValueError and ModelError."""
        location = said.get("location", "")
        place = self.place(location)
        spans = said.get("offset", "0"), said.get("length", str(size))
        if not all(re.fullmatch("[0-9]{1,40}", span) for span in spans):
            raise ValueError(f"{' and '.join(map(repr, spans))[:60]} where numbers of bytes were expected")
        disk, data, (first, length) = place.stat(), mapped(place), map(int, spans)
        if first + length > len(data):
            raise ValueError(
                f"its numbers lie in bytes {first:,} to {first + length:,} of {location:.60}, which has only "
                f"{len(data):,}; fetch that file again"
            )
        self.sizes[disk.st_dev, disk.st_ino] = len(data)
        self.taken += length
        if self.taken > sum(self.sizes.values()) + SHARED:
            raise ValueError(f"its tensors take {self.taken:,} bytes of other files, many times over")
        return data[first : first + length]

    def place(self, location: str) -> Path:
        """A file below the folder of the model, also after links are followed."""
        path = PurePosixPath(location)
        if not location or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"its numbers lie in {location[:60] or 'no file'}, expected a path below its folder")
        places = [(home / path).resolve() for home in self.homes]
        there = next((place for place in places if place.exists()), places[0])
        if not any(there.is_relative_to(home) for home in self.homes):
            raise ValueError(f"its numbers lie in {location[:60]}, a link that leads out of its folder")
        if not there.exists():
            raise ModelError(
                f"{self.model} keeps its numbers in another file, which is missing; put {location!r:.200} beside it"
            )
        if there.samefile(self.model):
            raise ValueError(f"its numbers lie in {location[:60]}, which is the model itself")
        return there
