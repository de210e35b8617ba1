"""Heat over photos, and contact sheets of them."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from verydeep.data import photo
from verydeep.data.photo import Pixels
from verydeep.explain.maps import Map, Method, explain_photo
from verydeep.net.classifier import Classifier
from verydeep.report.lettering import put_words

COLOURS, FAINT = "inferno", 0.5  # matplotlib's; how much of the photo's light is left where there is no heat
MOST = 99.7  # percentile of a map that is hottest, so that one pixel does not hide the others
FINE = 72  # smallest side on which gradients are explained_part; they differ from pixel to pixel
CELL, GAP, ROW, HEAD, FOOT, LEAST_WIDTH = 224, 12, 38, 92, 44, 720  # pixels of a sheet
INK, SOFT, PAPER = "#1c2330", "#68707d", "#ffffff"
TITLES = {
    "saliency": ("saliency", "gradient of the score"), "smooth": ("smoothed saliency", "of noisy copies"),
    "map": ("class map", "score, window by window"), "occlusion": ("occlusion", "probability lost if hidden"),
}  # fmt: skip


class SheetRow(NamedTuple):
    """One row of a sheet: what it is of, in two words, and a picture of the photo and of each method."""

    title: str
    name: str
    pictures: Sequence[Pixels]


def explained_part(image: Image.Image, longest: int, enlarged: bool = False) -> Pixels:
    """The part of a photo that is explained, upright, uint8 H x W x 3: its longer side is `longest`, or as it is where
    it is smaller and not to be enlarged."""
    short, long = min(image.size), min(max(image.size), photo.MAX_ASPECT * min(image.size))
    return photo.middle(image, max(1, round(short * (longest if enlarged else min(longest, long)) / long)))


def heated(pixels: Pixels, map: Map, method: Method) -> Pixels:
    """A photo, uint8 H x W x 3, in grey under the heat of a map h x w, from its least to its greatest value; of
    gradients and occlusion from 0."""
    heat, (height, width) = heat_of(map, method), pixels.shape[:2]
    resized = Image.fromarray(heat).resize((width, height), Image.Resampling.BICUBIC)
    value = np.asarray(resized).clip(0, 1)[..., None]
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)[..., None] / 255
    share = 0.15 + 0.75 * value
    return np.rint(255 * ((1 - share) * grey * (FAINT + (1 - FAINT) * value) + share * colours(value[..., 0]))).astype(
        np.uint8
    )


def seen_in(net: Classifier, label: int, side: int, image: Image.Image) -> Pixels:
    """A photo at this smallest side under the saliency of a class, uint8 H x W x 3; the net is put in eval mode."""
    [found] = explain_photo(net.eval(), image, [label], ["saliency"])
    return heated(photo.middle(image, side), found.maps["saliency"], "saliency")


def heat_of(map: Map, method: Method) -> Map:
    """From 0 to 1."""
    if method in ("saliency", "smooth") and min(map.shape) > FINE:
        height, width = photo.scaled_size(map.shape[0], map.shape[1], FINE)
        map = np.asarray(Image.fromarray(map).resize((width, height), Image.Resampling.BILINEAR))
    low = float(map.min()) if method == "map" else 0.0
    high = float(np.percentile(map, MOST))
    return np.asarray(((map - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(map), np.float32)


def colours(value: Map) -> Map:
    """... x 3 of 0 to 1."""
    return np.asarray(matplotlib.colormaps[COLOURS](value)[..., :3], np.float32)


def sheet(lines: Sequence[SheetRow], title: str, methods: Sequence[Method]) -> Image.Image:
    """A row for each line: its words, then the photo and the heat of each method, under the names of the columns."""
    columns = [("photo", ""), *(TITLES[method] for method in methods)]
    width = max(GAP + (CELL + GAP) * len(columns), LEAST_WIDTH)
    heights = [ROW + max(len(pixels) for pixels in line.pictures) + GAP for line in lines]
    page = Image.new("RGB", (width, HEAD + sum(heights) + FOOT), PAPER)
    pen = ImageDraw.Draw(page)
    put_words(pen, (GAP, GAP), title, 18, INK, width - 2 * GAP)
    for i, (name, more) in enumerate(columns):
        x = GAP + i * (CELL + GAP)
        put_words(pen, (x, 44), name, 15, INK, CELL)
        put_words(pen, (x, 65), more, 12, SOFT, CELL)
    for i, line in enumerate(lines):
        y = HEAD + sum(heights[:i])
        pen.line((GAP, y, width - GAP, y), fill="#dfe3e8")
        used = put_words(pen, (GAP, y + 9), line.title, 15, INK, width * 2 // 3)
        put_words(pen, (GAP + used + 14, y + 11), line.name, 12, SOFT, width - 2 * GAP - used - 14)
        for j, pixels in enumerate(line.pictures):
            page.paste(Image.fromarray(pixels), (GAP + j * (CELL + GAP), y + ROW))
    draw_scale(page, pen)
    return page


def draw_scale(page: Image.Image, pen: ImageDraw.ImageDraw) -> None:
    """What the colours mean, at the foot."""
    y, bar = page.height - FOOT + 16, colours(np.linspace(0, 1, 120, dtype=np.float32))
    used = put_words(pen, (GAP, y - 2), "little", 12, SOFT, CELL)
    page.paste(Image.fromarray(np.rint(255 * np.tile(bar, (10, 1, 1))).astype(np.uint8)), (GAP + used + 8, y + 1))
    words = "much for this answer; each picture from its own least to its own greatest value"
    put_words(pen, (GAP + used + 136, y - 2), words, 12, SOFT, page.width - used - 136 - 2 * GAP)
