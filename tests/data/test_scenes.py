"""Scenes: the same from anywhere, every class alike, and boxes that are just where the items are."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verydeep.cli import main
from verydeep.data import builtin, scenes
from verydeep.data.record import DataSet
from verydeep.data.source import open_data

BOXES = {  # SHA-256 of the boxes of 60 scenes a split; pixels are not frozen, for Pillow may resize otherwise one day
    "fashion-scenes": "5db12d07593e57f4c87cf3a0b27328647d85d8951aee4989e3ce19c70d32db05",
    "fashion-placed": "12e00687138281e7856b35a231f5eb2e9fe7d47c27c2cc24998f80b0a3a81551",
    "fashion-scenes-large": "b633ba8c2e8bbb666534e5ee23c392fbdcafa93a93064c3cc7a4bca4a20c1188",
}


PUBLISHED = pytest.mark.skipif(
    not (builtin.DEBIAN / "train-images-idx3-ubyte.gz").exists(), reason="needs Debian's dataset-fashion-mnist"
)
ALL = [pytest.param(name, marks=PUBLISHED if kind.source == "fashion" else ()) for name, kind in scenes.SCENES.items()]


@pytest.fixture(scope="module", params=ALL)
def data(request: pytest.FixtureRequest) -> DataSet:
    return open_data(f"builtin:{request.param}")


def test_every_class_and_photo_is_the_main_one_alike(data: DataSet) -> None:
    large = data.name == "builtin:fashion-scenes-large"
    numbers = (55_000, 5_000, 10_000) if large else (5_000, 1_000, 1_000)
    assert tuple(len(data.split(s)) for s in ("train", "val", "test")) == numbers
    for photos in data.splits.values():
        assert set(np.bincount(photos.targets())) == {len(photos) // 10}
        assert np.bincount(photos.boxes.mains).max() == 1  # type: ignore[attr-defined]
        assert len(set(photos.keys)) == len(photos) == len(photos.boxes)
        assert list(photos.boxes) == list(range(len(photos)))
        assert 0 in photos.boxes
        assert len(photos) not in photos.boxes
        assert -1 not in photos.boxes
        assert photos.boxes.get(len(photos)) is None
    order = data.split("train").targets()[:5_000]
    assert 300 < (order[1:] == order[:-1]).sum() < 700  # shuffled: a tenth by chance


def test_boxes_never_change(data: DataSet) -> None:
    text = repr([[p.boxes[i] for i in range(60)] for p in data.splits.values()])
    assert sha256(text.encode()).hexdigest() == BOXES[data.name.removeprefix("builtin:")]


def test_sizes_and_places(data: DataSet) -> None:
    photos, several = data.split("test"), data.name != "builtin:fashion-placed"
    sizes, counts, mains = set(), set(), []
    for id in range(1_000):
        boxes, classes = zip(*photos.boxes[id], strict=True)
        width, height = photos.boxes.geometry(id)[0]  # type: ignore[attr-defined]
        assert all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in boxes)
        assert classes[0] == photos.targets()[id]
        assert len(set(classes)) == len(classes)
        main, *others = (max(x1 - x0, y1 - y0) / 96 for x0, y0, x1, y1 in boxes)
        assert all(0.195 < side < min(0.405, 0.8 * main) for side in others)
        covered = np.zeros((height, width), int)
        for x0, y0, x1, y1 in np.array(boxes, int):
            covered[y0:y1, x0:x1] += 1
        assert covered.max() == 1
        sizes.add((width, height))
        counts.add(len(boxes))
        mains.append(main)
    assert sizes == set(scenes.SHAPES)
    assert {min(size) for size in sizes} == {96}
    assert counts == ({1, 2, 3} if several else {1})
    least, middle = (0.45, 0.7) if several else (0.25, (0.25 * 0.95) ** 0.5)
    assert min(mains) == pytest.approx(least, abs=0.02)
    assert max(mains) == pytest.approx(0.95, abs=0.02)
    assert np.median(mains) == pytest.approx(middle, abs=0.03)


def test_boxes_are_where_background_does_not_show(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """alpha of a pixel from the scene over black and over white: none outside the boxes, 1/3 within a pixel."""
    photos, over = data.split("train"), []
    for grey in (0, 255):
        monkeypatch.setattr(scenes, "texture", lambda random, size, grey=grey: Image.new("RGB", size, (grey,) * 3))
        over.append([np.asarray(photos.open(i), int) for i in range(300)])
    for id, (black, white) in enumerate(zip(*over, strict=True)):
        alpha = 1 - (white - black).max(2) / 255
        for x0, y0, x1, y1 in np.array(photos.record(id).boxes, int):
            inside = alpha[y0:y1, x0:x1].copy()
            alpha[y0:y1, x0:x1] = 0
            for filled in ((inside > 1 / 3).any(0), (inside > 1 / 3).any(1)):
                assert filled[:2].any()
                assert filled[-2:].any()
        assert alpha.max() == 0


def test_photos_are_the_same_from_any_thread_and_in_any_order(data: DataSet) -> None:
    first, again = data.split("val"), open_data(data.name).split("val")
    ids = list(range(0, 1_000, 25))
    found = [first.open(i).tobytes() for i in ids]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: again.open(i).tobytes(), ids[::-1])) == found[::-1]
    assert len(set(found)) == len(ids)
    assert data.fingerprint() == open_data(data.name).fingerprint()


def test_items_are_of_their_own_split(data: DataSet) -> None:
    source = open_data(f"builtin:{scenes.SCENES[data.name.removeprefix('builtin:')].source}")
    for split, photos in data.splits.items():
        items = [item for id in range(0, 5_000, 50) if id < len(photos) for item in photos.boxes.geometry(id)[1]]  # type: ignore[attr-defined]
        for photo, *_ in items:
            own = np.asarray(source.split(split).open(photo))[..., 0]
            assert (own == photos.boxes.images[photo]).all()  # type: ignore[attr-defined]


def test_boxes_follow_photos_that_are_taken() -> None:
    photos = open_data("builtin:fashion-scenes").split("val")
    some = photos.take(np.array([700, 3]), "val")
    assert (some.record(0).boxes, some.record(1).box_labels) == (photos.record(700).boxes, photos.record(3).box_labels)
    assert some.open(0).tobytes() == photos.open(700).tobytes()


def test_check_pack_and_train_take_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in scenes.SMALL:
        monkeypatch.setitem(scenes.SMALL, split, 100)  # of all, this takes half a minute
    assert main(["check", "builtin:fashion-scenes"]) == 0
    assert "'verydeep train' would run" in capsys.readouterr().out
    shards = str(tmp_path / "scenes-*.tar")
    assert main(["pack", "builtin:fashion-scenes", "--out", shards]) == 0
    made, packed = (open_data(data).split("val") for data in ("builtin:fashion-scenes", shards))
    place = {key: id for id, key in enumerate(packed.keys)}
    for id in range(100):
        own = place[made.keys[id]]
        assert packed.boxes[own] == made.boxes[id]
        assert packed.open(own).tobytes() == made.open(id).tobytes()
    words = ["--net", "A", "--crop", "32", "--scale", "36", "--base_width", "1", "--fc_width", "8", "--epochs", "1"]
    assert main(["train", "builtin:fashion-placed", *words, "--out", str(tmp_path / "run")]) == 0
