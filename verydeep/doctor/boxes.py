"""What the data doctor says of boxes."""

from dataclasses import replace
from itertools import count

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from verydeep.data.photo import PixelSize
from verydeep.data.record import DataSet, Photos
from verydeep.doctor.findings import MOST_EXAMPLES, Finding, finding, of_names
from verydeep.doctor.look import Facts, example
from verydeep.words import several

SLACK = 1.0  # pixels beyond the photo, by which tools round
TWICE = 0.9  # intersection over union of boxes that mean the same
ENOUGH = 20  # boxes, of which half are of one size
DRAWN = ("box-outside", "box-partly-outside", "box-twice", "boxes-alike")  # findings that are shown with their boxes

Corners = npt.NDArray[np.float64]  # N x 4, x0 y0 x1 y1


@np.errstate(over="ignore", invalid="ignore")  # a list may name any numbers
def box_findings(data: DataSet, facts: Facts) -> list[Finding]:
    """Nothing where no photo has a box."""
    rows = [
        (start + id, label, *box)
        for photos, start in zip(facts.splits, facts.starts.tolist(), strict=True)
        for id, own in photos.boxes.items() for box, label in own
    ]  # fmt: skip
    if not rows:
        return []
    table = np.array(rows, np.float64)
    ids, labels, boxes = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:]

    def told(name: str, which: npt.NDArray[np.int64], detail: str = "") -> list[Finding]:
        """Boxes by their positions, each with its photo."""
        shown = [
            example(data, facts, int(ids[i]), words=f"{data.classes[labels[i]]} {' '.join(f'{v:g}' for v in boxes[i])}")
            for i in which[:MOST_EXAMPLES]
        ]
        return [finding(name, len(which), shown, detail)] if shown else []

    size = np.stack([facts.table["width"], facts.table["height"]], 1).astype(np.float64)[ids]
    seen = ~facts.bad[ids]
    off = seen & ((boxes[:, 2:] <= 0) | (boxes[:, :2] >= size)).any(1)
    partly = seen & ~off & ((boxes[:, :2] < -SLACK) | (boxes[:, 2:] > size + SLACK)).any(1)
    found = told("box-outside", np.flatnonzero(off)) + told("box-partly-outside", np.flatnonzero(partly))
    found += told("box-twice", twice(ids, labels, boxes))
    if len(boxes) >= ENOUGH:
        sizes, number, counts = np.unique(
            (boxes[:, 2:] - boxes[:, :2]).round(3), axis=0, return_inverse=True, return_counts=True
        )
        if 2 * counts.max() > len(boxes):
            width, height = sizes[counts.argmax()]
            detail = f"{width:g} x {height:g} pixels, of {several(len(boxes), 'boxes')}"
            found += told("boxes-alike", np.flatnonzero(number.reshape(-1) == counts.argmax()), detail)
    marked = np.repeat([len(photos.boxes) > 0 for photos in facts.splits], [len(photos) for photos in facts.splits])
    marked[ids] = False
    without = np.flatnonzero(marked)
    if len(without):
        shown = [example(data, facts, id) for id in without[:MOST_EXAMPLES].tolist()]
        found.append(finding("photo-without-box", len(without), shown))
    unused = np.flatnonzero(np.bincount(labels, minlength=len(data.classes)) == 0)
    return found + of_names("class-without-box", [data.classes[i] for i in unused])


def twice(ids: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], boxes: Corners) -> npt.NDArray[np.int64]:
    """Positions of boxes that nearly are another one of their photo and class."""
    order = np.lexsort((labels, ids))
    group = np.unique(np.stack([ids, labels], 1)[order], axis=0, return_inverse=True)[1].reshape(-1)
    again, here = np.zeros(len(order), np.bool_), np.arange(len(order))
    for step in count(1):  # with the first, second, ... after it of its group
        here = here[: np.searchsorted(here, len(order) - step)]
        here = here[group[here] == group[here + step]]
        if not len(here):
            return np.sort(order[again])
        alike = here[overlap(boxes[order[here]], boxes[order[here + step]]) > TWICE]
        again[alike] = again[alike + step] = True
    raise AssertionError


def overlap(a: Corners, b: Corners) -> npt.NDArray[np.float64]:
    """Intersection over union of each pair: N."""
    sides = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    both = sides.prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - both
    return np.asarray(both / np.maximum(union, 1e-9))


def boxes_drawn(photos: Photos) -> Photos:
    """The same photos with their boxes drawn."""

    def drawn(id: int) -> Image.Image:
        image = photos.open(id).copy()
        height, width = PixelSize.of(image).in_file
        across, down = image.width / width, image.height / height
        for (x0, y0, x1, y1), _ in photos.boxes.get(id, ()):
            box = (min(x0, x1) * across, min(y0, y1) * down, max(x0, x1) * across, max(y0, y1) * down)
            ImageDraw.Draw(image).rectangle(box, None, "red", max(1, min(image.size) // 50))
        return image

    return replace(photos, content=drawn)
