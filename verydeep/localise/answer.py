"""What is on photos and where: rows, lists, COCO's JSON, and pictures with the boxes drawn."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from PIL import Image, ImageDraw, ImageFont

from verydeep.colours import PLAINLY
from verydeep.data.reading import workers_for
from verydeep.errors import PhotoError
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.views import Scales
from verydeep.files.disk import make_folder, write_text
from verydeep.hardware import device_for, multiplies_bf16
from verydeep.localise.evaluate import locator_of
from verydeep.localise.measure import Locator
from verydeep.localise.results import classifier_of, kept_threshold
from verydeep.net.classifier import Classifier
from verydeep.net.pixels import photo_of
from verydeep.predict import opened, photos_in
from verydeep.weights import load

COLOURS = ("#e4572e", "#2f6db3", "#4c9a5b", "#b0529e", "#c98a12")
HEAD = ("photo", "rank", "class", "probability", "x0", "y0", "x1", "y1", "error")


class Placed(NamedTuple):
    """A class, its posterior, and its box (x0, y0, x1, y1) in pixels of the upright photo."""

    name: str
    probability: float
    box: tuple[float, float, float, float]


class Located(NamedTuple):
    """What a photo shows, the best first; or why it could not be read. size: height and width."""

    photo: str
    size: tuple[int, int]
    places: list[Placed]
    error: str | None = None


def found_on(locator: Locator, names: Sequence[str], open_photo: Any, top: int, workers: int = 0) -> Iterator[Located]:
    """A Located for each photo in order, as soon as it is known."""
    ready, upcoming = dict[int, Located](), 0

    def on_bad(id: int, e: PhotoError) -> None:
        ready[id] = Located(names[id], (0, 0), [], e.reason)

    classes = locator.nets[0].contract.classes
    looks = locator.looks(open_photo, range(len(names)), workers=workers_for(workers, False), on_bad=on_bad)
    for id, seen in looks:
        [pairs] = locator.pairs(seen, [locator.threshold])
        places = [
            Placed(classes[a.label], float(seen.posteriors[a.label]), tuple(round(x, 1) for x in a.box.tolist()))
            for a in pairs[:top]
        ]
        ready[id] = Located(names[id], seen.size, places)
        while upcoming in ready:
            yield ready.pop(upcoming)
            upcoming += 1
    yield from (ready[id] for id in sorted(ready))


def places_on(
    net: Classifier, classifier: Classifier | None, photos: Sequence[object], top: int = 1
) -> list[list[Placed]]:
    """What `Classifier.locate` says."""
    settings = Settings(device=net.mean.device.type)
    what = ("the classifier", classifier) if classifier else None
    locator = locator_of({"the net": net}, what, "single", "greedy", settings)
    reading, names = net.contract.reading, [f"photo {i}" for i in range(len(photos))]
    found = list(found_on(locator, names, lambda id: photo_of(photos[id], names[id], reading), top))
    if bad := next((row for row in found if row.error), None):
        raise PhotoError(bad.photo, str(bad.error))
    return [row.places for row in found]


def print_found(
    rows: Iterable[Located], form: str, out: TextIO | None = None, coco: Path | None = None, draw: Path | None = None
) -> int:
    """Prints rows as `table`, `json` (one object a line) or `csv`, writes COCO's JSON and pictures; returns errors."""
    out, errors, kept = out or sys.stdout, 0, list[Located]()
    writer = csv.writer(out)
    if form == "csv":
        writer.writerow(HEAD)
    for row in rows:
        errors += row.error is not None
        kept += [row] if coco else []
        if draw and row.error is None:
            save_drawn(row, draw)
        if form == "json":
            places = [{"name": p.name, "probability": round(p.probability, 6), "box": p.box} for p in row.places]
            print(json.dumps({"photo": row.photo, "places": places, "error": row.error}, ensure_ascii=False), file=out)
        elif form == "csv":
            for rank, p in enumerate(row.places, 1):
                writer.writerow((row.photo, rank, p.name, f"{p.probability:.6f}", *p.box, ""))
            if row.error is not None:
                writer.writerow((row.photo, *[""] * 7, row.error))
        else:
            said = ", ".join(f"{p.name} {100 * p.probability:.1f} % at {box_words(p.box)}" for p in row.places)
            print(f"{row.photo}: {said if row.error is None else f'error: {row.error}'}", file=out, flush=True)
    if coco:
        write_text(coco, json.dumps(as_coco(kept), ensure_ascii=False))
    return errors


def box_words(box: Sequence[float]) -> str:
    return " ".join(f"{x:.0f}" for x in box)


def as_coco(rows: Sequence[Located]) -> dict[str, Any]:
    """Photos and boxes as COCO has them: x, y, width, height; the probability as `score`."""
    good = [row for row in rows if row.error is None]
    number = {name: i for i, name in enumerate(sorted({p.name for row in good for p in row.places}), 1)}
    images, boxes = [], list[dict[str, Any]]()
    for i, row in enumerate(good, 1):
        images.append({"id": i, "file_name": row.photo, "height": row.size[0], "width": row.size[1]})
        for name, probability, (x0, y0, x1, y1) in row.places:
            width, height, score = round(x1 - x0, 1), round(y1 - y0, 1), round(probability, 6)
            about = {"id": len(boxes) + 1, "image_id": i, "category_id": number[name], "iscrowd": 0, "score": score}
            boxes.append(about | {"bbox": [x0, y0, width, height], "area": round(width * height, 1)})
    return {
        "images": images, "annotations": boxes, "categories": [{"id": i, "name": n} for n, i in number.items()]
    }  # fmt: skip


def with_boxes_drawn(image: Image.Image, boxes: Sequence[tuple[Sequence[float], str, str]]) -> Image.Image:
    """A copy with boxes: (box in pixels, words, colour)."""
    image = image.copy()
    pen, thick = ImageDraw.Draw(image), max(2, min(image.size) // 150)
    font = ImageFont.load_default(max(10, min(image.size) // 28))
    for box, words, colour in boxes:
        pen.rectangle(tuple(box), outline=colour, width=thick)
        if words:
            x0, y0, x1, y1 = pen.textbbox((box[0] + thick, box[1] + thick), words, font)
            pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), fill=colour)
            pen.text((box[0] + thick, box[1] + thick), words, "white", font)
    return image


def save_drawn(row: Located, folder: Path) -> None:
    """The photo with its boxes in a folder, under its own name."""
    make_folder(folder)
    boxes = [
        (p.box, f"{p.name} {100 * p.probability:.0f} %", COLOURS[i % len(COLOURS)]) for i, p in enumerate(row.places)
    ]
    target = folder / f"{Path(row.photo).stem}.png"
    with_boxes_drawn(opened(row.photo, PLAINLY), boxes).save(target)


def found_in(
    model: str, given: Sequence[str], classifier: str | None, top: int, scales: Scales, merge: str, device: str,
    workers: int,
) -> Iterator[Located]:  # fmt: skip
    """A Located for each photo of files, folders and standard input; merging as the run's own test chose it."""
    place = device_for(device)
    settings = Settings(precision="bf16" if multiplies_bf16(place) else "fp32", device=place.type, long_photos="middle")
    what = classifier_of(model, classifier)
    threshold = kept_threshold(model, merge)
    known = (what, load(what)) if what else None
    locator = locator_of({model: load(model)}, known, scales, merge, settings, threshold)
    paths, reading = photos_in(given), locator.nets[0].contract.reading
    return found_on(locator, paths, lambda id: opened(paths[id], reading), top, workers)
