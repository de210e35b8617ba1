"""Where photos, labels, boxes and splits come from."""

from __future__ import annotations

import ast
import gzip
import json
import re
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from verydeep.collections import folder
from verydeep.colours import BEFORE
from verydeep.data import builtin
from verydeep.data.manifest import write_split
from verydeep.data.naming import natural
from verydeep.data.record import DataSet, Names, Photos
from verydeep.data.said import data_lines
from verydeep.data.source import location, open_data
from verydeep.data.split import PARTS
from verydeep.errors import DataError, PhotoError

SHARES = (0.1, 0.1)
TRAIN = ("train/cat/1.png", "train/dog/1.png")
DOT = Image.new("RGB", (2, 2), "red")


def grow(root: Path, *names: str) -> Path:
    """Photos of 2 x 2 pixels under these names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        DOT.save(root / name)
    return root


def many(label: str, n: int) -> list[str]:
    return [f"{label}/{i}.png" for i in range(n)]


def keys(data: DataSet) -> dict[str, list[str]]:
    return {split: list(photos.keys) for split, photos in data.splits.items()}


def by_class(data: DataSet, split: str) -> dict[str, int]:
    counts = Counter(data.classes[t] for t in data.split(split).targets())
    return {label: counts[label] for label in data.classes}


def csv_file(folder: Path, text: str, name: str = "photos.csv") -> str:
    """A list; the first photo that it names is there."""
    if first := re.search(r"[\w/]+\.png", text):
        grow(folder, first[0])
    (folder / name).write_bytes(text.encode())
    return str(folder / name)


def json_file(folder: Path, *rows: object) -> str:
    return csv_file(folder, "".join(f"{json.dumps(row)}\n" for row in rows), "photos.jsonl")


# Folders


def test_class_folders_in_natural_order(photo_folder: Path) -> None:
    data = open_data(str(photo_folder))
    assert (data.classes, list(data.splits), data.held_out) == (("1", "2", "10"), ["all"], False)
    photos = data.split("all")
    assert photos.targets().tolist() == [0] * 12 + [1] * 12 + [2] * 12
    assert list(photos.keys) == [f"{c}/{i}.{'jpg' if i % 2 else 'png'}" for c in data.classes for i in range(12)]
    record = photos.record(15)
    assert (record.id, record.key, record.split, record.labels, record.boxes) == (15, "2/3.jpg", "all", (1,), ())
    with Image.open(photo_folder / "2/3.jpg") as expected:
        assert photos.open(15).tobytes() == expected.convert("RGB").tobytes()
    with pytest.raises(DataError, match="no split 'test'; it has all"):
        data.split("test")


def test_hidden_and_empty_folders_are_no_classes(tmp_path: Path) -> None:
    root = grow(tmp_path / ".cache", "cat/1.png", "dog/1.png", "loose.png")  # a hidden folder may be named
    grow(root, ".git/1.png", "__MACOSX/1.png", "cat/.thumbs/1.png", "cat/._1.png")
    (root / "empty").mkdir()
    (root / "dog" / "notes.txt").write_text("good dog")
    (root / "dog" / "folder.jpg").mkdir()
    data = open_data(str(root))
    assert (data.classes, keys(data)) == (("cat", "dog"), {"all": ["cat/1.png", "dog/1.png"]})


def test_photos_at_any_depth_belong_to_their_class(tmp_path: Path) -> None:
    grow(tmp_path, "cat/2020/10.PNG", "cat/2020/9.png", "cat/a.png", "dog/1.png")
    assert keys(open_data(str(tmp_path))) == {"all": ["cat/2020/9.png", "cat/2020/10.PNG", "cat/a.png", "dog/1.png"]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no class folders with photos; expected"),
        ([".cat/1.png", ".dog/2.png"], r"no class folders with photos \(2 hidden files and folders are passed over\)"),
        (["1.png", "2.png"], "2 photos but no class folders"),
        (["cat/1.png"], r"only one class folder with photos \(cat\)"),
        (["train/cat/1.png"], r"train has only one class folder with photos \(cat\)"),
        (["val/cat/1.png", "val/dog/1.png"], "no train folder"),
        ([*TRAIN, "val/cat/1.png", "val/cow/1.png"], "'cow'"),
        ([*TRAIN, "test/1.png", "test/cow/1.png", "test/dog/1.png"], "'cow'"),
        ([*TRAIN, "val/cat/1.png", "valid/dog/1.png"], "both val and valid"),
        ([*TRAIN, "val/cat/1.png", "extra/old/1.png"], "has photos in extra, .* like train;"),
        (["train/2020/1.png", "train/2021/1.png", "bus/1.png"], "has photos in bus"),
        (["cat/1.png", "dog/1.png", "dog/b\udce4r.png"], r"b\\udce4r"),
    ],
)
def test_folders_without_classes_are_explained(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data(str(grow(tmp_path, *names)), SHARES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere", "does not exist"),
        ("", "DATA is empty; expected a folder"),
        ("photos.zip", "unzip 'photos.zip' -d 'photos'"),
        ("x.csv", "no class folders"),
        ("shards", r"holds shards and no class folders; give .*flowers-\*.tar"),
        ("builtin:imagenet", "builtin:fashion-mini, builtin:fashion"),
    ],
)
def test_what_is_no_data_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos.zip").write_bytes(b"PK")
    Path("x.csv").mkdir()
    Path("shards").mkdir()
    Path("shards/flowers.index").touch()
    with pytest.raises(DataError, match=message):
        open_data(data)


def test_a_class_called_train(tmp_path: Path) -> None:
    grow(tmp_path, "train/1.png", "bus/1.png")
    data = open_data(str(tmp_path))
    assert data.classes == ("bus", "train")
    assert data.notes == ("train: taken as a class; of a split the class folders lie in it, beside train",)


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "valid", "testing"), ("TRAIN", "VAL", "Test")]
)
def test_split_folders_are_kept(tmp_path: Path, names: tuple[str, str, str]) -> None:
    expected = {split: [f"{name}/cat/1.png", f"{name}/dog/1.png"] for split, name in zip(PARTS, names, strict=True)}
    grow(tmp_path, ".cache/1.png", *(key for own in expected.values() for key in reversed(own)))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read me.txt").write_text("which photo is whose")
    data = open_data(str(tmp_path), SHARES)
    assert (keys(data), data.held_out) == (expected, False)
    assert data.split("val").targets().tolist() == [0, 1]


class Counted(str):
    """A class's name that counts how often it is compared with another."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)


