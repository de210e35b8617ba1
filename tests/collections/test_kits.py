"""Small folders in the exact form of VOC-2007, VOC-2012's actions, Caltech-101 and Caltech-256."""

import numpy as np
import pytest
from PIL import Image

from verydeep.collections import kit_of, open_kit
from verydeep.data.source import open_data
from verydeep.errors import DataError


def picture(path, colour=(90, 90, 90), size=(40, 36)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def voc2007(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2007"
    lists = {
        "train": {"cat": "000005 -1\n000007  1\n", "dog": "000005  1\n000007  0\n"},
        "val": {"cat": "000009  1\n", "dog": "000009  1\n"},
        "trainval": {"cat": "000005 -1\n000007  1\n000009  1\n", "dog": "000005  1\n000007  0\n000009  1\n"},
        "test": {"cat": "000001  1\n000002 -1\n", "dog": "000001 -1\n000002  1\n"},
    }
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split, own in lists.items():
        for name, text in own.items():
            (root / "ImageSets" / "Main" / f"{name}_{split}.txt").write_text(text)
        photos = [line.split()[0] for line in own["cat"].splitlines()]
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(photos) + "\n")
        for photo in photos:
            picture(root / "JPEGImages" / f"{photo}.jpg")
    return root


@pytest.fixture
def actions(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    (root / "ImageSets" / "Action").mkdir(parents=True)
    (root / "Annotations").mkdir()
    for split, lines in {"train": ("2010_1  1  1", "2010_1  2 -1"), "val": ("2011_2  1 -1",)}.items():
        (root / "ImageSets" / "Action" / f"{split}.txt").write_text(
            "".join(f"{x.rsplit(maxsplit=1)[0]}\n" for x in lines)
        )
        for name in ("jumping", "walking"):
            (root / "ImageSets" / "Action" / f"{name}_{split}.txt").write_text("\n".join(lines) + "\n")
    image = Image.new("RGB", (60, 50), (0, 0, 200))
    image.paste((200, 0, 0), (30, 10, 50, 40))
    (root / "JPEGImages").mkdir()
    for name in ("2010_1", "2011_2"):
        image.save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        person = "<object><name>person</name><actions><jumping>1</jumping></actions><bndbox>{}</bndbox></object>"
        boxes = (
            "<xmax>20</xmax><xmin>0</xmin><ymax>25</ymax><ymin>5</ymin>",
            "<xmax>50</xmax><xmin>30</xmin><ymax>40</ymax><ymin>10</ymin>",
        )
        text = "".join(person.format(box) for box in boxes)
        (root / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename>{text}</annotation>"
        )
    return root


def test_voc_has_several_classes_and_difficult_photos(voc2007):
    for path in (voc2007, voc2007.parent, voc2007.parent.parent):
        kit = open_kit(path)
        assert (kit.name, kit.classes, kit.one_each) == ("VOC2007", ("cat", "dog"), False)
        assert kit.splits == ("train", "train", "val", "test", "test")
        assert kit.truth.tolist() == [[-1, 1], [1, 0], [1, 1], [1, -1], [-1, 1]]
    photos, of = kit.shown["photo"]
    assert [photos.keys[i] for i in of] == [
        f"JPEGImages/{n}.jpg" for n in ("000005", "000007", "000009", "000001", "000002")
    ]
    assert photos.open(0).size == (40, 36)


def test_trainval_stands_for_train_where_that_is_missing(voc2007):
    for path in (voc2007 / "ImageSets" / "Main").glob("*_train.txt"):
        path.unlink()
    for path in (voc2007 / "ImageSets" / "Main").glob("*_val.txt"):
        path.unlink()
    assert open_kit(voc2007).splits == ("train", "train", "train", "test", "test")


def test_voc_lists_that_are_wrong_are_named(voc2007):
    cat = voc2007 / "ImageSets" / "Main" / "cat_test.txt"
    cat.write_text("000001 2\n")
    with pytest.raises(DataError, match=r"cat_test\.txt says '000001 2'; expected photo and 1, 0 or -1"):
        open_kit(voc2007)
    cat.write_text("000005 1\n")
    with pytest.raises(DataError, match="000005 stands in "):
        open_kit(voc2007)
    (voc2007.parent / "VOC2012" / "ImageSets" / "Main").mkdir(parents=True)
    (voc2007.parent / "VOC2012" / "ImageSets" / "Main" / "cat_train.txt").write_text("1 1\n")
    cat.write_text("000001 1\n")
    with pytest.raises(DataError, match=r"several years of VOC \(VOC2007, VOC2012\)"):
        open_kit(voc2007.parent)


def test_actions_are_of_persons(actions):
    kit = open_kit(actions, actions=True)
    assert kit.classes == ("jumping", "walking")
    assert kit.splits == ("train", "train", "val")
    assert kit.truth[:, 0].tolist() == [1, -1, -1]
    whole, of = kit.shown["photo"]
    assert len(whole) == 2
    assert of.tolist() == [0, 0, 1]
    person, own = kit.shown["person"]
    assert person.open(int(own[1])).size == (20, 30)
    assert np.asarray(person.open(1))[5:-5, 5:-5].mean((0, 1)) == pytest.approx([200, 0, 0], abs=6)
    assert person.open(0).size == (20, 20)
    with pytest.raises(DataError, match="there is no ImageSets/Action"):
        open_kit(actions / "Annotations", actions=True)


def test_a_person_that_the_annotation_lacks_is_named(actions):
    path = actions / "Annotations" / "2010_1.xml"
    path.write_text("<annotation><object><name>person</name></object></annotation>")
    person, _ = open_kit(actions, actions=True).shown["person"]
    for i in (0, 1):
        with pytest.raises(DataError, match=r"2010_1\.xml"):
            person.open(i)


@pytest.mark.parametrize("inside", [True, False])
def test_caltech(tmp_path, inside):
    one, other = tmp_path / "a" / "101_ObjectCategories", tmp_path / "b" / "256_ObjectCategories"
    for name in ("BACKGROUND_Google", "Faces", "accordion"):
        for i in (1, 2):
            picture(one / name / f"image_{i:04d}.jpg")
    (one / "BACKGROUND_Google" / "tmp").write_text("")
    for name in ("001.ak47", "056.dog", "257.clutter"):
        for i in (1, 2):
            picture(other / name / f"{name[:3]}_{i:04d}.jpg")
    picture(other / "056.dog" / "greg" / "vision309" / "056_0003.jpg")
    kit = open_kit(one if inside else one.parent)
    assert (kit.name, kit.per_class) == ("Caltech-101", (30, 50))
    assert kit.classes == ("accordion", "BACKGROUND_Google", "Faces")
    kit = open_kit(other if inside else other.parent)
    assert (kit.name, kit.per_class) == ("Caltech-256", (60, None))
    assert kit.classes == ("001.ak47", "056.dog", "257.clutter")
    assert (kit.truth > 0).sum(0).tolist() == [2, 3, 2]
    assert kit.splits == ("",) * 7


def test_any_data_is_a_kit(photo_folder):
    kit = kit_of(open_data(str(photo_folder), (0.25, 0.25)))
    assert kit.one_each
    assert [kit.splits.count(s) for s in ("train", "val", "test")] == [18, 9, 9]
    photos, of = kit.shown["photo"]
    names = [photos.keys[i] for i in of]
    for name, row, i in zip(names, kit.truth, of, strict=True):
        assert kit.classes[row.argmax()] == name.split("/")[0]
        with Image.open(photo_folder / name) as image:
            assert photos.open(int(i)).size == image.size
    assert open_kit(photo_folder) is None
