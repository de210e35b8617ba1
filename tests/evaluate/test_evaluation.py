"""The pass over photos: against a slow loop in fp64, in any company, at any batch, with bounded memory."""

import gc
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from slow import made, noise, posteriors

from verydeep.data.record import Names, Photos
from verydeep.errors import LongPhotoError, PhotoError
from verydeep.evaluate import passes
from verydeep.evaluate.classify import answers, count, entrant, tally
from verydeep.evaluate.classify import posteriors as averaged
from verydeep.evaluate.passes import Settings, Shown, Spent, torch_scorer
from verydeep.evaluate.views import PROTOCOLS, Step, View, components
from verydeep.evaluate.views import ladder as ladder
from verydeep.net.classifier import Classifier
from verydeep.ranks import ALONE

ALL, LADDER = ladder(PROTOCOLS, "single"), ladder(PROTOCOLS, "several")
PHOTOS = [noise(40, 53, 1), noise(61, 38, 2)]


@pytest.fixture(scope="module")
def classifier():
    return made()


def run(models, photos, ladder=ALL, scales="single", **settings):
    """Posteriors N x K of each step of the first model, photos in order."""
    models = [models] if isinstance(models, Classifier) else models
    found = {}
    for ids, by_model in answers(
        [entrant(str(m), c, ladder, scales) for m, c in enumerate(models)],
        photos.__getitem__,
        range(len(photos)),
        Settings(**settings),
    ):
        for n, id in enumerate(ids):
            found[id] = {step: p[n] for step, p in by_model[0].items()}
    return {step: torch.stack([found[id][step] for id in range(len(photos))]) for step in ladder}


@pytest.mark.parametrize(
    ("average", "pooling"), [("scores", "up"), ("posteriors", "up"), ("scores", "down"), ("posteriors", "down")]
)
def test_every_step_is_what_a_slow_loop_over_crops_finds(average, pooling):
    classifier = made(scales=(33, 45))
    found = run(classifier, PHOTOS, LADDER, "several", precision="fp64", average=average, pooling=pooling)
    for step in LADDER:
        for n, image in enumerate(PHOTOS):
            if step.protocol == "centre":
                image = image.resize(
                    (round(image.width * 39 / min(image.size)), round(image.height * 39 / min(image.size))), 2
                )
            scales = [33, 39, 45] if step.several else [39]
            expected = posteriors(classifier, image, step.protocol, scales, step.protocol != "centre", average, pooling)
            off = (
                0.02 if step.protocol == "centre" else 1e-10
            )  # its window may differ by a grey level from the whole photo's
            assert found[step][n].numpy() == pytest.approx(expected, abs=off), step
    assert found[LADDER[0]].dtype == torch.float64


def test_the_centre_crop_is_what_a_slow_loop_finds(classifier):
    found = run(classifier, PHOTOS, [Step("centre")], (38,), precision="fp64", mirror=True)[Step("centre")]
    image = PHOTOS[1]  # already at Q
    assert found[1].numpy() == pytest.approx(posteriors(classifier, image, "centre", [38], True), abs=1e-10)


def test_averages_and_poolings_differ_where_the_map_is_larger_than_one(classifier):
    ways = [
        run(classifier, PHOTOS, [Step("dense")], (50,), **s)[Step("dense")]
        for s in ({}, {"average": "posteriors"}, {"pooling": "down"})
    ]
    assert not torch.allclose(ways[0], ways[1], atol=1e-4)
    assert not torch.allclose(ways[0], ways[2], atol=1e-4)
    assert classifier.contract.pooling == "up"
    assert classifier.net.round_up


def test_another_pooling_shares_the_weights(classifier):
    other = passes.pooled(classifier, "down")
    assert other.net.fc6.weight.data_ptr() == classifier.net.fc6.weight.data_ptr()
    assert (other.net.round_up, classifier.net.round_up) == (False, True)


@pytest.mark.parametrize("mirror", [False, True])
def test_all_protocols_agree_on_photos_of_exactly_crop_size(classifier, mirror):
    photos = [noise(32, 32, seed) for seed in range(4)]
    found = run(classifier, photos, mirror=mirror, precision="fp64")
    for step in list(found)[1:]:
        assert torch.allclose(found[step], found[Step("centre")], atol=1e-14, rtol=0)


def test_they_differ_on_larger_photos(classifier):
    found = list(run(classifier, [noise(40, 60)], scales=(40,), mirror=False).values())
    assert all(not torch.allclose(a, b, atol=1e-5) for i, a in enumerate(found) for b in found[:i])