def test_the_work_grows_with_the_classes_and_not_with_their_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(tmp_path, "train/cat/1.png", "val/cat/1.png")
    own = {s: {Counted(i): Names.of([f"{s}/{i}.png"]) for i in range(500)} for s in ("train", "val")}
    monkeypatch.setattr(folder, "layout", lambda *ignored: (own, [], ()))
    monkeypatch.setattr(Counted, "compared", 0)
    assert open_data(str(tmp_path)).split("val").targets().tolist() == list(range(500))
    assert Counted.compared < 20 * 500


def test_a_photo_of_many_labels_is_read_in_time_that_grows_with_them(tmp_path: Path) -> None:
    def seconds(labels: int) -> float:
        file = json_file(tmp_path, {"path": "a.png", "labels": [f"{i}" for i in range(labels)]})
        began = time.process_time()
        assert len(open_data(file).classes) == labels
        return time.process_time() - began

    assert min(seconds(16_000) for _ in range(3)) < 30 * min(seconds(1_600) for _ in range(3))


def test_no_message_names_an_option_that_some_verb_lacks() -> None:
    """DATA is opened by train, study, evaluate, check and pack, with --download; but for evaluate they say groups, and
    what is black and white, which a model remembers from its training.

    --out and --csv stand behind their verbs, as test_advice.py sees.
    """
    texts = [
        node.value
        for file in (*Path(folder.__file__).parent.glob("*.py"), *Path(builtin.__file__).parent.glob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert len(texts) > 100
    assert {option for text in texts for option in re.findall(r"--[a-z_]+", text)} <= {
        "--download", "--groups", "--classes", "--range", "--out", "--csv"
    }  # fmt: skip


def test_photos_stand_in_the_order_that_is_promised(tmp_path: Path) -> None:
    """A given split in line order; what is divided by class, or not split at all, by class."""
    mixed = [f"{label}{i}.png" for i in range(4) for label in ("dog", "cat")]
    by_label = sorted(mixed, key=lambda name: name[:3])
    given = csv_file(tmp_path, "path,label,split\n" + "".join(f"{n},{n[:3]},train\n" for n in mixed), "given.csv")
    unsplit = csv_file(tmp_path, "path,label\n" + "".join(f"{n},{n[:3]}\n" for n in mixed))
    assert keys(open_data(given)) == {"train": mixed}
    assert keys(open_data(unsplit)) == {"all": by_label}
    assert all(found == [k for k in by_label if k in found] for found in keys(open_data(given, SHARES)).values())


def test_natural_order() -> None:
    names = ["Img 2", "img 10", "img 1", "10", "2", "002", "b", "A", "9" * 5000]
    assert sorted(names, key=natural) == ["002", "2", "10", "9" * 5000, "A", "b", "img 1", "Img 2", "img 10"]


# Holding out


def test_held_out_by_class(tmp_path: Path) -> None:
    grow(tmp_path, *many("cat", 40), *many("cow", 3), *many("dog", 10), *many("emu", 2), *many("fox", 1))
    data = open_data(str(tmp_path), SHARES)
    assert data.held_out
    found = [list(by_class(data, split).values()) for split in PARTS]
    assert found == [[32, 1, 8, 1, 1], [4, 1, 1, 1, 0], [4, 1, 1, 0, 0]]  # cat, cow, dog, emu, fox


def test_a_new_photo_moves_few_others(tmp_path: Path) -> None:
    def places() -> dict[str, str]:
        return {key: split for split, found in keys(open_data(str(tmp_path), SHARES)).items() for key in found}

    grow(tmp_path, *many("cat", 50), *many("dog", 50))
    before = places()
    for name in ("new", "newer", "a"):
        grow(tmp_path, f"cat/{name}.png")
        after = places()
        assert sum(before[key] != after[key] for key in before) <= 2
        (tmp_path / f"cat/{name}.png").unlink()


@given(st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=4, unique=True))
@example(["cat", " cat", "cat ", " "])
def test_names_of_any_letters_survive_writing(tmp_path_factory: pytest.TempPathFactory, labels: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp()
    classes = sorted({label.replace("\0", "0") for label in labels}, key=natural)
    names, labels_of = [Names.of(f"{c}/{s}.png" for c in classes) for s in PARTS[:2]], np.arange(len(classes))
    splits = {s: Photos(s, n, labels_of, lambda _: DOT) for s, n in zip(PARTS[:2], names, strict=True)}
    if len(classes) > 1:
        drawn = DataSet("x", tuple(classes), splits)
        write_split(drawn, folder / "split.csv")
        assert open_data(str(folder), SHARES, split=folder / "split.csv").fingerprint() == drawn.fingerprint()


# Manifests


def test_a_csv_manifest(tmp_path: Path) -> None:
    grow(tmp_path, "a.png", "b.png")
    text = "path,label,split\na.png, 10 ,train\nb.png,9,Validation\n\nc.png,9,train\n"
    data = open_data(csv_file(tmp_path, text), SHARES)
    assert data.classes == ("9", "10")
    assert keys(data) == {"train": ["a.png", "c.png"], "val": ["b.png"]}
    assert data.split("train").targets().tolist() == [1, 0]
    assert data.split("val").open(0).getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(PhotoError, match=r"c\.png"):
        data.split("train").open(1)


def test_a_manifest_may_name_photos_that_lie_elsewhere(tmp_path: Path) -> None:
    (here := tmp_path / "here").mkdir()
    grow(tmp_path, "a.png", "b.png")
    data = open_data(csv_file(here, f"path,label,split\n{tmp_path / 'a.png'},cat,train\n../b.png,dog,train\n"))
    assert [data.split("train").open(i).getpixel((0, 0)) for i in (0, 1)] == [(255, 0, 0)] * 2
    assert [data.split("train").name(i) for i in (0, 1)] == [str(tmp_path / "a.png"), str(here / "../b.png")]
    write_split(data, here / "split.csv")
    again = open_data(str(here / "photos.csv"), split=here / "split.csv")
    assert again.split("train").open(0).getpixel((0, 0)) == (255, 0, 0)


def test_a_byte_order_mark_and_windows_lines_are_no_trouble(tmp_path: Path) -> None:
    data = open_data(csv_file(tmp_path, "\ufeffpath,label\r\na.png,cat\r\nb.png,dog\r\n"))
    assert (data.classes, keys(data)) == (("cat", "dog"), {"all": ["a.png", "b.png"]})
    (tmp_path / "photos.jsonl").write_text(
        '\ufeff{"path": "a.png", "label": "x"}\n\n{"path": "b.png", "label": "y"}', encoding="utf-8"
    )
    assert open_data(str(tmp_path / "photos.jsonl")).classes == ("x", "y")


def test_a_manifest_without_splits_is_divided(tmp_path: Path) -> None:
    """Boxes follow their photos into the splits."""
    lines = "".join(f"{label}{i}.png,{label},0 0 1 {i + 1}\n" for i in range(20) for label in ("dog", "cat"))
    data = open_data(csv_file(tmp_path, "path,label,box\n" + lines), SHARES)
    assert data.held_out
    assert [by_class(data, s) for s in PARTS] == [{"cat": n, "dog": n} for n in (16, 2, 2)]
    check_boxes(data)


def check_boxes(data: DataSet) -> None:
    """Photo cat7.png has a box of height 8."""
    for photos in data.splits.values():
        for id, key in enumerate(photos.keys):
            assert photos.record(id).boxes == ((0, 0, 1, int(key[3:-4]) + 1),)


def test_a_manifest_without_val_holds_it_out_of_train_and_keeps_test(tmp_path: Path) -> None:
    names = [(label, i) for i in range(25) for label in ("dog", "cat")]
    lines = "".join(f"{name}{i}.png,{name},{'test' if i < 5 else 'train'},0 0 1 {i + 1}\n" for name, i in names)
    file = csv_file(tmp_path, "path,label,split,box\n" + lines)
    data = open_data(file, (0.1, 0.3))
    assert data.held_out
    assert [by_class(data, s) for s in PARTS] == [{"cat": n, "dog": n} for n in (18, 2, 5)]
    assert list(data.split("test").keys) == [f"{name}{i}.png" for name, i in names[:10]]
    check_boxes(data)
    write_split(data, tmp_path / "split.csv")
    assert open_data(file, (0.1, 0.3), split=tmp_path / "split.csv").fingerprint() == data.fingerprint()
    assert keys(open_data(file))["train"] == [f"{name}{i}.png" for name, i in names[10:]]


@pytest.mark.parametrize("spelling", ["./x/a.png", "x//a.png", "x/y/../a.png", "x/./a.png", " ./x/a.png "])
def test_spellings_of_one_path_are_one_photo(tmp_path: Path, spelling: str) -> None:
    rows = ({"path": path, "label": "cat"} for path in ("x/a.png", spelling))
    assert keys(open_data(json_file(tmp_path, *rows))) == {"all": ["x/a.png"]}


def test_lines_of_one_photo_are_one_photo(tmp_path: Path) -> None:
    """And one of the class of its largest box, if that is all that several labels say."""
    text = (
        'path,label,split,box\na.png,dog,train,3 4 1 2\na.png,cat,train,"5, 6, 7, 8.5"\na.png,dog,train,\nb,cat,val,\n'
    )
    photos = open_data(csv_file(tmp_path, text), SHARES).split("train")
    record = photos.record(0)
    assert len(photos) == 1
    assert record.labels == (0,)
    assert record.boxes == ((1, 2, 3, 4), (5, 6, 7, 8.5))
    assert record.box_labels == (1, 0)
    photos = open_data(csv_file(tmp_path, text + "a.png,owl,train,\n"), SHARES).split("train")
    assert photos.record(0).labels == (1, 0, 2)
    with pytest.raises(DataError, match=r"a\.png has 3 labels"):
        photos.targets()


def test_boxes_without_an_area_are_left_out_and_said(tmp_path: Path) -> None:
    text = "path,label,split,box\na.png,cat,train,-1 2 3 4\na.png,owl,train,1 2 1 4\nb.png,dog,train,5 1 9 1\n"
    data = open_data(csv_file(tmp_path, text))
    assert data.classes == ("cat", "dog")
    assert [(r.labels, r.boxes) for r in map(data.split("train").record, range(2))] == [
        ((0,), ((-1, 2, 3, 4),)),
        ((1,), ()),
    ]
    assert "passed over: 2 boxes without a width or height (a.png 1 2 1 4, b.png 5 1 9 1)" in "".join(data_lines(data))


def test_json_lines_with_labels_and_boxes(tmp_path: Path) -> None:
    boxes = [{"label": "emu", "box": [0, 0, 5, 5]}, {"box": [1, 1, 2, 2]}]
    several = {"path": "a.png", "labels": ["dog", "cat"], "split": "train", "boxes": boxes}
    single = {"path": "b.png", "label": "cat", "split": "test", "box": [1, 2, 3, 4]}
    data = open_data(json_file(tmp_path, several, single))
    assert data.classes == ("cat", "dog", "emu")
    first, second = data.split("train").record(0), data.split("test").record(0)
    assert (first.labels, first.boxes, first.box_labels) == ((1, 0, 2), ((0, 0, 5, 5), (1, 1, 2, 2)), (2, 1))
    assert (second.labels, second.boxes, second.box_labels) == ((0,), ((1, 2, 3, 4),), (0,))


GOOD = "path,label,split,box\na.png,cat,train,\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks path"),
        ("label\ncat\n", "lacks path"),
        ("path,label\n", "names no photos"),
        ("path,label\na.png,cat\nb.png,cat\n", "names 1 class"),
        (GOOD + ",dog,train,\n", "line 3: path is ''"),
        (GOOD + "b.png\n", "line 3: label is None"),
        (GOOD + "b.png,dog,valdation,\n", "line 3: the split is 'valdation'"),
        (GOOD + "a.png,dog,val,\n", r"line 3: a\.png stands in two splits"),
        (GOOD + "b.png,dog,,\n", r"b\.png has no split"),
        (GOOD + "b.png,dog,test,\n", "at most one photo a class to divide"),
        (GOOD + "a.png,dog,train,\nb.png,dog,test,\n", "several labels cannot be divided"),
        (GOOD + "./a.png,dog,val,\n", r"line 3: a\.png stands in two splits"),
        (GOOD + "b.png,dog,val,1 2 3\n", "line 3: the box"),
        (GOOD + "b.png,dog,val,1 2 3 nan\n", "line 3: the box"),
        (GOOD + "b.png,dog,val,1 2 3 inf\n", "line 3: the box"),
        (GOOD + "b.png,dog,val,left top 3 4\n", "line 3: the box"),
        (GOOD + "b\0.png,dog,val,\n", "line 3: path"),
        (GOOD + f"b.png,{'x' * 200_000},val,\n", "is not a text manifest"),
    ],
)
def test_bad_csv_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data(csv_file(tmp_path, text), SHARES)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: is not JSON"),
        ("[]", "line 2: expected an object"),
        ('{"path": true, "label": "x"}', "line 2: path is True"),
        ('{"path": "b", "label": true}', "line 2: label is True"),
        ('{"path": "b", "labels": [], "boxes": [{"box": [0, 0, 1, 1]}]}', "line 2: label is None"),
        ('{"path": "b", "label": "x", "boxes": [5]}', "line 2: boxes expects"),
        ('{"path": "b", "label": "x", "box": 5}', "line 2: the box"),
        ('{"path": "b", "label": "x", "box": [0, 0, 1, 1%s]}' % ("0" * 400), "line 2: the box"),
        ('{"path": "b", "label": "x", "split": ["val"]}', "line 2: the split"),
        ('{"path": "b\\u0000", "label": "x"}', "line 2: path"),
        ('{"path": "b", "label": "\\ud800"}', "line 2: label"),
        ('{"path": "b", "label": %s}' % ("1" * 5000), "is not a text manifest"),
        ("[" * 100_000, "is not a text manifest"),
    ],
)
def test_bad_json_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    grow(tmp_path, "a.png")
    (tmp_path / "photos.jsonl").write_text('{"path": "a.png", "label": "x"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        open_data(str(tmp_path / "photos.jsonl"))


TEXTS = st.text(max_size=4) | st.sampled_from(["train", "a", "1 2 3 4"])
KEYS = st.sampled_from(["label", "box", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(["path", "label", "labels", "split", "box", "boxes"]), JSON), max_size=3),
    st.booleans(),
)
def test_any_json_is_data_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, rows: list[object], divided: bool
) -> None:
    file = json_file(tmp_path_factory.getbasetemp(), *rows)
    with suppress(DataError):
        open_data(file, SHARES if divided else None).fingerprint()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"path,label\n", b"path,label,split,box\n"]))
