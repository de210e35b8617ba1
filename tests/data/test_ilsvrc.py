"""ILSVRC's own layout: a toy tree with each of the lists that its validation photos come with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verydeep.contract import class_key
from verydeep.data.ilsvrc import class_names, recognise
from verydeep.data.source import open_data
from verydeep.errors import DataError
from verydeep.evaluate.models import class_numbers

SYNSETS = ("n01440764", "n01443537", "n02119789")  # tench, goldfish, kit fox
TRUTH = (2, 0, 1, 2)  # of the four validation photos
NAMES = [f"ILSVRC2012_val_{i:08d}" for i in range(1, 5)]


def dot(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), "red").save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two training photos a synset and four flat validation photos, in the folders that the archives unpack to."""
    for synset in SYNSETS:
        for i in (2, 10):
            dot(tmp_path / "train" / synset / f"{synset}_{i}.JPEG")
    for name in NAMES:
        dot(tmp_path / "val" / f"{name}.JPEG")
    return tmp_path


def caffe(root: Path) -> None:
    (root / "val.txt").write_text("".join(f"{n}.JPEG {c}\n" for n, c in zip(NAMES, TRUTH, strict=True)))


def tensorflow(root: Path) -> None:
    (root / "imagenet_2012_validation_synset_labels.txt").write_text("".join(f"{SYNSETS[c]}\n" for c in TRUTH))


def development_kit(root: Path) -> None:
    """Its own numbers run from 1 in another order: kit fox, tench, goldfish."""
    (root / "devkit" / "data").mkdir(parents=True)
    (root / "devkit" / "data" / "map_clsloc.txt").write_text("n02119789 1 kit_fox\nn01440764 2 tench\nn01443537 3 goldfish\n")
    (root / "devkit" / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n3\n1\n")


def kaggle(root: Path) -> None:
    rows = [f"{NAMES[i]},{SYNSETS[TRUTH[i]]} 0 1 2 3 " for i in (3, 0, 2)] + [f"{NAMES[1]},{SYNSETS[0]} 1 1 3 3 {SYNSETS[0]} 0 0 2 2 "]
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "\n".join(rows) + "\n")


@pytest.mark.parametrize("write", [caffe, tensorflow, development_kit, kaggle])
def test_every_list_says_the_same(root: Path, write) -> None:
    write(root)
    data = open_data(str(root))
    assert [class_key(c) for c in data.classes] == list(SYNSETS)
    assert data.classes[0] == "n01440764 tench, Tinca tinca"
    assert list(data.split("val").keys) == [f"val/{n}.JPEG" for n in NAMES]
    assert data.split("val").targets().tolist() == list(TRUTH)
    assert list(data.split("train").keys)[:2] == ["train/n01440764/n01440764_2.JPEG", "train/n01440764/n01440764_10.JPEG"]
    assert data.split("train").targets().tolist() == [0, 0, 1, 1, 2, 2]
    assert data.split("val").open(0).size == (4, 4)
    assert not data.held_out


def test_kaggles_boxes_come_along(root: Path) -> None:
    kaggle(root)
    record = open_data(str(root)).split("val").record(1)
    assert record.boxes == ((1, 1, 3, 3), (0, 0, 2, 2))
    assert record.box_labels == (0, 0)


def test_kaggles_folders_are_recognised(root: Path) -> None:
    kaggle(root)
    below = root / "ILSVRC" / "Data" / "CLS-LOC"
    below.mkdir(parents=True)
    for name in ("train", "val"):
        (root / name).rename(below / name)
    assert open_data(str(root)).split("val").targets().tolist() == list(TRUTH)


def test_without_training_photos_the_classes_are_all_thousand(root: Path) -> None:
    for path in (root / "train").rglob("*.JPEG"):
        path.unlink()
    for path in sorted((root / "train").rglob("*"), reverse=True):
        path.rmdir()
    (root / "train").rmdir()
    (root / "val.txt").write_text("".join(f"{n}.JPEG {c}\n" for n, c in zip(NAMES, (278, 0, 1, 999), strict=True)))
    data = open_data(str(root))
    assert list(data.splits) == ["val"]
    assert len(data.classes) == 1000
    assert [class_key(data.classes[t]) for t in data.split("val").targets()] == ["n02119789", *SYNSETS[:2], "n15075141"]


def test_a_list_of_synsets_beside_caffes_settles_its_order(root: Path) -> None:
    caffe(root)
    (root / "synset_words.txt").write_text("n02119789 kit fox\nn01440764 tench\nn01443537 goldfish\n")
    assert open_data(str(root)).split("val").targets().tolist() == [1, 2, 0, 1]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (None, "", "validation photos without their classes; put a list beside it: expected val.txt of Caffe"),
        ("val.txt", f"{NAMES[0]}.JPEG 65\n", "val.txt has class 65, and there are 3 synsets; put synsets.txt"),
        ("val.txt", f"{NAMES[0]}.JPEG tench\n", "cannot be read"),
        ("val.txt", f"{NAMES[0]}.JPEG 0\n", "ILSVRC2012_val_00000002.JPEG is not in the list"),
        ("ILSVRC2012_validation_ground_truth.txt", "1\n2\n3\n1\n", "put map_clsloc.txt beside it"),
        ("LOC_val_solution.csv", f"ImageId,PredictionString\n{NAMES[0]},n01440764 1 2\n", "expected synset x0 y0 x1 y1"),
        ("LOC_val_solution.csv", "a,b\n1,2\n", "cannot be read"),
        ("imagenet_2012_validation_synset_labels.txt", "n01440764\nn09999999\n", "n09999999, which is none of the 3 classes here"),
    ],
)
def test_what_is_missing_or_wrong_is_named(root: Path, file: str | None, text: str, said: str) -> None:
    if file:
        (root / file).write_text(text)
    with pytest.raises(DataError, match=said.replace(".", r"\.")):
        open_data(str(root))


def test_class_folders_are_no_ilsvrc(root: Path) -> None:
    assert recognise(root)
    assert recognise(root / "train") is None
    assert [len(p) for p in open_data(str(root / "train")).splits.values()] == [6]


def test_the_list_of_classes_is_in_the_order_of_synsets_without_doubles() -> None:
    synsets = list(class_names())
    assert synsets == sorted(set(synsets))
    assert len(synsets) == 1000
    assert (class_names()[synsets[0]], class_names()[synsets[-1]]) == ("tench, Tinca tinca", "toilet tissue, toilet paper, bathroom tissue")


def test_classes_of_a_folder_of_synsets_find_those_of_a_published_net() -> None:
    known = [f"{s} {name}" for s, name in class_names().items()]
    assert np.array_equal(class_numbers(["n01443537", "n15075141"], "data", known, "net"), [1, 999])
    with pytest.raises(DataError, match="has the class 'n014435370'"):
        class_numbers(["n014435370"], "data", known, "net")
