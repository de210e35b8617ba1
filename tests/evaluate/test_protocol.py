"""How photos are shown to a net: against a slow loop, mirrored, in any company."""

import numpy as np
import pytest
import torch
from PIL import Image

from verydeep.contract import Contract
from verydeep.errors import PhotoError
from verydeep.evaluate import protocol
from verydeep.evaluate.protocol import PROTOCOLS, answers, mirrored, posteriors, shown, torch_scorer
from verydeep.evaluate.scores import Scores
from verydeep.net.classifier import build
from verydeep.net.initialise import initialise


@pytest.fixture(scope="module")
def classifier():
    made = build(Contract("A", tuple("abcdefg"), 32, 16, 8, False, "up", (120.0, 120.0, 120.0), (60.0, 60.0, 60.0), (32, 32)))
    initialise(made.net, "he")
    return made.eval()


def image(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def run(classifier, photos, how="dense", scale=32, mirror=None, **options):
    """Posteriors by id, and the order in which the ids were answered."""
    mirror = mirrored(how) if mirror is None else mirror
    scorer = torch_scorer(classifier, torch.device("cpu"))
    found, order = {}, []
    for ids, p in answers(scorer, photos.__getitem__, range(len(photos)), protocol=how, scale=scale, crop=32, mirror=mirror, **options):
        assert p.dtype == torch.float32
        assert len(ids) == len(p)
        order += ids
        found |= dict(zip(ids, p, strict=True))
    return torch.stack([found[id] for id in sorted(found)]), order


def slow_posteriors(score_map):
    """Mean over space and soft-max of one photo's K x h x w, number by number."""
    k, h, w = score_map.shape
    means = [sum(float(score_map[c, i, j]) for i in range(h) for j in range(w)) / (h * w) for c in range(k)]
    powers = [np.exp(m - max(means)) for m in means]
    return np.array([p / sum(powers) for p in powers])


@pytest.mark.parametrize("mirror", [False, True])
def test_posteriors_are_those_of_a_slow_loop(mirror):
    random = torch.Generator().manual_seed(0)
    maps = {flipped: torch.randn(3, 5, 2, 4, generator=random) * 3 for flipped in (False, True)}
    photos = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    photos[..., 0] = 1  # so that the scorer can tell a photo from its mirror image
    found = posteriors(lambda x: maps[bool(x[0, 0, 0, 7])], photos, mirror)
    for n in range(3):
        ways = [slow_posteriors(maps[flipped][n]) for flipped in ([False, True] if mirror else [False])]
        assert found[n].numpy() == pytest.approx(sum(ways) / len(ways), rel=1e-5)


def test_the_average_is_of_posteriors_not_of_scores():
    maps = iter([torch.tensor([10.0, 0.0]).view(1, 2, 1, 1), torch.tensor([-2.0, 0.0]).view(1, 2, 1, 1)])
    found = posteriors(lambda x: next(maps), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), True)
    assert float(found[0, 0]) == pytest.approx((1 / (1 + np.exp(-10)) + 1 / (1 + np.exp(2))) / 2, rel=1e-5)


def test_the_mirror_is_averaged_in_by_default_in_dense_evaluation_only():
    assert [mirrored(p) for p in PROTOCOLS] == [False, True]


def test_a_mirrored_photo_has_the_same_posteriors(classifier):
    photo = image(40, 52)
    mirror = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    both, _ = run(classifier, [photo, mirror], scale=40)
    assert torch.allclose(both[0], both[1], atol=1e-6)
    one_way, _ = run(classifier, [photo, mirror], scale=40, mirror=False)
    assert not torch.allclose(one_way[0], one_way[1], atol=1e-4)


@pytest.mark.parametrize("mirror", [False, True])
def test_centre_and_dense_agree_on_photos_of_exactly_crop_size(classifier, mirror):
    photos = [image(32, 32, seed) for seed in range(4)]
    found = [run(classifier, photos, how, mirror=mirror)[0] for how in PROTOCOLS]
    assert torch.equal(*found)


def test_they_differ_on_larger_photos(classifier):
    photos = [image(32, 60)]
    found = [run(classifier, photos, how, mirror=False)[0] for how in PROTOCOLS]
    assert not torch.allclose(*found, atol=1e-4)


