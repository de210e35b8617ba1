"""ILSVRC's own layout: a toy tree with each of the lists that its validation photos come with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verydeep.collections import recognise
from verydeep.contract import class_key
from verydeep.data.naming import imagenet_classes
from verydeep.data.source import open_data
from verydeep.doctor.examine import check
from verydeep.errors import DataError
from verydeep.evaluate.sample import class_numbers

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
    (root / "devkit" / "data" / "map_clsloc.txt").write_text(
        "n02119789 1 kit_fox\nn01440764 2 tench\nn01443537 3 goldfish\n"
    )
    (root / "devkit" / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n3\n1\n")


def kaggle(root: Path) -> None:
    rows = [f"{NAMES[i]},{SYNSETS[TRUTH[i]]} 0 1 2 3 " for i in (3, 0, 2)] + [
        f"{NAMES[1]},{SYNSETS[0]} 1 1 3 3 {SYNSETS[0]} 0 0 2 2 "
    ]
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "\n".join(rows) + "\n")


@pytest.mark.parametrize("write", [caffe, tensorflow, development_kit, kaggle])
def test_every_list_says_the_same(root: Path, write) -> None:
    write(root)
    data = open_data(str(root))
    assert [class_key(c) for c in data.classes] == list(SYNSETS)
    assert data.classes[0] == "n01440764 tench, Tinca tinca"
    assert list(data.split("val").keys) == [f"val/{n}.JPEG" for n in NAMES]
    assert data.split("val").targets().tolist() == list(TRUTH)
    assert list(data.split("train").keys)[:2] == [
        "train/n01440764/n01440764_2.JPEG",
        "train/n01440764/n01440764_10.JPEG",
    ]
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
        (
            "val.txt",
            f"{NAMES[0]}.JPEG 65\n",
            "ILSVRC2012_val_00000001.JPEG is of n01751748, which is none of the 3 classes here",
        ),
        ("val.txt", f"{NAMES[0]}.JPEG 1000\n", "val.txt has class 1000, and there are 1000 synsets; put synsets.txt"),
        ("val.txt", f"{NAMES[0]}.JPEG -1\n", "val.txt has class -1, and there are 3 synsets"),
        ("val.txt", f"{NAMES[0]}.JPEG tench\n", "cannot be read"),
        ("val.txt", f"{NAMES[0]}.JPEG 0\n", "ILSVRC2012_val_00000002.JPEG is not in the list"),
        (
            "ILSVRC2012_validation_ground_truth.txt",
            "1\n2\n3\n1\n",
            "put the kit's meta.mat beside it, map_clsloc.txt of the kits from 2014",
        ),
        (
            "LOC_val_solution.csv",
            f"ImageId,PredictionString\n{NAMES[0]},n01440764 1 2\n",
            "expected synset x0 y0 x1 y1",
        ),
        ("LOC_val_solution.csv", "a,b\n1,2\n", "cannot be read"),
        (
            "imagenet_2012_validation_synset_labels.txt",
            "n01440764\nn09999999\n",
            "n09999999, which is none of the 3 classes here",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_named(root: Path, file: str | None, text: str, said: str) -> None:
    if file:
        (root / file).write_text(text)
    with pytest.raises(DataError, match=said.replace(".", r"\.")):
        open_data(str(root))


def into_folders(val: Path) -> None:
    """What the usual script does with the validation photos."""
    for name, c in zip(NAMES, TRUTH, strict=True):
        (val / SYNSETS[c]).mkdir(exist_ok=True)
        (val / f"{name}.JPEG").rename(val / SYNSETS[c] / f"{name}.JPEG")


def counting(root: Path, many: int = 4) -> Path:
    """Kaggle's list that knows no classes."""
    file = root / "ILSVRC" / "ImageSets" / "CLS-LOC" / "val.txt"
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"ILSVRC2012_val_{i:08d} {i}\n" for i in range(1, many + 1)))
    return file


def kaggles(root: Path) -> Path:
    """The photos below Kaggle's folders, with those of the test, which have no classes."""
    below = root / "ILSVRC" / "Data" / "CLS-LOC"
    below.mkdir(parents=True, exist_ok=True)
    for name in ("train", "val"):
        (root / name).rename(below / name)
    dot(below / "test" / "ILSVRC2012_test_00000001.JPEG")
    return below


@pytest.mark.parametrize("many", [4, 50_000])
@pytest.mark.parametrize("write", [tensorflow, caffe, development_kit])
def test_a_list_that_only_counts_the_photos_is_passed_over(root: Path, write, many: int) -> None:
    counting(root, many)
    kaggles(root)
    with pytest.raises(
        DataError, match=r"CLS-LOC/val\.txt only counts the photos\); put a list beside it: expected val\.txt of Caffe"
    ):
        open_data(str(root))
    write(root)
    assert open_data(str(root)).split("val").targets().tolist() == list(TRUTH)


