"""Boxes and what nets say of them: (centre x, centre y, width, height) of a crop, each in its sides (appendix A).

Elsewhere a box is (x0, y0, x1, y1) in pixels of the upright photo, and of one that was decoded smaller than its file
has it, in pixels of that; DATA and `predict` have them in those of the file. A net's box may reach beyond its crop.
Maps become rows of (window in the photo, what is said there).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from verydeep.contract import Contract
from verydeep.data.augment import Geometry
from verydeep.data.photo import PixelSize, scaled_size
from verydeep.data.record import Photos
from verydeep.evaluate.frames import windows
from verydeep.evaluate.passes import Reduce, Seen, Settings, Shown, passes
from verydeep.evaluate.views import VIEWS

Floats = npt.NDArray[np.float64]
SMALLEST = 1e-3  # of a crop: logarithms of less say nothing, and no box of a net is smaller
Sides = PixelSize | tuple[int, int]  # height and width
T = TypeVar("T", Floats, Tensor)


def boxes_of(photos: Photos, id: int, size: PixelSize) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(boxes N x 4, classes N) of a photo of this size, the boxes cut to it."""
    found = photos.boxes.get(id, ())
    boxes = resized(np.array([b for b, _ in found]).reshape(-1, 4), size.in_file, size)
    return clipped(boxes, size), np.array([label for _, label in found], np.int64)


def in_crop(boxes: Floats, geometry: Geometry, crop: int, size: Sides) -> Floats:
    """Boxes N x 4 of a photo of this height and width as the crop shows them, mirrored where it is: 0 to 1 inside."""
    rows, columns = scaled_size(size[0], size[1], geometry.scale)
    across, down = columns / size[1], rows / size[0]
    found = (boxes * [across, down, across, down] - [geometry.left, geometry.top] * 2) / crop
    return np.stack([1 - found[:, 2], found[:, 1], 1 - found[:, 0], found[:, 3]], 1) if geometry.flip else found


def said_as(boxes: Floats, log_size: bool) -> Floats:
    """Boxes of a crop, ... x 4, as a net is to say them: centre and size, or the logarithm of the size."""
    low, high = boxes[..., :2], boxes[..., 2:]
    size = np.log(np.maximum(high - low, SMALLEST)) if log_size else high - low
    return np.concatenate([(low + high) / 2, size], -1)


def boxes_said(said: Tensor, log_size: bool) -> Tensor:
    """Boxes (x0, y0, x1, y1) of a crop, ... x 4, from what a net says of them."""
    centre, size = said[..., :2], said[..., 2:]
    half = (size.clamp(max=5).exp() if log_size else size.clamp(min=SMALLEST)) / 2
    return torch.cat([centre - half, centre + half], -1)


def in_photo(boxes: Tensor, windows: Tensor, mirrored: bool) -> Tensor:
    """Boxes ... x R x 4 of crops, which lie in the photo as the windows ... x 4 say, in pixels of the photo."""
    if mirrored:
        boxes = torch.stack([1 - boxes[..., 2], boxes[..., 1], 1 - boxes[..., 0], boxes[..., 3]], -1)
    corner, side = windows[..., None, :2], windows[..., None, 2:] - windows[..., None, :2]
    return boxes * side.tile(2) + corner.tile(2)


def corner(size: Sides) -> Floats:
    """The box that is a whole photo of this height and width, without its zeros: what its boxes are measured by."""
    return np.array([size[1], size[0], size[1], size[0]], np.float64)


def clipped(boxes: Floats, size: Sides) -> Floats:
    """The parts of boxes ... x 4 that lie in the photo."""
    return np.clip(boxes, 0, corner(size))


def relative(boxes: Floats, size: Sides) -> Floats:
    """Boxes ... x 4 from pixels of a photo of this height and width to parts of it; IoU stays what it was."""
    return np.asarray(boxes / corner(size))


def resized(boxes: Floats, size: Sides, other: Sides) -> Floats:
    """Boxes ... x 4 from pixels of a photo of one height and width to those of the same photo at another."""
    return boxes if size[:2] == other[:2] else relative(boxes, size) * corner(other)


def area(boxes: T) -> T:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of boxes ... x 4, one by one as they broadcast; 0 where a box has no area."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    both = np.prod(np.maximum(high - low, 0), -1)
    union = area(a) + area(b) - both
    return np.asarray(np.divide(both, union, out=np.zeros_like(both), where=union > 0))


def photo_by_photo(
    shown: Sequence[Shown], open_photo: Callable[[int], Image.Image], ids: Iterable[int], settings: Settings, **how: Any
) -> Iterator[tuple[int, PixelSize, list[list[Any]]]]:
    """(id, size, by net and view what is said) of photos in order; how: as `passes` is told."""
    sizes = dict[int, PixelSize]()

    def opened(id: int) -> Image.Image:
        image = open_photo(id)
        sizes[id] = PixelSize.of(image)
        return image

    for chunk, by_net in passes(shown, opened, ids, settings, **how):
        for n, id in enumerate(chunk):
            yield id, sizes.pop(id), [[view[n] for view in by_view.values()] for by_view in by_net]


def windows_of(maps: Tensor, seen: Seen) -> Tensor:
    """Where the cells of maps n x C x h x w lie: float64 n x h w x 4, boxes in pixels of the upright photos."""
    cells = (maps.shape[2], maps.shape[3])
    found = [windows(seen.view, seen.crop, *at, cells) for at in zip(seen.sizes, seen.numbers, strict=True)]
    if seen.mirrored and VIEWS[seen.view.name] is None:
        found = [np.stack([size[1] - w[..., 2], w[..., 1], size[1] - w[..., 0], w[..., 3]], -1)
                 for w, size in zip(found, seen.sizes, strict=True)]  # fmt: skip
    return torch.from_numpy(np.stack(found)).flatten(1, 2)


def scores_at(maps: Tensor, seen: Seen) -> Tensor:
    """Of class score maps n x K x h x w: n x h w x (4 + K), windows and scores."""
    return torch.cat([windows_of(maps, seen), maps.flatten(2).mT.double().cpu()], -1)


def boxes_at(contract: Contract) -> Reduce:
    """Of box maps n x 4 R x h x w: n x h w x (4 + 4 R), windows and boxes, both in pixels of the upright photo."""

    def reduce(maps: Tensor, seen: Seen) -> Tensor:
        places = windows_of(maps, seen)
        said = maps.flatten(2).mT.double().cpu()
        said = said.view(*said.shape[:2], -1, 4)  # n x h w x R x 4
        boxes = in_photo(boxes_said(said, contract.log_size), places, seen.mirrored)
        return torch.cat([places, boxes.flatten(2)], -1)

    return reduce


def boxes_in(rows: Tensor) -> Floats:
    """The boxes of such rows of one photo, N x R x 4."""
    return np.asarray(rows[:, 4:].reshape(len(rows), -1, 4).numpy())
