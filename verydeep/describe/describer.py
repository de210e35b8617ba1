"""Which nets describe photos, and how: all that the numbers depend on, and the rows that come of it."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

import verydeep
from verydeep.contract import to_json
from verydeep.data.reading import workers_for
from verydeep.describe import descriptor
from verydeep.describe.descriptor import POOLS, Rows, Several, layers_in
from verydeep.engines import Engine
from verydeep.errors import ConfigError, PhotoError
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.views import scales_in
from verydeep.files.tensors import checksum
from verydeep.near import meant
from verydeep.net.classifier import Classifier
from verydeep.net.inside import FC
from verydeep.predict import opened

ROOM = 256 << 20  # bytes of the rows that are made together, of which a few copies are held
BATCH, BATCHES = 32, 2
NOT_FINITE = "some of its features are no finite numbers; 'verydeep weights verify' looks at the model"


class Manner(NamedTuple):
    """How photos are described. pool: mean or max over space, none, or pca:N of maps as they are."""

    taps: tuple[str, ...]
    pool: str
    scales: str
    several: Several
    mirror: bool
    normalise: bool
    precision: Literal["fp32", "bf16"]
    engine: Engine = "torch"

    @property
    def components(self) -> int:
        return int(self.pool.partition(":")[2] or 0)

    @property
    def kept(self) -> str:
        """What of a map leaves the net."""
        return "none" if self.components else self.pool


@dataclass(frozen=True)
class Describer:
    """Nets by file or name, how they describe, and where. Raises ConfigError, naming a layer near one that lacks.

    at: the Q of each net, rising; together: the photos of a block, whose rows depend on no others, as ROOM holds them.
    """

    nets: dict[str, Classifier]
    way: Manner
    device: str
    workers: int = -1

    def __post_init__(self) -> None:
        if not re.fullmatch(r"none|mean|max|pca:[1-9]\d{0,4}", pool := self.way.pool):
            raise ConfigError(f"pool: {pool!r:.60} is not one of none, mean, max, pca:256{meant(pool, POOLS, '')}")
        if self.way.mirror and self.way.kept == "none":
            raise ConfigError(f"mirror and pool: maps of a mirror image run the other way; with {pool} take no mirror")
        for net in self.nets.values():
            known = [n for n in net.net.tap_names() if net.net.fc6 or n not in FC]
            if strange := [tap for tap in layers_in(net, self.way.taps) if tap not in known]:
                what = f"net {net.contract.net}" + " without FC layers" * (net.net.fc6 is None)
                raise ConfigError(f"taps: {what} has no layer {strange[0]!r:.60}{meant(strange[0], known)}")
        if len({net.contract.reading for net in self.nets.values()}) > 1:
            raise ConfigError("second: the two nets read the colours of files differently; describe with each alone")
        self.at  # noqa: B018  # checks scales

    @cached_property
    def at(self) -> list[tuple[int, ...]]:
        return [descriptor.own_scales(net, scales_in(self.way.scales)) for net in self.nets.values()]

    def with_pool(self, pool: str) -> "Describer":
        return replace(self, way=self.way._replace(pool=pool))

    @cached_property
    def shapes(self) -> list[list[tuple[int, ...]]]:
        """By net and tap that of what one Q gives of one photo; the net is asked."""
        found = []
        for net, own in zip(self.nets.values(), self.at, strict=True):
            crop, names = descriptor.centre_side(net, own[0]), layers_in(net, self.way.taps)
            with torch.no_grad():
                maps = net.taps(torch.zeros(1, 3, crop, crop, dtype=torch.uint8, device=net.mean.device), names)
            found.append([tuple(maps[name].shape[1 : None if self.way.kept == "none" else 2]) for name in names])
        return found

    @cached_property
    def together(self) -> int:
        values = sum(len(q) * sum(map(prod, own)) for q, own in zip(self.at, self.shapes, strict=True))
        return max(1, min(BATCH * BATCHES, ROOM // (4 * values)))

    def contract(self, photos: Sequence[str]) -> dict[str, Any]:
        """All that the rows of these photos depend on, as JSON holds it."""
        sizes = [(len(q), sum(map(prod, own))) for q, own in zip(self.at, self.shapes, strict=True)]
        one = self.by_tap([np.zeros((1, *size), np.float32) for size in sizes])
        widths = [self.way.components or rows.shape[1] for rows in one]
        facts: dict[str, Any] = {"format": 1, "version": verydeep.__version__, "models": [*map(absolute, self.nets)]}
        facts["sha256"] = [checksum(net.state_dict()) for net in self.nets.values()]
        facts |= {**self.way._asdict(), "widths": widths, "shapes": self.shapes, "photos": len(photos)}
        which = "\0".join(f"{os.path.abspath(photo)} {size_of_file(photo)}" for photo in photos)
        facts["photos_sha256"] = hashlib.sha256(which.encode("utf-8", "surrogateescape")).hexdigest()
        facts |= {"at": self.at, "together": self.together, "device": self.device}
        facts["contracts"] = [json.loads(to_json(net.contract)) for net in self.nets.values()]
        return dict(json.loads(json.dumps(facts)))

    def by_tap(self, said: Sequence[Rows]) -> list[Rows]:
        """What each net says, N x Q x D, taken apart."""
        ends = [np.cumsum([prod(s) for s in own])[:-1] for own in self.shapes]
        parts = [np.split(values, end, axis=2) for values, end in zip(said, ends, strict=True)]
        return [descriptor.descriptors(tap, self.way.several, self.way.normalise) for tap in zip(*parts, strict=True)]

    def rows(
        self, photos: Sequence[str], ids: Iterable[int], bases: Sequence[Rows], errors: dict[int, str], **how: Any
    ) -> Iterator[tuple[list[int], list[Rows]]]:
        """(ids, by tap their rows N x D) of photos, in blocks that do not depend on each other; how: as for `passes`.

        bases: of each tap the mean, then the components, where there is a PCA. errors: hears what is wrong with which.
        """
        nets, way = list(self.nets.values()), self.way
        settings = Settings(way.mirror, way.precision, self.device, min(BATCH, self.together), engine=way.engine)

        def open_photo(id: int) -> Image.Image:
            return opened(photos[id], nets[0].contract.reading)

        def on_bad(id: int, e: PhotoError) -> None:
            errors[id] = e.reason

        how |= {
            "workers": workers_for(self.workers, False),
            "on_bad": on_bad,
            "batches": BATCHES,
            "block": self.together,
        }
        for chunk, said in descriptor.described(nets, self.at, open_photo, ids, settings, way.taps, way.kept, **how):
            rows = self.by_tap(said)
            if bases:
                rows = [(own - basis[0]) @ basis[1:].T for own, basis in zip(rows, bases, strict=True)]
                rows = [descriptor.of_length_1(own) for own in rows] if way.normalise else rows
            for own in rows:
                wrong = np.flatnonzero(~np.isfinite(own).all(1))
                own[wrong] = np.nan
                errors |= {chunk[i]: NOT_FINITE for i in wrong}
            yield chunk, rows


def size_of_file(name: str) -> int:
    """Bytes, -1 of one that cannot be read."""
    try:
        return os.stat(name).st_size
    except (OSError, ValueError):
        return -1


def absolute(name: str) -> str:
    """MODEL as it is found from any folder."""
    there = Path(name).expanduser()
    return str(there.absolute()) if there.exists() else name
