"""The same boxes in seven forms, and what each form may do wrong."""

from __future__ import annotations

import json
from contextlib import suppress
from math import cos, radians, sin
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from verydeep.data.record import DataSet
from verydeep.data.said import data_lines
from verydeep.data.source import open_data
from verydeep.errors import DataError

Corners = tuple[float, float, float, float]


class Told(NamedTuple):
    """A photo: its size as it is stored, EXIF's orientation, split, and boxes in the upright photo by class."""

    size: tuple[int, int]
    turn: int
    split: str
    boxes: tuple[tuple[str, Corners], ...]


TRUTH = {
    "a": Told((120, 80), 1, "train", (("cat", (10, 20, 60, 70)), ("dog", (70, 5, 110, 25)), ("cat", (0, 0, 9, 9)))),
    "b": Told((100, 60), 6, "train", (("dog", (5, 10, 45, 90)), ("owl", (50, 2, 58, 30)))),
    "c": Told((90, 90), 1, "train", (("owl", (1, 2, 88, 89)),)),
    "d": Told((64, 200), 1, "val", (("cat", (30, 100, 62, 190)), ("owl", (2, 3, 20, 40)))),
    "e": Told((200, 64), 1, "test", (("dog", (10, 12, 150, 60)),)),
}
NUMBER = {"cat": 100, "dog": 205, "owl": 7}
CLASSES = ("cat", "dog", "owl")
LONG = {"train": "training", "val": "validation", "test": "testing"}


def save(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = TRUTH[name].turn
    Image.new("RGB", TRUTH[name].size, (9, 99, 199)).save(path, exif=exif)


def upright(name: str) -> tuple[int, int]:
    told = TRUTH[name]
    return told.size[::-1] if told.turn == 6 else told.size


def as_stored(name: str) -> list[tuple[str, Corners]]:
    """The boxes in the frame of a program that does not know EXIF: turned by a quarter against the clock."""
    height = TRUTH[name].size[1]
    if TRUTH[name].turn == 1:
        return list(TRUTH[name].boxes)
    return [(c, (y0, height - x1, y1, height - x0)) for c, (x0, y0, x1, y1) in TRUTH[name].boxes]


def write(path: Path, what: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(what if isinstance(what, str) else json.dumps(what), encoding="utf-8")
    return path


def voc_xml(name: str, size: tuple[int, int], boxes: list[tuple[str, Corners]], swap: bool = False) -> str:
    """A file of Pascal VOC; `swap` writes the corners upside down."""
    objects = ""
    for label, (x0, y0, x1, y1) in boxes:
        ends = (x1, y1, x0, y0) if swap else (x0, y0, x1, y1)
        corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), ends, strict=True))
        objects += f"<object><name>{label}</name><bndbox>{corners}</bndbox>"
        objects += "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
    size_xml = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><folder>x</folder><filename>{name}</filename>{size_xml}{objects}</annotation>"


def voc(root: Path) -> Path:
    for name, told in TRUTH.items():
        save(root / f"VOC2012/JPEGImages/{name}.jpg", name)
        text = voc_xml(f"{name}.jpg", told.size, as_stored(name), swap=name == "a")
        write(root / f"VOC2012/Annotations/{name}.xml", text)
        with (root / f"VOC2012/{told.split}.txt").open("a") as list_of_split:
            list_of_split.write(f"{name}\n")
    for split in LONG:
        (root / "VOC2012/ImageSets/Main").mkdir(parents=True, exist_ok=True)
        (root / f"VOC2012/{split}.txt").rename(root / f"VOC2012/ImageSets/Main/{split}.txt")
    write(root / "VOC2012/ImageSets/Main/trainval.txt", "a\nb\nc\nd\n")
    write(root / "VOC2012/ImageSets/Main/cat_train.txt", "a  1\nb -1\n")
    return root


def ilsvrc(root: Path) -> Path:
    """Without suffixes, in folders of splits."""
    for name, told in TRUTH.items():
        save(root / f"Data/CLS-LOC/{told.split}/n1/{name}.JPEG", name)
        write(root / f"Annotations/CLS-LOC/{told.split}/n1/{name}.xml", voc_xml(name, upright(name), [*told.boxes]))
    return root / "Annotations/CLS-LOC"


def coco(root: Path) -> Path:
    for split in LONG:
        names = [n for n in TRUTH if TRUTH[n].split == split]
        images, boxes = [], []
        for i, name in enumerate(names):
            save(root / f"{split}2017/{name}.jpg", name)
            width, height = TRUTH[name].size
            images.append({"id": 400 - i, "file_name": f"{name}.jpg", "width": width, "height": height})
            for label, (x0, y0, x1, y1) in as_stored(name):
                box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": [[x0, y0, x1, y1, x0, y1]], "iscrowd": 0}
                boxes.append({"id": len(boxes), "image_id": 400 - i, "category_id": NUMBER[label], **box})
            boxes.append({"id": 99, "image_id": 400 - i, "category_id": 7, "bbox": [0, 0, 9, 8], "iscrowd": 1})
        categories = [{"id": n, "name": label, "supercategory": "x"} for label, n in NUMBER.items()]
        whole = {"info": {}, "images": images, "annotations": boxes, "categories": categories}
        write(root / f"annotations/instances_{split}2017.json", whole)
        write(root / f"annotations/captions_{split}2017.json", {"images": [], "annotations": [{"caption": "a"}]})
    return root