def test_any_bytes_are_data_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, start: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "junk.csv"
    file.write_bytes(start + junk)
    with suppress(DataError):
        open_data(str(file), SHARES).fingerprint()


# Built-in


def test_fashion_mini_is_balanced_and_its_splits_are_disjoint() -> None:
    data = open_data("builtin:fashion-mini")
    assert data.classes[0] == "T-shirt/top"
    assert data.classes[9] == "Ankle boot"
    assert not data.held_out
    counts = {s: np.bincount(p.targets()).tolist() for s, p in data.splits.items()}
    assert counts == {"train": [600] * 10, "val": [100] * 10, "test": [100] * 10}
    found = [key for p in data.splits.values() for key in p.keys]
    assert len(set(found)) == 8000
    photo = data.split("test").open(999)
    assert (photo.mode, photo.size) == ("RGB", (28, 28))
    assert len(set(photo.getpixel((14, 14)))) == 1  # grey


def test_fashion_mini_never_changes() -> None:
    data = open_data("builtin:fashion-mini")
    assert data.read_as(BEFORE).fingerprint() == "847f63bb438f061d7485f59bb680e8222d076c09d8669348eb08debb8f3d0f56"
    digest = sha256(repr(data.classes).encode())  # of the names and labels alone, however a fingerprint is made
    for split in sorted(data.splits):
        for id, key in enumerate(data.split(split).keys):
            digest.update(f"{split}\0{key}\0{data.split(split).record(id).labels}\n".encode())
    assert digest.hexdigest() == "ec07ea5169116ac29c1c4d58533638826617fada8e7c9772938442e6344b9531"
    total = [
        sum(int(np.asarray(p.open(i), dtype=np.int64)[:, :, 0].sum()) * (i + 1) for i in range(len(p)))
        for p in data.splits.values()
    ]
    assert total == [1028033106925, 28374703709, 29445484497]


