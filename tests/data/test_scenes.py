"""Scenes: the same from anywhere, of every class alike, with boxes that are just where the things are."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import verydeep
from verydeep.data import scenes
from verydeep.data.source import open_data

NAMES = tuple(scenes.SCENES)


@pytest.fixture(scope="module", params=NAMES)
def data(request):
    return open_data(f"builtin:{request.param}")


def test_sizes_classes_and_things(data):
    assert {s: len(p) for s, p in data.splits.items()} == {"train": 5_000, "val": 1_000, "test": 1_000}
    for photos in data.splits.values():
        assert set(np.bincount(photos.targets()).tolist()) == {len(photos) // 10}
    photos = data.split("val")
    counts = {len(photos.boxes[i]) for i in range(200)}
    assert counts == ({1, 2, 3} if data.name.endswith("scenes") else {1})
    sizes = {photos.open(i).size for i in range(60)}
    assert {min(size) for size in sizes} == {96}
    assert len(sizes) == len(scenes.SHAPES)
    assert photos.boxes.get(1_000) is None


def test_the_first_box_is_of_the_photos_class_and_the_largest(data):
    photos = data.split("test")
    for id in range(300):
        (_, label), *_ = photos.boxes[id]
        assert label == photos.targets()[id]
        assert len({c for _, c in photos.boxes[id]}) == len(photos.boxes[id])
        longest = [max(x1 - x0, y1 - y0) for (x0, y0, x1, y1), _ in photos.boxes[id]]
        assert max(longest) == longest[0]
        assert all(side <= 0.41 * 96 for side in longest[1:])
        width, height = photos.open(id).size
        assert all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for (x0, y0, x1, y1), _ in photos.boxes[id])


def test_boxes_are_where_the_photo_differs_from_its_texture(data, monkeypatch):
    """Without textures a thing is all that is not black; its soft edge may take a pixel."""
    monkeypatch.setattr(scenes, "texture", lambda random, width, height: np.zeros((height, width, 3), np.float32))
    photos = data.split("train")
    for id in range(200):
        seen = np.asarray(photos.open(id)).max(2) > 12
        union = np.zeros_like(seen)
        for (x0, y0, x1, y1), _ in photos.boxes[id]:
            x0, y0, x1, y1 = map(int, (x0, y0, x1, y1))
            inside = seen[y0:y1, x0:x1]
            rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            assert max(rows[0], columns[0]) <= 1
            assert rows[-1] >= y1 - y0 - 2
            assert columns[-1] >= x1 - x0 - 2
            union[y0:y1, x0:x1] = True
        assert not (seen & ~union).any()


def test_a_scene_is_the_same_from_any_thread_and_in_any_order(data):
    photos, again = data.split("train"), open_data(data.name).split("train")
    ids = list(range(0, 400, 7))
    sums = [hashlib.sha256(np.asarray(photos.open(i))).hexdigest() for i in ids]
    with ThreadPoolExecutor(8) as pool:
        others = list(pool.map(lambda i: hashlib.sha256(np.asarray(again.open(i))).hexdigest(), reversed(ids)))
    assert sums == others[::-1]
    assert len(set(sums)) == len(ids)


def test_things_of_a_split_are_of_that_split():
    train, test = (open_data("builtin:fashion-scenes").split(s).boxes for s in ("train", "test"))
    assert (len(train.greys), len(test.greys)) == (6_000, 1_000)
    used = np.bincount([train.scene(i).things[0].photo for i in range(5_000)], minlength=6_000)
    assert used.max() == 1
    assert train[0] != test[0]


def test_boxes_follow_photos_that_are_taken():
    photos = open_data("builtin:fashion-placed").split("val")
    some = photos.take(np.array([7, 3]), "val")
    assert [some.boxes[0], some.boxes[1]] == [photos.boxes[7], photos.boxes[3]]


def test_a_net_trains_on_them(tmp_path):
    words = {"net": "A", "crop": 32, "scale": 36, "base_width": 2, "fc_width": 8, "epochs": 1, "batch": 250}
    found = verydeep.train("builtin:fashion-placed", out=tmp_path / "run", most_photos=500, **words)
    assert found["results"][0]["photos"] == 1_000