def yolo(root: Path) -> Path:
    for name, told in TRUTH.items():
        save(root / f"images/{told.split}/{name}.jpg", name)
        (width, height), lines = upright(name), list[str]()
        for label, (x0, y0, x1, y1) in told.boxes:
            numbers = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            if name == "c":  # a polygon
                corners = (x0, y0, x1, y0, (x0 + x1) / 2, y1)
                numbers = tuple(v / (height if i % 2 else width) for i, v in enumerate(corners))
            lines.append(" ".join([str(NUMBER[label]), *(f"{v:.6f}" for v in numbers)]))
        write(root / f"labels/{told.split}/{name}.txt", "\n".join(lines) + "\n")
    words = {"path": "../elsewhere", "train": "images/train", "names": {n: label for label, n in NUMBER.items()}}
    write(root / "data.yaml", yaml.safe_dump(words))
    return root


def labelme(root: Path) -> Path:
    for name, told in TRUTH.items():
        save(root / LONG[told.split] / f"{name}.jpg", name)
        shapes = []
        for i, (label, (x0, y0, x1, y1)) in enumerate(as_stored(name)):
            shape = {"label": label, "shape_type": "rectangle", "points": [[x1, y0], [x0, y1]], "flags": {}}
            if i == 1:
                shape |= {"shape_type": "polygon", "points": [[x0, (y0 + y1) / 2], [x1, y0], [x0 + 1, y1]]}
            if name == "a" and i == 2:
                middle = ((x0 + x1) / 2, (y0 + y1) / 2)
                shape |= {"shape_type": "circle", "points": [middle, [middle[0], y1]]}
            shapes.append(shape)
        (width, height), path = told.size, f"..\\x\\{name}.jpg"
        size = {"imageData": "A" * 100, "imageWidth": width, "imageHeight": height}
        write(root / LONG[told.split] / f"{name}.json", {"version": "5.0", **size, "shapes": shapes, "imagePath": path})
    return root


def cvat(root: Path) -> Path:
    text = ""
    for name, told in TRUTH.items():
        save(root / f"images/{name}.jpg", name)
        width, height = upright(name)
        text += f'<image id="1" name="{name}.jpg" subset="{told.split.title()}" width="{width}" height="{height}">'
        for label, (x0, y0, x1, y1) in told.boxes:
            if name == "c":
                text += f'<polygon label="{label}" points="{x0},{y0};{x1},{y1};{x1},{y0}"/>'
            elif name == "e":  # a quarter turn around its middle
                x, y, a, b = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
                ends = f'xtl="{x - b}" ytl="{y - a}" xbr="{x + b}" ybr="{y + a}"'
                text += f'<box label="{label}" {ends} rotation="90"><attribute name="n">1</attribute></box>'
            else:
                text += f'<box label="{label}" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}" occluded="0"/>'
        text += '<tag label="good"/></image>'
    write(root / "annotations.xml", f'<?xml version="1.0"?><annotations><version>1.1</version>{text}</annotations>')
    return root


def label_studio(root: Path) -> Path:
    tasks = []
    for i, (name, told) in enumerate(TRUTH.items()):
        save(root / f"photos/{told.split}/{name}.jpg", name)
        (width, height), result = upright(name), []
        for label, (x0, y0, x1, y1) in told.boxes:
            value = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}
            if name == "c":  # a quarter turn around its upper left corner
                value |= {"x": x1, "width": y1 - y0, "height": x1 - x0, "rotation": 90}
            # percent: a turned box has its width along the photo's height
            value["x"], value["y"] = 100 * value["x"] / width, 100 * value["y"] / height
            value["width"], value["height"] = 100 * value["width"] / width, 100 * value["height"] / height
            size = {"original_width": width, "original_height": height}
            result.append({"type": "rectanglelabels", **size, "value": value | {"rectanglelabels": [label]}})
        result.append({"type": "choices", "value": {"choices": ["good"]}})
        image = f"/data/upload/1/a1b2c3d4-{name}.jpg" if i % 2 else f"/data/local-files/?d=x/{told.split}/{name}.jpg"
        both = [{"was_cancelled": True, "result": result[:1] * 2}, {"was_cancelled": False, "result": result}]
        tasks.append({"id": i, "data": {"image": image}, "completions" if i == 4 else "annotations": both})
    write(root / "export.json", tasks)
    return root


