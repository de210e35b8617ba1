"""Texts without an object each, and photos that are taken out of others, against lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from verydeep.data import record
from verydeep.data.record import DataSet, Names, Photos, compact
from verydeep.errors import DataError

TEXTS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6), max_size=12)


# Names


@settings(deadline=None)
@given(TEXTS)
@example([])
@example([""])
@example(["", "", "a", ""])
@example(["三", "é", "e\u0301", "🦊\n", "\ufeff", "a" * 300])
def test_names_are_a_list_of_texts(texts: list[str]) -> None:
    names = Names.of(iter(texts))
    assert len(names) == len(texts)
    assert list(names) == texts
    assert [names[i] for i in range(len(texts))] == texts
    assert [names[i - len(texts)] for i in range(len(texts))] == texts
    assert list(reversed(names)) == texts[::-1]
    assert Names.of(names) is names
    assert all(text in names for text in texts)
    for beyond in (len(texts), -len(texts) - 1, 40):
        with pytest.raises(IndexError):
            names[beyond]


@settings(deadline=None)
@given(TEXTS, st.integers(1, 5), st.lists(st.integers(0, 1000), max_size=20))
def test_names_are_taken_by_position_and_chunks_do_not_show(texts: list[str], chunk: int, places: list[int]) -> None:
    ids = np.array([place % len(texts) for place in places if texts], np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "CHUNK", chunk)
        names = Names.of(texts)
        found = names.take(ids)
        assert (list(names), list(found)) == (texts, [texts[i] for i in ids])
    assert bytes(found.block) == "".join(f"{texts[i]}\0" for i in ids).encode()
    assert found.ends.dtype == np.int64


# Labels


def test_labels_are_an_array_only_where_every_photo_has_one() -> None:
    one = compact(iter([(2,), (0,), (1,)]))
    assert isinstance(one, np.ndarray)
    assert (one.tolist(), one.dtype) == ([2, 0, 1], np.int64)
    assert list(compact([(2,), (0, 1)])) == [(2,), (0, 1)]
    assert list(compact([(2,), ()])) == [(2,), ()]
    assert len(compact([])) == 0


# Photos


def photos_of(
    labels: Sequence[tuple[int, ...]], shards: Sequence[int] | None = None, told: list[list[int]] | None = None
) -> Photos:
    """Photo i is i + 1 pixels wide and has a box of that width where i is even."""
    n, told = len(labels), [] if told is None else told
    boxes = {i: (((0.0, 0.0, i + 1.0, 1.0), labels[i][0]),) for i in range(0, n, 2)}
    return Photos(
        "all", Names.of(f"photo {i}" for i in range(n)), compact(labels), lambda id: Image.new("RGB", (id + 1, 1)),
        "place/", boxes, False, None if shards is None else np.array(shards), lambda ids: told.append(ids.tolist()),
    )  # fmt: skip


def test_photos_that_are_taken_keep_all_that_is_theirs() -> None:
    told: list[list[int]] = []
    whole = photos_of([(0,), (1,), (1,), (0,), (2,)], [7, 7, 8, 9, 9], told)
    ids = np.array([4, 1, 2])
    found = whole.take(ids, "val")
    assert (found.split, len(found), list(found.keys)) == ("val", 3, ["photo 4", "photo 1", "photo 2"])
    assert found.targets().tolist() == [2, 1, 1]
    assert [found.open(i).width for i in range(3)] == [5, 2, 3]
    assert found.name(0) == "place/photo 4"
    for new, old in enumerate(ids.tolist()):
        a, b = found.record(new), whole.record(old)
        assert (a.id, a.split) == (new, "val")
        assert (a.key, a.labels, a.boxes, a.box_labels) == (b.key, b.labels, b.boxes, b.box_labels)
    assert found.record(1).boxes == ()
    assert found.shards is not None
    assert found.shards.tolist() == [9, 7, 8]
    found.expect(np.array([2, 0]))
    again = found.take(np.array([2, 0]), "test")
    again.expect(np.array([1]))
    assert told == [[2, 4], [4]]
    assert [again.open(i).width for i in range(2)] == [3, 5]


def test_photos_with_several_labels_can_be_taken() -> None:
    whole = photos_of([(0,), (), (2,), (0, 1)])
    found = whole.take(np.array([3, 0]), "val")
    assert [found.record(i).labels for i in range(2)] == [(0, 1), (0,)]
    with pytest.raises(DataError, match="photo 3 has 2 labels; classification expects exactly one"):
        found.targets()
    with pytest.raises(DataError, match="photo 1 has 0 labels"):
        whole.targets()
    assert whole.take(np.array([2, 0]), "val").targets().tolist() == [2, 0]


def test_photos_are_visited_shard_by_shard() -> None:
    assert photos_of([(0,)] * 6, [2, 0, 1, 0, 2, 1]).in_turn().tolist() == [1, 3, 2, 5, 0, 4]
    assert photos_of([(0,)] * 3).in_turn().tolist() == [0, 1, 2]


# Fingerprints


def data_of(
    keys: Sequence[str], labels: Sequence[tuple[int, ...]], split: str = "train", classes: tuple[str, ...] = ("a", "b")
) -> DataSet:
    return DataSet("x", classes, {split: Photos(split, Names.of(keys), compact(labels), lambda id: b"")})


def test_a_fingerprint_tells_every_difference_and_no_more() -> None:
    same = data_of(["1", "2"], [(0,), (1,)])
    others = [
        data_of(["2", "1"], [(0,), (1,)]),
        data_of(["1", "2"], [(1,), (0,)]),
        data_of(["12"], [(0,)]),
        data_of(["1", "2", ""], [(0,), (1,), (0,)]),
        data_of(["", "1", "2"], [(0,), (1,), (0,)]),
        data_of(["1", "2"], [(0,), (0, 1)]),
        data_of(["1", "2"], [(0,), (1,)], "val"),
        data_of(["1", "2"], [(0,), (1,)], classes=("a", "c")),
        DataSet("x", ("a", "b"), {**same.splits, "val": same.splits["train"].take(np.arange(0), "val")}),
    ]
    assert len({data.fingerprint() for data in [same, *others]}) == 10
    assert DataSet("elsewhere", ("a", "b"), same.splits, held_out=True).fingerprint() == same.fingerprint()