def test_a_mirrored_photo_has_the_same_posteriors(classifier):
    photo = noise(40, 52)
    both = run(
        classifier,
        [photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)],
        scales=(40,),
        precision="fp64",
        mirror=True,
    )
    assert all(torch.allclose(p[0], p[1], atol=1e-14) for p in both.values())
    one_way = run(classifier, [photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)], scales=(40,), mirror=False)
    assert not any(torch.allclose(p[0], p[1], atol=1e-5) for p in one_way.values())


def test_a_step_is_the_plain_mean_of_its_components(classifier):
    found = run(classifier, PHOTOS, LADDER, (34, 40), precision="fp64")
    ones = {q: run(classifier, PHOTOS, scales=(q,), precision="fp64") for q in (34, 40)}
    for protocol in ("dense", "crops"):
        expected = (ones[34][Step(protocol)] + ones[40][Step(protocol)]) / 2
        assert torch.allclose(found[Step(protocol, True)], expected, atol=1e-15)
    assert torch.allclose(
        found[Step("both", True)], (found[Step("dense", True)] + found[Step("crops", True)]) / 2, atol=1e-15
    )


def test_protocols_asked_together_are_bit_for_bit_those_asked_alone(classifier):
    together = run(classifier, PHOTOS, LADDER, (34, 40))
    for step in LADDER:
        assert torch.equal(run(classifier, PHOTOS, [step], (34, 40))[step], together[step])


@pytest.mark.parametrize("mirror", [False, True])
def test_averages_of_maps_are_those_of_a_slow_loop(mirror):
    random = torch.Generator().manual_seed(0)
    maps = {flipped: torch.randn(3, 5, 2, 4, generator=random) * 3 for flipped in (False, True)}
    photos = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    photos[..., 0] = 1  # so that the scorer can tell a photo from its mirror image
    scorer = lambda x: torch.stack([maps[bool(p[0, 0, 7])][n % 3] for n, p in enumerate(x)])  # noqa: E731
    net, seen = Shown(scorer, 8, (), averaged("scores")), passes.Seen(View("dense", 8), 8, [(8, 8)] * 3, [0] * 3, False)
    found = passes.reduced(net, photos, seen, mirror)
    for n in range(3):
        ways = []
        for flipped in [False, True] if mirror else [False]:
            means = [sum(float(maps[flipped][n, c, i, j]) for i in range(2) for j in range(4)) / 8 for c in range(5)]
            powers = [np.exp(m - max(means)) for m in means]
            ways.append(np.array([p / sum(powers) for p in powers]))
        assert found[n].numpy() == pytest.approx(sum(ways) / len(ways), rel=1e-5)