def json_min(root: Path) -> Path:
    tasks = json.loads((label_studio(root) / "export.json").read_text())
    for task in tasks:
        [_, done] = task.pop("annotations", None) or task.pop("completions")
        sizes = ("original_width", "original_height")
        marks = [one["value"] | {k: one[k] for k in sizes if k in one} for one in done["result"]]
        task |= {"image": task.pop("data")["image"], "tag": marks, "annotator": 1, "choice": "good"}
    write(root / "export.json", tasks)
    return root


def manifest(root: Path) -> Path:
    lines = ["path,label,split,box"]
    for name, told in TRUTH.items():
        save(root / f"{name}.jpg", name)
        for label, (x0, y0, x1, y1) in told.boxes:
            box = (x1, y1, x0, y0) if name == "a" else (x0, y0, x1, y1)
            lines.append(f"{name}.jpg,{label},{told.split},{' '.join(map(str, box))}")
    return write(root / "photos.csv", "\n".join(lines))


FORMS = {
    "Pascal VOC": voc, "ILSVRC's XML": ilsvrc, "COCO": coco, "YOLO": yolo, "LabelMe": labelme, "CVAT": cvat,
    "Label Studio": label_studio, "Label Studio's short form": json_min, "a list": manifest,
}  # fmt: skip


def told_by(data: DataSet) -> dict[str, tuple[str, str, list[tuple[str, Corners]]]]:
    """Photo -> split, class, boxes by class in order."""
    found = {}
    for split, photos in data.splits.items():
        for id, label in enumerate(photos.targets()):
            record = photos.record(id)
            boxes = sorted((data.classes[c], box) for c, box in zip(record.box_labels, record.boxes, strict=True))
            name = Path(record.key).stem
            assert photos.open(id).size == upright(name)
            found[name] = split, data.classes[label], boxes
    return found


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_say_the_same(tmp_path: Path, form: str) -> None:
    data = open_data(str(FORMS[form](tmp_path)))
    assert data.classes == CLASSES
    found = told_by(data)
    assert found.keys() == TRUTH.keys()
    for name, (split, label, boxes) in found.items():
        assert split == TRUTH[name].split
        assert [c for c, _ in boxes] == sorted(c for c, _ in TRUTH[name].boxes)
        wanted = np.array([box for _, box in sorted(TRUTH[name].boxes)])
        assert np.abs(np.array([box for _, box in boxes]) - wanted).max() < 0.5, name
        largest = max(TRUTH[name].boxes, key=lambda one: (one[1][2] - one[1][0]) * (one[1][3] - one[1][1]))
        assert label == largest[0]
    said = "\n".join(data_lines(data))
    if form != "a list":
        tool = form.partition("'s ")[0].replace("ILSVRC", "Pascal VOC")
        assert f"{tool}: 9 boxes of 3 classes" in said
    assert "3 photos with boxes of several classes: taken as of the class of the largest box" in said
    turned = form in ("Pascal VOC", "COCO", "LabelMe")
    assert ("1 photo turned by EXIF and marked unturned" in said) == turned


def lines(data: DataSet) -> str:
    return "\n".join(data_lines(data))


def refused(path: Path) -> str:
    with pytest.raises(DataError) as e:
        open_data(str(path))
    return str(e.value)


