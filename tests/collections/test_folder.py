"""Folders as people bring them: what is plain is understood and said, the rest is refused with what to type."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from verydeep.cli import main
from verydeep.collections.layout import split_meant
from verydeep.data.record import DataSet
from verydeep.data.said import data_lines
from verydeep.data.source import open_data
from verydeep.data.tree import repeated_words
from verydeep.errors import DataError

SHARES = (0.2, 0.2)
DOT = Image.new("RGB", (40, 40), "red")
PETS = [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(8)]
TINY = ["--recipe", "small", "--base_width", "4", "--fc_width", "8", "--crop", "32", "--scale", "36", "--epochs", "1"]
TINY += ["--device", "cpu", "--workers", "0"]


def grow(root: Path, *names: str) -> Path:
    """Photos under these names, and other files where they are called otherwise."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".png", ".jpg")):
            DOT.save(root / name)
        else:
            (root / name).write_text("x")
    return root


def within(*folders: str, names: list[str] = PETS) -> list[str]:
    return [f"{folder}/{name}" for folder in folders for name in names]


def said(data: DataSet) -> str:
    return "\n".join(data_lines(data))


def keys(data: DataSet) -> dict[str, list[str]]:
    return {split: list(photos.keys) for split, photos in data.splits.items()}


# Splits by other names


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("training_set", "train"), ("Train_data", "train"), ("TRAIN-IMAGES", "train"), ("01_train", "train"),
        ("train photos", "train"), ("trainset", "train"), ("Training Set (1)", "train"), ("train2017", "train"),
        ("valid", "val"), ("dataset-val", "val"), ("dev_set", "val"), ("validation images", "val"),
        ("test_set", "test"), ("Test_data", "test"), ("testing", "test"), ("eval", "test"), ("holdout_set", "test"),
        ("test-2", "test"), ("bus", ""), ("trainer", ""), ("data", ""), ("contest", ""), ("protest march", ""),
        ("train station", ""), ("device", ""), ("medieval", ""), ("fold1", ""), ("1", ""),
    ],
)  # fmt: skip
def test_what_a_folder_of_a_split_is_called(name: str, split: str) -> None:
    assert split_meant(name) == split


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("training_set", "test_set"), ["train", "test"]),
        (("Train_data", "Test_data"), ["train", "test"]),
        (("1 train", "2 validation", "3 test"), ["train", "val", "test"]),
        (("train", "eval"), ["train", "test"]),
        (("train", "eval", "test"), ["train", "val", "test"]),
        (("train", "dev", "holdout"), ["train", "val", "test"]),
    ],
)
def test_splits_by_other_names_are_no_classes(tmp_path: Path, names: tuple[str, ...], splits: list[str]) -> None:
    data = open_data(str(grow(tmp_path, *within(*names))))
    assert (data.classes, list(data.splits)) == (("cat", "dog"), splits)
    assert f"{names[0]}/cat/0.png" in keys(data)["train"]
    assert f"{names[-1]} is taken as {splits[-1]}" in said(data) or names[-1] == "test"


@pytest.mark.parametrize("names", [("fold1", "fold2", "fold3"), ("A", "B"), ("Kaggle 2019", "own photos")])
def test_folders_that_repeat_are_never_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    grow(tmp_path, *within(*names))
    for shares in (SHARES, None):
        with pytest.raises(DataError, match=r"splits or folds; .*mv '.*' .*train'.*--classes leaf .*--classes top"):
            open_data(str(tmp_path), shares)
    (deeper := tmp_path.with_name(f"{tmp_path.name} deeper")).mkdir()
    with pytest.raises(DataError, match="splits or folds"):  # each in a folder of its own
        open_data(str(grow(deeper, *within(*(f"{name}/images" for name in names)))), SHARES)
    assert open_data(str(deeper), classes="leaf").classes == ("cat", "dog")
    together = open_data(str(tmp_path), classes="leaf")
    assert (together.classes, len(together.split("all"))) == (("cat", "dog"), 16 * len(names))
    assert open_data(str(tmp_path), classes="top").classes == tuple(sorted(names))


