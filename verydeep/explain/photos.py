"""Photos explained one after another, into a folder of pictures and contact sheets."""

import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from verydeep.contract import class_key
from verydeep.data.photo import Pixels
from verydeep.errors import ConfigError, ModelError, PhotoError
from verydeep.explain.maps import Explained, Map, Method, explain_photo
from verydeep.explain.pictures import CELL, SheetRow, explained_part, heated, sheet
from verydeep.files.disk import make_folder, write_atomically
from verydeep.hardware import device_for
from verydeep.near import meant
from verydeep.predict import opened, photos_in
from verydeep.progress import Progress
from verydeep.report.lettering import drawable
from verydeep.weights import load
from verydeep.words import several

LONGEST = 1600  # pixels of the longer side of a picture
ON_A_SHEET = 40  # rows


def explain_photos(
    model: str, given: Sequence[str], out: Path, methods: Sequence[Method], classes: Sequence[str] | None = None,
    copies: int = 25, seed: int = 0, arrays: bool = False, device: str = "auto", progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Explains the classes, or the most probable one, of files, folders and standard input; returns the record.

    Into `out`: NAME-METHOD.png, the photo under its heat, upright, at its own size or 1,600 pixels; sheet.png, all of
    them (sheet-2.png and on beyond 40 rows); with arrays NAME-METHOD.npy, as `Explained` has them. A bad photo is a row
    with its error. Raises ConfigError, DataError and ModelError.
    """
    net = load(model)
    if net.contract.task != "classes":
        draws = "'verydeep localise predict MODEL PHOTO --draw FOLDER' draws what it answers"
        raise ModelError(f"{model} says where things are, and no score of a class is there to explain; {draws}")
    labels = [class_number(name, net.contract.classes) for name in classes or ()]
    names = photos_in(given)
    if any(Path(name).resolve().parent == out.resolve() for name in names if name != "-"):
        raise ConfigError(f"out: {out} holds photos that are given, and pictures could replace them; try another")
    net = net.to(device_for(device)).eval()
    make_folder(out)
    rows, lines, sheets = list[dict[str, Any]](), list[SheetRow](), list[str]()
    title, stems = f"What {model} looks at, photos at smallest side {net.contract.test_scale}", picture_names(names)

    def finish() -> None:
        path = out / (f"sheet-{len(sheets) + 1}.png" if sheets else "sheet.png")
        sheets.append(saved(sheet(lines, title, methods), path))
        lines.clear()

    with (progress or Progress()).bar(len(names), "explaining") as advance:
        for name, stem in zip(names, stems, strict=True):
            try:
                image = opened(name, net.contract.reading)
            except PhotoError as e:
                rows.append({"photo": name, "error": e.reason})
                advance(1, "")
                continue
            found = explain_photo(net, image, labels, methods, copies, seed, lambda words: advance(0, words))
            pixels = explained_part(image, LONGEST)
            for one in found:
                place = out / (f"{stem}-{one.label}" if len(labels) > 1 else stem)
                row = {"photo": name, "class": net.contract.classes[one.label], "probability": one.probability}
                row["pictures"] = {
                    m: saved(Image.fromarray(heated(pixels, map, m)), Path(f"{place}-{m}.png"))
                    for m, map in one.maps.items()
                }
                if arrays:
                    row["arrays"] = {m: save_array(map, Path(f"{place}-{m}.npy")) for m, map in one.maps.items()}
                rows.append(row)
                small = explained_part(image, CELL, enlarged=True)
                lines.append(row_of(name, one, net.contract.classes[one.label], small))
                if len(lines) == ON_A_SHEET:
                    finish()
            advance(1, "")
        if lines:
            finish()
    return {"model": model, "sheets": sheets, "photos": rows}


def row_of(name: str, one: Explained, answer: str, small: Pixels) -> SheetRow:
    """Of a class that no font here can draw its number."""
    if not drawable(answer):
        said = f"no font here has the signs of {answer!r}, so the sheet shows the number of the class"
        warnings.warn(f"{said}; a font such as fonts-noto-cjk has those of Chinese", stacklevel=2)
        answer = f"class {one.label}"
    pictures = [small, *(heated(small, map, method) for method, map in one.maps.items())]
    place = name if drawable(name) else name.encode("ascii", "backslashreplace").decode()
    return SheetRow(f"{answer} {100 * one.probability:.1f} %", place, pictures)


def class_number(name: str, classes: Sequence[str]) -> int:
    """The number of a class, by its name; of ImageNet's by the synset or one of the words behind it too. Raises
    ConfigError."""
    ways: tuple[Callable[[str], Collection[str]], ...] = (
        lambda c: (c,), lambda c: (class_key(c),), lambda c: [word.strip() for word in c[10:].split(",")],
    )  # fmt: skip
    for way in ways:
        if len(found := [i for i, c in enumerate(classes) if name in way(c)]) == 1:
            return found[0]
    more = meant(name, classes, f"; it has {several(len(classes), 'classes')}, such as {', '.join(classes[:3])}")
    raise ConfigError(f"classes: the model has no class {name!r}{more}")


def picture_names(names: Sequence[str]) -> list[str]:
    """Of each file its name without the ending; of one name the second as NAME-2, whatever its capitals."""
    found, taken = list[str](), set[str]()
    for name in names:
        stem = "photo" if name == "-" else Path(name).stem
        tries = (f"{stem}-{n}" if n > 1 else stem for n in range(1, len(names) + 1))
        found.append(next(one for one in tries if one.casefold() not in taken))
        taken.add(found[-1].casefold())
    return found


def saved(picture: Image.Image, path: Path) -> str:
    write_atomically(path, lambda temporary: picture.save(temporary, "PNG"))
    return str(path)


def save_array(map: Map, path: Path) -> str:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as f:
            np.save(f, map)

    write_atomically(path, write)
    return str(path)
