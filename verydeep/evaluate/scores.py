"""Count, then divide once: errors, recall, confusion, and the mistakes most worth looking at."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from verydeep.ranks import Ranks

MISTAKES = 100
TESTED, TOP1, TOP5 = 1, 2, 4  # what is known of a photo: that it was tested, and that its answer was right


@dataclass
class Scores:
    """Counts over photos. `confusion` is K x K: rows the true class, columns the answer.

    `among`: of how many photos, by id, to remember which were tested and answered rightly; 0 remembers none.
    """

    classes: int
    photos: int = 0
    top1_errors: int = 0
    top5_errors: int = 0
    confusion: Tensor = field(init=False)
    mistakes: list[tuple[float, int, int, int]] = field(default_factory=list)  # probability, id, truth, answer
    among: int = 0
    known: Tensor = field(init=False)  # uint8 by photo id
    answers: Tensor = field(init=False)  # int32 by photo id, and how sure the net was, float32
    sure: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.known = torch.zeros(self.among, dtype=torch.uint8)
        self.answers, self.sure = torch.zeros(self.among, dtype=torch.int32), torch.zeros(self.among)
        self.confusion = torch.zeros(self.classes, self.classes, dtype=torch.int64)

    def add(self, ids: list[int], posteriors: Tensor, targets: Tensor) -> None:
        """Counts a batch: posteriors N x K, targets int64 N. Equal posteriors are ordered by class number."""
        best = posteriors.sort(dim=1, descending=True, stable=True).indices[:, :5]
        wrong, missed = best[:, 0] != targets, (best != targets[:, None]).all(1)
        self.photos += len(ids)
        self.top1_errors += int(wrong.sum())
        self.top5_errors += int(missed.sum())
        if self.among:
            at = torch.tensor(ids)
            self.known[at] = (TESTED + TOP1 * ~wrong + TOP5 * ~missed).to(torch.uint8)
            self.answers[at], self.sure[at] = best[:, 0].int(), posteriors.amax(1).float()
        self.confusion.view(-1).index_add_(0, targets * self.classes + best[:, 0], torch.ones_like(targets))
        for i in wrong.nonzero().flatten().tolist():
            answer = int(best[i, 0])
            heapq.heappush(self.mistakes, (float(posteriors[i, answer]), -ids[i], int(targets[i]), answer))
            if len(self.mistakes) > MISTAKES:
                heapq.heappop(self.mistakes)

    def over(self, ranks: Ranks) -> Scores:
        """The scores of all ranks together."""
        counts = ranks.sum(
            torch.cat([torch.tensor([self.photos, self.top1_errors, self.top5_errors]), self.confusion.flatten()])
        )
        photos, top1, top5 = counts[:3].tolist()
        mistakes = heapq.nlargest(MISTAKES, (tuple(m) for part in ranks.gather(self.mistakes) for m in part))
        total = Scores(self.classes, photos, top1, top5, mistakes, self.among)
        total.confusion = counts[3:].view(self.classes, -1)
        total.known, total.answers, total.sure = map(ranks.sum, (self.known, self.answers, self.sure))
        return total

    def cells(self) -> list[tuple[int, int, int]]:
        """(true class, answer, photos) where there are some."""
        return [(t, a, int(self.confusion[t, a])) for t, a in self.confusion.nonzero().tolist()]

    def percent(self, errors: int | None) -> float | None:
        return None if errors is None or not self.photos else round(100 * errors / self.photos, 4)

    def as_dict(self) -> dict[str, Any]:
        """Counts and rates in percent; top-5 is null with five classes or fewer, where it cannot fail."""
        top1, top5 = self.top1_errors, self.top5_errors if self.classes > 5 else None
        return {
            "photos": self.photos, "top1_errors": top1, "top5_errors": top5,
            "top1_error": self.percent(top1), "top5_error": self.percent(top5),
        }  # fmt: skip

    def right(self) -> dict[str, str | None]:
        """Which photos were answered rightly, one bit each by id, as `unpack` reads them; a photo not tested has 0."""
        known = self.known.numpy()
        return {"top1": pack(known & TOP1 > 0), "top5": pack(known & TOP5 > 0) if self.classes > 5 else None}

    def tested(self) -> str:
        """Which photos were tested, one bit each by id."""
        return pack(self.known.numpy() & TESTED > 0)

    def recall(self) -> list[float | None]:
        """Share of each class that was answered right, in percent; null where it has no photo."""
        return [
            round(100 * int(row[i]) / int(row.sum()), 4) if row.sum() else None for i, row in enumerate(self.confusion)
        ]


def pack(flags: npt.NDArray[np.bool_]) -> str:
    """One bit a photo, bool N, as hexadecimal digits; the first photo is the highest bit of the first digit."""
    return np.packbits(flags).tobytes().hex()


def unpack(text: str, photos: int) -> npt.NDArray[np.bool_]:
    """What `pack` packed, bool N. Raises ValueError where the text does not hold just so many photos."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    if not 0 <= len(bits) - photos < 8 or bits[photos:].any():
        raise ValueError(f"{len(text)} hexadecimal digits do not hold the bits of {photos:,} photos")
    return bits[:photos].astype(bool)


def known_of(texts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Truths, texts x photos, of what `pack` packed; of the first photos only where one was."""
    found = [np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)) for text in texts]
    return np.array([f[: min(map(len, found))] for f in found], bool)