def test_soft_max_comes_before_or_after_the_average_over_space():
    map = torch.tensor([[10.0, -2.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    assert float(averaged("posteriors")(map, None)[0, 0]) == pytest.approx(
        (1 / (1 + np.exp(-10)) + 1 / (1 + np.exp(2))) / 2, rel=1e-5
    )
    assert float(averaged("scores")(map, None)[0, 0]) == pytest.approx(1 / (1 + np.exp(-4)), rel=1e-5)


def photos_of(images, targets=None, bad=()):
    """A split in memory whose bad photos cannot be read."""

    def content(id):
        if id in bad:
            raise PhotoError(f"{id}.png", "is empty")
        return images[id]

    labels = np.arange(len(images)) % 7 if targets is None else np.array(targets)
    return Photos("test", Names.of(f"{i}.png" for i in range(len(images))), labels, content, in_memory=True)


def counted(classifier, photos, ladder=LADDER, scales=(32, 36), **settings):
    made_of = [entrant("", classifier, ladder, scales)]
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


def test_what_a_photo_costs_is_counted_in_pixels(classifier):
    photos = photos_of([noise(36, 48), noise(36, 40)])
    spent = counted(classifier, photos, scales=(32, 36)).spent.pixels
    assert spent[0, View("centre", 32)] == 2 * 32 * 32
    assert spent[0, View("crops", 36)] == 2 * 50 * 32 * 32
    assert spent[0, View("dense", 36)] == 2 * (36 * 48 + 36 * 40)
    assert counted(classifier, photos, mirror=True).spent.pixels[0, View("centre", 32)] == 4 * 32 * 32


def test_each_component_is_computed_once(classifier, monkeypatch):
    calls = []
    real = passes.in_view
    monkeypatch.setattr(passes, "in_view", lambda net, p, view, *rest: calls.append(view) or real(net, p, view, *rest))
    run(classifier, PHOTOS, LADDER, (34, 40))
    expected = {v for step in LADDER for v in components(step, classifier.contract, (34, 40))}
    assert len(calls) == len(expected) == 5
    assert set(calls) == expected


def test_photos_are_decoded_once_for_all_models(classifier):
    opened = []
    models = [entrant(str(m), c, LADDER, "several") for m, c in enumerate((classifier, made(scales=(33, 40), seed=1)))]
    list(answers(models, lambda id: opened.append(id) or PHOTOS[id], range(2), Settings()))
    assert opened == [0, 1]


@pytest.mark.parametrize("pixels", [1, 5_000, 64 << 20])
@pytest.mark.parametrize("workers", [0, 2])
def test_photos_of_mixed_sizes_are_answered_once_each_and_as_if_alone(classifier, monkeypatch, pixels, workers):
    monkeypatch.setattr(passes, "CHUNK_PIXELS", pixels)
    photos = [noise(32 + s % 2, 32 + 10 * (s % 3), s) for s in range(20)]
    step, order, found = Step("dense"), [], []
    for ids, [by_step] in answers(
        [entrant("", classifier, [step], "single")], photos.__getitem__, range(20), Settings(batch=3), workers=workers
    ):
        order += ids
        found.append(by_step[step])
    assert order == list(range(20))
    alone = torch.cat([run(classifier, [p], [step])[step] for p in photos])
    assert torch.allclose(torch.cat(found), alone, atol=1e-5)


def test_no_forward_pass_is_larger_than_its_bounds(classifier, monkeypatch):
    monkeypatch.setattr(passes, "FORWARD_PIXELS", 4 * 32 * 32)
    sizes = []
    monkeypatch.setattr(
        Classifier, "score_map", lambda self, x: sizes.append(tuple(x.shape)) or torch.zeros(len(x), 7, 1, 1)
    )
    run(classifier, [noise(40, 40, s) for s in range(3)], scales=(40,), batch=8)
    assert max(n * h * w for n, _, h, w in sizes) <= 4 * 32 * 32
    assert {s[0] for s in sizes if s[2] == 32} == {3, 4}  # 75 crops by four, and three centre crops
    sizes.clear()
    run(classifier, [noise(40, 40, s) for s in range(3)], [Step("crops")], (40,), batch=2)
    assert {s[0] for s in sizes} == {4, 2}  # with their mirror images


def test_memory_does_not_grow_with_the_number_of_photos(classifier, monkeypatch):
    """Of the pixels made for a test only two chunks are alive: the one at work and the one being collected."""
    monkeypatch.setattr(passes, "CHUNK_PIXELS", 6 * 40 * 40)
    alive, most = weakref.WeakSet(), []

    class Made(dict):
        """A dict that can be referred to weakly."""

        __hash__ = object.__hash__

    real = passes.frames

    def frames(*given):
        made = real(*given)
        made = made._replace(pixels=Made(made.pixels))
        alive.add(made.pixels)
        gc.collect()
        most.append(len(alive))
        return made

    monkeypatch.setattr(passes, "frames", frames)
    stream = answers(
        [entrant("", classifier, [Step("dense")], (40,))], lambda id: noise(40, 40, id), range(60), Settings(batch=4)
    )
    assert sum(len(ids) for ids, _ in stream) == 60
    assert max(most) <= 2 * 6


def test_progress_is_told_of_every_photo_once_and_while_crops_are_worked_on(classifier):
    told = []
    photos = [noise(36, 40, s) for s in range(5)]
    list(
        answers(
            [entrant("", classifier, LADDER, (32, 36))],
            photos.__getitem__,
            range(5),
            Settings(batch=4),
            progress=told.append,
        )
    )
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
    assert counted(classifier, photos, ladder=[Step("centre"), Step("crops")]).scores[0, Step("crops")].photos == 2


def test_a_bad_photo_is_raised_or_handed_over(classifier):
    photos = [noise(32, 32), noise(10, 100), noise(32, 32, 2)]
    models = [entrant("", classifier, [Step("dense")], "single")]
    with pytest.raises(PhotoError):
        list(answers(models, photos.__getitem__, range(3), Settings()))
    bad = []
    found = list(answers(models, photos.__getitem__, range(3), Settings(), on_bad=lambda id, e: bad.append(id)))
    assert [ids for ids, _ in found] == [[0, 2]]
    assert bad == [1]


def test_a_scorer_computes_in_eval_mode_without_gradients(classifier):
    classifier.train()
    scores = torch_scorer(classifier, Settings())(torch.zeros(1, 3, 40, 40, dtype=torch.uint8))
    assert not classifier.training
    assert not scores.requires_grad
    assert scores.shape == (1, 7, 2, 2)
    torch_scorer(classifier, Settings(precision="fp64"))
    assert classifier.net.fc6.weight.dtype == torch.float32


def test_validation_counts_one_protocol_and_remembers_no_photo(classifier):
    photos = photos_of([noise(36, 40, s) for s in range(6)], bad=(2,))
    scores, skipped = count(classifier, photos, Settings(bad_photos="skip"))
    assert (scores.photos, len(scores.known), [e.photo for e in skipped]) == (5, 0, ["2.png"])
    assert Spent().pixels == {}
