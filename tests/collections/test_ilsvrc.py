"""ILSVRC's own layout: a toy tree with each of the lists that its validation photos come with."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verydeep.collections import ilsvrc_folders
from verydeep.contract import class_key
from verydeep.data.naming import imagenet_classes
from verydeep.data.source import open_data
from verydeep.doctor.examine import check
from verydeep.errors import DataError
from verydeep.evaluate.sample import class_numbers

SYNSETS = ("n01440764", "n01443537", "n02119789")  # tench, goldfish, kit fox
TRUTH = (2, 0, 1, 2)  # of the four validation photos
*NAMES, LAST = (f"ILSVRC2012_val_{i:08d}" for i in (1, 2, 3, 4, 50_000))


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


def lines(*some: object) -> str:
    return "".join(f"{line}\n" for line in some)


GROUND, LABELS = "ILSVRC2012_validation_ground_truth.txt", "imagenet_2012_validation_synset_labels.txt"
KIT = ("n02119789 1 kit_fox", "n01440764 2 tench", "n01443537 3 goldfish")  # its own numbers, in another order
BOXES = [f"{NAMES[i]},{SYNSETS[TRUTH[i]]} 0 1 2 3 " for i in (3, 0, 2)]
BOXES += [f"{NAMES[1]},{SYNSETS[0]} 1 1 3 3 {SYNSETS[0]} 0 0 2 2 "]
COUNTED = [f"{name}.JPEG {(0, 1, 278)[c]}" for name, c in zip(NAMES, TRUTH, strict=True)]  # among all 1,000
LISTS = {
    "caffe": {"val.txt": lines(*(f"{name}.JPEG {c}" for name, c in zip(NAMES, TRUTH, strict=True)))},
    "tensorflow": {LABELS: lines(*(SYNSETS[c] for c in TRUTH))},
    "kit": {"devkit/data/map_clsloc.txt": lines(*KIT), f"devkit/data/{GROUND}": lines(1, 2, 3, 1)},
    "kaggle": {"LOC_val_solution.csv": lines("ImageId,PredictionString", *BOXES)},
}
LONGER = {  # of photos, and a class, that are not there
    "caffe": {"val.txt": lines(*COUNTED, f"{LAST} 999")},
    "tensorflow": {LABELS: LISTS["tensorflow"][LABELS] + "n01484850\n" * 6},
    "kit": {
        "devkit/data/map_clsloc.txt": lines(*KIT, "n01484850 4 great_white_shark"),
        f"devkit/data/{GROUND}": lines(1, 2, 3, 1, 4, 4),
    },
    "kaggle": {"LOC_val_solution.csv": LISTS["kaggle"]["LOC_val_solution.csv"] + f"{LAST},n01484850 0 1 2 3 \n"},
}


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def targets(root: Path) -> list[int]:
    return open_data(str(root)).split("val").targets().tolist()


@pytest.mark.parametrize("name", LISTS)
def test_every_list_says_the_same(root: Path, name: str) -> None:
    put(root, LISTS[name])
    data = open_data(str(root))
    assert [class_key(c) for c in data.classes] == list(SYNSETS)
    assert data.classes[0] == "n01440764 tench, Tinca tinca"
    assert list(data.split("val").keys) == [f"val/{n}.JPEG" for n in NAMES]
    assert data.split("val").targets().tolist() == list(TRUTH)
    keys = ["train/n01440764/n01440764_2.JPEG", "train/n01440764/n01440764_10.JPEG"]
    assert list(data.split("train").keys)[:2] == keys
    assert data.split("train").targets().tolist() == [0, 0, 1, 1, 2, 2]
    assert data.split("val").open(0).size == (4, 4)
    assert not data.held_out


def test_kaggles_boxes_come_along(root: Path) -> None:
    put(root, LISTS["kaggle"])
    record = open_data(str(root)).split("val").record(1)
    assert record.boxes == ((1, 1, 3, 3), (0, 0, 2, 2))
    assert record.box_labels == (0, 0)


def test_without_training_photos_the_classes_are_all_thousand(root: Path) -> None:
    shutil.rmtree(root / "train")
    put(root, {"val.txt": lines(*(f"{n} {c}" for n, c in zip(NAMES, (278, 0, 1, 999), strict=True)))})
    data = open_data(str(root))
    assert list(data.splits) == ["val"]
    assert len(data.classes) == 1000
    assert [class_key(data.classes[t]) for t in data.split("val").targets()] == ["n02119789", *SYNSETS[:2], "n15075141"]


def test_a_list_of_synsets_beside_caffes_settles_its_order(root: Path) -> None:
    put(root, LISTS["caffe"])
    (root / "synset_words.txt").write_text("n02119789 kit fox\nn01440764 tench\nn01443537 goldfish\n")
    assert targets(root) == [1, 2, 0, 1]


WRONG = [
    ("none.txt", "", "validation photos without their classes; put a list beside it: expected val.txt of Caffe"),
    ("val.txt", f"{NAMES[0]}.JPEG 65\n", "ILSVRC2012_val_00000001 is of n01751748, none of the 3 classes"),
    ("val.txt", f"{NAMES[0]}.JPEG 1000\n", "class 1000, and there are 1000 synsets; put synsets.txt"),
    ("val.txt", f"{NAMES[0]}.JPEG -1\n", "val.txt has class -1, and there are 3 synsets"),
    ("val.txt", f"{NAMES[0]}.JPEG tench\n", "cannot be read"),
    ("val.txt", f"{NAMES[0]}.JPEG\n", "cannot be read"),
    ("val.txt", f"{NAMES[0]}.JPEG 0\n", "ILSVRC2012_val_00000002 is not in the list"),
    (GROUND, "1\n2\n3\n1\n", "put its meta.mat or map_clsloc.txt beside it"),
    ("LOC_val_solution.csv", f"ImageId,PredictionString\n{NAMES[0]},n01440764 1 2\n", "expected synset x0 y0 x1 y1"),
    ("LOC_val_solution.csv", "a,b\n1,2\n", "cannot be read"),
    (LABELS, "n01440764\nn09999999\n", "n09999999, none of the 3 classes"),
    (LABELS, "n01440764\ntench\n", "has 'tench'; expected lines such as 'n02119789'"),
]


@pytest.mark.parametrize(("file", "text", "said"), WRONG)
def test_what_is_missing_or_wrong_is_named(root: Path, file: str, text: str, said: str) -> None:
    (root / file).write_text(text)
    with pytest.raises(DataError, match=re.escape(said)):
        open_data(str(root))


def into_folders(val: Path) -> None:
    """What the usual script does with the validation photos."""
    for name, c in zip(NAMES, TRUTH, strict=True):
        (val / SYNSETS[c]).mkdir(exist_ok=True)
        (val / f"{name}.JPEG").rename(val / SYNSETS[c] / f"{name}.JPEG")


def counting(root: Path, many: int = 4) -> None:
    """Kaggle's list that knows no classes."""
    counts = lines(*(f"ILSVRC2012_val_{i:08d} {i}" for i in range(1, many + 1)))
    put(root, {"ILSVRC/ImageSets/CLS-LOC/val.txt": counts})


