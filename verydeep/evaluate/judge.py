"""What error rates tell: intervals, guessing, and whether a net has learnt at all."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from verydeep.paper import STRIDE

Z95 = 1.959964  # of a normal distribution, two-sided
SURE = 0.05  # of a one-sided test
ONE_ANSWER, MOSTLY = 0.95, 0.9  # shares of the photos: that got the same answer, that are of one class
FEW = 100  # photos of a test that tells little
Cells = Sequence[tuple[int, int, int]]  # (true class, answer, photos) where there are some


def interval(errors: int, photos: int) -> tuple[float, float]:
    """Where an error rate may well lie, in percent: the 95 % interval of Wilson (1927)."""
    p, spread = errors / photos, Z95**2 / photos
    middle, half = p + spread / 2, Z95 * math.sqrt(p * (1 - p) / photos + spread / (4 * photos))
    return tuple(round(100 * (middle + side) / (1 + spread), 2) + 0.0 for side in (-half, half))  # type: ignore[return-value]


def chance(right: int, photos: int, share: float) -> float:
    """How likely one who is right with this probability is right at least so often: the tail of a binomial."""
    if share >= 1 or right <= 0:
        return 1.0
    logs = math.log(share), math.log1p(-share)
    ways = math.lgamma(photos + 1)
    return min(1.0, math.fsum(
        math.exp(ways - math.lgamma(k + 1) - math.lgamma(photos - k + 1) + k * logs[0] + (photos - k) * logs[1])
        for k in range(right, photos + 1)
    ))  # fmt: skip


class Verdict(NamedTuple):
    """guessing: the error in percent of always answering the largest class. doubt: why nothing seems learnt, or ''."""

    guessing: float
    doubt: str


def judged(cells: Cells, classes: Sequence[str]) -> Verdict:
    """Of the answers of a test: one answer to nearly everything, or no better than guessing."""
    truths, answers = Counter[int](), Counter[int]()
    for truth, answer, n in cells:
        truths[truth] += n
        answers[answer] += n
    photos, right = truths.total(), sum(n for truth, answer, n in cells if truth == answer)
    (largest, most), (favourite, often) = truths.most_common(1)[0], answers.most_common(1)[0]
    share, doubt = max(most / photos, 1 / len(classes)), ""
    if len(truths) == 1 < len(classes):  # always saying it would be right, and so may a good net
        return Verdict(0.0, "")
    if chance(right, photos, share) > SURE >= chance(photos, photos, share):  # of two photos nothing could be said
        doubt = f"the net is no better than guessing: always saying {classes[largest]!r} would be right as often"
    if often >= ONE_ANSWER * photos and most < MOSTLY * photos:
        doubt = f"the net gives one answer, {classes[favourite]!r}, to nearly every photo"
    return Verdict(round(100 * (1 - most / photos), 2), doubt)


def by_class(cells: Cells, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Photos, precision, recall and F1 of each class, in percent; null where there is nothing to divide by."""
    truths, answers, right = Counter[int](), Counter[int](), Counter[int]()
    for truth, answer, n in cells:
        truths[truth] += n
        answers[answer] += n
        right[truth] += n * (truth == answer)

    def percent(part: float, whole: float) -> float | None:
        return round(100 * part / whole, 2) if whole else None

    return [
        {
            "class": name, "photos": truths[i], "precision": percent(right[i], answers[i]),
            "recall": percent(right[i], truths[i]), "f1": percent(2 * right[i], truths[i] + answers[i]),
        }
        for i, name in enumerate(classes)
    ]  # fmt: skip


def paired(a: int, b: int, photos: int) -> tuple[float, float]:
    """The 95 % interval, in points, of the errors less of a second test on the same photos (Agresti & Min 2005).

    a: photos that only the second got right; b: only the first.
    """
    a_, b_, n = a + 0.5, b + 0.5, photos + 2
    gain, half = (a_ - b_) / n, Z95 * math.sqrt(max(a_ + b_ - (a_ - b_) ** 2 / n, 0.0)) / n
    return round(100 * (gain - half), 2), round(100 * (gain + half), 2)


def interval_of(gains: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The same of the gains of photos, each from -1 to 1: of several seeds the mean."""
    n = len(gains) + 2
    middle = float(gains.sum()) / n
    half = Z95 * math.sqrt((float(gains @ gains) + 1) / n - middle**2) / math.sqrt(n)
    return 100 * (middle - half), 100 * (middle + half)


def main_test(tests: Sequence[tuple[str, Sequence[int], int]]) -> int:
    """Of tests (protocol, its Q, crop) in the order of the ladder, the place of the one that a net is judged by.

    The last; but where the class map of a crop is one cell, and Q is hardly larger, dense evaluation has nothing to
    average and shows the net what it was not trained on.
    """
    telling = [i for i, (p, q, crop) in enumerate(tests) if p == "centre" or crop > STRIDE or min(q) >= crop + STRIDE]
    return telling[-1] if telling else len(tests) - 1


def cells_of(result: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    """(true class, answer, photos) where there are some; earlier versions kept a matrix, whose sum is the photos."""
    table, k = result["confusion"], len(result["classes"])
    if list(map(len, table)) == [k] * k and sum(map(sum, table)) == result["photos"]:
        return [(t, a, n) for t, row in enumerate(table) for a, n in enumerate(row) if n]
    return [(t, a, n) for t, a, n in table]
