"""Scenes: items of Fashion-MNIST at random scale and place over drawn textures, with exact boxes; smallest side 96.

`fashion-scenes` has one to three items of different classes a photo, and the label is that of the largest, which comes
first. `fashion-placed` has one, of 0.25 to 0.95 of the smallest side. Items come from the same split of `fashion-mini`,
those of `fashion-scenes-large` of `fashion`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.data.order import generator
from verydeep.data.record import Box, Names, Photos

SEED = 1409_1556
SIDE = 96
SHAPES = ((96, 96), (96, 96), (112, 96), (96, 112), (128, 96), (96, 128), (144, 96), (96, 144))  # width, height
FAINT = 32  # grey level from which a pixel is of the item and inside its box: there alpha reaches 1/2
TRIES = 12  # at a free place for one more item
GEOMETRY, PICTURE, MAIN = range(3)  # turns of the generator


class Kind(NamedTuple):
    """A data set of scenes: the most items of a photo, where they come from, how many scenes, equally many a class."""

    most: int
    source: str
    numbers: Mapping[str, int]


SMALL = {"train": 5_000, "val": 1_000, "test": 1_000}
LARGE = {"train": 55_000, "val": 5_000, "test": 10_000}
SCENES = {
    "fashion-scenes": Kind(3, "fashion-mini", SMALL), "fashion-placed": Kind(1, "fashion-mini", SMALL),
    "fashion-scenes-large": Kind(3, "fashion", LARGE),
}  # the position is the generator's stream # fmt: skip

Item = tuple[int, int, int, int, int]  # photo of the source, then x0, y0, x1, y1 in the scene


@dataclass(frozen=True, eq=False)
class Scenes(Mapping[int, tuple[tuple[Box, int], ...]]):
    """The scenes of a split by position; as a mapping, their boxes with classes, computed when asked.

    Boxes depend on the data set, split and position, on numpy's Philox and its doubles alone; pixels on numpy's random
    bytes and sine and on Pillow's resizing and blending too. images: uint8 N x 28 x 28; cuts: N x 4, x0, y0, x1, y1.
    """

    most: int
    place: tuple[int, int]  # stream and split, for the generator
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    cuts: npt.NDArray[np.int64]
    mains: npt.NDArray[np.int64]  # of each scene the photo of its main item

    def __len__(self) -> int:
        return len(self.mains)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __contains__(self, id: object) -> bool:
        return id in range(len(self))

    def __getitem__(self, id: int) -> tuple[tuple[Box, int], ...]:
        if id not in self:
            raise KeyError(id)
        found = self.geometry(id)[1]
        return tuple(((float(x0), float(y0), float(x1), float(y1)), int(self.labels[i])) for i, x0, y0, x1, y1 in found)

    def geometry(self, id: int) -> tuple[tuple[int, int], list[Item]]:
        """The scene's (width, height), and its items, of which no two boxes meet; the main one first."""
        uniform = generator(SEED, *self.place, id, GEOMETRY).random
        size = SHAPES[int(uniform() * len(SHAPES))]

        def thrown(photo: int, share: float) -> Item:
            x0, y0, x1, y1 = self.cuts[photo].tolist()
            unit = SIDE * share / max(x1 - x0, y1 - y0)
            width, height = round((x1 - x0) * unit), round((y1 - y0) * unit)
            x, y = int(uniform() * (size[0] - width + 1)), int(uniform() * (size[1] - height + 1))
            return photo, x, y, x + width, y + height

        share = 0.45 + 0.5 * uniform() if self.most > 1 else 0.25 * (0.95 / 0.25) ** uniform()  # of the smallest side
        items, wanted = [thrown(int(self.mains[id]), share)], 1 + int(uniform() * self.most)
        for _ in range(TRIES * (wanted - 1)):
            one = thrown(int(uniform() * len(self.images)), 0.2 + (min(0.4, 0.75 * share) - 0.2) * uniform())
            if len(items) < wanted and not any(meet(one, i) or self.labels[one[0]] == self.labels[i[0]] for i in items):
                items.append(one)
        return size, items

    def picture(self, id: int) -> Image.Image:
        """The scene, RGB."""
        random, (size, items) = generator(SEED, *self.place, id, PICTURE), self.geometry(id)
        scene = texture(random, size)
        for photo, x0, y0, x1, y1 in items:
            cut = self.cutout(photo, random).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
            scene.paste(cut, (x0, y0), cut)
        return scene

    def cutout(self, photo: int, random: np.random.Generator) -> Image.Image:
        """The item, RGBA: mirrored or not, its greys between two random colours, solid where closed all round."""
        x0, y0, x1, y1 = self.cuts[photo]
        grey, along = self.images[photo, y0:y1, x0:x1], np.maximum.accumulate
        grey = grey[:, :: 1 if random.random() < 0.5 else -1]
        across = np.minimum(along(grey, 1), along(grey[:, ::-1], 1)[:, ::-1])
        solid = np.minimum(across, np.minimum(along(grey, 0), along(grey[::-1], 0)[::-1]))
        dark, light = 90 * random.random(3), 120 + 135 * random.random(3)
        rgba = np.empty((*grey.shape, 4), np.uint8)
        rgba[..., :3] = dark + (light - dark) * (grey[..., None] / 255)
        rgba[..., 3] = np.minimum(solid.astype(np.int64) * 128 // FAINT, 255)
        return Image.fromarray(rgba)


def meet(one: Item, other: Item) -> bool:
    return max(one[1], other[1]) < min(one[3], other[3]) and max(one[2], other[2]) < min(one[4], other[4])


def texture(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A background: noise of several octaves, smooth or rough, long or square, grey or gaudy; often stripes, checks."""

    def noise(cells: int) -> Image.Image:
        shape = (max(2, round(cells / stretch)), max(2, round(cells * stretch)), 3)
        return Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))

    rough, gaudy, contrast, stretch = random.random(4) * (0.7, 1, 0.7, 1) + (0, 0, 0.3, 0.5)
    image, plain, drawn = noise(2), *map(tuple, random.integers(0, 256, (2, 3)).tolist())
    for finer in map(noise, (4, 8, 16, 32)):
        image = Image.blend(image.resize(finer.size, Image.Resampling.BICUBIC), finer, rough * random.random())
    image = Image.blend(image.convert("L").convert("RGB"), image, gaudy)
    image = Image.blend(Image.new("RGB", image.size, plain), image, contrast).resize(size, Image.Resampling.BICUBIC)
    turn, waves, sharp, strength = random.random(4) * (np.pi, 0.6, 6, 160) + (0, 0.15, 0.5, 60)
    kind = random.random()  # half have nothing drawn over them, a quarter stripes, a quarter checks
    if kind < 0.5:
        x, y = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)[:, None]
        wave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * waves)
        if kind < 0.25:
            wave *= np.sin((y * np.cos(turn) - x * np.sin(turn)) * waves)
        mask = (0.5 + np.clip(wave * sharp, -0.5, 0.5)) * strength
        image.paste(drawn, None, Image.fromarray(mask.astype(np.uint8)))
    return image


def scenes_of(name: str, photos: Mapping[str, tuple[Any, Any, Any]], classes: int) -> dict[str, Photos]:
    """The splits of a data set of SCENES, from images, labels and numbers of the same splits of its source."""
    made, kind = {}, SCENES[name]
    for place, (split, number) in enumerate(kind.numbers.items()):
        images, labels, random = photos[split][0], photos[split][1].astype(np.int64), generator(SEED, 0, place, 0, MAIN)
        order = np.argsort(random.random(len(labels)), kind="stable")
        mains = np.concatenate([order[labels[order] == c][: number // classes] for c in range(classes)])
        mains = mains[np.argsort(random.random(number), kind="stable")]
        seen = [(images >= FAINT).any(axis) for axis in (1, 2)]
        cuts = np.stack([s.argmax(1) for s in seen] + [28 - s[:, ::-1].argmax(1) for s in seen], 1)
        scenes = Scenes(kind.most, (list(SCENES).index(name), place), images, labels, cuts, mains)
        keys = Names.of(f"{split}/{id:04d}.png" for id in range(number))
        made[split] = Photos(split, keys, labels[mains], scenes.picture, boxes=scenes)
    return made