def test_the_centre_crop_is_the_middle_of_the_rescaled_photo():
    photo = image(80, 120)
    rescaled = np.asarray(photo.resize((60, 40), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(shown(photo, "centre", 40, 32).astype(int) - rescaled[4:36, 14:46]).max() <= 1
    assert np.array_equal(shown(photo, "dense", 40, 32), rescaled)


@pytest.mark.parametrize("how", PROTOCOLS)
def test_a_batch_of_1_and_of_16_count_the_same(classifier, how):
    photos = [image(32 + s % 3, 34 + s % 2, s) for s in range(30)]
    targets, counts = torch.arange(30) % 7, []
    for batch in (1, 16):
        found, _ = run(classifier, photos, how, batch=batch)
        scores = Scores(7)
        scores.add(list(range(30)), found, targets)
        counts.append((scores.as_dict(), scores.confusion.tolist()))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("waiting", [1, 5_000, 64 << 20])
@pytest.mark.parametrize("workers", [0, 2])
def test_photos_of_mixed_sizes_are_answered_once_each_and_as_if_alone(classifier, monkeypatch, waiting, workers):
    monkeypatch.setattr(protocol, "WAITING_PIXELS", waiting)
    photos = [image(32 + s % 2, 32 + 10 * (s % 3), s) for s in range(20)]
    found, order = run(classifier, photos, batch=3, workers=workers)
    assert sorted(order) == list(range(20))
    alone = torch.cat([run(classifier, [p])[0] for p in photos])
    assert torch.allclose(found, alone, atol=1e-5)


def test_photos_do_not_wait_beyond_the_memory_bound(classifier, monkeypatch):
    """Ten sizes, one photo each: without the bound all would wait to the end."""
    monkeypatch.setattr(protocol, "WAITING_PIXELS", 3 * 32 * 60)
    opened = []
    photos = [image(32, 32 + s, s) for s in range(10)]
    scorer = torch_scorer(classifier, torch.device("cpu"))
    stream = answers(
        scorer, lambda id: opened.append(id) or photos[id], range(10), protocol="dense", scale=32, crop=32, mirror=False, batch=8
    )
    waited = 0
    for n, (ids, _) in enumerate(stream):
        if n == 0:
            waited = len(opened)
        assert len(ids) == 1
    assert 2 <= waited <= 6


def test_a_full_batch_is_answered_at_once(classifier):
    scorer = torch_scorer(classifier, torch.device("cpu"))
    sizes = [
        len(ids)
        for ids, _ in answers(scorer, lambda id: image(32, 32, id), range(8), protocol="centre", scale=32, crop=32, mirror=False, batch=3)
    ]
    assert sizes == [3, 3, 2]


@pytest.mark.parametrize(("height", "width"), [(32, 257), (257, 32), (1, 9)])
def test_dense_refuses_photos_longer_than_8_to_1(height, width):
    with pytest.raises(PhotoError, match="8:1"):
        shown(image(height, width), "dense", 32, 32)


@pytest.mark.parametrize(("height", "width"), [(32, 257), (257, 32), (1, 9), (1, 65_500)])
def test_centre_takes_photos_of_any_length(height, width):
    assert shown(image(height, width), "centre", 32, 32).shape == (32, 32, 3)


def test_dense_takes_exactly_8_to_1():
    assert shown(image(10, 80), "dense", 32, 32).shape == (32, 256, 3)


def test_a_bad_photo_is_raised_or_handed_over(classifier):
    photos = [image(32, 32), image(10, 100), image(32, 32, 2)]
    with pytest.raises(PhotoError):
        run(classifier, photos)
    bad = []
    _, order = run(classifier, photos, on_bad=lambda id, e: bad.append(id))
    assert order == [0, 2]
    assert bad == [1]


def test_a_scorer_computes_in_eval_mode_without_gradients(classifier):
    classifier.train()
    scores = torch_scorer(classifier, torch.device("cpu"))(torch.zeros(1, 3, 40, 40, dtype=torch.uint8))
    assert not classifier.training
    assert not scores.requires_grad
    assert scores.shape == (1, 7, 2, 2)
