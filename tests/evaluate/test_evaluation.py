"""The pass over photos: against a slow loop in fp64, in any company, at any batch, with bounded memory."""

import gc
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from slow import made, noise, posteriors

from verydeep.data.record import Names, Photos
from verydeep.engines.scorers import pooled
from verydeep.errors import LongPhotoError, PhotoError
from verydeep.evaluate import passes
from verydeep.evaluate.classify import POSTERIORS, answers, count, entrant, tally
from verydeep.evaluate.passes import Settings, scorer_of
from verydeep.evaluate.views import PROTOCOLS, Step, View, ladder
from verydeep.net.classifier import Classifier
from verydeep.ranks import ALONE

ALL, LADDER = ladder(PROTOCOLS, "single"), ladder(PROTOCOLS, "several")
PHOTOS = [noise(40, 53, 1), noise(61, 39, 2)]  # the second is at Q in the first test


@pytest.fixture(scope="module")
def classifier():
    return made()


def run(classifier, photos, steps=ALL, scales="single", **settings):
    """Posteriors N x K of each step of one model, photos in order."""
    made_of = [entrant("", classifier, steps, scales)]
    found = [by_step for _, [by_step] in answers(made_of, photos.__getitem__, range(len(photos)), Settings(**settings))]
    return {step: torch.cat([by_step[step] for by_step in found]) for step in steps}


@pytest.mark.parametrize(
    ("average", "pooling", "mirror", "most"),
    [
        ("scores", "up", None, 1 << 22),
        ("posteriors", "up", False, 1 << 22),
        ("scores", "down", True, 1),  # each photo goes through alone, without its mirror image
        ("posteriors", "down", None, 1 << 22),
    ],
)
def test_every_step_is_what_a_slow_loop_over_crops_finds(monkeypatch, average, pooling, mirror, most):
    monkeypatch.setattr(passes, "FORWARD_PIXELS", most)
    monkeypatch.setattr("verydeep.net.pixels.FORWARD_PIXELS", most)
    classifier, how = made(scales=(33, 45)), {"average": average, "pooling": pooling}
    found = run(classifier, PHOTOS, LADDER, "several", precision="fp64", mirror=mirror, **how)
    for step in LADDER:
        centre = step.protocol == "centre"
        mirrors = not centre if mirror is None else mirror
        for n, image in enumerate(PHOTOS):
            if centre:
                image = image.resize([round(side * 39 / min(image.size)) for side in image.size], 2)
            scales = [33, 39, 45] if step.several else [39]
            expected = posteriors(classifier, image, step.protocol, scales, mirrors, average, pooling)
            off = 0.02 if centre and n == 0 else 1e-10  # a window may differ by a grey level from the whole photo
            assert found[step][n].numpy() == pytest.approx(expected, abs=off), step
    assert found[LADDER[0]].dtype == torch.float64


def test_averages_and_poolings_differ_where_the_map_is_larger_than_one(classifier):
    """And another pooling changes nothing in the classifier."""
    ways = ({}, {"average": "posteriors"}, {"pooling": "down"})
    one, *others = (run(classifier, PHOTOS, [Step("dense")], (50,), **way)[Step("dense")] for way in ways)
    assert not any(torch.allclose(one, other, atol=1e-4) for other in others)
    assert (classifier.contract.pooling, classifier.net.round_up) == ("up", True)
    other = pooled(classifier, "down")
    assert (other.net.round_up, other.net.fc6.weight.data_ptr()) == (False, classifier.net.fc6.weight.data_ptr())


@pytest.mark.parametrize("mirror", [False, True])
def test_all_protocols_agree_on_photos_of_exactly_crop_size_and_differ_on_larger_ones(classifier, mirror):
    found = run(classifier, [noise(32, 32, seed) for seed in range(4)], mirror=mirror, precision="fp64")
    assert all(torch.allclose(p, found[Step("centre")], atol=1e-14, rtol=0) for p in found.values())
    larger = list(run(classifier, [noise(40, 60)], scales=(40,), mirror=mirror).values())
    assert not any(torch.allclose(a, b, atol=1e-5) for i, a in enumerate(larger) for b in larger[:i])


