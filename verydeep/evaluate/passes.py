"""One pass over photos, for any task: each is decoded once, shown to every net in every view, and its answer reduced.

photo -> frames -> inputs of one size -> scorer -> maps N x C x h x w -> reduce -> a value of each photo by view

A scorer is an engine, a reducer is a task: posteriors, descriptors, boxes. What is held does not grow with the photos.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from verydeep.data.photo import Pixels
from verydeep.data.reading import in_order
from verydeep.data.record import Photos
from verydeep.engines import Engine, Scorer, chosen, scorer_for
from verydeep.errors import PhotoError
from verydeep.evaluate.frames import Frames, LongPhotos, frames, inputs
from verydeep.evaluate.views import MEANS, Protocol, View
from verydeep.net.classifier import Classifier
from verydeep.net.inside import as_it_is
from verydeep.net.pixels import FORWARD_PIXELS, both_ways
from verydeep.ranks import Ranks

CHUNK_PIXELS = 64 << 20  # of photos that are worked on together; their uint8 pixels take three times as many bytes
CHUNK_BATCHES = 4

OnBad = Callable[[int, PhotoError], None]
Told = Callable[[int], None]  # of so many photos more


class Seen(NamedTuple):
    """What maps n x C x h x w were made of: inputs in one view. `frames.windows` says where their cells lie."""

    view: View
    crop: int
    sizes: list[tuple[int, int]]  # height and width of the upright photos
    numbers: list[int]  # which input of its photo each is: 0, or the place in the grid of crops
    mirrored: bool


Reduce = Callable[[Tensor, Seen], Tensor]  # maps n x C x h x w -> n values of the task, each of one shape


class Settings(NamedTuple):
    """How to test. mirror and pooling: None does as the protocol does in the paper and as the model's contract says.

    average: class scores over space before the soft-max, or posteriors after it (section 3.2).
    """

    mirror: bool | None = None
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    device: str = "cpu"
    batch: int = 32
    workers: int = -1
    bad_photos: Literal["stop", "skip"] = "stop"
    long_photos: LongPhotos = "stop"
    average: Literal["scores", "posteriors"] = "scores"
    pooling: Literal["up", "down"] | None = None
    engine: Engine = "torch"

    def mirrors(self, view: str) -> bool:
        """As in the paper, but for everyone's centre crop."""
        return view != "centre" if self.mirror is None else self.mirror

    def mirrored(self, protocol: Protocol) -> bool | None:
        """Whether all views of a protocol are averaged with their mirror images; None where some are."""
        ways = {self.mirrors(view) for view in MEANS[protocol].views}
        return ways.pop() if len(ways) == 1 else None


@dataclass(frozen=True, eq=False)
class Shown:
    """A net in a pass: what scores its inputs, its crop, the views it is shown, and what is made of its maps."""

    score: Scorer
    crop: int
    views: Sequence[View]
    reduce: Reduce
    number: int = 0  # by which `Spent` counts it
    apart: bool = False  # of a photo a list of what is made of each input and mirror image, instead of their mean


@dataclass
class Spent:
    """What a pass cost: pixels through the net and seconds, by number and view, and seconds of waiting for photos."""

    pixels: Counter[tuple[int, View]] = field(default_factory=Counter)
    seconds: defaultdict[tuple[int, View], float] = field(default_factory=lambda: defaultdict(float))
    waiting: float = 0.0


def settled(settings: Settings, nets: Sequence[Classifier]) -> Settings:
    """With the engine that `auto` and `measure` mean for these nets; where mirror images are left open and one of the
    nets was trained without them, without. Raises ConfigError."""
    mirror = settings.mirror if all(net.contract.flip for net in nets) else settings.mirror or False
    engine = chosen(settings.engine, settings.device, settings.precision, nets).engine
    return settings._replace(mirror=mirror, engine=engine)


def scorer_of(
    net: Classifier, settings: Settings, taps: Sequence[str] = (), each: Callable[[Tensor], Tensor] = as_it_is
) -> Scorer:  # fmt: skip
    """The net as the settings say; taps and each: what is made of other layers than the last, side by side."""
    s = settings
    return scorer_for(net, s.engine, s.precision, s.device, s.pooling, taps, each)


def passes(
    nets: Sequence[Shown], open_photo: Callable[[int], Image.Image], ids: Iterable[int], settings: Settings, *,
    workers: int = 0, on_bad: OnBad | None = None, spent: Spent | None = None, progress: Told = lambda n: None,
    batches: int = CHUNK_BATCHES, block: int = 0,
) -> Iterator[tuple[list[int], list[dict[View, Any]]]]:  # fmt: skip
    """(ids, by net and view a value of each photo, N x ...) chunk by chunk in the order of the ids.

    A value is the mean of what `reduce` makes of a photo's inputs and their mirror images, on the CPU. A bad photo goes
    to `on_bad`; without it the PhotoError is raised. Without nets no photo is opened. block: no chunk holds photos of
    two blocks of so many ids, so that a value is the same to the bit whatever other blocks are asked for.
    """
    spent = spent or Spent()
    wanted = {(view, net.crop) for net in nets for view in net.views}
    seen: Iterable[tuple[int, Frames]] = ((id, Frames((0, 0), {})) for id in ids)
    if wanted:
        seen = in_order(lambda id: frames(open_photo(id), wanted, settings.long_photos), ids, workers, on_bad, ahead=8)
    began = time.perf_counter()
    for chunk in chunks(seen, batches * settings.batch, block):
        spent.waiting += time.perf_counter() - began
        yield [id for id, _ in chunk], answered(nets, [made for _, made in chunk], settings, spent, progress)
        began = time.perf_counter()


