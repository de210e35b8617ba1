"""Photos held out by class, against the rule in plain Python, and drawn again as an earlier run drew them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from verydeep.data.manifest import write_split
from verydeep.data.record import DataSet, Names, Photos
from verydeep.data.source import read_places
from verydeep.data.split import divide, divide_again, fewer
from verydeep.errors import DataError

CLASSES = tuple("abcdefgh")


def photos_of(split: str, keys: Sequence[str], labels: Sequence[int]) -> Photos:
    """Photos whose width tells which they are, with a box each."""
    widths = {i: 1 + sum(key.encode()) for i, key in enumerate(keys)}
    boxes = {i: (((0.0, 0.0, float(widths[i]), 1.0), label),) for i, label in enumerate(labels)}
    return Photos(
        split, Names.of(keys), np.array(labels, np.int64), lambda id: Image.new("RGB", (widths[id], 1)), "", boxes
    )


def data_of(sizes: Sequence[int], split: str = "all", seed: int = 0) -> DataSet:
    """Classes of these sizes, their photos in any order."""
    rows = [(f"{CLASSES[c]}/{i}.png", c) for c, n in enumerate(sizes) for i in range(n)]
    np.random.default_rng(seed).shuffle(rows)
    keys, labels = [key for key, _ in rows], [int(c) for _, c in rows]
    return DataSet("x", CLASSES[: len(sizes)], {split: photos_of(split, keys, labels)})


def keys(data: DataSet) -> dict[str, list[str]]:
    return {split: list(photos.keys) for split, photos in data.splits.items()}


def by_the_rule(data: DataSet, whole: str, shares: tuple[float, float], seed: int) -> dict[str, list[str]]:
    """By lists: in every class the photos with the lowest hash validate, the next test."""
    found: dict[str, list[str]] = defaultdict(list)
    photos = data.split(whole)
    for label in range(len(data.classes)):
        own = [key for id, key in enumerate(photos.keys) if photos.record(id).labels == (label,)]
        n = len(own)
        val, test = (round(n * share) if not share or n < 3 else max(1, round(n * share)) for share in shares)
        if n < 3:
            val, test = n // 2, 0
        # Something is left to train on; the larger share gives way, of equal ones the test.
        while n and val + test >= n:
            val, test = (val - 1, test) if val > test else (val, test - 1)
        hashed = sorted(own, key=lambda key: hashlib.sha256(str(seed).encode() + b"\0" + key.encode()).digest())
        place = {key: "val" if i < val else "test" if i < val + test else "train" for i, key in enumerate(hashed)}
        for key in own:
            found[place[key]].append(key)
    return {split: found[split] for split in ("train", "val", "test") if found[split]}


SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda sizes: max(sizes) > 1)


@settings(max_examples=150, deadline=None)
@given(SIZES, st.floats(0.01, 0.98), st.floats(0, 0.99), st.integers(0, 2**63 - 1), st.sampled_from(["all", "train"]))
@example([1, 2, 3, 4, 5, 10, 100, 0], 0.1, 1 / 9, 0, "all")
@example([1, 2, 3, 4, 5, 10, 100, 0], 0.45, 0.9, 3, "all")
@example([2, 2], 0.9, 0.0, 0, "train")
def test_photos_are_held_out_by_the_rule(sizes: list[int], val: float, rest: float, seed: int, whole: str) -> None:
    data, shares = data_of(sizes, whole, seed % 7), (val, rest * (1 - val))
    found = divide(data, shares, seed)
    assert keys(found) == by_the_rule(data, whole, shares if whole == "all" else (val, 0.0), seed)
    assert found.held_out
    assert sorted(key for part in keys(found).values() for key in part) == sorted(data.split(whole).keys)
    counts = {s: np.bincount(p.targets(), minlength=len(sizes)).tolist() for s, p in found.splits.items()}
    for c, n in enumerate(sizes):
        assert counts["train"][c] >= (n > 0)
        assert counts["val"][c] >= (n > 1)
        if whole == "all" and shares[1] and n >= 3:
            assert counts["test"][c] >= 1
    for photos in found.splits.values():
        for id, key in enumerate(photos.keys):
            assert photos.open(id).width == 1 + sum(key.encode())
            assert photos.record(id).boxes == ((0.0, 0.0, photos.open(id).width, 1.0),)
            assert CLASSES[photos.record(id).labels[0]] == key[0]


@pytest.mark.parametrize(
    ("seed", "val", "test"),
    [
        (0, ["a/0.png", "b/2.png", "c/0.png"], ["a/6.png", "b/1.png"]),
        (5, ["a/0.png", "b/1.png", "c/1.png"], ["a/6.png", "b/2.png"]),
    ],
)
def test_splits_are_those_of_the_first_release(seed: int, val: list[str], test: list[str]) -> None:
    """Written down from the program as it was when runs could first be begun."""
    found = keys(divide(data_of([7, 3, 2, 1]), (0.2, 0.2), seed))
    assert {s: sorted(part) for s, part in found.items() if s != "train"} == {"val": val, "test": test}


def test_a_given_test_split_stays_as_it_is() -> None:
    train, test = data_of([20, 20], "train"), photos_of("test", ["z", "y"], [1, 0])
    given = DataSet("x", train.classes, {**train.splits, "test": test})
    found = divide(given, (0.1, 0.3), 4)
    assert {s: len(p) for s, p in found.splits.items()} == {"train": 36, "val": 4, "test": 2}
    assert found.split("test") is test


@pytest.mark.parametrize("splits", [("train", "val"), ("val", "test"), ("test",)])
def test_what_has_its_splits_is_left_alone(splits: tuple[str, ...]) -> None:
    data = DataSet("x", CLASSES[:2], {s: photos_of(s, ["1", "2"], [0, 1]) for s in splits})
    assert divide(data, (0.1, 0.1), 0) is data
    whole = data_of([5, 5])
    assert divide(whole, None, 0) is whole


# Settling


def places_of(data: DataSet, folder: Path) -> dict[str, str]:
    """As a run keeps them."""
    write_split(data, folder / "split.csv")
    return read_places(folder / "split.csv")


def with_more(data: DataSet, whole: str, extra: list[str]) -> DataSet:
    """The same photos, in the same order, among new ones of the first class."""
    rows = [(key, int(t)) for key, t in zip(data.split(whole).keys, data.split(whole).targets(), strict=True)]
    for i, key in enumerate(extra):
        rows.insert(i * len(rows) // len(extra), (key, 0))
    found = photos_of(whole, [key for key, _ in rows], [target for _, target in rows])
    return DataSet(data.name, data.classes, {**data.splits, whole: found})


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 9), st.integers(0, 6), st.sampled_from(["all", "train"]))
def test_an_earlier_split_is_restored_among_new_photos(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int, more: int, whole: str
) -> None:
    data = data_of(sizes, whole)
    drawn = divide(data, (0.2, 0.1), seed)
    places = places_of(drawn, tmp_path_factory.getbasetemp())
    found = divide_again(with_more(data, whole, [f"new {i}, of today" for i in range(more)]), places)
    assert keys(found) == keys(drawn)
    assert found.held_out
    assert found.fingerprint() == drawn.fingerprint()
    for split, photos in found.splits.items():
        for id in range(len(photos)):
            assert photos.record(id) == drawn.split(split).record(id)
            assert photos.open(id).width == drawn.split(split).open(id).width


def test_a_given_test_split_is_not_settled_again(tmp_path: Path) -> None:
    train, test = data_of([9, 9], "train"), photos_of("test", ["z", "y"], [1, 0])
    given = DataSet("x", train.classes, {**train.splits, "test": test})
    drawn = divide(given, (0.2, 0.3), 1)
    found = divide_again(given, places_of(drawn, tmp_path))
    assert keys(found) == keys(drawn)
    assert found.split("test") is test


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_photo_that_has_gone_is_named(tmp_path: Path, split: str) -> None:
    data = data_of([9, 9])
    drawn = divide(data, (0.2, 0.2), 0)
    lost = keys(drawn)[split][1]
    left = np.array([i for i, key in enumerate(data.split("all").keys) if key != lost])
    fewer = DataSet("x", data.classes, {"all": data.split("all").take(left, "all")})
    with pytest.raises(DataError, match=f"x no longer has {lost}, which the run was begun with; restore it"):
        divide_again(with_more(fewer, "all", ["new", "newer"]), places_of(drawn, tmp_path))


@pytest.mark.parametrize(
    "text", ["", "path,label\na,b\n", "path,label,split\na/0.png,a,tarin\n", "path,label,split\na/0.png,a\n", "\xff"]
)
def test_a_damaged_split_is_explained(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"split\.csv"):
        divide_again(data_of([3, 3]), read_places(tmp_path / "split.csv"))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any), st.integers(1, 120))
@example([1, 1, 1, 7], 6)
def test_fewer_photos_come_from_all_classes_by_their_share(sizes: list[int], most: int) -> None:
    data = data_of(sizes, "train")
    found = fewer(data, most).split("train")
    assert len(found) == min(most, sum(sizes))
    counts = np.bincount(found.targets(), minlength=len(sizes))
    assert all(abs(n - size * len(found) / sum(sizes)) < 1 for n, size in zip(counts, sizes, strict=True))
    kept = set(found.keys)
    assert list(found.keys) == [key for key in data.split("train").keys if key in kept]


def test_the_same_photos_are_taken_whatever_their_order_and_again() -> None:
    few = fewer(data_of([9, 5, 20], "train"), 11)
    assert set(few.split("train").keys) == set(fewer(data_of([9, 5, 20], "train", seed=3), 11).split("train").keys)
    assert keys(fewer(few, 11)) == keys(few)
    assert keys(fewer(data_of([4, 2], "train"), None)) == keys(data_of([4, 2], "train"))