def test_the_verb_check_does_not_call_splits_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grow(tmp_path / "good", *within("training_set", "test_set"))
    assert main(["check", str(tmp_path / "good"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert ([c["name"] for c in found["classes"]], found["photos"]) == (["cat", "dog"], {"train": 16, "test": 16})
    grow(tmp_path / "folds", *within("fold_1", "fold_2"))
    assert main(["check", str(tmp_path / "folds")]) == 1
    assert "--classes leaf" in capsys.readouterr().err


def test_one_folder_in_each_class_is_part_of_it(tmp_path: Path) -> None:
    """As in tiny-imagenet."""
    names = [f"train/{c}/images/{i}.png" for c in ("cat", "dog") for i in range(3)]
    data = open_data(str(grow(tmp_path, *names, "test/images/1.png")))
    assert (data.classes, keys(data)) == (("cat", "dog"), {"train": names})
    assert "--classes" not in said(data)


def test_splits_within_classes(tmp_path: Path) -> None:
    names = [f"{c}/{s}/{i}.png" for c in ("cat", "dog") for s in ("train", "test") for i in range(3)]
    data = open_data(str(grow(tmp_path, *names)))
    assert data.classes == ("cat", "dog")
    assert keys(data) == {s: [n for n in names if f"/{s}/" in n] for s in ("train", "test")}
    assert "each class folder is divided by the folders in it, train, test" in said(data)


# Photos without class folders


def test_a_list_beside_flat_folders_is_taken(tmp_path: Path) -> None:
    names = [f"train/{i:04}.png" for i in range(10)]
    grow(tmp_path, *names, "test/1.png", "test/2.png")
    with pytest.raises(DataError, match=r"train holds 10 photos but no class folders; .*give a manifest"):
        open_data(str(tmp_path), SHARES)
    text = "path,label\n" + "".join(f"{name},{'cat' if i % 2 else 'dog'}\n" for i, name in enumerate(names))
    (tmp_path / "labels.csv").write_text(text)
    (tmp_path / "sample_submission.csv").write_text("path,label\ntest/1.png,cat\ntest/2.png,dog\n")
    data = open_data(str(tmp_path))
    assert (data.classes, sorted(keys(data)["all"])) == (("cat", "dog"), names)
    assert data.split("all").open(3).size == (40, 40)
    assert "the classes come from labels.csv, the list beside the photos" in said(data)
    assert "2 photos in the folder that are not in labels.csv; 'verydeep predict RUN PHOTOS --csv' says" in said(data)
    (tmp_path / "more.csv").write_text(text)
    with pytest.raises(DataError, match=r"the lists labels.csv, more.csv name its photos: give one of them as DATA"):
        open_data(str(tmp_path))


@pytest.mark.parametrize("name", ["samples.csv", "cases_test.csv"])
def test_a_list_that_is_passed_over_by_its_name_is_told_of(tmp_path: Path, name: str) -> None:
    """It may know the patients, or a split."""
    grow(tmp_path, *PETS)
    (tmp_path / name).write_text("path,label,patient\n" + "".join(f"{p},{p[:3]},{p[-5]}\n" for p in PETS))
    told = f"warning: {name} is passed over by its name; give {tmp_path / name} as DATA to take what it says"
    assert told in said(open_data(str(tmp_path)))
    (tmp_path / name).write_text("path,label\nelsewhere/1.png,cat\nelsewhere/2.png,dog\n")
    assert name not in said(open_data(str(tmp_path)))
    (tmp_path / name).write_text("whatever")
    assert name not in said(open_data(str(tmp_path)))


def test_classes_in_file_names_of_one_folder_are_asked_for(tmp_path: Path) -> None:
    names = [f"images/{c}_{i}.png" for c in ("Abyssinian", "great_pyrenees") for i in range(4)]
    with pytest.raises(DataError, match=r"only one class.*if Abyssinian, great_pyrenees, .* add --classes names"):
        open_data(str(grow(tmp_path, *names)), SHARES)
    assert open_data(str(tmp_path), SHARES, classes="names").classes == ("Abyssinian", "great_pyrenees")


def test_a_list_in_the_one_folder_of_photos(tmp_path: Path) -> None:
    grow(tmp_path, *(f"images/{i}.png" for i in range(10)))
    rows = "".join(f"{i}.png,{'cat' if i % 2 else 'dog'}\n" for i in range(10))
    (tmp_path / "images" / "labels.csv").write_text(f"path,label\n{rows}")
    data = open_data(str(tmp_path), SHARES)
    assert data.split("train").open(0).size == (40, 40)
    assert all((tmp_path / key).is_file() for own in keys(data).values() for key in own)


def test_a_list_that_cannot_be_taken_says_why(tmp_path: Path) -> None:
    grow(tmp_path, "train/1.png", "train/2.png")
    (tmp_path / "labels.csv").write_text("path,label\nelsewhere/one.png,cat\nelsewhere/two.png,dog\n")
    with pytest.raises(DataError, match=r"no class folders.*labels.csv names 2 photos and none was found"):
        open_data(str(tmp_path), SHARES)


def test_a_list_beside_folders_that_are_no_classes_of_it_is_asked_about(tmp_path: Path) -> None:
    names = [f"part_{p}/{i}.png" for p in (1, 2) for i in range(4)]
    grow(tmp_path, *names)
    rows = "".join(f"{name},{'cat' if i % 2 else 'dog'}\n" for i, name in enumerate(names))
    (tmp_path / "labels.csv").write_text(f"path,label\n{rows}")
    with pytest.raises(DataError, match=r"labels\.csv and the folders name different classes of the same photos; give"):
        open_data(str(tmp_path))


@pytest.mark.parametrize("form", ["cat.{}.png", "cat_{:03}.png", "cat ({}).png", "cat-{}.png"])
def test_classes_in_file_names_are_asked_for(tmp_path: Path, form: str) -> None:
    names = [form.format(i).replace("cat", c) for c in ("cat", "dog") for i in range(6)]
    grow(tmp_path, *within("train", names=names), "test1/1.png", "test1/2.png")
    with pytest.raises(DataError, match=r"if cat, dog, the words before the numbers, .* add --classes names"):
        open_data(str(tmp_path), SHARES)
    data = open_data(str(tmp_path), SHARES, classes="names")
    assert data.classes == ("cat", "dog")
    assert {k: data.classes[t] for p in data.splits.values() for k, t in zip(p.keys, p.targets(), strict=True)} == {
        f"train/{name}": name[:3] for name in names
    }
    assert "test1 holds 2 photos without classes and is left out; 'verydeep predict RUN" in said(data)


def test_numbers_alone_are_no_classes() -> None:
    assert repeated_words(f"{i}.jpg" for i in range(9)) == []
    assert repeated_words(["IMG_1.jpg", "IMG_2.jpg"]) == []
    assert repeated_words(["cat.1.jpg", "cat.2.jpg", "dog.1.jpg"]) == []
    assert repeated_words(["great_pyrenees_1.jpg", "pug_1.jpg", "great_pyrenees_2.jpg", "pug_2.jpg"]) == [
        "great_pyrenees",
        "pug",
    ]


def test_names_without_numbers_are_refused_by_name(tmp_path: Path) -> None:
    grow(tmp_path, "train/cat.1.png", "train/cat.2.png", "train/dog.1.png", "train/some dog.png")
    with pytest.raises(DataError, match=r"--classes names expects names .*not 'train/some dog.png'"):
        open_data(str(tmp_path), classes="names")


@pytest.mark.parametrize("test", ["test/1.png", "test/images/1.png", "test_set/unknown/1.png"])
def test_a_test_without_labels_is_left_out_and_told(tmp_path: Path, test: str) -> None:
    data = open_data(str(grow(tmp_path, *within("train"), test)), SHARES)
    assert (list(data.splits), data.classes) == (["train", "val"], ("cat", "dog"))
    folder = tmp_path / test.split("/")[0]
    assert f"warning: {folder} holds 1 photo without classes" in said(data)
    assert f"'verydeep predict RUN {folder} --csv'" in said(data)


def test_a_test_of_fewer_classes_is_told(tmp_path: Path) -> None:
    data = open_data(str(grow(tmp_path, *within("train", "val"), "test/dog/1.png")))
    assert data.split("test").targets().tolist() == [1]
    assert "warning: the test photos are all of one class, 'dog', which tells nothing of others" in said(data)


# Folders around, inside and beside


@pytest.mark.parametrize("around", ["flower_photos/", "images/", "a/b/c/"])
def test_a_lone_folder_is_gone_into(tmp_path: Path, around: str) -> None:
    grow(tmp_path, *(around + name for name in PETS), "__MACOSX/cat/._1.png", "labels/cat/1.txt")
    data = open_data(str(tmp_path), SHARES)
    assert data.classes == ("cat", "dog")
    assert f"all photos lie in {around}, which is taken as the folder of the classes" in said(data)
    grow(tmp_path / "split", *(around + name for name in within("train", "val")))
    data = open_data(str(tmp_path / "split"), SHARES)
    assert (data.classes, list(data.splits)) == (("cat", "dog"), ["train", "val"])


def test_a_copy_of_the_data_in_itself_is_passed_over(tmp_path: Path) -> None:
    data = open_data(str(grow(tmp_path, *PETS, *within("data"))), SHARES)
    assert (data.classes, sorted(k for own in keys(data).values() for k in own)) == (("cat", "dog"), PETS)
    assert f"warning: {tmp_path / 'data'} holds 16 photos that lie beside it under the same names" in said(data)
    grow(tmp_path, "data/cat/another.png")
    with pytest.raises(DataError, match=r"data holds folders called like those beside it \(cat, dog\), with other pho"):
        open_data(str(tmp_path))
    loose = grow(tmp_path / "loose", *within("pets"), "logo.png")
    with pytest.raises(DataError, match=f"only one class .*if the classes are in it, give {loose / 'pets'}"):
        open_data(str(loose), SHARES)
    splits = grow(tmp_path / "splits", *within("train", "val"), *within("x/train", "x/val"))
    assert sum(map(len, keys(open_data(str(splits))).values())) == 32


TREE = [f"{c}/{i}.png" for c in ("bird/owl", "mammal/cat", "mammal/dog") for i in range(4)]


@pytest.mark.parametrize("folders", [[""], ["train/", "val/"]])
def test_a_taxonomy_is_told_and_chosen_from(tmp_path: Path, folders: list[str]) -> None:
    root = str(grow(tmp_path, *(f + name for f in folders for name in TREE)))
    data = open_data(root)
    assert data.classes == ("bird", "mammal")
    assert "the classes are the 2 folders at the top (bird, mammal), each with all below it" in said(data)
    assert "--classes leaf makes classes of the 3 folders that photos lie in (bird/owl, mammal/cat, " in said(data)
    assert "--classes" not in said(open_data(root, classes="top"))
    leaf = open_data(root, classes="leaf")
    assert leaf.classes == ("cat", "dog", "owl")
    assert [leaf.classes[t] for t in next(iter(leaf.splits.values())).targets()] == ["cat"] * 4 + ["dog"] * 4 + [
        "owl"
    ] * 4
    grow(tmp_path, f"{folders[0]}bird/cat/1.png")
    assert open_data(root, classes="leaf").classes == ("bird/cat", "bird/owl", "mammal/cat", "mammal/dog")
    grow(tmp_path, f"{folders[0]}mammal/1.png")
    with pytest.raises(DataError, match=r"mammal holds photos, and so does (cat|dog) in it"):
        open_data(root, classes="leaf")


# What is passed over


@pytest.fixture
def untidy(tmp_path: Path) -> Path:
    root = grow(tmp_path / "untidy", *PETS, "cat/1.psd", "cat/2.PSD", "cat/3.pdf", "dog/0.txt", "dog/0.xml")
    grow(tmp_path / "elsewhere", "9.png")
    (root / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "dog" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    grow(root, "loose.png")
    (root / "owl").mkdir()
    return root


def test_what_is_passed_over_is_told_by_every_verb(
    untidy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {
        "warning: passed over: 3 files below the class folders (2 .psd, 1 .pdf); what of them are photos, convert to ",
        "warning: passed over: 2 links (cat/more, dog/gone.jpg); copy there what they lead to",
        "warning: passed over: 1 photo beside the class folders (loose.png); move each into the folder of its class",
        "warning: passed over: 1 folder without photos (owl)",
    }
    run = str(tmp_path / "run")
    for words in (
        ["train", str(untidy), "--out", run, *TINY], ["evaluate", run, str(untidy)],
        ["pack", str(untidy), "--out", str(tmp_path / "s-%05d.tar")], ["train", str(untidy), "--out", run, *TINY],
        ["study", str(untidy), "--out", str(tmp_path / "study"), "--nets", "A", *TINY],
    ):  # fmt: skip
        main(words)
        shown = "".join(capsys.readouterr())
        assert {line for line in expected if line not in shown} == set(), words
    assert main(["predict", run, str(untidy / "cat")]) == 0
    assert "warning: passed over: 3 files in" in capsys.readouterr().err


def test_texts_beside_photos_are_not_told(tmp_path: Path) -> None:
    grow(tmp_path, *PETS, "cat/notes.txt", "dog/labels.json", "cat/1.xml", ".hidden/1.png", "dog/Thumbs.db")
    assert said(open_data(str(tmp_path), SHARES)) == ""


def test_classes_may_be_links_and_class_folders_may_hold_lists(tmp_path: Path) -> None:
    grow(tmp_path / "all", *PETS, "cat/list.csv", "dog/list.csv", "owl/1.psd")
    for c in ("cat", "dog"):
        names = "".join(f"{i}.png,{'odd' if i % 2 else 'even'}\n" for i in range(8))
        (tmp_path / "all" / c / "list.csv").write_text(f"path,label\n{names}")
    assert "passed over: 1 file below the class folders (1 .psd)" in said(open_data(str(tmp_path / "all"), SHARES))
    for split in ("train", "test"):
        (tmp_path / "some" / split).mkdir(parents=True)
        for c in ("cat", "dog"):
            (tmp_path / "some" / split / c).symlink_to(tmp_path / "all" / c)
    data = open_data(str(tmp_path / "some"))
    assert (data.classes, {s: len(p) for s, p in data.splits.items()}) == (("cat", "dog"), {"train": 16, "test": 16})


def test_names_with_dots_in_the_shards_of_others_are_told(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    import io
    import tarfile

    shards = tmp_path / "shards"
    shards.mkdir()
    content = io.BytesIO()
    DOT.save(content, "JPEG")
    with tarfile.open(shards / "a-00000.tar", "w") as tar:
        for i in range(20):
            name = f"a{i - 1}.b" if i % 3 == 2 and i > 6 else f"a{i}"
            for ending, data in (("jpg", content.getvalue()), ("cls", str(i % 2).encode())):
                info = tarfile.TarInfo(f"{name}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    data = open_data(f"hub:{shards}")
    assert sum(map(len, data.splits.values())) == 16
    assert "warning: 4 of 20 photos in the shards are not used, such as a7.b.jpg" in said(data)


# Archives


@pytest.mark.parametrize("name", ["pets.zip", "pets.tar", "pets.tar.gz", "pets.tgz"])
def test_an_archive_is_answered_with_the_command_that_unpacks_it(tmp_path: Path, name: str) -> None:
    grow(tmp_path / "here", *PETS)
    kind = "zip" if name.endswith("zip") else "tar" if name.endswith("tar") else "gztar"
    made = Path(shutil.make_archive(str(tmp_path / "made"), kind, tmp_path / "here"))
    made.rename(tmp_path / name)
    with pytest.raises(DataError, match="packed archive") as e:
        open_data(str(tmp_path / name))
    command = str(e.value).partition("unpack it (")[2].partition(") and give ")[0]
    if kind == "zip" and not shutil.which("unzip"):
        assert command.startswith("unzip ")
        zipfile.ZipFile(tmp_path / name).extractall(tmp_path / "pets")
    else:
        subprocess.run(command, shell=True, check=True, capture_output=True)
    assert open_data(str(tmp_path / "pets"), SHARES).classes == ("cat", "dog")
    (tmp_path / "alone").mkdir()
    (tmp_path / name).rename(tmp_path / "alone" / name)
    with pytest.raises(DataError, match=f"holds no class folders, but {name}; 'verydeep check"):
        open_data(str(tmp_path / "alone"))


def test_shards_are_no_archive_of_class_folders(tmp_path: Path) -> None:
    grow(tmp_path / "pets", *PETS)
    assert main(["pack", str(tmp_path / "pets"), "--out", str(tmp_path / "s-%05d.tar")]) == 0
    assert len(open_data(str(tmp_path / "s-*.tar")).split("all")) == 16
    with pytest.raises(DataError, match=r"names no shards|does not exist"):
        open_data(str(tmp_path / "s-00000x.tar"))


# Runs


def train(data: Path, run: Path, *words: str) -> int:
    return main(["train", str(data), "--out", str(run), *TINY, *words])


def test_a_class_that_came_later_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = grow(tmp_path / "pets", *PETS), tmp_path / "run"
    assert train(data, run) == 0
    grow(data, *(f"owl/{i}.png" for i in range(5)))
    told = (
        f"note: 5 photos of {data} are not in the split of the run, with 1 class that it does not know (owl): new, or "
        "left out when it began, so neither trained nor tested on; a run with another --out takes all"
    )
    for words in (["train", str(data), "--out", str(run), *TINY], ["evaluate", str(run), str(data)]):
        capsys.readouterr()
        assert main(words) == 0
        assert told in capsys.readouterr().err


def test_new_classes_of_given_splits_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = grow(tmp_path / "pets", *within("train", "val")), tmp_path / "run"
    assert train(data, run) == 0
    grow(data, "train/owl/1.png", "val/owl/1.png")
    assert train(data, run) == 1
    assert f"and new classes, owl); restore them, or train anew on all that is there now: 'verydeep train {data}" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("folders", [[], ["train", "val"]])
def test_photos_that_moved_are_known(tmp_path: Path, folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    data, run, there = tmp_path / "pets", tmp_path / "run", tmp_path / "there"
    grow(data, *(within(*folders) or PETS))
    assert train(data, run) == 0
    shutil.copytree(data, there)
    Image.new("RGB", (50, 50)).save(another := next(there.rglob("cat/0.png")))
    assert train(there, run) == 1  # other photos of the same names
    assert f"was begun on {data}, not on {there}" in capsys.readouterr().err
    shutil.copy(next(data.rglob("cat/0.png")), another)
    shutil.rmtree(data) if folders else None  # a copy is as good
    assert train(there, run) == 0
    assert f"the photos of this run lie in {there} now" in capsys.readouterr().err
    assert json.loads((run / "run.json").read_text())["location"] == str(there)
    assert main(["evaluate", str(run), str(there)]) == 0
    next(there.rglob("cat")).rename(there / "gone")
    there.rename(tmp_path / "again")
    assert train(tmp_path / "again", run) == 1


@pytest.mark.parametrize("folders", [[""], ["train/", "val/", "test/"]])
def test_a_run_keeps_where_its_classes_are(
    tmp_path: Path, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = grow(tmp_path / "tree", *(f + name for f in folders for name in TREE)), tmp_path / "run"
    assert train(data, run, "--classes", "leaf") == 0
    assert json.loads((run / "run.json").read_text())["classes"] == ["cat", "dog", "owl"]
    assert train(data, run, "--classes", "leaf") == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["classes"] == ["cat", "dog", "owl"]
    assert train(data, run) == 1
    assert "begun with another configuration: classes (leaf then, None now)" in capsys.readouterr().err


# Tests that tell little


def test_a_test_of_one_class_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = grow(tmp_path / "pets", *within("train", "val"), "test/dog/1.png"), tmp_path / "run"
    assert train(data, run) == 0
    assert main(["evaluate", str(run), str(data)]) == 0
    out = capsys.readouterr().out
    assert out.count("All photos of the test are of one class, so it does not tell whether the classes are told") == 2


def test_one_answer_to_all_is_told_by_evaluate_and_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = (
        grow(tmp_path / "pets", *within("train", "val", names=[*PETS, "cat/a.png", "cat/b.png"])),
        tmp_path / "r",
    )
    assert train(data, run) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), str(data)]) == 0
    assert "Nothing is learnt: the net " in capsys.readouterr().out
    assert main(["predict", str(run), str(data)]) == 0
    assert "note: all 36 photos got one answer, 'cat'" in capsys.readouterr().err.replace("'dog'", "'cat'")


@pytest.mark.parametrize("shares", [SHARES, None])
def test_a_class_of_one_photo_is_told(tmp_path: Path, shares: tuple[float, float] | None) -> None:
    data = open_data(str(grow(tmp_path, *PETS, "owl/1.png")), shares)
    assert "warning: 1 class of a single photo (owl), which is trained on or tested, never both" in said(data)
    assert ("warning: 1 of 3 classes have no test photo (owl)" in said(data)) == bool(shares)


def beside(tmp_path: Path, header: str, row: str) -> Path:
    """Twelve photos in two class folders, and a list of all that has `row` for each."""
    root = grow(tmp_path / "data", *(f"{c}/{i}.png" for c in ("cat", "dog") for i in range(6)))
    rows = [row.format(c=c, i=i, p=i % 3, s="test" if i > 3 else "train") for c in ("cat", "dog") for i in range(6)]
    (root / "list.csv").write_text("\n".join([header, *rows]))
    return root


def test_a_list_beside_class_folders_that_says_more_is_taken(tmp_path: Path) -> None:
    """Its splits and its patients would be lost without a word."""
    data = open_data(str(beside(tmp_path / "a", "path,label,split", "{c}/{i}.png,{c},{s}")), None)
    assert {split: len(p) for split, p in data.splits.items()} == {"train": 8, "test": 4}
    data = open_data(str(beside(tmp_path / "b", "path,label,patient", "{c}/{i}.png,{c},{c}{p}")), (0.3, 0.3))
    assert "photos of one 'patient' stay together (12 photos in 6 groups)" in said(data)
    data = open_data(str(beside(tmp_path / "c", "path,label", "{c}/{i}.png,{c}")), None)
    assert "list.csv" not in said(data)


def test_a_list_beside_class_folders_that_says_otherwise_is_refused(tmp_path: Path) -> None:
    root = beside(tmp_path, "path,label", "{c}/{i}.png,{c}{p}")
    with pytest.raises(DataError, match=r"list.csv and the folders name different classes .* --classes top"):
        open_data(str(root), None)
    assert open_data(str(root), None, classes="top").classes == ("cat", "dog")
    (root / "list.csv").write_text((root / "list.csv").read_text() + "\ncat/1.png,another")  # of two labels
    assert "warning: list.csv is not used, but the folders are" in said(open_data(str(root), None))
    (root / "list.csv").write_text("path,label\ncat/1.png,dog\n")
    assert "warning: list.csv is not used, but the folders are" in said(open_data(str(root), None))


def test_a_list_that_is_broken_is_told_though_another_is_taken(tmp_path: Path) -> None:
    grow(tmp_path, *(f"images/{i}.png" for i in range(8)))
    (tmp_path / "train.csv").write_text("path,label\nimages/0.png,cat,and more\n")
    (tmp_path / "val.csv").write_text("".join(["path,label\n", *(f"images/{i}.png,{'ab'[i % 2]}\n" for i in range(8))]))
    told = said(open_data(str(tmp_path), None))
    assert "train.csv line 2: has 3 columns" in told


def test_of_several_lists_none_is_taken_by_any_verb(tmp_path: Path) -> None:
    grow(tmp_path, *(f"images/{i}.png" for i in range(8)))
    for name in ("train", "val"):
        rows = "".join(f"images/{i}.png,{'ab'[i % 2]}\n" for i in range(8))
        (tmp_path / f"{name}.csv").write_text(f"path,label\n{rows}")
    for shares in (None, SHARES):
        with pytest.raises(DataError, match=r"train.csv, val.csv.* name its photos: give one"):
            open_data(str(tmp_path), shares)


def test_check_does_not_call_photos_of_a_list_passed_over(tmp_path: Path, capsys) -> None:
    grow(tmp_path, *(f"{i}.png" for i in range(8)))
    (tmp_path / "list.csv").write_text("".join(["path,label\n", *(f"{i}.png,{'ab'[i % 2]}\n" for i in range(8))]))
    assert main(["check", str(tmp_path), "--json"]) in (0, 1)
    assert "loose-photos" not in {f["id"] for f in json.loads(capsys.readouterr().out)["findings"]}


# Layouts of well-known collections


def test_a_split_of_photos_with_a_list_of_their_classes(tmp_path: Path) -> None:
    """Tiny ImageNet: val/images/ and val/val_annotations.txt with photo, class and box a line."""
    synsets = ("n01443537", "n01629819")
    names = [f"train/{s}/images/{s}_{i}.png" for s in synsets for i in range(4)]
    grow(tmp_path, *names, *(f"train/{s}/{s}_boxes.txt" for s in synsets), "test/images/test_0.png")
    grow(tmp_path, *(f"val/images/val_{i}.png" for i in range(4)))
    rows = [f"val_{i}.png\t{synsets[i % 2]}\t0\t32\t44\t62\n" for i in range(4)]
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(rows))
    data = open_data(str(tmp_path))
    assert (data.classes, list(data.splits)) == (synsets, ["train", "val"])
    assert keys(data)["val"] == [f"val/images/val_{i}.png" for i in (0, 2, 1, 3)]
    assert data.split("val").targets().tolist() == [0, 0, 1, 1]
    assert "the classes of val come from val_annotations.txt" in said(data)
    assert "test holds 1 photo without classes" in said(data)
    for wrong in (rows[1:], [*rows[1:], "val_0.png\tn00000000\n"]):
        (tmp_path / "val" / "val_annotations.txt").write_text("".join(wrong))
        assert f"warning: {tmp_path / 'val'} holds 4 photos without classes" in said(open_data(str(tmp_path)))


def test_a_list_in_each_split(tmp_path: Path) -> None:
    """The layout of `imagefolder`: train/metadata.jsonl and test/metadata.jsonl."""
    for split, labels in (("train", "abcabcabc"), ("test", "bcb")):
        grow(tmp_path, *(f"{split}/{i}.png" for i in range(len(labels))))
        rows = [json.dumps({"file_name": f"{i}.png", "label": c}) for i, c in enumerate(labels)]
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(rows))
    data = open_data(str(tmp_path), SHARES)
    assert (data.classes, sorted(data.splits)) == (("a", "b", "c"), ["test", "train", "val"])
    assert dict(zip(keys(data)["test"], data.split("test").targets().tolist(), strict=True)) == {
        "test/0.png": 1, "test/1.png": 2, "test/2.png": 1
    }  # fmt: skip
    assert data.split("test").open(0).size == (40, 40)
    assert "the classes come from test/metadata.jsonl and train/metadata.jsonl, the lists beside the photos" in said(
        data
    )
    (tmp_path / "test" / "metadata.jsonl").write_text('{"file_name": "0.png", "label": "another"}')
    with pytest.raises(DataError, match=r"test/metadata.jsonl has the class 'another'; expected only those of .*train"):
        open_data(str(tmp_path))


def test_a_text_beside_each_photo_is_called_so(tmp_path: Path) -> None:
    names = [f"{i}{c}.png" for i in range(4) for c in "ab"]
    grow(tmp_path, *names, *(name.replace(".png", ".txt") for name in names))
    for name in names:
        (tmp_path / name.replace(".png", ".txt")).write_text("cat" if "a" in name else "dog")
    with pytest.raises(DataError, match=r"8 files such as 0a.txt lie beside a photo of their name; ") as e:
        open_data(str(tmp_path))
    assert "header" not in str(e.value)
    command = str(e.value).partition("makes one list of them: ")[2]
    subprocess.run(command, shell=True, check=True)
    data = open_data(str(tmp_path))
    assert (data.classes, len(data.split("all"))) == (("cat", "dog"), 8)


def test_lists_in_several_folders_that_are_not_one_for_each_split_are_refused(tmp_path: Path) -> None:
    for place in ("", "train/", "test/"):
        grow(tmp_path, *(f"{place}{i}.png" for i in range(4)))
        (tmp_path / place / "list.csv").write_text(
            "path,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(4))
        )
    with pytest.raises(DataError, match=r"the lists list.csv, .*train/list.csv.* name its photos: give one of them"):
        open_data(str(tmp_path), classes="names")
