"""What nets say of a photo, and where: maps reduced to rows of (window in the photo, what is said there)."""

import numpy as np
import torch
from torch import Tensor

from verydeep.contract import Contract
from verydeep.evaluate.frames import windows
from verydeep.evaluate.passes import Reduce, Seen
from verydeep.evaluate.views import VIEWS
from verydeep.localise.boxes import boxes_said, in_photo


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
