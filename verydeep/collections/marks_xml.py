"""Boxes in XML: Pascal VOC, a file a photo, as LabelImg and ILSVRC have it too; CVAT for images, a file of all."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder, XMLParser

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
from verydeep.data.record import SPLIT_WORDS
from verydeep.errors import DataError

MOST_TAGS = 20_000_000  # in a file; each takes some hundred bytes in memory
CORNERS = ("xmin", "ymin", "xmax", "ymax")
ENDS = ("xtl", "ytl", "xbr", "ybr")


class Plain(TreeBuilder):
    """No file of boxes has a document type, and with one come entities."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a DOCTYPE, which no such file needs")


def xml_of(path: Path) -> Element:
    if (data := data_of(path)).count(b"<") > MOST_TAGS:
        raise ValueError(f"it has more than {MOST_TAGS:,} tags")
    parser = XMLParser(target=Plain())
    parser.feed(data)
    return parser.close()


def voc(path: Path, told: Aside) -> Iterator[Marked]:
    """Parts of objects, such as heads, have no boxes of their own here."""
    with understood(path, "Pascal VOC's XML"):
        top, boxes = xml_of(path), []
        if top.tag != "annotation":
            return told.leave("XML files of another kind", path.name)
        for thing in top.findall("object"):
            if (corners := thing.find("bndbox")) is None:
                told.leave("objects without a bndbox", path.name)
                continue
            x0, y0, x1, y1 = (corners.findtext(name) for name in CORNERS)
            boxes.append((tight(((x0, y0), (x1, y1))), label_in(thing.findtext("name"), path)))
        size = size_of(top.findtext("size/width"), top.findtext("size/height"))
        names = (path.stem, (top.findtext("filename") or "").strip())
    yield Marked(names, path, boxes, size)


def cvat(path: Path, told: Aside) -> Iterator[Marked]:
    with understood(path, "'CVAT for images 1.1'"):
        top = xml_of(path)
        if top.find("track") is not None:
            raise DataError(f"{path}: is 'CVAT for video'; export it from CVAT as 'CVAT for images 1.1'")
        told.classes.update(label.text.strip() for label in top.findall("meta//label/name") if label.text)
        for image in top.iter("image"):
            name = image.attrib["name"]
            boxes = []
            for shape in image:
                try:
                    box = cvat_box(shape)
                except KeyError as e:
                    raise DataError(f"{path}: a {shape.tag} of {name} lacks {e}") from e
                if box:
                    boxes.append((box, label_in(shape.get("label"), f"{path}: {name}")))
                else:
                    told.leave(f"shapes of the kind {shape.tag:.20}", name)
            size = size_of(image.get("width"), image.get("height"))
            split = SPLIT_WORDS.get(image.get("subset", "").strip().lower(), "")
            yield Marked((name,), path, boxes, size, split)


def cvat_box(shape: Element) -> tuple[float, float, float, float] | None:
    own = shape.attrib
    if shape.tag == "box":
        x0, y0, x1, y1 = (number(own[name]) for name in ENDS)
        return turned(tight(((x0, y0), (x1, y1))), own.get("rotation", 0), (x0 + x1) / 2, (y0 + y1) / 2)
    if shape.tag == "polygon":
        return tight(point.split(",") for point in own["points"].split(";"))
    if shape.tag == "ellipse":
        x, y, a, b = (number(own[name]) for name in ("cx", "cy", "rx", "ry"))
        return turned((x - a, y - b, x + a, y + b), own.get("rotation", 0), x, y)
    if shape.tag == "mask":
        return sized(*(own[name] for name in ("left", "top", "width", "height")))
    return None
