"""The protocols of section 3.2: every result is a plain mean of components, and a component is a view at one scale.

centre -> dense -> several scales -> crops -> both: the steps of the ladder, on which the same net goes from 9.9 to 7.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from verydeep.contract import Contract
from verydeep.errors import ConfigError
from verydeep.evaluate.views import View

Protocol = Literal["centre", "dense", "crops", "both"]
PROTOCOLS: tuple[Protocol, ...] = ("centre", "dense", "crops", "both")
Scales = Literal["single", "several"] | tuple[int, ...]
MOST_SCALES, LARGEST_SCALE = 32, 2048  # a photo of 8:1 at Q = 2048 has 34 megapixels, which take a net 9 GB


class Step(NamedTuple):
    """One step of the ladder: a protocol at the single scale, or at all of several."""

    protocol: Protocol
    several: bool = False

    def __str__(self) -> str:
        return f"{self.protocol} at {'several scales' if self.several else 'one scale'}"


def protocols_in(text: str) -> list[Protocol]:
    """Protocols separated by commas, in the order of the ladder. Raises ConfigError."""
    words = text.split(",")
    if unknown := [w for w in words if w not in PROTOCOLS]:
        raise ConfigError(f"protocol: {unknown[0]!r} is not known; expected some of {','.join(PROTOCOLS)}, with commas")
    return [p for p in PROTOCOLS if p in words]


def scales_in(text: str) -> Scales:
    """`single`, `several`, or smallest sides Q separated by commas. Raises ConfigError."""
    if text == "single":
        return "single"
    if text == "several":
        return "several"
    words = text.split(",")
    if len(words) > MOST_SCALES or not all(
        w.isascii() and w.isdigit() and len(w) < 6 and 0 < int(w) <= LARGEST_SCALE for w in words
    ):
        raise ConfigError(
            f"scales: {text[:60]!r} is not understood; expected single, several, or up to {MOST_SCALES} numbers such as 256,384,512"
        )
    return tuple(map(int, words))


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


def single_for(contract: Contract, scales: Scales) -> int:
    """The one Q of the first steps: the net's own, or the first number given where its own is not among them."""
    own = contract.test_scale
    return own if isinstance(scales, str) or own in scales else scales[0]


def steps(protocols: Sequence[Protocol], scales: Scales) -> list[Step]:
    """The results of a test in the order of the ladder. Dense stands there with one scale and with all."""
    several = scales == "several" or (scales != "single" and len(set(scales)) > 1)
    found = {"centre": [Step("centre")], "dense": [Step("dense"), Step("dense", several)]}
    ladder = [s for p in PROTOCOLS if p in protocols for s in found.get(p, [Step(p, several)])]
    return list(dict.fromkeys(ladder))


def components(step: Step, contract: Contract, scales: Scales) -> tuple[View, ...]:
    """What the posteriors of a step are the mean of. Raises ConfigError for a Q below the crop."""
    all_of_them = scales_for(contract, scales)
    own = all_of_them if step.several else (single_for(contract, scales),)
    if step.protocol != "both":
        return tuple(View(step.protocol, q) for q in own)
    return tuple(View(name, q) for name in ("dense", "crops") for q in own)


def mirrored(protocol: Protocol) -> bool:
    """Whether the mirror image is averaged in by default: as in the paper, but for everyone's centre crop."""
    return protocol != "centre"
