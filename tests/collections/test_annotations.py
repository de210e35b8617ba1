"""The same boxes in seven forms, and what each form may do wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from verydeep.cli import main
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
    "Label Studio": label_studio, "a list": manifest,
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
        assert f"{form.removesuffix(chr(39) + 's XML').replace('ILSVRC', 'Pascal VOC')}: 9 boxes of 3 classes" in said
    assert "3 photos with boxes of several classes: taken as of the class of the largest box" in said
    turned = form in ("Pascal VOC", "COCO", "LabelMe")
    assert ("1 photo turned by EXIF and marked unturned" in said) == turned