def test_caffes_list_beside_the_photos_is_found_behind_one_that_only_counts(root: Path) -> None:
    counting(root)
    caffe(root)
    (root / "val.txt").rename(kaggles(root) / "val.txt")
    assert open_data(str(root)).split("val").targets().tolist() == list(TRUTH)
    assert open_data(str(root / "ILSVRC")).split("val").targets().tolist() == list(TRUTH)


def full_caffe(root: Path) -> None:
    """Numbers among all 1,000: tench 0, goldfish 1, kit fox 278."""
    rows = [(n, (0, 1, 278)[c]) for n, c in zip(NAMES, TRUTH, strict=True)] + [("ILSVRC2012_val_00050000", 999)]
    (root / "val.txt").write_text("".join(f"{n}.JPEG {c}\n" for n, c in rows))


def full_kaggle(root: Path) -> None:
    kaggle(root)
    with (root / "LOC_val_solution.csv").open("a") as file:
        file.write("ILSVRC2012_val_00050000,n01484850 0 1 2 3 \n")


def full_tensorflow(root: Path) -> None:
    (root / "imagenet_2012_validation_synset_labels.txt").write_text(
        "".join(f"{SYNSETS[c]}\n" for c in TRUTH) + "n01484850\n" * 6
    )


def full_development_kit(root: Path) -> None:
    development_kit(root)
    data = root / "devkit" / "data"
    with (
        (data / "map_clsloc.txt").open("a") as map_file,
        (data / "ILSVRC2012_validation_ground_truth.txt").open("a") as truth,
    ):
        map_file.write("n01484850 4 great_white_shark\n")
        truth.write("4\n4\n")


@pytest.mark.parametrize("write", [full_caffe, full_kaggle, full_tensorflow, full_development_kit])
def test_a_list_may_tell_of_photos_that_are_not_there(root: Path, write) -> None:
    write(root)
    (root / "val" / f"{NAMES[1]}.JPEG").unlink()
    val = open_data(str(root)).split("val")
    assert list(val.keys) == [f"val/{NAMES[i]}.JPEG" for i in (0, 2, 3)]
    assert val.targets().tolist() == [TRUTH[i] for i in (0, 2, 3)]


def test_what_is_there_of_a_class_without_folder_is_named(root: Path) -> None:
    full_kaggle(root)
    dot(root / "val" / "ILSVRC2012_val_00050000.JPEG")
    with pytest.raises(
        DataError, match=r"ILSVRC2012_val_00050000\.JPEG is of n01484850, which is none of the 3 classes here"
    ):
        open_data(str(root))


@pytest.mark.parametrize("below", [".", "ILSVRC/Data/CLS-LOC"])
def test_validation_folders_alone(root: Path, below: str) -> None:
    into_folders(root / "val")
    kaggles(root)
    shutil.rmtree(root / "ILSVRC" / "Data" / "CLS-LOC" / "train")
    if below == ".":
        (root / "ILSVRC" / "Data" / "CLS-LOC" / "val").rename(root / "val")
    data = open_data(str(root), (0.1, 0.1))
    assert list(data.splits) == ["val"]
    assert [class_key(c) for c in data.classes] == list(SYNSETS)
    assert data.classes[1] == "n01443537 goldfish, Carassius auratus"
    val = data.split("val")
    keys = [f"{SYNSETS[c]}/{NAMES[i]}.JPEG" for c, i in ((0, 1), (1, 2), (2, 0), (2, 3))]
    assert [str(Path("/", k)) for k in val.keys] == [str(Path("/", below, "val", k)) for k in keys]
    assert val.targets().tolist() == [0, 1, 2, 2]
    assert val.open(3).size == (4, 4)


