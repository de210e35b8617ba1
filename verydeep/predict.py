"""What is on these photos: the top classes of files and folders, bad photos included as rows."""

import csv
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from PIL import Image

from verydeep import CalledAsVerb
from verydeep.colours import Reading
from verydeep.data import photo
from verydeep.data.naming import natural
from verydeep.data.reading import workers_for
from verydeep.data.tree import passed_over, tree_of
from verydeep.errors import DataError, LongPhotoError, PhotoError
from verydeep.evaluate.classify import answers, entrant
from verydeep.evaluate.frames import LongPhotos
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.views import Protocol, Step
from verydeep.hardware import device_for, multiplies_bf16
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
    workers: int = -1, long_photos: LongPhotos = "stop",
) -> Iterator[Row]:  # fmt: skip
    """A Row for every path in order, as soon as it is known. A bad photo is a Row with its error."""
    place, ready = device_for(device), dict[int, Row]()

    def on_bad(id: int, e: PhotoError) -> None:
        advice = "; --protocol centre takes the middle of it" if isinstance(e, LongPhotoError) else ""
        ready[id] = Row(paths[id], [], e.reason + advice)

    step, fast = Step(protocol), multiplies_bf16(place)
    settings = Settings(precision="bf16" if fast else "fp32", device=place.type, long_photos=long_photos)
    found = answers(
        [entrant("", classifier, [step], "single")],
        lambda id: opened(paths[id], classifier.contract.reading), range(len(paths)), settings,
        workers=workers_for(workers, False), on_bad=on_bad, batches=1,
    )  # fmt: skip
    upcoming = 0
    for ids, [by_step] in found:
        for id, best in zip(ids, ranked(by_step[step], classifier.contract.classes, top), strict=True):
            ready[id] = Row(paths[id], best)
        while upcoming in ready:
            yield ready.pop(upcoming)
            upcoming += 1
    yield from (ready[id] for id in sorted(ready))


def opened(name: str, reading: Reading) -> Image.Image:
    """The photo in a file, or from standard input. Raises PhotoError."""
    if name != "-":
        return photo.from_file(Path(name), reading=reading)
    return photo.decode(sys.stdin.buffer.read(photo.MAX_BYTES + 1), "standard input", reading=reading)


def print_rows(rows: Iterable[Row], form: str, out: TextIO | None = None) -> int:
    """Prints rows as `table`, `json` (one object a line) or `csv`; returns the number with an error."""
    out, errors, first = out or sys.stdout, 0, Counter[str]()
    writer = csv.writer(out)
    if form == "csv":
        writer.writerow(("photo", "rank", "class", "probability", "error"))
    for row in rows:
        errors += row.error is not None
        first.update(name for name, _ in row.classes[:1])
        if form == "json":
            named = [{"name": name, "probability": round(p, 6)} for name, p in row.classes]
            print(json.dumps({"photo": row.photo, "classes": named, "error": row.error}, ensure_ascii=False), file=out)
        elif form == "csv":
            for rank, (name, p) in enumerate(row.classes, 1):
                writer.writerow((row.photo, rank, name, f"{p:.6f}", ""))
            if row.error is not None:
                writer.writerow((row.photo, "", "", "", row.error))
        else:
            answer = ", ".join(f"{name} {100 * p:.1f} %" for name, p in row.classes)
            print(f"{row.photo}: {answer if row.error is None else f'error: {row.error}'}", file=out, flush=True)
    if len(first) == 1 and first.total() >= MANY:
        words = f"note: all {first.total()} photos got one answer, {next(iter(first))!r:.60}; 'verydeep evaluate' tells"
        print(f"{words} whether the model knows more, by photos whose classes are known", file=sys.stderr)
    return errors
