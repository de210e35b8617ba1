"""A block of a net strip by strip of its rows, so that its maps, the largest of all, need never be whole in memory."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from torch import Tensor

from verydeep.net.fast import Convolution
from verydeep.net.inside import FC, Step

VALUES = 1 << 22  # of a strip of a map, 16 MB in fp32
LEAST_ROWS = 16
ABOVE_POOL = 2  # rows that a pooling which blurs over its border sees, a whole number of its steps
Reduce = Callable[..., Tensor]  # (name of a layer, its map of each picture) -> what is kept of them


class Strip(NamedTuple):
    """What a block makes of some rows: its last maps, and by name (what was kept of a layer, how many rows it had)."""

    maps: list[Tensor]
    kept: dict[str, tuple[Tensor, int]]


def strips_of(part: Sequence[Step], maps: Sequence[Tensor]) -> list[tuple[int, int]]:
    """(first row, row behind the last) of the strips of a block, an even number of rows each; FC layers take all."""
    height, width = maps[0].shape[2:]
    channels = [step.out_channels for _, step in part if isinstance(step, Convolution)]
    if not channels or part[-1][0] in FC:
        return [(0, height)]
    rows = max(LEAST_ROWS, VALUES // (width * max(channels)) // 2 * 2)
    return [(first, min(first + rows, height)) for first in range(0, height, rows)]


def through_strip(
    part: Sequence[Step], names: Collection[str], reduce: Reduce, first: int, last: int, *maps: Tensor
) -> Strip:
    """These rows of a block, as they are where all goes through at once: they go with so many rows around them that the
    zeros with which convolutions pad a strip do not reach them."""
    height, kept = maps[0].shape[2], dict[str, tuple[Tensor, int]]()
    reach = sum(step.kernel_size[0] // 2 for _, step in part if isinstance(step, Convolution)) + ABOVE_POOL
    top = max(0, first - reach)
    found = [x[:, :, top : min(height, last + reach)] for x in maps]
    for name, step in part:
        if name.startswith("pool"):
            more = ABOVE_POOL if first else 0
            found = [step(x[:, :, first - more - top : last - top])[:, :, more // 2 :] for x in found]
            first, top, last = 0, 0, found[0].shape[2]
        else:
            found = [step(x) for x in found]
        if name in names:
            own = [x[:, :, first - top : last - top] if x.ndim > 2 else x for x in found]
            kept[name] = reduce(name, *own), last - first
    return Strip(found, kept)
