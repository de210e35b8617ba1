"""The order in which photos will be read, as a plan for their shards: which are needed when, and which no more."""

import numpy as np
import numpy.typing as npt

SLACK = 1_024  # photos that threads may be behind the foremost
STEP = 64  # photos after which to look again


class Plan:
    """Shards by their first use. `shards` has each photo's; `next` is the next to fetch, a place in `order`."""

    def __init__(self, shards: npt.NDArray[np.int32], ids: npt.NDArray[np.int64]) -> None:
        used = shards[ids]
        found, first = np.unique(used, return_index=True)
        last = len(ids) - 1 - np.unique(used[::-1], return_index=True)[1]
        by_first = np.argsort(first)
        self.order, self.first, self.last = found[by_first], first[by_first], last[by_first]
        self.place = {shard: i for i, shard in enumerate(self.order.tolist())}
        self.position = np.full(len(shards), -1, np.int32)
        self.position[ids[::-1]] = np.arange(len(ids), dtype=np.int32)[::-1]
        self.next = self.reached = 0

    def advance(self, at: int) -> bool:
        """A photo was read; whether it is time to fetch further ones."""
        before, self.reached = self.reached, max(self.reached, int(self.position[at]))
        return before // STEP < self.reached // STEP

    def due(self, shard: int) -> int | None:
        """When a shard is needed first, or None where it is not, or no more."""
        i = self.place.get(shard)
        return None if i is None or self.last[i] < self.reached - SLACK else int(self.first[i])

    def overlap(self, sizes: npt.NDArray[np.int64]) -> int:
        """The most bytes of shards that have been begun and not ended."""
        by_last = np.argsort(self.last)
        ended = np.concatenate([[0], np.cumsum(sizes[self.order[by_last]])])
        ended_before = ended[np.searchsorted(self.last[by_last], self.first)]
        return int((np.cumsum(sizes[self.order]) - ended_before).max())
