"""Cross-validation: every photo is tested once, and the sums are those of the folds."""

import csv
import json
from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verydeep.cli import main
from verydeep.data.record import DataSet, Names, Photos
from verydeep.data.source import open_data
from verydeep.errors import DataError
from verydeep.study.folds import fold_splits

TINY = ["--recipe", "small", "--crop", "32", "--scale", "36", "--base_width", "4", "--fc_width", "8", "--epochs", "1"]


@pytest.mark.parametrize("folds", [2, 5, 12])
def test_every_photo_is_tested_once_and_every_class_in_every_fold(photo_folder, folds):
    data = open_data(str(photo_folder))
    tested, made = Counter(), fold_splits(data, folds, 0, 0.1)
    for divided in made:
        keys = {name: list(photos.keys) for name, photos in divided.splits.items()}
        assert sorted(chain(*keys.values())) == sorted(data.splits["all"].keys)
        tested.update(keys["test"])
        for part in ("train", "val", "test"):
            assert set(divided.splits[part].targets().tolist()) == {0, 1, 2}
    assert set(tested.values()) == {1}
    assert len(tested) == 36
    sizes = [len(divided.splits["test"]) for divided in made]
    assert max(sizes) - min(sizes) <= 3
    again = fold_splits(data, folds, 1, 0.1)
    assert list(again[0].splits["test"].keys) != list(made[0].splits["test"].keys)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(1, 6), min_size=5, max_size=25), min_size=1, max_size=3), st.integers(2, 5))
def test_groups_stay_whole_in_folds_of_balanced_classes(sizes, folds):
    rows = [(f"{c}/{g}/{i}", c, f"{c}-{g}") for c, own in enumerate(sizes) for g, n in enumerate(own) for i in range(n)]
    keys, labels, groups = zip(*rows, strict=True)
    photos = Photos("all", Names.of(keys), np.array(labels), lambda id: b"", groups=Names.of(groups))
    made = fold_splits(DataSet("x", tuple("abc"[: len(sizes)]), {"all": photos}, grouped_by="g"), folds, 0, 0.2)
    tested = Counter()
    for divided in made:
        tested.update(divided.split("test").keys)
        sides = {(group, split) for split, own in divided.splits.items() for group in own.groups}
        assert len(sides) == len(set(groups))
        for c, own in enumerate(sizes):
            held = {split: int((part.targets() == c).sum()) for split, part in divided.splits.items()}
            assert min(held[split] for split in ("train", "val", "test")) > 0
            assert abs(held["test"] - sum(own) / folds) <= max(own)
    assert tested == Counter(keys)


def test_a_class_in_fewer_groups_than_folds_is_refused(photo_folder):
    grouped = open_data(str(photo_folder), groups=r"\d+/[0-2]")  # of each class 1, 10, 11 are one group
    with pytest.raises(DataError, match=r"the class '1' stands in 10 groups by .*, too few for 11 folds"):
        fold_splits(grouped, 11, 0, 0.1)
    assert len(fold_splits(grouped, 10, 0, 0.1)) == 10


def test_what_has_splits_or_too_few_photos_is_refused(photo_folder):
    with pytest.raises(DataError, match="has splits of its own, train, val"):
        fold_splits(open_data(str(photo_folder), (0.1, 0.1), 0), 3, 0, 0.1)
    with pytest.raises(DataError, match=r"the class '1' has 12 photos, too few for 13 folds"):
        fold_splits(open_data(str(photo_folder)), 13, 0, 0.1)


def test_folds_are_trained_tested_and_summed_and_go_on(photo_folder, tmp_path, capsys):
    words = ["train", str(photo_folder), "--out", str(tmp_path / "cv"), *TINY, "--folds", "3"]
    assert main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [f["photos"] for f in record["folds"]] == [12, 12, 12]
    wrong = []
    for i in (1, 2, 3):
        with (tmp_path / "cv" / f"fold-{i}" / "mistakes.csv").open(newline="") as f:
            wrong.append(len(list(csv.DictReader(f))))
    assert [f["top1_errors"] for f in record["folds"]] == wrong
    assert record["verdict"]["error"] == pytest.approx(100 * sum(wrong) / 36, abs=1e-3)
    weights = (tmp_path / "cv" / "fold-2" / "best.safetensors").read_bytes()
    assert main(words) == 0
    said = capsys.readouterr().out
    assert (tmp_path / "cv" / "fold-2" / "best.safetensors").read_bytes() == weights
    assert "% errors on 36 photos, each tested by a net that has not seen it" in said
    assert said.splitlines()[-2].startswith("all ")


@pytest.mark.parametrize("other", [["--folds", "4"], ["--folds", "3", "--seed", "1"]])
def test_another_division_is_not_mixed_with_the_first(photo_folder, tmp_path, capsys, other):
    """Some photos would be tested twice and others never."""
    words = ["train", str(photo_folder), "--out", str(tmp_path / "cv"), *TINY]
    assert main([*words, "--folds", "3"]) == 0
    capsys.readouterr()
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "cv").rglob("*")}
    assert main([*words, *other]) == 1
    assert "fold-1.csv divides " in capsys.readouterr().err
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "cv").rglob("*")} == before
