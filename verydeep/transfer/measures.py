"""What the data sets of appendix B are judged by: right answers, mean class recall, average precision."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Truth = npt.NDArray[np.int8]


class Precision(NamedTuple):
    """Average precision of one class, from 0 to 1, by three definitions."""

    eleven: float  # VOC-2007: the mean over the recalls 0, 0.1 ... 1 of the best precision from there on
    every: float  # VOC since 2010: the same over all recalls
    steps: float  # scikit-learn's: the mean of the precision at each photo that has the class


def average_precision(scores: Scores, truth: Truth) -> Precision | None:
    """Of scores N and truth N; photos of truth 0 are not judged, as VOC's difficult ones. None without a positive."""
    there = truth[truth != 0][np.argsort(-scores[truth != 0], kind="stable")] > 0
    if not there.any():
        return None
    found = np.cumsum(there)
    precision = found / np.arange(1, len(there) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at this rank or a later one
    eleven = [best[10 * found >= t * found[-1]][0] for t in range(11)]  # in whole numbers, as 3/10 is no fraction of 2
    return Precision(float(np.mean(eleven)), float(best[there].mean()), float(precision[there].mean()))


def class_recall(scores: Scores, truth: Truth) -> list[float | None]:
    """Of each class the share of its photos that have their best score there; None for one without photos."""
    answers, targets = scores.argmax(1), truth.argmax(1)
    own = [answers[targets == c] == c for c in range(truth.shape[1])]
    return [float(right.mean()) if len(right) else None for right in own]


def measured(scores: Scores, truth: Truth, one_each: bool) -> tuple[dict[str, float], list[float | None]]:
    """Measures by name in percent, the one to choose by first, and what each class has of it."""
    if one_each:
        by_class, right = class_recall(scores, truth), (scores.argmax(1) == truth.argmax(1)).mean()
        return {"recall": percent(by_class), "accuracy": 100 * float(right)}, by_class
    found = [average_precision(*pair) for pair in zip(scores.T, truth.T, strict=True)]
    means = {f"map_{name}": percent([p and getattr(p, name) for p in found]) for name in ("every", "eleven", "steps")}
    return means, [p and p.every for p in found]


def percent(values: list[float | None]) -> float:
    """The mean over the classes that have a value; 0 where none has."""
    known = [v for v in values if v is not None]
    return 100 * sum(known) / max(1, len(known))
