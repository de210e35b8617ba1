"""Counting: errors, recall, confusion and mistakes of posteriors made by hand."""

import numpy as np
import pytest
import torch

from verydeep.evaluate.scores import MISTAKES, Scores, pack, unpack
from verydeep.ranks import ALONE


def counted(posteriors, targets):
    posteriors = torch.tensor(posteriors)
    scores = Scores(posteriors.shape[1])
    scores.add(list(range(len(targets))), posteriors, torch.tensor(targets))
    return scores


def test_posteriors_made_by_hand():
    p = [
        [0.30, 0.20, 0.15, 0.15, 0.10, 0.06, 0.04],  # truth 0: right
        [0.30, 0.20, 0.15, 0.14, 0.11, 0.06, 0.04],  # truth 4: fifth
        [0.30, 0.20, 0.15, 0.14, 0.11, 0.06, 0.04],  # truth 5: sixth
        [0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 1.00],  # truth 6: right
    ]
    names = ("photos", "top1_errors", "top5_errors", "top1_error", "top5_error")
    assert counted(p, [0, 4, 5, 6]).as_dict() == dict(zip(names, (4, 2, 1, 50.0, 25.0), strict=True))
    assert Scores(6).as_dict() == dict(zip(names, (0, 0, 0, None, None), strict=True))


@pytest.mark.parametrize(("classes", "given"), [(2, False), (5, False), (6, True)])
def test_top_5_is_null_where_it_cannot_fail(classes, given):
    record = counted([[1 / classes] * classes], [classes - 1]).as_dict()
    assert (record["top5_errors"] is not None) == (record["top5_error"] is not None) == given


def test_equal_posteriors_are_ordered_by_class_number():
    scores = counted([[0.125] * 8] * 8, list(range(8)))
    assert (scores.top1_errors, scores.top5_errors) == (7, 3)
    assert scores.confusion[:, 0].tolist() == [1] * 8


def test_rows_of_the_confusion_are_truths_and_columns_answers_and_a_class_without_photos_has_no_recall():
    eye = np.eye(3).tolist()
    scores = counted([eye[2], eye[2], eye[0], eye[1]], [0, 0, 0, 1])
    assert scores.confusion.tolist() == [[1, 0, 2], [0, 1, 0], [0, 0, 0]]
    assert scores.recall() == [33.3333, 100.0, None]


def test_counts_against_numpy_in_any_batches_and_over_the_only_rank():
    random = np.random.default_rng(0)
    p, targets = random.dirichlet(np.ones(9), 200).astype(np.float32), random.integers(0, 9, 200)
    order = (-p).argsort(1, kind="stable")
    whole, pieces = counted(p, targets), Scores(9)
    for start in range(0, 200, 37):
        part = slice(start, start + 37)
        pieces.add(list(range(200))[part], torch.from_numpy(p[part]), torch.from_numpy(targets[part]))
    for scores in (whole, pieces, whole.over(ALONE)):
        assert (scores.photos, scores.top1_errors) == (200, (order[:, 0] != targets).sum())
        assert scores.top5_errors == sum(t not in o[:5] for t, o in zip(targets, order, strict=True))
        for t, a in np.ndindex(9, 9):
            assert scores.confusion[t, a] == ((targets == t) & (order[:, 0] == a)).sum()
        assert sorted(scores.mistakes) == sorted(whole.mistakes)


def test_the_most_confident_mistakes_are_kept_and_of_equal_ones_the_first():
    wrong = np.random.default_rng(1).uniform(0.5, 1, 100).astype(np.float32)
    scores = counted(np.stack([wrong, 1 - wrong], 1), [1] * 90 + [0] * 10)
    expected = sorted(((p, i) for i, p in enumerate(wrong[:90].tolist())), reverse=True)[:MISTAKES]
    assert sorted(((p, -i) for p, i, _, _ in scores.mistakes), reverse=True) == expected
    assert {(truth, answer) for _, _, truth, answer in scores.mistakes} == {(1, 0)}
    scores = counted([[1.0, 0.0]] * 150, [1] * 150)
    assert sorted(-i for _, i, _, _ in scores.mistakes) == list(range(MISTAKES))


@pytest.mark.parametrize("photos", [0, 1, 7, 8, 9, 1000])
def test_bits_survive_their_text_and_the_first_photo_is_the_highest(photos):
    flags = np.random.default_rng(photos).random(photos) < 0.5
    text = pack(flags)
    assert len(text) == 2 * -(-photos // 8)
    assert np.array_equal(unpack(text, photos), flags)
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
    bits = (found.tested(), found.right()["top1"], found.right()["top5"])
    assert [unpack(text, 9).nonzero()[0].tolist() for text in bits] == [[1, 4, 8], [8], [1, 8]]
    few = Scores(5, among=2)
    few.add([1], torch.eye(5)[:1], torch.tensor([0]))
    assert few.right() == {"top1": "40", "top5": None}
