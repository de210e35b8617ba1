"""What is on these photos: the top classes of files and folders, bad photos included as rows."""

import csv
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from PIL import Image

from verydeep import CalledAsVerb
from verydeep.colours import Reading
from verydeep.data import photo
from verydeep.data.naming import natural
from verydeep.data.reading import workers_for
from verydeep.data.tree import passed_over, tree_of
from verydeep.engines import Engine, chosen
from verydeep.errors import DataError, LongPhotoError, PhotoError
from verydeep.evaluate.classify import answers, entrant
from verydeep.evaluate.frames import LongPhotos
from verydeep.evaluate.passes import Settings, settled
from verydeep.evaluate.views import Protocol, Step
from verydeep.hardware import device_for
from verydeep.net.classifier import Classifier, ranked

sys.modules[__name__].__class__ = CalledAsVerb

MANY = 20  # photos that hardly show one thing by chance


class Row(NamedTuple):
    """The answer for one photo: (class, probability) from the most to the least probable, or an error."""

    photo: str
    classes: list[tuple[str, float]]
    error: str | None = None


def photos_in(given: Iterable[str]) -> list[str]:
    """Files as given, `-` for standard input, folders as all photos below them in natural order.

    Raises DataError for a folder without any, and for a URL.
    """
    found: list[str] = []
    for name in given:
        if not name:
            raise DataError("a photo has an empty name; give a file, a folder, or - for standard input")
        path = Path(name)
        if "://" in name and not path.exists():
            fetched = f"curl -sL {shlex.quote(name)} | verydeep predict MODEL -"
            raise DataError(f"{name} is a URL, and nothing is fetched here; try: {fetched}")
        if not path.is_dir():
            found.append(name)
            continue
        tree = tree_of(path)
        for passed in passed_over([tree], [tree], f"in {name}"):
            print(passed.line, end="\n" * bool(passed.line), file=sys.stderr)
        if not len(tree):
            raise DataError(f"{name} holds no photos; expected files named {', '.join(sorted(photo.SUFFIXES))}")
        found += sorted((str(path / key) for key in tree.all_keys()), key=natural)
    return found


def predictions(
    classifier: Classifier, paths: list[str], top: int = 5, protocol: Protocol = "centre", device: str = "auto",
    workers: int = -1, long_photos: LongPhotos = "stop", engine: Engine = "auto",
) -> Iterator[Row]:  # fmt: skip
    """A Row for every path in order, as soon as it is known. A bad photo is a Row with its error."""
    place, bad = device_for(device), dict[int, Row]()

    def on_bad(id: int, e: PhotoError) -> None:
        advice = "; --protocol centre takes the middle of it" if isinstance(e, LongPhotoError) else ""
        bad[id] = Row(paths[id], [], e.reason + advice)

    step, [computes, precision, _] = Step(protocol), chosen(engine, place.type, None, [classifier], len(paths))
    settings = Settings(precision=precision, device=place.type, long_photos=long_photos, engine=computes)
    found = answers(
        [entrant("", classifier, [step], "single")],
        lambda id: opened(paths[id], classifier.contract.reading), range(len(paths)), settled(settings, [classifier]),
        workers=workers_for(workers, False), on_bad=on_bad, batches=1,
    )  # fmt: skip
    for ids, [by_step] in found:
        for id, best in zip(ids, ranked(by_step[step], classifier.contract.classes, top), strict=True):
            yield from (bad.pop(i) for i in sorted(bad) if i < id)
            yield Row(paths[id], best)
    yield from (bad[id] for id in sorted(bad))


def opened(name: str, reading: Reading) -> Image.Image:
    """The photo in a file, or from standard input. Raises PhotoError."""
    if name != "-":
        return photo.from_file(Path(name), reading=reading)
    return photo.decode(sys.stdin.buffer.read(photo.MAX_BYTES + 1), "standard input", reading=reading)


def print_rows(rows: Iterable[Any], form: str, out: TextIO | None = None, what: str = "classes") -> int:
    """Prints rows as `table`, `json` (one object a line) or `csv`; returns the errors. what: the field of answers."""
    out, errors, first = out or sys.stdout, 0, Counter[str]()
    writer, corners = csv.writer(out), ("x0", "y0", "x1", "y1") if what == "places" else ()
    if form == "csv":
        writer.writerow(("photo", "rank", "class", "probability", *corners, "error"))
    for row in rows:
        errors, found = errors + (row.error is not None), getattr(row, what)
        first.update(name for name, *_ in found[:1] if what == "classes")
        if form == "json":
            named = [dict(zip(("name", "probability", "box"), (name, round(p, 6), *box), strict=False))
                     for name, p, *box in found]  # fmt: skip
            print(json.dumps({"photo": row.photo, what: named, "error": row.error}, ensure_ascii=False), file=out)
        elif form == "csv":
            for rank, (name, p, *box) in enumerate(found, 1):
                writer.writerow((row.photo, rank, name, f"{p:.6f}", *chain(*box), ""))
            if row.error is not None:
                writer.writerow((row.photo, *[""] * (3 + len(corners)), row.error))
        else:
            answer = ", ".join(in_words(*one) for one in found) if row.error is None else f"error: {row.error}"
            print(f"{row.photo}: {answer}", file=out, flush=True)
    if len(first) == 1 and first.total() >= MANY:
        words = f"note: all {first.total()} photos got one answer, {next(iter(first))!r:.60}; 'verydeep evaluate' tells"
        print(f"{words} whether the model knows more, by photos whose classes are known", file=sys.stderr)
    return errors


def in_words(name: str, probability: float, box: Iterable[float] = ()) -> str:
    where = " ".join(f"{x:.0f}" for x in box)
    return f"{name} {100 * probability:.1f} %" + f" at {where}" * bool(where)
