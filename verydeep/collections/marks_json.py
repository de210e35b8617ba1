"""Boxes in JSON: COCO, a file a split; LabelMe, a file a photo; Label Studio, a file of all."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from math import hypot
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from verydeep.collections.marks import (
    Aside,
    Marked,
    data_of,
    label_in,
    number,
    size_of,
    sized,
    tight,
    turned,
    understood,
)
from verydeep.data.record import Box
from verydeep.errors import DataError


def json_of(path: Path, slim: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    return json.loads(data_of(path).decode("utf-8-sig"), object_hook=slim)


def outline_less(found: dict[str, Any]) -> dict[str, Any]:
    """Outlines take most of the memory that COCO's files need, and only whether there is one is used."""
    if "segmentation" in found:
        found["segmentation"] = bool(found["segmentation"])
    return found


def coco(path: Path, told: Aside, split: str = "") -> Iterator[Marked]:
    with understood(path, "COCO's JSON"):
        whole, boxes = json_of(path, outline_less), defaultdict[Any, list[tuple[Box, str]]](list)
        images = {image["id"]: image for image in whole["images"]}
        classes = {
            kind["id"]: label_in(kind["name"], f"{path}: category {kind['id']!r:.40}") for kind in whole["categories"]
        }
        told.classes.update(classes.values())
        for one in whole["annotations"]:
            where, corners, image = f"annotation {one.get('id')!r:.40}", one.get("bbox"), one["image_id"]
            if image not in images:
                told.leave("annotations of photos that are not listed", where)
            elif one.get("iscrowd"):
                told.leave("crowds", where)
            elif not corners:
                outline = bool(one.get("segmentation"))
                told.leave(f"annotations with{' a segmentation and' * outline} no bbox", where)
            elif one["category_id"] not in classes:
                raise DataError(f"{path}: {where} is of category {one['category_id']!r:.40}, which has no name there")
            else:
                try:
                    boxes[image].append((sized(*corners), classes[one["category_id"]]))
                except (ValueError, TypeError, OverflowError) as e:
                    raise DataError(f"{path}: {where}: bbox is {corners!r:.80}, expected x, y, width, height") from e
        for id, image in images.items():
            size = size_of(image.get("width"), image.get("height"))
            yield Marked((str(image["file_name"]),), path, boxes[id], size, split)


def labelme(path: Path, told: Aside) -> Iterator[Marked]:
    with understood(path, "LabelMe's JSON"):
        whole, boxes = json_of(path), []
        if not isinstance(whole, dict) or "shapes" not in whole:
            return told.leave("JSON files of another kind", path.name)
        for shape in whole["shapes"]:
            kind, points = str(shape.get("shape_type") or "polygon"), shape["points"]
            if kind in ("point", "points", "line", "linestrip"):
                told.leave(f"shapes of the kind {kind}", path.name)
                continue
            box = tight(points)
            if kind == "circle":
                (x, y), (a, b) = points
                radius = hypot(a - x, b - y)
                box = tight(((x - radius, y - radius), (x + radius, y + radius)))
            boxes.append((box, label_in(shape["label"], path)))
        size = size_of(whole.get("imageWidth"), whole.get("imageHeight"))
        names = (path.stem, str(whole.get("imagePath") or ""))
    yield Marked(names, path, boxes, size)


def label_studio(path: Path, told: Aside) -> Iterator[Marked]:
    with understood(path, "Label Studio's JSON"):
        for given in json_of(path):
            task: dict[str, Any] = given if "data" in given else of_json_min(given)
            name = studio_name(task["data"])
            done = [a for a in task.get("annotations", task.get("completions", ())) if not a.get("was_cancelled")]
            if len(done) > 1:
                told.leave("earlier results of photos that were marked several times", name)
            size, relative, boxes = None, True, list[tuple[Box, str]]()
            for one in done[-1]["result"] if done else ():
                value, kind = one.get("value", {}), str(one.get("type"))
                if kind not in ("rectanglelabels", "polygonlabels"):
                    told.leave(f"results of the kind {kind:.30}", name)
                    continue
                own = size_of(one.get("original_width"), one.get("original_height"))
                if boxes and own != size:
                    raise DataError(f"{path}: {name} has two sizes, {size} and {own}")
                size, relative = own, own is None
                if relative and value.get("rotation"):
                    raise DataError(f"{path}: {name} has a turned box and no original_width and original_height")
                width, height = own or (1.0, 1.0)
                box = studio_box(value, kind, width / 100, height / 100)
                boxes += [(box, label_in(label, f"{path}: {name}")) for label in value[kind]]
            yield Marked((name,), path, boxes, size, relative=relative)


def of_json_min(task: dict[str, Any]) -> dict[str, Any]:
    """A task of its short form, in which results stand under the names that the project has for them."""
    kinds = ("rectanglelabels", "polygonlabels")
    marks = (one for own in task.values() if isinstance(own, list) for one in own if isinstance(one, dict))
    result = [one | {"type": next(filter(one.__contains__, kinds), "another"), "value": one} for one in marks]
    return {"data": task, "annotations": [{"result": result}]}


def studio_box(value: dict[str, Any], kind: str, across: float, down: float) -> Box:
    """From percent to pixels, then turned around its upper left corner."""
    if kind == "polygonlabels":
        return tight((number(x) * across, number(y) * down) for x, y in value["points"])
    x, y, width, height = (number(value[name]) for name in ("x", "y", "width", "height"))
    box = sized(x * across, y * down, width * across, height * down)
    return turned(box, value.get("rotation", 0), x * across, y * down)


def studio_name(data: dict[str, Any]) -> str:
    """The path in an address, of which the end is known here too."""
    address = data.get("image") or next((v for v in data.values() if isinstance(v, str)), "")
    parts = urlsplit(address)
    return parse_qs(parts.query).get("d", [unquote(parts.path)])[0].lstrip("/")