def kaggles(root: Path) -> Path:
    """The photos below Kaggle's folders, with those of the test, which have no classes."""
    below = root / "ILSVRC" / "Data" / "CLS-LOC"
    below.mkdir(parents=True, exist_ok=True)
    for name in ("train", "val"):
        (root / name).rename(below / name)
    dot(below / "test" / "ILSVRC2012_test_00000001.JPEG")
    return below


@pytest.mark.parametrize("many", [4, 50_000])
@pytest.mark.parametrize("name", ["tensorflow", "caffe", "kit"])
def test_a_list_that_only_counts_the_photos_is_passed_over(root: Path, name: str, many: int) -> None:
    counting(root, many)
    kaggles(root)
    with pytest.raises(DataError, match=r"CLS-LOC/val\.txt only counts the photos\); put a list beside it"):
        open_data(str(root))
    put(root, LISTS[name])
    assert targets(root) == list(TRUTH)


def test_caffes_list_beside_the_photos_is_found_behind_one_that_only_counts(root: Path) -> None:
    counting(root)
    put(root, LISTS["caffe"])
    (root / "val.txt").rename(kaggles(root) / "val.txt")
    assert targets(root) == list(TRUTH)
    assert targets(root / "ILSVRC") == list(TRUTH)


@pytest.mark.parametrize("name", LONGER)
def test_a_list_may_tell_of_photos_that_are_not_there(root: Path, name: str) -> None:
    put(root, LONGER[name])
    (root / "val" / f"{NAMES[1]}.JPEG").unlink()
    val = open_data(str(root)).split("val")
    assert list(val.keys) == [f"val/{NAMES[i]}.JPEG" for i in (0, 2, 3)]
    assert val.targets().tolist() == [TRUTH[i] for i in (0, 2, 3)]


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