@pytest.mark.parametrize("given", ["", "ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_tree_with_validation_folders(root: Path, given: str) -> None:
    counting(root)
    into_folders(root / "val")
    kaggles(root)
    same_in_every_split(root / given)


def test_the_archives_folders_with_validation_folders(root: Path) -> None:
    into_folders(root / "val")
    for name in ("train", "val"):
        (root / name).rename(root / f"ILSVRC2012_img_{name}")
    same_in_every_split(root)


def same_in_every_split(root: Path) -> None:
    data = open_data(str(root))
    assert {name: photos.targets().tolist() for name, photos in data.splits.items()} == {
        "train": [0, 0, 1, 1, 2, 2],
        "val": [0, 1, 2, 2],
    }
    assert [class_key(c) for c in data.classes] == list(SYNSETS)
    assert data.classes[0] == "n01440764 tench, Tinca tinca"


@pytest.mark.parametrize("layout", ["flat", "kaggle", "folders", "archives", "alone"])
def test_the_data_doctor_looks_through_every_layout(root: Path, layout: str) -> None:
    """It finds the one hidden file and the one empty class that are there, and takes no photo of a flat folder for loose."""
    flat = layout in ("flat", "kaggle")
    if flat:
        kaggle(root)
    else:
        into_folders(root / "val")
    (root / "val" / ".hidden").touch()
    (root / ("train" if flat else "val") / "n01484850").mkdir()
    if layout == "archives":
        for name in ("train", "val"):
            (root / name).rename(root / f"ILSVRC2012_img_{name}")
    if layout == "kaggle":
        kaggles(root)
    if layout == "alone":
        shutil.rmtree(root / "train")
    found = {f["id"]: f["count"] for f in check(str(root))["findings"]}
    assert (found["hidden"], found["empty-class"]) == (1, 1)
    assert "loose-photos" not in found


@pytest.mark.parametrize("write", [caffe, tensorflow, kaggle])
def test_the_data_doctor_does_not_count_a_list_that_is_read_among_what_is_passed_over(root: Path, write) -> None:
    write(root)
    assert "not-photos" not in {f["id"] for f in check(str(root))["findings"]}
    (root / "notes.txt").touch()
    (root / "val" / "synsets.md").touch()
    assert [f["count"] for f in check(str(root))["findings"] if f["id"] == "not-photos"] == [2]


def test_a_validation_folder_that_training_lacks_is_named(root: Path) -> None:
    into_folders(root / "val")
    dot(root / "val" / "n01484850" / "a.JPEG")
    with pytest.raises(DataError, match=r"val has the class n01484850, which .*train does not"):
        open_data(str(root))


def test_photos_half_moved_into_folders_are_not_half_taken(root: Path) -> None:
    caffe(root)
    into_folders(root / "val")
    dot(root / "val" / "ILSVRC2012_val_00000005.JPEG")
    with pytest.raises(DataError, match="holds folders of classes and photos outside of them"):
        open_data(str(root))


@pytest.mark.parametrize("other", ["test/n01440764", "training/n01440764", "train/background"])
def test_splits_that_ilsvrc_does_not_have_are_those_of_any_folder(root: Path, other: str) -> None:
    into_folders(root / "val")
    assert recognise(root)
    dot(root / other / "a.JPEG")
    assert recognise(root) is None


@pytest.mark.parametrize("truth", ["ILSVRC2012_clsloc", "ILSVRC2014_clsloc", "ILSVRC2015_clsloc"])
@pytest.mark.parametrize("kit", ["devkit", "ILSVRC2014_devkit", "ILSVRC2017_devkit/ILSVRC/devkit"])
def test_the_truth_of_later_development_kits(root: Path, truth: str, kit: str) -> None:
    development_kit(root)
    data = root / "devkit" / "data"
    (data / "ILSVRC2012_validation_ground_truth.txt").rename(data / f"{truth}_validation_ground_truth.txt")
    if kit != "devkit":
        (root / kit).mkdir(parents=True)
        data.rename(root / kit / "data")
    assert open_data(str(root)).split("val").targets().tolist() == list(TRUTH)


def test_what_macs_leave_beside_photos_is_no_photo(root: Path) -> None:
    caffe(root)
    (root / "val" / f"._{NAMES[0]}.JPEG").write_bytes(b"resource fork")
    assert open_data(str(root)).split("val").targets().tolist() == list(TRUTH)


def test_class_folders_are_no_ilsvrc(root: Path) -> None:
    assert recognise(root)
    assert recognise(root / "train") is None
    assert [len(p) for p in open_data(str(root / "train")).splits.values()] == [6]


def test_the_list_of_classes_is_in_the_order_of_synsets_without_doubles() -> None:
    synsets = list(imagenet_classes())
    assert synsets == sorted(set(synsets))
    assert len(synsets) == 1000
    first, last = (imagenet_classes()[s] for s in (synsets[0], synsets[-1]))
    assert (first, last) == (
        "tench, Tinca tinca",
        "toilet tissue, toilet paper, bathroom tissue",
    )


def test_classes_of_a_folder_of_synsets_find_those_of_a_published_net() -> None:
    known = [f"{s} {name}" for s, name in imagenet_classes().items()]
    assert np.array_equal(class_numbers(["n01443537", "n15075141"], "data", known, "net"), [1, 999])
    with pytest.raises(DataError, match="has the class 'n014435370'"):
        class_numbers(["n014435370"], "data", known, "net")


def test_a_model_without_names_says_how_to_name_its_classes() -> None:
    with pytest.raises(
        DataError,
        match=r"it knows class 0, class 1; its file does not name them, and verydeep\.weights\.read\.read_foreign",
    ):
        class_numbers(["n01440764 tench, Tinca tinca"], "data", ["class 0", "class 1"], "net")
    with pytest.raises(DataError, match=r"it knows class 0, cat$"):
        class_numbers(["n01440764 tench, Tinca tinca"], "data", ["class 0", "cat"], "net")


def test_two_classes_of_one_name_are_not_taken_for_one() -> None:
    with pytest.raises(DataError, match="net has 2 classes called 'crane'"):
        class_numbers(["hen", "crane"], "data", ["crane", "hen", "crane"], "net")
    assert class_numbers(["hen"], "data", ["crane", "hen", "crane"], "net").tolist() == [1]