@pytest.mark.skipif(
    not (builtin.DEBIAN / "train-images-idx3-ubyte.gz").exists(), reason="needs Debian's dataset-fashion-mnist"
)
def test_fashion_mini_lies_inside_fashion() -> None:
    small, large = open_data("builtin:fashion-mini"), open_data("builtin:fashion")
    counts = {s: np.bincount(p.targets()).tolist() for s, p in large.splits.items()}
    assert counts == {"train": [5500] * 10, "val": [500] * 10, "test": [1000] * 10}
    for split, photos in small.splits.items():
        place = {key: i for i, key in enumerate(large.split(split).keys)}
        for i in range(0, len(photos), 97):
            j = place[photos.keys[i]]
            assert photos.open(i).tobytes() == large.split(split).open(j).tobytes()
            assert photos.record(i).labels == large.split(split).record(j).labels


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


TINY = {
    "train-images-idx3-ubyte": idx(np.arange(12, dtype=np.uint8).reshape(3, 2, 2)),
    "train-labels-idx1-ubyte": idx(np.array([2, 0, 1], np.uint8)),
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The folder that a local server shows: at first TINY's files, packed."""
    (folder := tmp_path / "site").mkdir()
    for name, content in TINY.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder


@pytest.fixture
def own(tmp_path: Path, site: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for TINY's files; FILES lists their checksums."""
    monkeypatch.setattr(builtin, "FILES", {name: sha256(content).hexdigest() for name, content in TINY.items()})
    monkeypatch.setattr(builtin, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(builtin, "SOURCE", serve(partial(SimpleHTTPRequestHandler, directory=site)).url)
    monkeypatch.setenv("VERYDEEP_DATA", str(tmp_path))
    return tmp_path / "fashion-mnist"


def test_missing_fashion_files_name_the_flag_that_fetches_them(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "download", lambda wanted: pytest.fail("nothing may be fetched"))
    with pytest.raises(DataError, match="--download"):
        open_data("builtin:fashion")
    assert not own.exists()


def test_a_folder_that_cannot_be_made_is_explained(own: Path) -> None:
    own.touch()
    with pytest.raises(DataError, match=r"/train-images-idx3-ubyte\.gz cannot be written \(.*\); set VERY"):
        open_data("builtin:fashion", download=True)


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def test_a_fetched_file_is_checked_and_kept(own: Path, site: Path) -> None:
    found = builtin.load_fashion(True)
    assert left(own) == [f"{name}.gz" for name in TINY]
    assert found["train-images-idx3-ubyte"][1].tolist() == [[4, 5], [6, 7]]
    assert found["train-labels-idx1-ubyte"].tolist() == [2, 0, 1]
    rmtree(site)
    assert builtin.load_fashion(False).keys() == found.keys()
    (own / "train-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    with pytest.raises(
        DataError, match=r"labels-idx1-ubyte\.gz is not the published file .*; delete it and fetch it again"
    ):
        builtin.load_fashion(True)


WHOLE = gzip.compress(TINY["train-images-idx3-ubyte"])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (gzip.compress(TINY["train-labels-idx1-ubyte"]), "its SHA-256 differs"),
        (b"<html>", "it cannot be unpacked"),
        (WHOLE[:-9], "it cannot be unpacked"),
        (WHOLE[:12] + b"\xff" * 8 + WHOLE[20:], "it cannot be unpacked"),
        (gzip.compress(bytes(100 << 20), 1), "its SHA-256 differs"),
        (None, "the server says 404"),
    ],
    ids=["another file", "no gzip", "cut short", "damaged", "100 MB", "404"],
)
def test_a_wrong_answer_leaves_no_file(own: Path, site: Path, content: bytes | None, why: str) -> None:
    place = site / "train-images-idx3-ubyte.gz"
    place.unlink() if content is None else place.write_bytes(content)
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte\.gz cannot be fetched .*{why}.* by hand"):
        builtin.load_fashion(True)
    assert left(own) == []


def test_a_location_means_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert location("photos") == str(tmp_path.resolve() / "photos")
    assert location("builtin:fashion-mini") == "builtin:fashion-mini"
