"""Count, then divide once: errors, recall, confusion, and the mistakes most worth looking at."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from verydeep.ranks import Ranks

MISTAKES = 24


@dataclass
class Scores:
    """Counts over photos. `confusion` is K x K: rows the true class, columns the answer."""

    classes: int
    photos: int = 0
    top1_errors: int = 0
    top5_errors: int = 0
    confusion: Tensor = field(init=False)
    mistakes: list[tuple[float, int, int, int]] = field(default_factory=list)  # probability, id, truth, answer

    def __post_init__(self) -> None:
        self.confusion = torch.zeros(self.classes, self.classes, dtype=torch.int64)

    def add(self, ids: list[int], posteriors: Tensor, targets: Tensor) -> None:
        """Counts a batch: posteriors N x K, targets int64 N. Equal posteriors are ordered by class number."""
        best = posteriors.sort(dim=1, descending=True, stable=True).indices[:, :5]
        wrong = best[:, 0] != targets
        self.photos += len(ids)
        self.top1_errors += int(wrong.sum())
        self.top5_errors += int((best != targets[:, None]).all(1).sum())
        self.confusion += torch.bincount(targets * self.classes + best[:, 0], minlength=self.classes**2).view(self.classes, -1)
        for i in wrong.nonzero().flatten().tolist():
            answer = int(best[i, 0])
            heapq.heappush(self.mistakes, (float(posteriors[i, answer]), -ids[i], int(targets[i]), answer))
            if len(self.mistakes) > MISTAKES:
                heapq.heappop(self.mistakes)

    def over(self, ranks: Ranks) -> Scores:
        """The scores of all ranks together."""
        counts = ranks.sum(torch.cat([torch.tensor([self.photos, self.top1_errors, self.top5_errors]), self.confusion.flatten()]))
        photos, top1, top5 = counts[:3].tolist()
        mistakes = heapq.nlargest(MISTAKES, (tuple(m) for part in ranks.gather(self.mistakes) for m in part))
        total = Scores(self.classes, photos, top1, top5, mistakes)
        total.confusion = counts[3:].view(self.classes, -1)
        return total

    def percent(self, errors: int) -> float | None:
        return round(100 * errors / self.photos, 4) if self.photos else None

    def as_dict(self) -> dict[str, Any]:
        """Counts and rates in percent; top-5 is null with five classes or fewer, where it cannot fail."""
        top5 = self.classes > 5
        return {
            "photos": self.photos,
            "top1_errors": self.top1_errors,
            "top5_errors": self.top5_errors if top5 else None,
            "top1_error": self.percent(self.top1_errors),
            "top5_error": self.percent(self.top5_errors) if top5 else None,
        }

    def recall(self) -> list[float | None]:
        """Share of each class that was answered right, in percent; null where it has no photo."""
        return [round(100 * int(row[i]) / int(row.sum()), 4) if row.sum() else None for i, row in enumerate(self.confusion)]
