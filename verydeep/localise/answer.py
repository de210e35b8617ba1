"""What is on photos and where: rows, lists, COCO's JSON, and pictures with the boxes drawn."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from verydeep.data import photo
from verydeep.data.reading import workers_for
from verydeep.engines import Engine, chosen
from verydeep.errors import ConfigError, PhotoError
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.sample import folder_of
from verydeep.evaluate.views import Scales
from verydeep.files.disk import check_place, make_folder, read_json, saying, write_text
from verydeep.hardware import device_for
from verydeep.localise.boxes import resized
from verydeep.localise.locate import TOP, Locator, classifier_of, locator_of
from verydeep.net.classifier import Classifier
from verydeep.net.pixels import photo_of
from verydeep.predict import photos_in
from verydeep.report.lettering import length_of, put_words
from verydeep.weights import load

RESULTS = "localisation.json"  # of a run: the records of its tests, the last one last
COLOURS = ("#e4572e", "#2f6db3", "#4c9a5b", "#b0529e", "#c98a12")


class Placed(NamedTuple):
    """A class, its posterior, and its box (x0, y0, x1, y1) in pixels of the upright photo, as its file has it."""

    name: str
    probability: float
    box: tuple[float, float, float, float]


class Located(NamedTuple):
    """What a photo shows, the best first; or why it could not be read. size: height and width."""

    photo: str
    size: tuple[int, int]
    places: list[Placed]
    error: str | None = None


def found_in(
    model: str, given: Sequence[str], classifier: str | None, top: int, scales: Scales, merge: str, device: str,
    workers: int, coco: Path | None = None, draw: Path | None = None, engine: Engine = "auto",
) -> Iterator[Located]:  # fmt: skip
    """A Located for each photo of files, folders and standard input, as soon as it is known.

    Merging is as the run's own test chose it. coco: a file for COCO's JSON; draw: a folder for copies with the boxes.
    Raises ConfigError, DataError and ModelError.
    """
    what, net, place = classifier_of(model, classifier), load(model), device_for(device)
    computes, precision, _ = chosen(engine, place.type, "fp32", [net])  # as its test chose the threshold
    settings = Settings(precision=precision, device=place.type, long_photos="middle", engine=computes)
    known, threshold = (what, load(what)) if what else None, kept_threshold(model, net, merge)
    locator, names = locator_of({model: net}, known, scales, merge, settings, threshold), photos_in(given)
    if draw and any(Path(name).resolve().parent == draw.resolve() for name in names if name != "-"):
        raise ConfigError(f"draw: {draw} holds photos that are given, and pictures could replace them; try another")
    if coco:
        make_folder(coco.parent)
        check_place(coco)
    photos = [sys.stdin.buffer.read(photo.MAX_BYTES + 1) if name == "-" else name for name in names]
    rows = found_on(locator, photos, names, top, workers)
    rows = saving_pictures(rows, photos, locator, draw) if draw else rows
    return saving_coco(rows, net.contract.classes, coco) if coco else rows


def kept_threshold(model: str, net: Classifier, merge: str) -> float | None:
    """The threshold that the last test of a run chose for this way of merging."""
    run = folder_of(model)
    records = read_json(run / RESULTS).get("results", []) if run and (run / RESULTS).exists() else []
    tests = (r for r in reversed(records) if r.get("merge") == merge and r.get("mirror") is not False)
    own = (r for r in tests if r["sha256"] == [net.contract.sha256])
    return next((float(r["threshold"]) for r in own), None)


def found_on(
    locator: Locator, photos: Sequence[object], names: Sequence[str], top: int, workers: int = 0
) -> Iterator[Located]:
    """A Located for each photo in order, as soon as it is known."""
    contract, bad = locator.nets[0].contract, dict[int, Located]()

    def on_bad(id: int, e: PhotoError) -> None:
        bad[id] = Located(names[id], (0, 0), [], e.reason)

    for id, seen in locator.looks(
        lambda id: photo_of(photos[id], names[id], contract.reading), range(len(names)),
        workers=workers_for(workers, False), on_bad=on_bad,
    ):  # fmt: skip
        yield from (bad.pop(i) for i in sorted(bad) if i < id)
        [pairs] = locator.pairs(seen, [locator.threshold], max(top, TOP))
        whole = seen.size.in_file
        boxes = [resized(a.box, seen.size, whole).round(1).tolist() for a in pairs[:top]]
        places = [
            Placed(contract.classes[a.label], float(seen.posteriors[a.label]), tuple(box))
            for a, box in zip(pairs, boxes, strict=False)
        ]
        yield Located(names[id], whole, places)
    yield from (bad[i] for i in sorted(bad))


def places_on(
    net: Classifier, classifier: Classifier | None, photos: Sequence[object], top: int = 1
) -> list[list[Placed]]:
    """What `Classifier.locate` says."""
    settings, what = Settings(device=net.mean.device.type), ("the classifier", classifier) if classifier else None
    locator, found = locator_of({"the net": net}, what, "single", "greedy", settings), list[list[Placed]]()
    for row in found_on(locator, photos, [f"photo {i}" for i in range(len(photos))], top):
        if row.error:
            raise PhotoError(row.photo, row.error)
        found.append(row.places)
    return found


def saving_coco(rows: Iterator[Located], classes: Sequence[str], file: Path) -> Iterator[Located]:
    """The rows, of which a list is written in the end as COCO has them: x, y, width, height; probability as `score`;
    classes numbered from 1 as the net does."""
    good = list[Located]()
    for row in rows:
        good += [row] if row.error is None else []
        yield row
    number = {name: i for i, name in enumerate(classes, 1)}
    images, boxes = [], list[dict[str, Any]]()
    for i, row in enumerate(good, 1):
        images.append({"id": i, "file_name": row.photo, "height": row.size[0], "width": row.size[1]})
        for name, probability, (x0, y0, x1, y1) in row.places:
            width, height, score = round(x1 - x0, 1), round(y1 - y0, 1), round(probability, 6)
            about = {"id": len(boxes) + 1, "image_id": i, "category_id": number[name], "iscrowd": 0, "score": score}
            boxes.append(about | {"bbox": [x0, y0, width, height], "area": round(width * height, 1)})
    coco = {"images": images, "annotations": boxes, "categories": [{"id": i, "name": n} for n, i in number.items()]}
    write_text(file, json.dumps(coco))  # file names need not be text, and are in ASCII


def saving_pictures(
    rows: Iterator[Located], photos: Sequence[object], locator: Locator, folder: Path
) -> Iterator[Located]:
    """The rows, while the photos with their boxes are saved in a folder, under their own names; of one name the second
    as NAME-2.png."""
    make_folder(folder)
    reading, taken = locator.nets[0].contract.reading, set[str]()
    for row, given in zip(rows, photos, strict=True):
        if row.error is None:
            stem = Path(row.photo).stem
            names = (f"{stem}-{n}.png" if n > 1 else f"{stem}.png" for n in range(1, len(photos) + 1))
            name = next(n for n in names if n.casefold() not in taken)
            taken.add(name.casefold())
            image = photo_of(given, row.photo, reading)
            boxes = [(resized(np.array(p.box), row.size, photo.PixelSize.of(image)).tolist(),
                      f"{p.name} {100 * p.probability:.0f} %", COLOURS[i % len(COLOURS)])
                     for i, p in enumerate(row.places)]  # fmt: skip
            with saying(f"{folder / name} cannot be written"):
                with_boxes_drawn(image, boxes).save(folder / name)
        yield row


def with_boxes_drawn(image: Image.Image, boxes: Sequence[tuple[Sequence[float], str, str]]) -> Image.Image:
    """A copy with boxes: (box in pixels, words, colour)."""
    image = image.copy()
    pen, thick = ImageDraw.Draw(image), max(2, min(image.size) // 150)
    size = max(10, min(image.size) // 28)
    for box, words, colour in boxes:
        pen.rectangle(tuple(box), outline=colour, width=thick)
        if words:
            x, y = round(box[0]) + thick, round(box[1]) + thick
            pen.rectangle((x - 1, y - 1, x + length_of(words, size) + 1, y + 1.3 * size), fill=colour)
            put_words(pen, (x, y), words, size, "white", image.width)
    return image
