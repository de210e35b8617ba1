"""The tests of section 3.2 as two tables: what a net may see of a photo, and the protocols, plain means over that.

centre -> dense -> several scales -> crops -> both: the steps of the ladder, on which the same net goes from 9.9 to 7.2.
Choices, help, order, costs, file names and reports follow the tables. The command line reads them, so no numpy here.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from verydeep.contract import Contract
from verydeep.errors import ConfigError
from verydeep.near import meant

SCALES = ("single", "several")
Scales = Literal["single", "several"] | tuple[int, ...]
MOST_SCALES, LARGEST_SCALE = 32, 2048  # a photo of 8:1 at Q = 2048 has 34 megapixels, which take a net 9 GB


def centre(height: int, width: int, crop: int) -> list[tuple[int, int]]:
    """(top, left) of the crop in the middle."""
    return [((height - crop) // 2, (width - crop) // 2)]


def grid(height: int, width: int, crop: int) -> list[tuple[int, int]]:
    """(top, left) of a regular 5x5 grid of crops, from edge to edge; the one in the middle is the centre crop."""
    return [(top, left) for top in line(height, crop) for left in line(width, crop)]


def line(side: int, crop: int) -> tuple[int, ...]:
    """Where the crops of a grid begin along a side; mirrored they stand where they did, but for one of an odd space."""
    space = side - crop
    quarter = round(space / 4)
    return 0, quarter, space // 2, space - quarter, space


# Where the crops that a net sees begin on a rescaled photo, row by row; None is the whole photo, which gives a map.
VIEWS: dict[str, Callable[[int, int, int], list[tuple[int, int]]] | None] = {
    "centre": centre, "dense": None, "crops": grid,
}  # fmt: skip


class Mean(NamedTuple):
    """A protocol: the plain mean over views, each at one scale or at several, and what people read about it."""

    views: tuple[str, ...]
    several: tuple[bool, ...]  # its steps on the ladder: at the single scale, at all of several
    brief: str  # of the help
    sentence: str  # of the page, after its name

    @property
    def maps(self) -> bool:
        """Whether it averages over a class map."""
        return any(VIEWS[name] is None for name in self.views)


MEANS = {  # in the order of the ladder
    "centre": Mean(("centre",), (False,), "one crop",
        "shows the net the middle crop of the photo rescaled to smallest side Q"),
    "dense": Mean(("dense",), (False, True), "the whole photo",
        "runs the net over the whole photo and averages its class map, and the answers for the mirror image"),
    "crops": Mean(("crops",), (True,), "5 x 5 of them",
        "averages the answers for a grid of 25 crops and their mirror images at each Q"),
    "both": Mean(("dense", "crops"), (True,), "dense and crops averaged", "averages dense and crops"),
}  # fmt: skip
PROTOCOLS = tuple(MEANS)
if TYPE_CHECKING:
    Protocol = str
else:
    Protocol = Literal[PROTOCOLS]  # by which words of the command line and saved files are checked


class View(NamedTuple):
    """One way to show a photo at smallest side Q."""

    name: str
    scale: int

    def cost(self, crop: int) -> float:
        """About how many pixels of a photo go through the net, without the mirror image."""
        corners = VIEWS[self.name]
        return len(corners(crop, crop, crop)) * crop**2 if corners else 4 / 3 * self.scale**2


class Step(NamedTuple):
    """One step of the ladder: a protocol at the single scale, or at all of several."""

    protocol: Protocol
    several: bool = False

    def __str__(self) -> str:
        return f"{self.protocol} at {'several scales' if self.several else 'one scale'}"


def scales_in(text: str) -> Scales:
    """`single`, `several`, or smallest sides Q separated by commas. Raises ConfigError."""
    if text in SCALES:
        return text  # type: ignore[return-value]
    given = text.split(",")
    digits = all(w.isascii() and w.isdigit() and len(w) < 6 for w in given)
    if len(given) > MOST_SCALES or not digits or not all(0 < int(w) <= LARGEST_SCALE for w in given):
        raise ConfigError(
            f"scales: {text[:60]!r} is not understood"
            + meant(text, SCALES, f"; expected single, several, or up to {MOST_SCALES} numbers such as 256,384,512")
        )
    return tuple(map(int, given))


def scales_for(contract: Contract, scales: Scales) -> tuple[int, ...]:
    """The Q of a test, rising. Raises ConfigError for one below the crop.

    several: {S - 32, S, S + 32} at a crop of 224, in proportion at others and never below the crop; of a jittered net
    {Smin, (Smin + Smax) / 2, Smax}.
    """
    (least, most), crop, own = contract.scales, contract.crop, contract.test_scale
    found: tuple[int, ...] = (own,)
    if scales == "several":
        step = round(crop / 7)
        found = (least, own, most) if least < most else (max(crop, own - step), own, own + step)
    elif scales != "single":
        found = scales
    if (lowest := min(found)) < crop:
        raise ConfigError(f"scales: Q = {lowest} is smaller than the crop of {crop}; give {crop} or more")
    return tuple(sorted(set(found)))


def ladder(protocols: Sequence[Protocol], scales: Scales) -> list[Step]:
    """The results of a test, step by step, whatever the order asked. Raises ConfigError where none is asked for."""
    if not protocols or not set(protocols) <= set(PROTOCOLS):
        given = ",".join(protocols) or "[]"
        raise ConfigError(f"protocol: {given[:60]!r} is not one or more of {', '.join(PROTOCOLS)}")
    many = scales == "several" or (scales != "single" and len(set(scales)) > 1)
    return list(dict.fromkeys(Step(p, s and many) for p in PROTOCOLS if p in protocols for s in MEANS[p].several))


def components(step: Step, contract: Contract, scales: Scales) -> tuple[View, ...]:
    """The views whose mean a step is. The single Q is the net's own, or the first number given where that is not among
    them. Raises ConfigError for a Q below the crop."""
    among, own = scales_for(contract, scales), contract.test_scale
    used = among if step.several else (own if isinstance(scales, str) or own in scales else scales[0],)
    return tuple(View(name, q) for name in MEANS[step.protocol].views for q in used)
