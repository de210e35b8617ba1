"""What a labelling tool says of one photo, and the arithmetic of the shapes that it knows."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError

from yaml import YAMLError

from verydeep.data.manifest import text_of
from verydeep.data.record import Box
from verydeep.data.tree import listed
from verydeep.errors import DataError
from verydeep.files.disk import open_regular

STRANGE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, ParseError, YAMLError
)  # fmt: skip
LONGEST = 1 << 31  # bytes; COCO's training boxes of 2017 have 450 million


class Marked(NamedTuple):
    """The boxes of a photo, in pixels of `size`, or relative to the upright photo where that is None and `relative`.

    names: what the photo may be called, the surest first; file: that says so; split: '' where its path may say it.
    """

    names: tuple[str, ...]
    file: Path
    boxes: list[tuple[Box, str]]
    size: tuple[float, float] | None = None
    split: str = ""
    relative: bool = False


@dataclass
class Aside:
    """What else the files say: classes, and what was left out, with the places."""

    classes: set[str] = field(default_factory=set)
    left: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def leave(self, what: str, where: object) -> None:
        self.left.setdefault(what, []).append(str(where))

    def lines(self) -> list[str]:
        some = (f"{len(own):,} {what} ({listed(own)})" for what, own in self.left.items())
        return [*self.notes, *(f"warning: left out: {words}" for words in some)]


@contextmanager
def understood(path: Path, what: str) -> Iterator[None]:
    """Whatever is not as it should be in a stranger's file becomes a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except STRANGE as e:
        reason = f"lacks {e}" if isinstance(e, KeyError) else getattr(e, "strerror", None) or str(e)
        raise DataError(f"{path}: is not {what} as expected ({reason:.200})") from e


def data_of(path: Path) -> bytes:
    with open_regular(path) as f:
        data = f.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST:,} bytes")
    return data


def number(value: Any) -> float:
    if not math.isfinite(found := float(value)):
        raise ValueError(f"{value!r:.40} is no number of pixels")
    return found


def tight(points: Iterable[Any]) -> Box:
    """The box around points, in any order."""
    xs, ys = zip(*((number(x), number(y)) for x, y in points), strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def sized(x: Any, y: Any, width: Any, height: Any) -> Box:
    """From the upper left corner and a size, which is kept if it is not positive."""
    x, y = number(x), number(y)
    return x, y, x + number(width), y + number(height)


def centred(x: Any, y: Any, width: Any, height: Any) -> Box:
    """From the centre and a size."""
    width, height = number(width), number(height)
    return sized(number(x) - width / 2, number(y) - height / 2, width, height)


def turned(box: Box, degrees: Any, x: float, y: float) -> Box:
    """The box around a box that was turned clockwise around a point."""
    if not (angle := math.radians(number(degrees))):
        return box
    x0, y0, x1, y1 = box
    c, s = math.cos(angle), math.sin(angle)
    corners = ((px - x, py - y) for px in (x0, x1) for py in (y0, y1))
    return tight((x + c * dx - s * dy, y + s * dx + c * dy) for dx, dy in corners)


def label_in(value: Any, where: object) -> str:
    if isinstance(value, (list, dict)):  # of YAML perhaps without end
        raise DataError(f"{where}: the class is a {type(value).__name__}, expected some text")
    return text_of(value, "the class", str(where))


def size_of(width: Any, height: Any) -> tuple[float, float] | None:
    """None where a tool did not know it, and wrote nothing or zero."""
    if width in (None, "") or height in (None, ""):
        return None
    size = number(width), number(height)
    return size if min(size) > 0 else None
