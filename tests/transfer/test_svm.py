"""The SVM against Newton's method on the weights themselves in fp64, and against scikit-learn's LinearSVC."""

import numpy as np
import pytest

from verydeep.errors import DataError
from verydeep.transfer import CONSTANTS, fitted


def rows_of(n, d, classes, seed=0, noise=1.0):
    """Rows of length 1, as rectified features are, and their truth."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    x = np.maximum(random.standard_normal((classes, d))[labels] + noise * random.standard_normal((n, d)), 0)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return x, (2 * (labels[:, None] == np.arange(classes)) - 1).astype(np.int8)


def objective(x, y, constant, w, b):
    short = np.maximum(0, 1 - y * (x @ w + b)) * (y != 0)
    return (w @ w + b * b) / 2 + constant * (short**2).sum(), 2 * constant * short


def minimum(x, y, constant):
    """The least objective, by Newton's method on w and b, damped by halving, in fp64."""
    rows, judged = np.hstack([x.astype(np.float64), np.ones((len(x), 1))]), y != 0
    w, value = np.zeros(rows.shape[1]), np.inf
    for _ in range(200):
        now, multipliers = objective(rows[:, :-1], y, constant, w[:-1], w[-1])
        if value - now < 1e-12 * now:
            return now
        value, inside = now, rows[judged & (multipliers > 0)]
        slope = w - rows.T @ (multipliers * y)
        step = np.linalg.solve(np.eye(len(w)) + 2 * constant * inside.T @ inside, slope)
        length = 1.0
        while objective(rows[:, :-1], y, constant, *np.split(w - length * step, [-1]))[0] > value and length > 1e-9:
            length /= 2
        w = w - length * step
    raise AssertionError


@pytest.mark.parametrize(
    ("n", "d", "noise"), [(60, 150, 1.5), (90, 40, 3.0), (400, 12, 2.0)], ids=["n < D", "n > D", "n >> D"]
)
def test_the_objective_is_at_its_minimum(n, d, noise):
    x, truth = rows_of(n, d, 6, noise=noise)
    truth[5, 2] = truth[11, 5] = 0  # not judged
    for constant, svm in zip(CONSTANTS, fitted(x, truth), strict=True):
        for c in range(6):
            found, _ = objective(x.astype(np.float64), truth[:, c], constant, svm.weights[c].astype(float), svm.bias[c])
            assert found <= minimum(x, truth[:, c], constant) * (1 + 1e-3)
    assert svm.scores(x).shape == (n, 6)


def test_a_photo_that_is_not_judged_teaches_nothing():
    x, truth = rows_of(60, 80, 3)
    truth[:7, 1] = 0
    whole, without = (next(fitted(*both, [1.0])) for both in ((x, truth), (x[7:], truth[7:])))
    assert np.allclose(whole.weights[1], without.weights[1], atol=2e-3)
    assert not np.allclose(whole.weights[0], without.weights[0], atol=2e-3)


def test_answers_are_those_of_liblinear():
    svm = pytest.importorskip("sklearn.svm")
    x, truth = rows_of(240, 500, 8, noise=3.0)
    train, test = np.arange(0, 160), np.arange(160, 240)
    for constant, own in zip(CONSTANTS, fitted(x[train], truth[train]), strict=True):
        theirs = svm.LinearSVC(C=constant, tol=1e-8, max_iter=200_000, random_state=0)
        theirs.fit(x[train], truth[train].argmax(1))
        assert np.abs(own.scores(x[test]) - theirs.decision_function(x[test])).max() < 0.02
        assert (own.scores(x[test]).argmax(1) == theirs.predict(x[test])).mean() >= 0.98
        for c in range(8):
            ours = objective(x[train].astype(float), truth[train, c], constant, own.weights[c], own.bias[c])[0]
            best = objective(x[train], truth[train, c], constant, theirs.coef_[c], theirs.intercept_[c])[0]
            assert ours <= best * (1 + 1e-3)


def test_what_is_no_number_is_told():
    x, truth = rows_of(12, 20, 3)
    x[4, 3] = np.nan
    with pytest.raises(DataError, match="row 4 of the descriptors holds values that are no numbers"):
        next(fitted(x, truth))