def own_part(photos: Photos, batch: int, ranks: Ranks) -> list[int]:
    """The photos that a rank tests: whole batches of its own, in an order that suits where they are."""
    order = photos.in_turn()
    starts = range(ranks.rank * batch, len(order), ranks.size * batch)
    return np.concatenate([order[:0], *(order[i : i + batch] for i in starts)]).tolist()  # type: ignore[no-any-return]


def chunks(seen: Iterable[tuple[int, Frames]], photos: int, block: int = 0) -> Iterator[list[tuple[int, Frames]]]:
    """Photos in lists of at most so many, of few more than CHUNK_PIXELS, and of one block of ids."""
    chunk, held = list[tuple[int, Frames]](), 0
    for id, made in seen:
        if block and chunk and id // block != chunk[0][0] // block:
            yield chunk
            chunk, held = [], 0
        chunk.append((id, made))
        held += sum(p.size // 3 for p in made.pixels.values())
        if len(chunk) >= photos or held >= CHUNK_PIXELS:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def answered(
    nets: Sequence[Shown], photos: list[Frames], settings: Settings, spent: Spent, progress: Told
) -> list[dict[View, Any]]:
    """The values of one chunk; `progress` hears of its photos while they are worked on."""
    work = sum(view.cost(net.crop) for net in nets for view in net.views)
    done, told, found = 0.0, 0, list[dict[View, Any]]()

    def advance(cost: float) -> None:
        nonlocal done, told
        done += cost
        now = min(len(photos), int(done / work * len(photos)))
        progress(now - told)
        told = now

    for net in nets:
        found.append({})
        for view in net.views:
            began = time.perf_counter()
            found[-1][view], pixels = in_view(net, photos, view, settings, advance)
            spent.pixels[net.number, view] += pixels
            spent.seconds[net.number, view] += time.perf_counter() - began
    progress(len(photos) - told)
    return found


def in_view(
    net: Shown, photos: Sequence[Frames], view: View, settings: Settings, advance: Callable[[float], None]
) -> tuple[Any, int]:
    """(values N x ..., pixels through the net) of photos in one view, averaged over mirror images and crops or apart.

    What is of one size goes through together, at most `batch` inputs and FORWARD_PIXELS at a time; of 25 crops each is
    one input, and its mirror image goes with it as far as FORWARD_PIXELS allow.
    """
    sizes: dict[tuple[int, ...], list[tuple[int, int, Pixels]]] = {}
    each, total, through, apart = 1, torch.empty(0), 0, [list[Tensor]() for _ in photos]
    for n, made in enumerate(photos):
        shown = inputs(made, view, net.crop)
        each = len(shown)
        sizes.setdefault(shown[0].shape, []).extend((n, i, pixels) for i, pixels in enumerate(shown))
    mirror = settings.mirrors(view.name)
    for (height, width, _), members in sizes.items():
        size = min(settings.batch, max(1, FORWARD_PIXELS // (height * width)))
        for i in range(0, len(members), size):
            rows, numbers, stack = zip(*members[i : i + size], strict=True)
            seen = Seen(view, net.crop, [photos[n].size for n in rows], list(numbers), False)
            ways = reduced(net, torch.from_numpy(np.stack(stack)).permute(0, 3, 1, 2), seen, mirror)
            if net.apart:
                for way in ways:
                    for n, value in zip(rows, way, strict=True):
                        apart[n].append(value)
            else:
                values = sum(ways[1:], ways[0]) / len(ways)
                if not len(total):
                    total = values.new_zeros(len(photos), *values.shape[1:])
                total.index_add_(0, torch.tensor(rows), values)
            advance(view.cost(net.crop) * len(rows) / (each * len(photos)))
            through += len(rows) * height * width * (1 + mirror)
    return apart if net.apart else total / each, through


def reduced(net: Shown, photos: Tensor, seen: Seen, mirror: bool) -> list[Tensor]:
    """The values of uint8 inputs n x 3 x H x W, and those of their mirror images, on the CPU."""
    if not mirror:
        return [net.reduce(net.score(photos), seen).cpu()]
    maps, mirrored = both_ways(net.score, photos)
    return [net.reduce(maps, seen).cpu(), net.reduce(mirrored, seen._replace(mirrored=True)).cpu()]
