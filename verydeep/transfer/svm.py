"""A linear SVM, one class against the rest, as liblinear's: the squared hinge, L2, the intercept regularised too.

For each class: min 1/2 (|w|^2 + b^2) + C sum max(0, 1 - y (w x + b))^2. As w = sum beta x and b = sum beta, beta, N a
class, is looked for, by products with the Gram matrix alone, which all classes share: Newton's step on the rows inside
the margin, its system by conjugate gradients, then the best length of it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from verydeep.errors import DataError

CONSTANTS = tuple(10 ** (k / 2) for k in range(-4, 6))  # ten, from 0.01 to 316, for rows of length 1
CLOSE = 1e-2  # of beta, where a class is solved; the objective is right to about the square of it
MOST_STEPS, MOST_PRODUCTS = 60, 40  # of Newton, and in each of them
Rows = npt.NDArray[np.float32]
Gram = Callable[[Tensor], Tensor]


class Svm(NamedTuple):
    """weights: float32 K x D, bias: float32 K."""

    weights: Rows
    bias: Rows

    def scores(self, rows: Rows) -> Rows:
        """N x K of rows N x D: above 0 on the side of the class."""
        return rows @ self.weights.T + self.bias


def fitted(rows: Rows, truth: npt.NDArray[np.int8], constants: Sequence[float] = CONSTANTS) -> Iterator[Svm]:
    """The SVM for each constant, rising, each begun with the one before.

    rows: float32 N x D; truth: N x K of 1, -1 and 0, which a class does not learn from. Raises DataError where a row
    is not finite.
    """
    if not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(1))[0]
        raise DataError(f"row {bad} of the descriptors holds values that are no numbers; expected finite ones")
    x, y = torch.from_numpy(np.ascontiguousarray(rows)), torch.from_numpy(truth).float()
    gram, beta = gram_of(x), torch.zeros_like(y)
    for constant in sorted(constants):
        beta = solved(gram, y, constant, beta)
        yield Svm((beta.T @ x).numpy(), beta.sum(0).numpy())


def gram_of(x: Tensor) -> Gram:
    """Products with x x^T + 1, the 1 for the intercept: the matrix itself, or x twice where rows are many."""
    matrix = x @ x.T + 1 if len(x) <= 2 * x.shape[1] else None
    return lambda b: x @ (x.T @ b) + b.sum(0) if matrix is None else matrix @ b


def solved(gram: Gram, y: Tensor, constant: float, beta: Tensor) -> Tensor:
    """beta N x K for targets y N x K, begun at `beta`; what is solved drops out."""
    found, scores, left = beta.clone(), gram(beta), torch.arange(y.shape[1])
    for _ in range(MOST_STEPS):
        own, b, f = y[:, left], found[:, left], scores[:, left]
        inside = ((own * f < 1) & (own != 0)).float()
        wanted = 2 * constant * inside * (own - f)  # what beta is at the minimum
        far = (b - wanted).norm(dim=0) > CLOSE * wanted.norm(dim=0)
        if not far.any():
            break
        left, own, b, f, inside, wanted = left[far], *(t[:, far] for t in (own, b, f, inside, wanted))
        step, turn = newton_step(gram, b, wanted, inside, 1 / (2 * constant))
        length = best_length(own, b, f, step, turn, constant)
        found[:, left] = F.hardshrink(b + length * step, 1e-20)  # what shrinks without end becomes slow numbers
        scores[:, left] = f + length * turn
    return found


def newton_step(gram: Gram, b: Tensor, wanted: Tensor, inside: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """What to add to beta, and what that adds to the scores: (gram + ridge) step = rest on the rows inside.

    It is exact enough or no way down: ended early, at a tenth of the first rest, Newton's method went nowhere.
    """
    step = b * (inside - 1)  # rows outside the margin go to 0
    turn = gram(step)
    along = rest = inside * (ridge * (wanted - b) - turn)
    square, enough = rest.square().sum(0), (CLOSE / 3 * ridge) ** 2 * wanted.square().sum(0) + 1e-30
    for _ in range(MOST_PRODUCTS):
        if not (going := square > enough).any():
            break
        along = along * going
        product = gram(along)
        ahead = square / ((along * product).sum(0) + ridge * along.square().sum(0)).clamp_min(1e-30)
        step, turn = step + ahead * along, turn + ahead * product
        rest = rest - ahead * inside * (product + ridge * along)
        before, square = square, rest.square().sum(0)
        along = rest + square / before.clamp_min(1e-30) * along
    return step, turn


def best_length(y: Tensor, b: Tensor, f: Tensor, step: Tensor, turn: Tensor, constant: float) -> Tensor:
    """How far to go along each class's step: the minimum of a convex function in pieces, by Newton's method on it."""
    length, first, second = torch.ones(y.shape[1]), (step * f).sum(0), (step * turn).sum(0)
    for _ in range(10):
        short = torch.relu(y * (y - f - length * turn))  # 1 - y f where it is above 0, and 0 for y = 0
        slope = first + length * second - 2 * constant * (short * y * turn).sum(0)
        length = length - slope / (second + 2 * constant * ((short > 0) * turn.square()).sum(0)).clamp_min(1e-30)
    return length
