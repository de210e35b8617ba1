"""Counting: errors, recall, confusion and mistakes of posteriors made by hand."""

import numpy as np
import pytest
import torch

from verydeep.evaluate.scores import MISTAKES, Scores, pack, unpack
from verydeep.ranks import ALONE


def counted(posteriors, targets, classes=None):
    posteriors = torch.tensor(posteriors)
    scores = Scores(classes or posteriors.shape[1])
    scores.add(list(range(len(targets))), posteriors, torch.tensor(targets))
    return scores


def test_posteriors_made_by_hand():
    p = [
        [0.30, 0.20, 0.15, 0.15, 0.10, 0.06, 0.04],  # truth 0: right
        [0.30, 0.20, 0.15, 0.14, 0.11, 0.06, 0.04],  # truth 4: fifth
        [0.30, 0.20, 0.15, 0.14, 0.11, 0.06, 0.04],  # truth 5: sixth
        [0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 1.00],  # truth 6: right
    ]
    assert counted(p, [0, 4, 5, 6]).as_dict() == {
        "photos": 4,
        "top1_errors": 2,
        "top5_errors": 1,
        "top1_error": 50.0,
        "top5_error": 25.0,
    }


@pytest.mark.parametrize(("classes", "given"), [(2, False), (5, False), (6, True)])
def test_top_5_is_null_where_it_cannot_fail(classes, given):
    record = counted([[1 / classes] * classes], [classes - 1]).as_dict()
    assert (record["top5_errors"] is not None) == given
    assert (record["top5_error"] is not None) == given


def test_equal_posteriors_are_ordered_by_class_number():
    scores = counted([[0.125] * 8] * 8, list(range(8)))
    assert scores.top1_errors == 7
    assert scores.top5_errors == 3
    assert scores.confusion[:, 0].tolist() == [1] * 8


def test_rows_of_the_confusion_are_truths_and_columns_answers():
    eye = np.eye(3).tolist()
    scores = counted([eye[2], eye[2], eye[0], eye[1]], [0, 0, 0, 1])
    assert scores.confusion.tolist() == [[1, 0, 2], [0, 1, 0], [0, 0, 0]]


def test_recall_is_null_for_a_class_without_photos():
    eye = np.eye(3).tolist()
    assert counted([eye[2], eye[2], eye[0], eye[1]], [0, 0, 0, 1]).recall() == [33.3333, 100.0, None]


def test_no_photos_have_no_rates():
    assert Scores(6).as_dict() == {
        "photos": 0,
        "top1_errors": 0,
        "top5_errors": 0,
        "top1_error": None,
        "top5_error": None,
    }


def test_counts_against_numpy_in_any_batches():
    random = np.random.default_rng(0)
    p, targets = random.dirichlet(np.ones(9), 200).astype(np.float32), random.integers(0, 9, 200)
    order = (-p).argsort(1, kind="stable")
    whole, pieces = counted(p, targets), Scores(9)
    for start in range(0, 200, 37):
        part = slice(start, start + 37)
        pieces.add(list(range(200))[part], torch.from_numpy(p[part]), torch.from_numpy(targets[part]))
    for scores in (whole, pieces):
        assert scores.photos == 200
        assert scores.top1_errors == (order[:, 0] != targets).sum()
        assert scores.top5_errors == sum(t not in o[:5] for t, o in zip(targets, order, strict=True))
        assert all(
            scores.confusion[t, a] == ((targets == t) & (order[:, 0] == a)).sum() for t in range(9) for a in range(9)
        )
    assert sorted(whole.mistakes) == sorted(pieces.mistakes)


def test_the_most_confident_mistakes_are_kept():
    random = np.random.default_rng(1)
    wrong = random.uniform(0.5, 1, 100).astype(np.float32)
    scores = counted(np.stack([wrong, 1 - wrong], 1), [1] * 90 + [0] * 10)
    expected = sorted(((p, i) for i, p in enumerate(wrong[:90].tolist())), reverse=True)[:MISTAKES]
    assert sorted(((p, -i) for p, i, _, _ in scores.mistakes), reverse=True) == expected
    assert {(truth, answer) for _, _, truth, answer in scores.mistakes} == {(1, 0)}


def test_of_equally_confident_mistakes_the_first_photos_are_kept():
    scores = counted([[1.0, 0.0]] * 50, [1] * 50)
    assert sorted(-i for _, i, _, _ in scores.mistakes) == list(range(MISTAKES))


def test_alone_the_scores_of_all_ranks_are_ones_own():
    random = np.random.default_rng(2)
    own = counted(random.dirichlet(np.ones(9), 200).astype(np.float32), random.integers(0, 9, 200))
    found = own.over(ALONE)
    assert found.as_dict() == own.as_dict()
    assert found.confusion.equal(own.confusion)
    assert sorted(found.mistakes) == sorted(own.mistakes)


@pytest.mark.parametrize("photos", [0, 1, 7, 8, 9, 1000])
def test_bits_survive_their_text(photos):
    flags = np.random.default_rng(photos).random(photos) < 0.5
    text = pack(flags)
    assert len(text) == 2 * -(-photos // 8)
    assert np.array_equal(unpack(text, photos), flags)


def test_the_first_photo_is_the_highest_bit():
    assert pack(np.array([True, False, False, False, False, False, True, True, True])) == "8380"


@pytest.mark.parametrize(("text", "photos"), [("83", 9), ("8380", 8), ("81", 7), ("8", 4), ("zz", 8)])
def test_bits_of_another_number_of_photos_are_refused(text, photos):
    with pytest.raises(ValueError):
        unpack(text, photos)


def test_which_photos_were_tested_and_right():
    p = np.full((3, 7), 0.05, np.float32)
    p[:, 2] = 0.7
    scores = Scores(7, among=9)
    scores.add([8, 1, 4], torch.from_numpy(p), torch.tensor([2, 0, 6]))
    found = scores.over(ALONE)
    assert unpack(found.tested(), 9).nonzero()[0].tolist() == [1, 4, 8]
    assert unpack(found.right()["top1"], 9).nonzero()[0].tolist() == [8]
    assert unpack(found.right()["top5"], 9).nonzero()[0].tolist() == [1, 8]
    few = Scores(5, among=2)
    few.add([1], torch.eye(5)[:1], torch.tensor([0]))
    assert few.right() == {"top1": "40", "top5": None}