@pytest.mark.parametrize("given", ["archives", "", "ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_validation_folders_beside_those_to_train_on(root: Path, given: str) -> None:
    into_folders(root / "val")
    if given == "archives":
        for name in ("train", "val"):
            (root / name).rename(root / f"ILSVRC2012_img_{name}")
    else:
        counting(root)
        kaggles(root)
    data = open_data(str(root / given if given != "archives" else root))
    found = {name: photos.targets().tolist() for name, photos in data.splits.items()}
    assert found == {"train": [0, 0, 1, 1, 2, 2], "val": [0, 1, 2, 2]}
    assert [class_key(c) for c in data.classes] == list(SYNSETS)
    assert data.classes[0] == "n01440764 tench, Tinca tinca"


@pytest.mark.parametrize("layout", ["flat", "kaggle", "folders", "archives", "alone"])
def test_the_data_doctor_looks_through_every_layout(root: Path, layout: str) -> None:
    """It finds the one hidden file and the one empty class, and takes no photo of a flat folder for loose."""
    flat = layout in ("flat", "kaggle")
    if flat:
        put(root, LISTS["kaggle"])
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


def test_a_validation_folder_that_training_lacks_is_named(root: Path) -> None:
    into_folders(root / "val")
    dot(root / "val" / "n01484850" / "a.JPEG")
    with pytest.raises(DataError, match=r"val has the class n01484850; expected .* none that train lacks"):
        open_data(str(root))


def test_photos_half_moved_into_folders_are_not_half_taken(root: Path) -> None:
    put(root, LISTS["caffe"])
    into_folders(root / "val")
    dot(root / "val" / "ILSVRC2012_val_00000005.JPEG")
    with pytest.raises(DataError, match="holds class folders and photos beside them"):
        open_data(str(root))


@pytest.mark.parametrize("other", ["test/n01440764", "training/n01440764", "train/background"])
def test_splits_that_ilsvrc_does_not_have_are_those_of_any_folder(root: Path, other: str) -> None:
    into_folders(root / "val")
    assert ilsvrc_folders(root)
    dot(root / other / "a.JPEG")
    assert not ilsvrc_folders(root)


@pytest.mark.parametrize("truth", ["ILSVRC2012_clsloc", "ILSVRC2014_clsloc", "ILSVRC2015_clsloc"])
@pytest.mark.parametrize("kit", ["devkit", "ILSVRC2014_devkit", "ILSVRC2017_devkit/ILSVRC/devkit"])
def test_the_truth_of_later_development_kits(root: Path, truth: str, kit: str) -> None:
    put(root, LISTS["kit"])
    data = root / "devkit" / "data"
    (data / "ILSVRC2012_validation_ground_truth.txt").rename(data / f"{truth}_validation_ground_truth.txt")
    if kit != "devkit":
        (root / kit).mkdir(parents=True)
        data.rename(root / kit / "data")
    assert targets(root) == list(TRUTH)


def test_what_macs_leave_beside_photos_is_no_photo(root: Path) -> None:
    put(root, LISTS["caffe"])
    (root / "val" / f"._{NAMES[0]}.JPEG").write_bytes(b"resource fork")
    assert targets(root) == list(TRUTH)


def test_class_folders_are_no_ilsvrc(root: Path) -> None:
    assert ilsvrc_folders(root)
    assert not ilsvrc_folders(root / "train")
    assert [len(p) for p in open_data(str(root / "train")).splits.values()] == [6]


def test_the_list_of_classes_is_in_the_order_of_synsets_without_doubles() -> None:
    synsets = list(imagenet_classes())
    assert synsets == sorted(set(synsets))
    assert len(synsets) == 1000
    assert imagenet_classes()[synsets[0]] == "tench, Tinca tinca"
    assert imagenet_classes()[synsets[-1]] == "toilet tissue, toilet paper, bathroom tissue"


def test_classes_of_a_folder_of_synsets_find_those_of_a_published_net() -> None:
    known = [f"{s} {name}" for s, name in imagenet_classes().items()]
    assert np.array_equal(class_numbers(["n01443537", "n15075141"], "data", known, "net"), [1, 999])
    with pytest.raises(DataError, match="has the class 'n014435370'"):
        class_numbers(["n014435370"], "data", known, "net")


def test_a_model_without_names_says_how_to_name_its_classes() -> None:
    said = r"it knows class 0, class 1; its file does not name them, and verydeep\.weights\.read_foreign"
    with pytest.raises(DataError, match=said):
        class_numbers(["n01440764 tench, Tinca tinca"], "data", ["class 0", "class 1"], "net")
    with pytest.raises(DataError, match=r"it knows class 0, cat$"):
        class_numbers(["n01440764 tench, Tinca tinca"], "data", ["class 0", "cat"], "net")


def test_two_classes_of_one_name_are_not_taken_for_one() -> None:
    with pytest.raises(DataError, match="net has 2 classes called 'crane'"):
        class_numbers(["hen", "crane"], "data", ["crane", "hen", "crane"], "net")
    assert class_numbers(["hen"], "data", ["crane", "hen", "crane"], "net").tolist() == [1]
