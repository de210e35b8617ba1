"""Nets whose boxes are known exactly: they come out exactly, through every scale, place, mirror image and merge."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from boxed import CLASSES, draw_square, net_of
from PIL import Image

from verydeep.data import limits
from verydeep.data.photo import scaled_size
from verydeep.errors import ModelError
from verydeep.evaluate.passes import Settings
from verydeep.localise.answer import found_on
from verydeep.localise.locate import Locator, locator_of

SIZES = [(36, 36), (40, 61), (97, 50), (36, 290)]  # height, width
SAID = [[0.3, 0.6, 0.25, 0.5], [0.5, 0.5, 1.0, 1.0], [0.9, 0.1, 0.6, 0.2]]


def photo_of(size):
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8))


def looks_at(size, scales, mirror=None, said=SAID, task="PCR", **more):
    nets = {"boxes": net_of(task, said, **more)}
    what = "classes", net_of("classes", [2.0, 1.0, 0.0])
    locator = locator_of(nets, what, scales, "greedy", Settings(mirror=mirror, long_photos="middle"))
    [(_, seen)] = locator.looks(lambda id: photo_of(size), [0])
    return locator, seen


def expected_boxes(size, scale, label, mirrored=False):
    """By plain arithmetic: every 32 pixels of the rescaled photo a crop of 32 with the box in it."""
    height, width = scaled_size(*size, scale)
    shown = min(width, 8 * scale), min(height, 8 * scale)
    left, top = (width - shown[0]) // 2, (height - shown[1]) // 2
    cx, cy, w, h = SAID[label]
    found = []
    for j in range(-(-shown[1] // 32)):
        for i in range(-(-shown[0] // 32)):
            x, y = left + 32 * i + 32 * cx, top + 32 * j + 32 * cy
            x0, x1 = x - 16 * w, x + 16 * w
            if mirrored:
                x0, x1 = width - x1, width - x0
            found.append([x0 * size[1] / width, (y - 16 * h) * size[0] / height,
                          x1 * size[1] / width, (y + 16 * h) * size[0] / height])  # fmt: skip
    return np.array(found)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [32, 36, 70])
@pytest.mark.parametrize("mirror", [False, True])
def test_dense_boxes_lie_where_arithmetic_says(size, scale, mirror):
    _, seen = looks_at(size, (scale,), mirror)
    for label in range(3):
        ways = [expected_boxes(size, scale, label, way) for way in ((False, True) if mirror else (False,))]
        expected = np.concatenate(ways)
        found = seen.boxes[:, label]
        assert found.shape == expected.shape
        assert np.abs(np.sort(found, 0) - np.sort(expected, 0)).max() < 1e-3 * max(size)
        assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_the_centre_crop_says_its_one_box(size):
    _, seen = looks_at(size, "single")
    height, width = scaled_size(*size, 36)
    left, top = (width - 32) // 2, (height - 32) // 2
    for label, (cx, cy, w, h) in enumerate(SAID):
        low, high = (np.array([left + 32 * (cx + side * w), top + 32 * (cy + side * h)]) for side in (-0.5, 0.5))
        scale = [size[1] / width, size[0] / height]
        expected = np.clip(np.concatenate([low * scale, high * scale]), 0, [size[1], size[0]] * 2)
        assert seen.given_box(label) == pytest.approx(expected, abs=1e-3)


def test_shared_boxes_serve_every_class_and_logarithms_are_undone():
    _, seen = looks_at((60, 44), (36,), task="SCR", said=[0.4, 0.5, 0.3, 0.6])
    _, log = looks_at(
        (60, 44), (36,), task="SCR", said=[0.4, 0.5, float(np.log(0.3)), float(np.log(0.6))], log_size=True
    )
    assert seen.boxes.shape[1] == 1
    assert seen.given_box(0).tolist() == seen.given_box(2).tolist()
    assert log.boxes == pytest.approx(seen.boxes, abs=1e-4)


def test_boxes_of_several_scales_that_agree_become_one():
    """A net that always says the whole of its crop, and crops that are nearly the whole photo."""
    locator, seen = looks_at((36, 36), (36, 40), False, said=[[0.5, 0.5, 1, 1]] * 3)
    [pairs] = locator.pairs(seen, [10.0])
    assert [a.label for a in pairs] == [0, 1, 2]
    places = len(seen.boxes)
    assert pairs[0].rating == pytest.approx(seen.ratings[:, 0].sum())
    assert places == 8  # at 36 and at 40 two cells a side, the second beyond the border
    [few] = locator.pairs(seen, [0.0])
    assert few[0].rating < pairs[0].rating


@pytest.mark.parametrize(("learnt", "several"), [((36, 36), (32, 36, 41)), ((32, 64), (32, 48, 64))])
def test_several_scales_are_those_the_classifier_knows(learnt, several):
    what = net_of("classes", [2.0, 1.0, 0.0])
    what.contract = replace(what.contract, scales=learnt)
    locators = [locator_of({"boxes": net_of("PCR", SAID)}, ("classes", what), scales, "greedy", Settings())
                for scales in ("several", "single", (40, 50))]  # fmt: skip
    assert [locator.scales for locator in locators] == [[several], [(36,)], [(40, 50)]]


@pytest.mark.parametrize("at_once", [1, 256])
def test_a_box_is_rated_by_the_classes_at_its_own_place(monkeypatch, at_once):
    """A classifier that sees red only where the photo is red: places there rate red boxes higher."""
    monkeypatch.setattr("verydeep.localise.locate.AT_ONCE", at_once)
    what = net_of("classes", [0.0, 0.0, 0.0])
    locator = Locator(what, [net_of("PCR", SAID)], [(36,)], [np.arange(3)] * 2, Settings(mirror=False))
    shown = Image.fromarray(np.zeros((36, 100, 3), np.uint8))

    def dense(photos):
        maps = torch.zeros(len(photos), 3, -(-photos.shape[2] // 32), -(-photos.shape[3] // 32))
        maps[:, 2, :, -1] = 5.0
        return maps

    what.dense = dense
    [(_, seen)] = locator.looks(lambda id: shown, [0])
    right = seen.boxes[:, 2, 0] > 100
    assert right.sum() == len(right) / 4
    assert seen.ratings[right, 2].min() > 0.9 > 0.4 > seen.ratings[~right, 2].max()
    assert seen.ratings.sum(1) == pytest.approx(1)


def test_classes_are_numbered_as_the_first_net_does():
    turned = ("red", "blue", "green")
    nets = {"a": net_of("PCR", SAID), "b": net_of("PCR", [SAID[2], SAID[0], SAID[1]], turned)}
    what = "c", net_of("classes", [0.0, 5.0, 0.0], turned)  # blue
    locator = locator_of(nets, what, "single", "greedy", Settings())
    [(_, seen)] = locator.looks(lambda id: photo_of((36, 36)), [0])
    assert seen.posteriors.argmax() == CLASSES.index("blue")
    n = len(seen.boxes) // 2
    assert seen.boxes[:n] == pytest.approx(seen.boxes[n:], abs=1e-4)


def test_nets_of_the_other_task_are_refused():
    boxes, what = net_of("PCR", SAID), net_of("classes", [0.0] * 3)
    for nets, classes in (({"m": what}, boxes), ({"m": boxes}, boxes), ({"m": what}, what)):
        with pytest.raises(ModelError, match=r"^[mc] says (where|what)"):
            locator_of(nets, ("c", classes), "single", "greedy", Settings())
    with pytest.raises(ModelError, match="says where things are"):
        boxes.predict([photo_of((36, 36))])


def test_locate_takes_photos_in_memory(tmp_path):
    boxes, what = net_of("PCR", SAID), net_of("classes", [2.0, 1.0, 0.0])
    draw_square(tmp_path, "a.png", 1, np.random.default_rng(0))
    found = boxes.locate([photo_of((50, 44)), str(tmp_path / "a.png")], what, top=2)
    assert [[p.name for p in places] for places in found] == [["blue", "green"]] * 2
    for x0, y0, x1, y1 in (p.box for p in found[1]):
        assert (0 <= x0 < x1 <= 48, 0 <= y0 < y1 <= 40) == (True, True)


def test_a_net_of_shared_boxes_and_one_of_boxes_by_class_go_together():
    nets = {"a": net_of("PCR", SAID), "b": net_of("SCR", SAID[1])}
    locator = locator_of(nets, ("c", net_of("classes", [2.0, 1.0, 0.0])), "single", "greedy", Settings(mirror=False))
    [(_, seen)] = locator.looks(lambda id: photo_of((36, 36)), [0])
    n = len(seen.boxes) // 2
    assert seen.boxes.shape[1:] == (3, 4)
    assert seen.boxes[:n, 1] == pytest.approx(seen.boxes[n:, 0], abs=1e-5)
    assert seen.boxes[n:, 0].tolist() == seen.boxes[n:, 2].tolist()


def test_boxes_are_told_in_pixels_of_the_file_where_it_is_too_large_to_be_decoded_whole(monkeypatch, tmp_path):
    """A JPEG of 401 x 360 pixels that comes at half its size has the boxes of one that comes whole."""
    photo_of((360, 401)).save(tmp_path / "a.jpg")
    nets, what = {"boxes": net_of("PCR", SAID)}, ("classes", net_of("classes", [2.0, 1.0, 0.0]))
    locator = locator_of(nets, what, "single", "greedy", Settings())
    [whole] = found_on(locator, [tmp_path / "a.jpg"], ["a"], 3)
    monkeypatch.setattr(limits, "MEMORY", 1_000_000)
    [half] = found_on(locator, [tmp_path / "a.jpg"], ["a"], 3)
    assert half.size == whole.size == (360, 401)
    for before, after in zip(whole.places, half.places, strict=True):
        assert after.box == pytest.approx(before.box, abs=2)
    assert max(p.box[2] for p in whole.places) > 201
