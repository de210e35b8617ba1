"""Scenes: things of Fashion-MNIST at a random scale and place over drawn textures, with exact boxes.

`fashion-scenes` has one to three things a photo, the class of which is that of the largest; `fashion-placed` has one,
whose size varies more. Both are made from a seed when a photo is opened: 5,000 train, 1,000 val and 1,000 test photos,
whose things are those of the same split of `fashion-mini`. Smallest side 96.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.data.record import Box, Names, Photos

SIDE, SEED = 96, 2014
NUMBERS = {"train": 5_000, "val": 1_000, "test": 1_000}
SHAPES = ((1.0, 1.0), (1.2, 1.0), (1.0, 1.2), (4 / 3, 1.0), (1.0, 4 / 3), (1.5, 1.0), (1.0, 1.5))  # across, down
SCENES = {"fashion-scenes": ((0.5, 0.95), 3), "fashion-placed": ((0.25, 0.95), 1)}  # sizes of the first, most things
OTHERS = (0.22, 0.4)  # sizes of the others; all are of the longer side, in smallest sides of the photo
FAINT, MOST_COVERED = 24, 0.1  # grey level of a thing's edge; share of a box that another may cover
TRIES = 6  # for a place that is free

Greys = npt.NDArray[np.uint8]


class Thing(NamedTuple):
    """A thing in a scene: which photo it is cut from, its corner and size in pixels, its colour, and its direction."""

    photo: int
    x: int
    y: int
    width: int
    height: int
    tint: tuple[float, float, float]
    mirrored: bool

    @property
    def box(self) -> Box:
        return float(self.x), float(self.y), float(self.x + self.width), float(self.y + self.height)


class Scene(NamedTuple):
    width: int
    height: int
    things: list[Thing]
    random: np.random.Generator  # for the texture, when all else is drawn


@dataclass(frozen=True, eq=False)
class Scenes(Mapping[int, tuple[tuple[Box, int], ...]]):
    """The scenes of a split, drawn from their number alone; as a mapping, their boxes with classes."""

    name: str
    split: str
    greys: Greys = field(repr=False)  # N x 28 x 28, of fashion-mini
    labels: npt.NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return NUMBERS[self.split]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __getitem__(self, id: int) -> tuple[tuple[Box, int], ...]:
        if not 0 <= id < len(self):
            raise KeyError(id)
        return tuple((thing.box, int(self.labels[thing.photo])) for thing in self.scene(id).things)

    def scene(self, id: int) -> Scene:
        """Shape, things and places of a photo. The largest thing comes first; classes take turns, and their photos."""
        place = list(SCENES).index(self.name) * len(NUMBERS) + list(NUMBERS).index(self.split)
        random = np.random.Generator(np.random.Philox(key=SEED, counter=[0, 0, place, id]))
        across, down = SHAPES[random.integers(len(SHAPES))]
        width, height = round(SIDE * across), round(SIDE * down)
        sizes, most = SCENES[self.name]
        label = id % 10
        first = np.flatnonzero(self.labels == label)[id // 10 % int((self.labels == label).sum())]
        things = [self.thing(random, int(first), sizes, width, height)]
        wanted = int(random.integers(most)) + 1
        for _ in range(TRIES * (wanted - 1)):
            if len(things) == wanted:
                break
            photo = int(random.integers(len(self.labels)))
            thing = self.thing(random, photo, OTHERS, width, height)
            known = {int(self.labels[t.photo]) for t in things}
            if int(self.labels[photo]) not in known and all(covered(thing, t) <= MOST_COVERED for t in things):
                things.append(thing)
        return Scene(width, height, things, random)

    def thing(
        self, random: np.random.Generator, photo: int, sizes: tuple[float, float], width: int, height: int
    ) -> Thing:
        x0, y0, x1, y1 = edges(self.greys[photo])
        longest = SIDE * float(np.exp(random.uniform(*np.log(sizes))))
        across, down = (max(4, round(longest * side / max(x1 - x0, y1 - y0))) for side in (x1 - x0, y1 - y0))
        x, y = int(random.integers(width - across + 1)), int(random.integers(height - down + 1))
        red, green, blue = random.uniform(0.35, 1.0, 3).tolist()
        return Thing(photo, x, y, across, down, (red, green, blue), bool(random.random() < 0.5))

    def picture(self, id: int) -> Image.Image:
        """The photo, RGB."""
        scene = self.scene(id)
        pixels = texture(scene.random, scene.width, scene.height)
        for thing in reversed(scene.things):  # the largest last, uncovered
            grey, alpha = self.cut_out(thing)
            rows, columns = slice(thing.y, thing.y + thing.height), slice(thing.x, thing.x + thing.width)
            colour = (60 + 0.76 * grey)[..., None] * np.array(thing.tint, np.float32)
            pixels[rows, columns] += alpha[..., None] * (colour - pixels[rows, columns])
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    def cut_out(self, thing: Thing) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Grey levels and alpha, height x width, of a thing: what lies between its edges along rows and columns."""
        x0, y0, x1, y1 = edges(self.greys[thing.photo])
        grey = self.greys[thing.photo][y0:y1, x0:x1][:, :: -1 if thing.mirrored else 1]
        seen = grey > FAINT
        solid = between(seen) & between(seen.T).T
        size = (thing.width, thing.height)
        parts = (
            Image.fromarray(p).resize(size, Image.Resampling.BILINEAR) for p in (grey, solid.astype(np.uint8) * 255)
        )
        shown, alpha = (np.asarray(part, np.float32) for part in parts)
        return shown, alpha / np.float32(255)


def edges(grey: Greys) -> tuple[int, int, int, int]:
    """The tight box of what is not faint."""
    rows, columns = np.flatnonzero((grey > FAINT).any(1)), np.flatnonzero((grey > FAINT).any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def between(seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What lies between the first and the last that is seen in its row."""
    return np.asarray(np.logical_or.accumulate(seen, 1) & np.logical_or.accumulate(seen[:, ::-1], 1)[:, ::-1])


def covered(a: Thing, b: Thing) -> float:
    """The share of the smaller box that the other covers."""
    across = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    down = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(0, across) * max(0, down) / min(a.width * a.height, b.width * b.height)


def texture(random: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float32]:
    """A background, height x width x 3: patches of colour of several sizes, noise, and now and then stripes."""
    total = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((2, 1.0), (5, 0.5), (13, 0.3)):
        patches = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        shown = Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)
        total += strength * (np.asarray(shown, np.float32) - 127.5)
    total += random.normal(0, random.uniform(2, 16), (height, width, 1)).astype(np.float32)
    if random.random() < 0.4:
        angle, wave = random.uniform(0, np.pi), random.uniform(5, 24)
        y, x = np.mgrid[:height, :width]
        stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / wave)) > random.uniform(-0.5, 0.5)
        total += (stripes[..., None] * random.uniform(-60, 60, 3)).astype(np.float32)
    return total * np.float32(random.uniform(0.4, 0.8)) + np.float32(random.uniform(80, 170))


def scenes_of(name: str, split: str, greys: Greys, labels: npt.NDArray[np.int64]) -> Photos:
    """The photos of a split, made of those of the same split of fashion-mini."""
    scenes = Scenes(name, split, greys, labels)
    keys = Names.of(f"{split}/{id:04d}" for id in range(len(scenes)))
    own = np.arange(len(scenes)) % 10
    return Photos(split, keys, own, partial(Scenes.picture, scenes), boxes=scenes)