@pytest.mark.parametrize("mirror", [False, True])
def test_a_mirrored_photo_has_the_same_posteriors_if_the_mirror_is_averaged_in(classifier, mirror):
    photos = [(photo := noise(40, 52)), photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    found = run(classifier, photos, scales=(40,), precision="fp64", mirror=mirror)
    for p in found.values():
        assert torch.allclose(p[0], p[1], atol=1e-14 if mirror else 1e-5) == mirror


def test_protocols_asked_together_are_bit_for_bit_those_asked_alone(classifier):
    together = run(classifier, PHOTOS, LADDER, (34, 40))
    for step in LADDER:
        assert torch.equal(run(classifier, PHOTOS, [step], (34, 40))[step], together[step])


def test_soft_max_comes_before_or_after_the_average_over_space():
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    map = torch.tensor([[10.0, -2.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    assert float(POSTERIORS["posteriors"](map, None)[0, 0]) == pytest.approx((sigmoid(10) + sigmoid(-2)) / 2, rel=1e-5)
    assert float(POSTERIORS["scores"](map, None)[0, 0]) == pytest.approx(sigmoid(4), rel=1e-5)


def photos_of(images, bad=()):
    """A split in memory whose bad photos cannot be read."""

    def content(id):
        if id in bad:
            raise PhotoError(f"{id}.png", "is empty")
        return images[id]

    n = len(images)
    return Photos("test", Names.of(f"{i}.png" for i in range(n)), np.arange(n) % 7, content, in_memory=True)


def counted(classifier, photos, steps=LADDER, scales=(32, 36), **settings):
    made_of = [entrant("", classifier, steps, scales)]
    return tally(made_of, photos, [torch.from_numpy(photos.targets())], Settings(**settings), lambda n: None, ALONE)


def test_a_batch_of_1_and_of_16_count_the_same_in_fp64(classifier):
    photos = photos_of([noise(36 + s % 3, 38 + s % 2, s) for s in range(20)])
    found = [counted(classifier, photos, precision="fp64", batch=batch) for batch in (1, 16)]
    for step in LADDER:
        one, many = (f.scores[0, step] for f in found)
        assert one.as_dict() == many.as_dict()
        assert one.confusion.equal(many.confusion)
        assert one.known.equal(many.known)
    assert found[0].spent.pixels == found[1].spent.pixels


def test_what_a_photo_costs_is_counted_in_pixels_and_each_component_once(classifier):
    photos = photos_of([noise(36, 48), noise(36, 40)])
    spent = counted(classifier, photos, scales=(32, 36)).spent.pixels
    expected = {View("centre", 32): 2 * 32 * 32}
    for q in (32, 36):
        expected[View("crops", q)] = 2 * 50 * 32 * 32
        expected[View("dense", q)] = 2 * q * (round(48 * q / 36) + round(40 * q / 36))
    assert spent == {(0, view): pixels for view, pixels in expected.items()}
    assert counted(classifier, photos, mirror=True).spent.pixels[0, View("centre", 32)] == 4 * 32 * 32


def test_photos_are_decoded_once_for_all_models(classifier):
    opened, models = [], enumerate((classifier, made(scales=(33, 40), seed=1)))
    made_of = [entrant(str(m), c, LADDER, "several") for m, c in models]
    list(answers(made_of, lambda id: opened.append(id) or PHOTOS[id], range(2), Settings()))
    assert opened == [0, 1]


@pytest.mark.parametrize("pixels", [1, 5_000, 64 << 20])
@pytest.mark.parametrize("workers", [0, 2])
def test_photos_of_mixed_sizes_are_answered_once_each_and_as_if_alone(classifier, monkeypatch, pixels, workers):
    monkeypatch.setattr(passes, "CHUNK_PIXELS", pixels)
    photos = [noise(32 + s % 2, 32 + 10 * (s % 3), s) for s in range(20)]
    step, order, found = Step("dense"), [], []
    made_of = [entrant("", classifier, [step], "single")]
    for ids, [by_step] in answers(made_of, photos.__getitem__, range(20), Settings(batch=3), workers=workers):
        order += ids
        found.append(by_step[step])
    assert order == list(range(20))
    alone = torch.cat([run(classifier, [p], [step])[step] for p in photos])
    assert torch.allclose(torch.cat(found), alone, atol=1e-5)


def test_no_forward_pass_is_larger_than_its_bounds(classifier, monkeypatch):
    monkeypatch.setattr(passes, "FORWARD_PIXELS", 4 * 32 * 32)
    monkeypatch.setattr("verydeep.net.pixels.FORWARD_PIXELS", 4 * 32 * 32)
    sizes = []
    score = lambda self, x: sizes.append(tuple(x.shape)) or torch.zeros(len(x), 7, 1, 1)  # noqa: E731
    monkeypatch.setattr(Classifier, "dense", score)
    run(classifier, [noise(40, 40, s) for s in range(3)], scales=(40,), batch=8)
    assert max(n * h * w for n, _, h, w in sizes) <= 4 * 32 * 32
    assert {s[0] for s in sizes if s[2] == 32} == {3, 4}  # 75 crops by four, and three centre crops
    sizes.clear()
    run(classifier, [noise(40, 40, s) for s in range(3)], [Step("crops")], (40,), batch=2)
    assert {s[0] for s in sizes} == {4, 2}  # with their mirror images


def test_memory_does_not_grow_with_the_number_of_photos(classifier, monkeypatch):
    """Of the pixels made for a test only two chunks are alive: the one at work and the one being collected."""
    monkeypatch.setattr(passes, "CHUNK_PIXELS", 6 * 40 * 40)
    alive, most, real = [], [], passes.frames

    def frames(*given):
        made = real(*given)
        alive.extend(map(weakref.ref, made.pixels.values()))
        gc.collect()
        most.append(sum(pixels() is not None for pixels in alive))
        return made

    monkeypatch.setattr(passes, "frames", frames)
    made_of = [entrant("", classifier, [Step("dense")], (40,))]
    stream = answers(made_of, lambda id: noise(40, 40, id), range(60), Settings(batch=4))
    assert sum(len(ids) for ids, _ in stream) == 60
    assert 2 <= max(most) <= 2 * 6


def test_progress_is_told_of_every_photo_once_and_while_crops_are_worked_on(classifier):
    told, photos = [], [noise(36, 40, s) for s in range(5)]
    made_of = [entrant("", classifier, LADDER, (32, 36))]
    list(answers(made_of, photos.__getitem__, range(5), Settings(batch=4), progress=told.append))
    assert sum(told) == 5
    assert len(told) >= 4


def test_bad_photos_are_named_or_skipped_and_marked(classifier):
    photos = photos_of([noise(36, 40, s) for s in range(6)], bad=(1, 4))
    with pytest.raises(PhotoError, match=r"1\.png: is empty; repair or remove it, or add --bad_photos skip"):
        counted(classifier, photos)
    found = counted(classifier, photos, bad_photos="skip")
    assert [(id, str(e)) for id, e in found.skipped] == [(1, "1.png: is empty"), (4, "4.png: is empty")]
    for scores in found.scores.values():
        assert scores.photos == 4
        assert (scores.known > 0).tolist() == [True, False, True, True, False, True]


def test_a_long_photo_stops_a_dense_test_even_where_bad_ones_are_skipped(classifier):
    photos = photos_of([noise(36, 40), noise(32, 400)])
    with pytest.raises(LongPhotoError, match=r"1\.png: is 400 x 32, longer than 8:1"):
        counted(classifier, photos, bad_photos="skip")
    assert counted(classifier, photos, long_photos="middle").scores[0, Step("centre")].photos == 2
    assert counted(classifier, photos, steps=[Step("centre"), Step("crops")]).scores[0, Step("crops")].photos == 2


def test_a_scorer_computes_in_eval_mode_without_gradients(classifier):
    classifier.train()
    scores = scorer_of(classifier, Settings())(torch.zeros(1, 3, 40, 40, dtype=torch.uint8))
    assert not classifier.training
    assert not scores.requires_grad
    assert scores.shape == (1, 7, 2, 2)
    scorer_of(classifier, Settings(precision="fp64"))
    assert classifier.net.fc6.weight.dtype == torch.float32


def test_validation_counts_one_protocol_and_remembers_no_photo(classifier):
    photos = photos_of([noise(36, 40, s) for s in range(6)], bad=(2,))
    scores, skipped = count(classifier, photos, Settings(bad_photos="skip"))
    assert (scores.photos, len(scores.known), [e.photo for e in skipped]) == (5, 0, ["2.png"])
