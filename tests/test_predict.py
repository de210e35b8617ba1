from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from verydeep import load
from verydeep.errors import DataError
from verydeep.predict import Row, photos_in, predictions, print_rows


def test_folders_are_searched_in_natural_order_without_hidden_ones(photo_folder: Path) -> None:
    (photo_folder / ".cache").mkdir()
    (photo_folder / ".cache" / "x.png").touch()
    (photo_folder / "notes.txt").touch()
    found = photos_in([str(photo_folder)])
    assert [Path(p).parent.name for p in found] == sorted((Path(p).parent.name for p in found), key=int)
    assert not any(".cache" in p or p.endswith(".txt") for p in found)


def test_a_folder_without_photos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no photos"):
        photos_in([str(tmp_path)])


@pytest.mark.parametrize("workers", [0, 3])
def test_rows_come_in_order_with_the_bad_ones_in_their_place(photo_folder: Path, tmp_path: Path, workers: int) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no photo")
    good = photos_in([str(photo_folder)])
    paths = [str(bad), *good[:40], "missing.jpg", *good[:3], str(bad)]
    rows = list(predictions(load("builtin:fashion-a"), paths, top=3, workers=workers))
    assert [r.photo for r in rows] == paths
    assert [i for i, r in enumerate(rows) if r.error] == [0, paths.index("missing.jpg"), len(paths) - 1]
    assert all(len(r.classes) == 3 for r in rows if not r.error)


def test_the_answers_are_those_of_the_library(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verydeep.predict.multiplies_bf16", lambda device: False)  # the library computes in fp32
    classifier = load("builtin:fashion-a")
    paths = photos_in([str(photo_folder)])[:5]
    expected = classifier.predict(paths)
    for row, posteriors in zip(predictions(classifier, paths, top=10), expected, strict=True):
        assert [p for _, p in row.classes] == pytest.approx(posteriors.sort(descending=True).values.tolist(), abs=1e-5)
        assert row.classes[0][0] == classifier.contract.classes[int(posteriors.argmax())]


@pytest.mark.parametrize("protocol", ["centre", "dense"])
def test_both_protocols_answer_from_python_as_the_verb_does(
    photo_folder: Path, monkeypatch: pytest.MonkeyPatch, protocol: Literal["centre", "dense"]
) -> None:
    """To the bit, photo by photo: where photos of one size go through together, sums are rounded otherwise."""
    monkeypatch.setattr("verydeep.predict.multiplies_bf16", lambda device: False)  # the library computes in fp32
    classifier = load("builtin:fashion-a")
    for path in photos_in([str(photo_folder)])[::9]:
        (row,) = predictions(classifier, [path], 10, protocol)
        ways = path, Path(path), Path(path).read_bytes(), Image.open(path), np.asarray(Image.open(path))
        assert all(classifier.predict([way], protocol, top=10) == [row.classes] for way in ways)
    posteriors = classifier.predict(paths := photos_in([str(photo_folder)]), protocol)
    for row, found in zip(predictions(classifier, paths, 1, protocol), posteriors, strict=True):
        assert row.classes == [(classifier.contract.classes[int(found.argmax())], pytest.approx(float(found.max())))]


def test_the_net_in_the_box_knows_clothes() -> None:
    from verydeep.data.builtin import open_builtin

    test = open_builtin("fashion-mini").split("test")
    ids = range(0, 1000, 10)
    posteriors = load("builtin:fashion-a").predict([test.open(i) for i in ids])
    right = (posteriors.argmax(1) == torch.from_numpy(test.targets()[list(ids)])).sum()
    assert int(right) >= 85


ROWS = [Row("a,b.png", [("cat", 0.75), ("dog", 0.25)]), Row("c.png", [], "is empty")]


def test_json_is_one_object_a_line() -> None:
    out = io.StringIO()
    assert print_rows(ROWS, "json", out) == 1
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert first == {
        "photo": "a,b.png",
        "classes": [{"name": "cat", "probability": 0.75}, {"name": "dog", "probability": 0.25}],
        "error": None,
    }
    assert second == {"photo": "c.png", "classes": [], "error": "is empty"}


def test_csv_is_one_class_a_line() -> None:
    out = io.StringIO()
    print_rows(ROWS, "csv", out)
    found = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [(r["photo"], r["class"], r["error"]) for r in found] == [
        ("a,b.png", "cat", ""),
        ("a,b.png", "dog", ""),
        ("c.png", "", "is empty"),
    ]


def test_the_table_is_for_people() -> None:
    out = io.StringIO()
    print_rows(ROWS, "table", out)
    assert out.getvalue().splitlines() == ["a,b.png: cat 75.0 %, dog 25.0 %", "c.png: error: is empty"]