def photo(path: Path, size: tuple[int, int] = (100, 50), turn: int = 1, box: Corners | None = None) -> None:
    """White, with a black box maybe."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = turn
    image = Image.new("L", size, 255)
    if box:
        ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), 0)
    image.save(path, exif=exif)


CAT, DOG = ("cat", (10.0, 10.0, 30.0, 30.0)), ("dog", (50.0, 20.0, 90.0, 45.0))


def beside(root: Path, **boxes: list[tuple[str, Corners]]) -> Path:
    """Photos of 100 x 50 with XML beside them."""
    for name, own in boxes.items():
        photo(root / f"{name}.png")
        write(root / f"{name}.xml", voc_xml(f"{name}.png", (100, 50), own))
    return root


def boxes_of(data: DataSet, split: str = "all") -> dict[str, list[tuple[str, Corners]]]:
    found = map(data.split(split).record, range(len(data.split(split))))
    return {r.key: [(data.classes[c], box) for c, box in zip(r.box_labels, r.boxes, strict=True)] for r in found}


STORED = (12.0, 6.0, 44.0, 16.0)


@pytest.mark.parametrize("scale", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("frame", ["stored", "upright"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_boxes_follow_exif(tmp_path: Path, turn: int, frame: str, scale: float) -> None:
    """Against the pixels of a photo that Pillow turns. Where a turn keeps the size, boxes are of the upright photo."""
    photo(tmp_path / "a.png", (80, 40), turn, STORED)
    with Image.open(tmp_path / "a.png") as image:
        stands = ImageOps.exif_transpose(image)
    wanted = ImageOps.invert(stands).getbbox()
    assert wanted is not None
    size, box = ((80, 40), STORED) if frame == "stored" and turn > 4 else (stands.size, wanted)
    given_box = tuple(v * scale for v in box)
    write(tmp_path / "a.xml", voc_xml("a.png", (int(size[0] * scale), int(size[1] * scale)), [("cat", given_box)]))
    data = open_data(str(tmp_path))
    assert np.allclose(boxes_of(data)["a.png"][0][1], wanted)
    assert ("in a way that keeps the size" in lines(data)) == (turn in (2, 3, 4))
    assert ("marked unturned" in lines(data)) == (frame == "stored" and turn > 4)
    assert ("marked at another size" in lines(data)) == (scale != 1 and (frame == "upright" or turn < 5))


def test_a_square_photo_may_have_been_marked_either_way(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", (60, 60), 6)
    write(tmp_path / "a.xml", voc_xml("a.jpg", (60, 60), [CAT]))
    assert "warning: 1 photo turned by EXIF in a way that keeps the size (a.jpg)" in lines(open_data(str(tmp_path)))


@pytest.mark.parametrize("size", [(50, 100), (100, 60), (1, 1), (400, 100)])
def test_sizes_of_another_photo_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    beside(tmp_path, a=[CAT])
    write(tmp_path / "a.xml", voc_xml("a.png", size, [CAT]))
    assert f"says that a.png has {size[0]} x {size[1]} pixels, and it has 100 x 50" in refused(tmp_path)


def test_a_size_of_zero_is_none(tmp_path: Path) -> None:
    beside(tmp_path, a=[CAT], b=[DOG])
    write(tmp_path / "a.xml", voc_xml("a.png", (0, 0), [CAT]))
    assert boxes_of(open_data(str(tmp_path))) == {"a.png": [CAT], "b.png": [DOG]}


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    flat, beyond, partly = (
        ("owl", (5.0, 5.0, 5.0, 9.0)),
        ("owl", (100.0, 0.0, 120.0, 9.0)),
        ("cat", (-5.0, 40.0, 9.0, 60.0)),
    )
    beside(tmp_path, a=[CAT, flat], b=[DOG, partly], c=[beyond], d=[])
    photo(tmp_path / "e.png")
    photo(tmp_path / "masks" / "x.png")
    write(tmp_path / "f.xml", voc_xml("f.png", (100, 50), [CAT]))
    write(tmp_path / "g.xml", "<project/>")
    data = open_data(str(tmp_path))
    assert boxes_of(data) == {"a.png": [CAT], "b.png": [DOG, partly]}
    assert [(p.kind, p.count, p.names) for p in data.passed] == [
        ("box-empty", 1, ("a.png 5 5 5 9",)), ("box-outside", 1, ("c.png 100 0 120 9",)),
        ("photo-without-box", 3, ("c.png", "d.png", "e.png")),
    ]  # fmt: skip
    for some in (
        "Pascal VOC: 3 boxes of 2 classes on 2 photos, by 6 files such as a.xml",
        "left out: 1 marked photos that are not there (f.png)", "left out: 1 XML files of another kind (g.xml)",
        "photos in folders without any box (masks)", "1 photo with boxes of several classes",
    ):  # fmt: skip
        assert some in lines(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>'), "it has a DOCTYPE"),
        (("</annotation>", ""), "a.xml: is not Pascal VOC's XML as expected (no element found"),
        (("<xmin>10.0</xmin>", "<xmin>left</xmin>"), "could not convert string to float: 'left'"),
        (("<xmin>10.0</xmin>", "<xmin>nan</xmin>"), "'nan' is no number of pixels"),
        (("<xmin>10.0</xmin>", ""), "a.xml: is not Pascal VOC's XML"),
        (("<name>cat</name>", ""), "a.xml: the class is None"),
        (("<name>cat</name>", "<name> </name>"), "a.xml: the class is ' '"),
    ],
)
def test_wrong_xml_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    beside(tmp_path, a=[CAT], b=[DOG])
    text = (tmp_path / "a.xml").read_text()
    write(tmp_path / "a.xml", text.replace(*change))
    assert message in refused(tmp_path)
    assert str(tmp_path / "a.xml") in refused(tmp_path)


def test_deep_files_end_in_a_line(tmp_path: Path) -> None:
    beside(tmp_path, a=[CAT])
    write(tmp_path / "a.xml", "<annotation>" + "<a>" * 300_000)
    assert "a.xml: is not Pascal VOC's XML" in refused(tmp_path)
    assert "a.json: is not COCO's JSON" in refused(write(tmp_path / "a.json", '{"images": ' + "[" * 300_000))


def test_a_file_about_another_photo_is_refused(tmp_path: Path) -> None:
    beside(tmp_path, a=[CAT], b=[DOG])
    write(tmp_path / "a.xml", voc_xml("b.png", (100, 50), [CAT]))
    assert "a.xml: is about a.png by its own name and about b.png by what it says" in refused(tmp_path)


def test_of_photos_of_one_name_the_nearest_is_meant(tmp_path: Path) -> None:
    for split in ("train", "val"):
        photo(tmp_path / split / "images" / "1.png", (100, 50) if split == "train" else (60, 60))
        photo(tmp_path / split / "masks" / "1.png", (30, 30))
        write(tmp_path / split / "labels" / "1.txt", "0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.1 0.1\n")
    data = open_data(str(tmp_path))
    assert {s: list(boxes_of(data, s)) for s in data.splits} == {
        "train": ["train/images/1.png"],
        "val": ["val/images/1.png"],
    }
    near = boxes_of(data, "val")["val/images/1.png"][0][1]
    assert np.allclose(near, (24, 24, 36, 36))
    photo(tmp_path / "val" / "images" / "more" / "1.png")
    (tmp_path / "val" / "images" / "1.png").rename(tmp_path / "val" / "images" / "less-1.png")
    photo(tmp_path / "val" / "images" / "less" / "1.png")
    assert "may be val/images/less/1.png or val/images/more/1.png; write its path" in refused(tmp_path)


def test_voc_lists(tmp_path: Path) -> None:
    """trainval is train where there is no train; a photo in no list is left out, one in two refused."""
    voc(tmp_path)
    sets = tmp_path / "VOC2012/ImageSets/Main"
    for split in ("train", "val"):
        (sets / f"{split}.txt").unlink()
    write(sets / "trainval.txt", "a\nb\nc\n")
    data = open_data(str(tmp_path))
    assert {split: len(photos) for split, photos in data.splits.items()} == {"train": 3, "test": 1}
    assert "1 photos that stand in no list of a split (VOC2012/JPEGImages/d.jpg)" in lines(data)
    assert told_by(open_data(str(tmp_path / "VOC2012/Annotations"))).keys() == {"a", "b", "c", "e"}
    write(sets / "train.txt", "a\ne\n")
    assert "VOC2012/JPEGImages/e.jpg stands in the lists of test and train" in refused(tmp_path)


def coco_json(**more: Any) -> dict[str, Any]:
    return {
        "images": [{"id": "x", "file_name": "a.png", "width": 100, "height": 50}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": "x", "category_id": 3, "bbox": [10, 10, 20, 20]},
            {"id": 2, "image_id": "x", "category_id": 9, "bbox": [50, 20, 40, 25]},
        ],
    } | more  # fmt: skip


def test_coco_of_one_file(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    odd = [
        {"id": 3, "image_id": "x", "category_id": 9, "segmentation": [[1, 2, 3]]},
        {"id": 4, "image_id": 7, "bbox": [1]},
    ]
    odd += [{"id": 5, "image_id": "x", "category_id": 9, "bbox": [1, 1, -4, 3]}]
    whole = coco_json()
    owl = [{"id": 1, "name": "owl"}]
    whole = coco_json(annotations=whole["annotations"] + odd, categories=whole["categories"] + owl)
    write(tmp_path / "labels.json", whole)
    for data in map(open_data, (str(tmp_path), str(tmp_path / "labels.json"))):
        assert boxes_of(data) == {"a.png": [CAT, DOG]}
        for some in (
            "COCO: 2 boxes of 2 classes on 1 photo, by labels.json",
            "1 annotations with a segmentation and no bbox (annotation 3)",
            "1 annotations of photos that are not listed (annotation 4)",
            "passed over: 1 box without a width or height (a.png 1 1 -3 4)",
            "passed over: 1 class without a box (owl)",
        ):
            assert some in lines(data)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"categories": []}, "annotation 1 is of category 3, which has no name there"),
        ({"categories": [{"id": 3}]}, "lacks 'name'"),
        (
            {"annotations": [{"id": 8, "image_id": "x", "category_id": 3, "bbox": [1, 2, 3]}]},
            "annotation 8: bbox is [1, 2, 3]",
        ),
        (
            {"annotations": [{"id": 8, "image_id": "x", "category_id": 3, "bbox": [1, 2, "x", 3]}]},
            "annotation 8: bbox is",
        ),
        ({"annotations": [{"id": 8, "image_id": [], "category_id": 3, "bbox": [1, 2, 3, 4]}]}, "unhashable"),
        ({"annotations": []}, "no box of a photo below"),
        ({"images": [{"id": "x", "file_name": "b.png"}]}, "1 marked photos that are not there (b.png)"),
    ],
)
def test_wrong_coco_is_named(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    photo(tmp_path / "a.png")
    file = write(tmp_path / "labels.json", coco_json(**more))
    assert message in refused(tmp_path)
    assert str(file if "below" not in message and "there (" not in message else tmp_path) in refused(tmp_path)


def test_coco_in_folders_of_splits(tmp_path: Path) -> None:
    """As Roboflow exports it, with photos of one name in two splits."""
    for split in ("train", "valid"):
        photo(tmp_path / split / "a.png")
        write(tmp_path / split / "_annotations.coco.json", coco_json())
    data = open_data(str(tmp_path))
    assert {s: list(boxes_of(data, s)) for s in data.splits} == {"train": ["train/a.png"], "val": ["valid/a.png"]}
    (tmp_path / "train" / "_annotations.coco.json").rename(tmp_path / "train" / "a.json")
    (tmp_path / "valid").rename(tmp_path / "more")
    assert "do not say a split each" in refused(tmp_path)
    assert list(boxes_of(open_data(str(tmp_path / "more")))) == ["a.png"]


def yolo_beside(root: Path, text: str = "0 0.2 0.4 0.2 0.4\n2 0.7 0.65 0.4 0.5\n", **files: str) -> Path:
    photo(root / "a.png")
    photo(root / "b.png")
    write(root / "a.txt", text)
    write(root / "b.txt", "")
    for name, words in files.items():
        write(root / name.replace("_", "."), words)
    return root


@pytest.mark.parametrize(
    ("files", "names", "said"),
    [
        ({"classes_txt": "cat\ndog\nowl\n"}, ("cat", "owl"), "classes are named by classes.txt"),
        ({"obj_names": "cat\ndog\nowl\n"}, ("cat", "owl"), "classes are named by obj.names"),
        ({"my_yaml": "nc: 3\nnames: [cat, dog, owl]\n"}, ("cat", "owl"), "1 class without a box (dog)"),
        ({"data_yaml": "names:\n  0: cat\n  2: owl\n"}, ("cat", "owl"), "classes are named by data.yaml"),
        ({}, ("0", "2"), "warning: there is no data.yaml or classes.txt: classes are called by number"),
    ],
)
def test_yolo_beside_the_photos(tmp_path: Path, files: dict[str, str], names: tuple[str, str], said: str) -> None:
    data = open_data(str(yolo_beside(tmp_path, **files)))
    (first, cat), (second, owl) = boxes_of(data)["a.png"]
    assert (first, second) == names
    assert np.allclose((cat, owl), (CAT[1], DOG[1]))
    assert said in lines(data)
    assert "1 photo without a box (b.png)" in lines(data)


@pytest.mark.parametrize(
    ("text", "yaml_text", "message"),
    [
        (
            "0 .5 .5 .1 .1\n3 .5 .5 .1 .1\n",
            "names: [cat, dog, owl]",
            "a.txt line 2: class 3, and {}/data.yaml names 3 classes",
        ),
        ("0 .5 .5 .1 .1\n", "names: {1: cat, 2: dog}", "a.txt line 1: class 0, and"),
        ("0 50 25 20 20\n", "names: [cat, dog]", "expected numbers relative to the photo, 0 to 1"),
        ("0 .5 .5 .1 .1\n0 .5 .5\n", "names: [cat, dog]", "a.txt line 2: '0 .5 .5'; expected a class number"),
        ("0 .5 .5 .1 .1\n0 a b c d\n", "names: [cat, dog]", "a.txt: is not YOLO's text as expected (could not convert"),
        ("0 .5 .5 .1 .1\n0.5 .5 .5 .1 .1\n", "names: [cat, dog]", "a.txt line 2"),
        ("0 .5 .5 .1 .1\n", "names: [cat, [dog]]", "data.yaml: class 1: the class is a list"),
        ("0 .5 .5 .1 .1\n", "names: [cat\n", "data.yaml: is not a list of class names"),
        ("0 .5 .5 .1 .1\n", "a: &a [x]\nb: &b [*a,*a]\nnames: [*b, *b]", "the class is a list"),
    ],
)
def test_wrong_yolo_is_named(tmp_path: Path, text: str, yaml_text: str, message: str) -> None:
    assert message.format(tmp_path) in refused(yolo_beside(tmp_path, text, data_yaml=yaml_text))


def test_yolo_with_points_or_confidence_has_a_box_first(tmp_path: Path) -> None:
    text = "0 .2 .4 .2 .4 .1 .1 2 .1 .3 1\n1 .7 .65 .4 .5 .3 .3 2 .1 .1 0\n"
    data = open_data(str(yolo_beside(tmp_path, text, data_yaml="kpt_shape: [2, 3]\nnames: [cat, dog]")))
    assert np.allclose([box for _, box in boxes_of(data)["a.png"]], (CAT[1], DOG[1]))
    data = open_data(str(yolo_beside(tmp_path, "0 .2 .4 .2 .4 .99\n", data_yaml="names: [cat, dog]")))
    assert np.allclose([box for _, box in boxes_of(data)["a.png"]], CAT[1])


def test_a_yaml_is_data(tmp_path: Path) -> None:
    yolo(tmp_path)
    found = told_by(open_data(str(tmp_path / "data.yaml")))
    assert {name: split for name, (split, _, _) in found.items()} == {name: told.split for name, told in TRUTH.items()}
    assert "is a file of another kind" in refused(write(tmp_path / "x.yaml", "a: 1"))
    assert "no box of a photo" in refused(write(tmp_path / "y" / "x.yaml", "names: [a]"))


def test_turned_boxes_are_the_tight_ones_around(tmp_path: Path) -> None:
    """30 degrees clockwise: in CVAT around the middle, in Label Studio around the upper left corner."""
    photo(tmp_path / "a.png", (400, 300))

    def around(x: float, y: float) -> Corners:
        c, s = cos(radians(30)), sin(radians(30))
        points = [
            (x + c * (px - x) - s * (py - y), y + s * (px - x) + c * (py - y)) for px in (100, 200) for py in (120, 160)
        ]
        return (*map(min, zip(*points, strict=True)), *map(max, zip(*points, strict=True)))  # type: ignore[return-value]

    box = '<box label="cat" xtl="100" ytl="120" xbr="200" ybr="160" rotation="30"/><points label="cat" points="1,1"/>'
    image = f'<image id="0" name="x/a.png" width="400" height="300">{box}</image>'
    data = open_data(str(write(tmp_path / "a.xml", f"<annotations>{image}</annotations>")))
    assert np.allclose(boxes_of(data)["a.png"][0][1], around(150, 140))
    assert "left out: 1 shapes of the kind points (x/a.png)" in lines(data)
    value = {"x": 25, "y": 40, "width": 25, "height": 40 / 3, "rotation": 30, "rectanglelabels": ["cat"]}
    result = {"type": "rectanglelabels", "original_width": 400, "original_height": 300, "value": value}
    poor = result | {"value": value | {"x": 0}}
    both = [{"result": [poor]}, {"result": [result]}]
    data = open_data(
        str(write(tmp_path / "a.json", [{"data": {"image": "http://x/y/a.png?z=1"}, "annotations": both}]))
    )
    assert np.allclose(boxes_of(data)["a.png"][0][1], around(100, 120))
    assert "1 earlier results of photos that were marked several times" in lines(data)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xml", "<annotations><track id='0'/></annotations>", "is 'CVAT for video'"),
        (
            "a.xml",
            "<annotations><image name='a.png'><box label='c' xtl='1'/></image></annotations>",
            "a box of a.png lacks",
        ),
        ("a.xml", "<annotations><image/></annotations>", "lacks 'name'"),
        ("a.json", '[{"annotations": [], "data": 5}]', "is not Label Studio's JSON"),
        ("a.json", '[{"annotations": [{"result": 5}], "data": {"image": "a.png"}}]', "is not Label Studio's JSON"),
        ("a.json", '{"shapes": [{"label": "a"}]}', "lacks 'points'"),
        ("a.json", '{"shapes": [{"label": "a", "points": []}]}', "is not LabelMe's JSON"),
        ("a.json", '{"shapes": [{"label": "a", "points": [[1, 2], [3, 1e999]]}]}', "no number of pixels"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    photo(tmp_path / "a.png")
    write(tmp_path / name, text)
    assert message in refused(tmp_path)
    assert name in refused(tmp_path)


def test_two_tools_are_refused_and_each_can_be_given(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photo(tmp_path / "images" / f"{name}.png")
        write(tmp_path / "Annotations" / f"{name}.xml", voc_xml(f"{name}.png", (100, 50), [CAT, DOG]))
        write(tmp_path / "labels" / f"{name}.txt", "0 0.2 0.4 0.2 0.4\n1 0.7 0.65 0.4 0.5\n")
    assert "holds boxes of Pascal VOC in Annotations and of YOLO in labels; give the folder" in refused(tmp_path)
    one, other = (boxes_of(open_data(str(tmp_path / name))) for name in ("Annotations", "labels"))
    assert list(one) == list(other) == ["../images/a.png", "../images/b.png"]
    assert one["../images/a.png"] == [CAT, DOG]


def test_class_folders_with_other_files_stay_class_folders(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for i in range(3):
            photo(tmp_path / name / f"{i}.png")
            write(tmp_path / name / f"{i}.txt", "a fine day")
        write(tmp_path / name / "info.json", {"photos": 3})
        write(tmp_path / name / "numbers.txt", "1 0.5 0.5 0.25 0.25")
    write(tmp_path / "about.xml", "<about/>")
    write(tmp_path / "run.yaml", "names: [x, y]")
    data = open_data(str(tmp_path))
    assert (data.classes, len(data.split("all")), data.split("all").boxes) == (("cat", "dog"), 6, {})
    write(tmp_path / "cat" / "0.xml", voc_xml("0.png", (100, 50), [DOG]))
    assert open_data(str(tmp_path)).classes == ("dog",)
    assert open_data(str(tmp_path), classes="top").classes == ("cat", "dog")


def test_a_photo_that_cannot_be_read_stays_for_check_to_find(tmp_path: Path) -> None:
    yolo_beside(tmp_path, data_yaml="names: [cat, dog, owl]")
    (tmp_path / "a.png").write_bytes(b"")
    assert list(boxes_of(open_data(str(tmp_path)))) == ["a.png"]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.integers(0), st.binary(max_size=3), st.integers(0, 9))
def test_any_damage_is_data_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, form: str, place: int, junk: bytes, gone: int
) -> None:
    root = tmp_path_factory.getbasetemp() / form.replace("'", "")
    if not root.exists():
        FORMS[form](root)
    files = [p for p in sorted(root.rglob("*")) if p.suffix in (".xml", ".json", ".txt", ".yaml", ".csv")]
    file = files[place % len(files)]
    whole = file.read_bytes()
    place %= len(whole) + 1
    file.write_bytes(whole[:place] + junk + whole[place + gone :])
    try:
        with suppress(DataError):
            open_data(str(root / "photos.csv" if form == "a list" else root)).fingerprint()
    finally:
        file.write_bytes(whole)


def test_a_look_at_a_hostile_text_is_short(tmp_path: Path) -> None:
    """Numbers without end, which a careless pattern tries to part in all ways."""
    for i, text in enumerate(
        ("1" * 250_000, "1 " * 120_000 + "x", "0 " + "1" * 250_000 + "x", "0 .5 .5 .5 ." + "5" * 250_000 + "e")
    ):
        photo(tmp_path / "cat" / f"{i}.png")
        write(tmp_path / "cat" / f"{i}.txt", text)
    photo(tmp_path / "dog" / "0.png")
    write(tmp_path / "dog" / "0.xml", "<?" * 120_000)
    write(tmp_path / "dog" / "0.json", '{"images"' * 25_000)
    began = perf_counter()
    assert open_data(str(tmp_path)).classes == ("cat", "dog")
    assert perf_counter() - began < 5


def test_folders_may_be_links(tmp_path: Path) -> None:
    coco(tmp_path / "real")
    (tmp_path / "here").mkdir()
    for path in (tmp_path / "real").iterdir():
        (tmp_path / "here" / path.name).symlink_to(path)
    assert told_by(open_data(str(tmp_path / "here"))) == told_by(open_data(str(tmp_path / "real")))


def test_darknets_lists_say_the_splits(tmp_path: Path) -> None:
    """Unless folders do; a list of other photos says nothing."""
    root = yolo_beside(tmp_path / "a", obj_names="cat\ndog\nowl", b_txt="0 .5 .5 .2 .2", gone_txt="0 .5 .5 .2 .2")
    write(root / "train.txt", "data/obj/a.png\n")
    write(root / "valid.txt", "/content/b.png\n\n")
    data = open_data(str(root))
    assert {s: list(boxes_of(data, s)) for s in data.splits} == {"train": ["a.png"], "val": ["b.png"]}
    assert "1 marked photos that are not there (gone)" in lines(data)
    write(root / "train.txt", "x.png\n")
    write(root / "valid.txt", "y.png\n")
    assert list(open_data(str(root)).splits) == ["all"]
    for split in ("train", "val"):
        photo(tmp_path / "b" / "images" / split / "1.png")
        write(tmp_path / "b" / "labels" / split / "1.txt", "0 .5 .5 .2 .2\n1 .5 .5 .2 .2")
        write(tmp_path / "b" / f"{split}.txt", f"./images/{split}/1.png\n")
    data = open_data(str(tmp_path / "b"))
    assert {s: list(boxes_of(data, s)) for s in data.splits} == {
        "train": ["images/train/1.png"], "val": ["images/val/1.png"],
    }  # fmt: skip


def test_label_studios_prefix_may_go_in_all_its_exports(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    write(tmp_path / "labels" / "a1b2c3d4-a.txt", "0 0.2 0.4 0.2 0.4\n")
    write(tmp_path / "coco.json", coco_json(images=[{"id": "x", "file_name": "images/1/a1b2c3d4-a.png"}]))
    assert boxes_of(open_data(str(tmp_path / "coco.json"))) == {"images/a.png": [CAT, DOG]}
    assert np.allclose(boxes_of(open_data(str(tmp_path / "labels")))["../images/a.png"][0][1], CAT[1])
    (tmp_path / "coco.json").unlink()
    assert list(boxes_of(open_data(str(tmp_path)))) == ["images/a.png"]


def test_numbers_without_end_are_refused(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    far = [{"id": 1, "image_id": "x", "category_id": 3, "bbox": [1e308, 0, 1e308, 5]}]
    assert "a box of a.png has no bounds" in refused(write(tmp_path / "a.json", coco_json(annotations=far)))
