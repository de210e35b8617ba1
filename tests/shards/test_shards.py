"""Shards against the folder they were packed from, tar and webdataset; indexes of strangers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shards.test_pack import packed
from verydeep.data.order import epoch_order
from verydeep.data.record import Names
from verydeep.data.source import is_pattern, open_data
from verydeep.errors import DataError, PhotoError, VeryDeepError
from verydeep.shards import read as shards
from verydeep.shards.index import BoxTable, Index, Shard, read_index, save_index


@pytest.fixture
def flowers(photo_folder: Path, tmp_path: Path) -> str:
    packed(photo_folder, tmp_path / "shards" / "flowers-%05d.tar")
    return str(tmp_path / "shards" / "flowers-*.tar")


LISTED = {"f-{00000..00012}.tar": 13, "s3://b/x/f-{000..001}.tar": 2}
PATTERNS = ("%05d.tar", "%d.tar", "%06d.tar", "*.tar", "?????.tar")


@pytest.mark.parametrize("pattern", [*LISTED, *(f"s/f-{p}" for p in PATTERNS), "f*.tar", "f.tar", "s/f.index"])
def test_a_pattern_names_a_family(pattern: str) -> None:
    found, number = shards.family(pattern), "000003" if "%06d" in pattern else "00003"
    folder = pattern[: pattern.rfind("/") + 1]
    assert is_pattern(pattern)
    assert (found.folder, found.stem, found.listed) == (folder, "f", LISTED.get(pattern))
    assert [found.shard(split, 3) for split in ("all", "val")] == [f"f-{number}.tar", f"f-val-{number}.tar"]
    assert found.index_path == f"{folder}f.index"


@pytest.mark.parametrize(
    "pattern", ["*.tar", "f-{0..99999999999}.tar", "f-*-*.tar", "https://x/photos", ".tar", "f.tar.gz"]
)
def test_a_pattern_that_names_none_is_explained(pattern: str) -> None:
    with pytest.raises(DataError, match="expected a pattern of plain tar files"):
        shards.family(pattern)


def test_a_folder_may_be_called_like_an_archive(photo_folder: Path, tmp_path: Path) -> None:
    moved = photo_folder.rename(tmp_path / "photos.tar")
    assert open_data(str(moved)).classes == ("1", "2", "10")


@pytest.mark.parametrize("shares", [None, (0.1, 0.1), (0.3, 0.0)])
def test_shards_are_the_folder(photo_folder: Path, flowers: str, shares: tuple[float, float] | None) -> None:
    folder, found = open_data(str(photo_folder), shares, seed=3), open_data(flowers, shares, seed=3)
    assert found.fingerprint() == folder.fingerprint()
    assert found.held_out == folder.held_out
    for split, photos in folder.splits.items():
        other = found.split(split)
        assert other.shards is None
        assert [other.record(i) for i in range(len(other))] == [photos.record(i) for i in range(len(photos))]
        assert all(other.content(i) == photos.content(i) for i in range(len(photos)))


def test_splits_several_labels_and_boxes_survive(photo_folder: Path, tmp_path: Path) -> None:
    boxes = [{"label": "cat", "box": [1, 2.5, 20, 30]}, {"label": "dog", "box": [0, 0, 9.25, 9]}]
    lines = []
    for split, folder, numbers in (("train", "1", range(6)), ("val", "2", (0, 2, 4))):
        for i in numbers:
            line = {"path": f"{folder}/{i}.{'jpg' if i % 2 else 'png'}", "labels": ["dog"], "split": split}
            lines.append(line | ({"boxes": boxes} if i % 2 else {}))
    for name, labels in (("one", ["dog"]), ("several", ["cat", "dog"])):
        lines[2]["labels"] = labels
        manifest = photo_folder / f"{name}.jsonl"
        manifest.write_text("\n".join(map(json.dumps, lines)))
        packed(manifest, tmp_path / f"{name}-%05d.tar")
        given, found = open_data(str(manifest)), open_data(str(tmp_path / f"{name}-*.tar"))
        assert found.fingerprint() == given.fingerprint()
        for split, photos in given.splits.items():
            other = found.split(split)
            assert [other.record(i) for i in range(len(other))] == [photos.record(i) for i in range(len(photos))]
            assert isinstance(other.labels, np.ndarray) == isinstance(photos.labels, np.ndarray)
            assert (len(other.boxes), sorted(other.boxes)) == (len(photos.boxes), sorted(photos.boxes))
        back = found.split("train").take(np.array([3, 1]), "train")
        assert back.record(0).boxes == given.split("train").record(3).boxes != ()


def test_what_happens_to_a_shard_is_said(flowers: str, tmp_path: Path) -> None:
    photos = open_data(flowers).split("all")
    shard = tmp_path / "shards" / "flowers-00000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-512])
    for reading in (lambda: photos.open(0), lambda: open_data(flowers)):
        with pytest.raises(DataError, match=r"flowers-00000.tar has [\d,]+ bytes, the index says .* pack DATA again"):
            reading()
    shard.unlink()
    with pytest.raises(
        DataError, match=r"flowers-00000.tar, which holds .*: 1/0.png, cannot be read .* copy the shard there again"
    ) as caught:
        photos.open(0)
    assert not isinstance(caught.value, PhotoError)
    with pytest.raises(DataError, match=r"flowers-00000.tar cannot be read .* the index beside it lists it"):
        open_data(flowers)
    shard.write_bytes(whole)
    assert photos.open(0).size


def test_a_pattern_must_list_all_shards(flowers: str) -> None:
    with pytest.raises(DataError, match=r"lists 2 shards, .*flowers.index 1; give flowers-\*.tar for all"):
        open_data(flowers.replace("*", "{00000..00001}"))
    assert len(open_data(flowers.replace("*", "{00000..00000}")).split("all")) == 36


def test_an_index_that_is_missing_is_named(tmp_path: Path) -> None:
    for data in ("x.index", "x-*.tar", "x-%05d.tar", "x-{0..3}.tar"):
        with pytest.raises(DataError, match=rf"x.index does not exist; .*'verydeep pack hub:{tmp_path} --out"):
            open_data(str(tmp_path / data))


def boxes(photo: int, label: int, x1: float = 1.0) -> BoxTable:
    return BoxTable(np.array([photo]), np.array([label]), np.array([[0, 0, x1, 1]], float))


def small_index() -> Index:
    return Index(
        ("a", "b"), (("train", 3), ("val", 1)),
        (Shard("x-00000.tar", 5000, "0" * 64), Shard("x-00001.tar", 900, "1" * 64)),
        Names.of(["a/1", "a/ü", "b/1", "b/2"]), np.array([0, 0, 1, 1], np.int32), np.array([512, 4000, 512, 700]),
        np.array([100, 1000, 50, 200], np.int32), np.array([0, 0, 1, 1]), boxes(1, 0),
    )  # fmt: skip


WRONG = {
    "a photo behind its shard": {"offset": np.array([512, 4001, 512, 700])},
    "a negative place": {"offset": np.array([-1, 4000, 512, 700])},
    "a place that overflows": {"offset": np.array([2**63 - 1, 4000, 512, 700])},
    "a negative size": {"size": np.array([100, -5, 50, 200], np.int32)},
    "a shard that is not listed": {"shard": np.array([0, 2, 1, 1], np.int32)},
    "a label without a class": {"labels": np.array([0, 2, 1, 1])},
    "columns of other lengths": {"labels": np.array([0, 1, 1])},
    "splits that are not all": {"splits": (("train", 2), ("val", 1))},
    "an unknown split": {"splits": (("dev", 4),)},
    "all beside another": {"splits": (("all", 3), ("val", 1))},
    "a split twice": {"splits": (("val", 3), ("val", 1))},
    "a class twice": {"classes": ("a", "a")},
    "a class that is no text": {"classes": ("a", 3)},
    "a path for a shard": {"shards": (Shard("../../etc/x.tar", 5000, "0" * 64), Shard("y.tar", 900, "1" * 64))},
    "a hidden shard": {"shards": (Shard(".x.tar", 5000, "0" * 64), Shard("y.tar", 900, "1" * 64))},
    "a SHA-256 that is a path": {"shards": (Shard("x.tar", 5000, "../" + "0" * 61), Shard("y.tar", 900, "1" * 64))},
    "a shard without a SHA-256": {"shards": (Shard("x.tar", 5000, ""), Shard("y.tar", 900, "1" * 64))},
    "a shard twice": {"shards": (Shard("x.tar", 5000, "0" * 64), Shard("x.tar", 900, "1" * 64))},
    "a huge shard": {"shards": (Shard("x.tar", 2**64, "0" * 64), Shard("y.tar", 900, "1" * 64))},
    "keys out of order": {"keys": replace(Names.of(["a", "b", "c", "d"]), ends=np.array([3, 1, 5, 7]))},
    "keys outside": {"keys": replace(Names.of(["a", "b", "c", "d"]), ends=np.array([1, 3, 5, 700]))},
    "keys that are not UTF-8": {"keys": Names(np.frombuffer(b"\xff\0b\0c\0d\0", np.uint8), np.array([1, 3, 5, 7]))},
    "a key with NUL": {"keys": Names(np.frombuffer(b"a\0\0b\0c\0d\0", np.uint8), np.array([1, 4, 6, 8]))},
    "a box without a photo": {"boxes": boxes(9, 0)},
    "a box without a class": {"boxes": boxes(1, 9)},
    "a box nowhere": {"boxes": boxes(1, 0, float("nan"))},
    "a smallest side that is no number": {"smallest_side": "big"},
}


@pytest.mark.parametrize("name", WRONG)
def test_an_index_that_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    save_index(small_index(), tmp_path / "good.index")
    good = read_index(tmp_path / "good.index")
    assert (good.classes, good.splits, list(good.keys), dict(good.boxes)) == (
        ("a", "b"), (("train", 3), ("val", 1)), ["a/1", "a/ü", "b/1", "b/2"], {1: (((0, 0, 1, 1), 0),)},
    )  # fmt: skip
    save_index(replace(small_index(), **WRONG[name]), tmp_path / "x.index")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"x.index is not the index of shards, or damaged \("):
        read_index(tmp_path / "x.index")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_index_never_crashes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("index") / "x.index"
    save_index(small_index(), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        found = read_index(path)
    except VeryDeepError:
        return
    assert len(list(found.keys)) == len(found.labels) == sum(n for _, n in found.splits)


def test_tar_and_webdataset_read_our_shards(photo_folder: Path, flowers: str, tmp_path: Path) -> None:
    path = tmp_path / "shards" / "flowers-00000.tar"
    listed = subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=True)
    assert (len(listed.stdout.split()), listed.stderr) == (108, "")
    script = (
        "import sys, warnings; warnings.simplefilter('ignore'); import webdataset as wds\n"
        "for s in wds.WebDataset(sys.argv[1], shardshuffle=False).decode('rgb8').to_tuple('jpg', 'cls', 'json'):\n"
        "    print(s[0].shape[0], s[1], s[2]['path'])"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    photos = open_data(str(photo_folder)).split("all")
    truth = {f"{photos.open(i).height} {photos.targets()[i]} {photos.keys[i]}" for i in range(36)}
    assert set(done.stdout.splitlines()) == truth


def test_a_hundred_thousand_photos_open_at_once_and_take_little(tmp_path: Path) -> None:
    n = 100_000
    index = Index(
        ("a", "b"), (("train", n),), (Shard("x-00000.tar", 1 << 20, "0" * 64),),
        Names.of(f"some/folder/photo_{i:08d}.jpg" for i in range(n)),
        np.zeros(n, np.int32), np.zeros(n, np.int64), np.full(n, 9, np.int32), np.arange(n) % 2,
    )  # fmt: skip
    save_index(index, tmp_path / "x.index")
    with (tmp_path / "x-00000.tar").open("wb") as f:
        f.truncate(1 << 20)
    tracemalloc.start()
    began = time.perf_counter()
    photos = open_data(str(tmp_path / "x-*.tar")).split("train")
    seconds, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    assert seconds < 2
    epoch_order(0, 0, photos)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert peak < 10_000_000, "opening may not copy the columns"
    assert held < 2_000_000, "no object a photo may stay"
