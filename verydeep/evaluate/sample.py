"""Which photos a test is of: a split of DATA, what a run held out of it, or those whose posteriors were saved."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from verydeep.colours import Reading
from verydeep.config import Level
from verydeep.contract import class_key
from verydeep.data.record import DataSet, Mended, Photos
from verydeep.data.source import location, open_data, read_places
from verydeep.errors import DataError, VeryDeepError
from verydeep.evaluate.classify import Entrant
from verydeep.evaluate.posteriors import SavedFile, SavedModel
from verydeep.files.disk import read_json
from verydeep.run import corrections_of, level_of
from verydeep.words import several

NAMING = (
    "; its file does not name them, and verydeep.weights.read_foreign(FILE, classes=NAMES).save('named.safetensors') "
    "makes a model that does, NAMES in the order of its outputs"
)


class Sample(NamedTuple):
    """What models are tested on: DATA as given, its split, the photos, and the limit that cut them, if any."""

    data: str
    split: str
    photos: Photos
    limit: int | None
    corrections: tuple[Mended, ...] = ()

    def about(self) -> dict[str, Any]:
        return {"data": self.data, "location": location(self.data), "split": self.split, "limit": self.limit}

    def fingerprint(self) -> str:
        """SHA-256 over the names of the photos and their classes."""
        digest = hashlib.sha256(np.ascontiguousarray(self.photos.keys.block).data)
        digest.update(self.photos.targets().astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def full(self) -> bool:
        """Whether these are all photos, with the labels that a run itself was begun with."""
        return self.limit is None and all(m.remembered for m in self.corrections)

    def first(self, limit: int | None) -> Sample:
        """Its first photos, if there is a limit."""
        if limit is None:
            return self
        ids = np.arange(min(limit, len(self.photos)))
        return self._replace(photos=self.photos.take(ids, self.split), limit=limit)


def photos_for(
    entrants: Sequence[Entrant], data: str, split: str | None, limit: int | None, download: bool,
    classes: Level | None = None, corrections: str | Path | None = None,
) -> tuple[DataSet, Sample]:  # fmt: skip
    """The photos that all models are tested on: those that their runs held out, where DATA itself has no splits.

    `classes` says where a folder has its classes, else the first run does. Raises DataError where runs held out
    different photos, or a file holds the posteriors of others.
    """
    saved = [(e.name, e.source.file) for e in entrants if isinstance(e.source, SavedModel)]
    runs = {e.name: run_of(e.name, data) for e in entrants if not isinstance(e.source, SavedModel)}
    trained = [run for e in entrants if (run := folder_of(e.name))]
    classes = classes or (level_of(trained[0]) if trained else None)
    held_out = {
        n: open_data(
            data, download=download, split=drawn if (drawn := run / "split.csv").is_file() else None, classes=classes,
            corrections=corrections, remembered=corrections_of(run),
        )
        for n, run in runs.items() if run
    }  # fmt: skip
    opened = held_out or {data: open_data(data, download=download, classes=classes, corrections=corrections)}
    names = {name: split or default_split(one) for name, one in opened.items()}
    samples = {
        name: Sample(data, names[name], one.split(names[name]), None, one.corrections) for name, one in opened.items()
    }
    if not held_out and len(saved) == len(entrants) and split is None:
        samples[data] = those_of(saved[0][1], opened[data], data)
    (first, sample), *others = ((name, s.first(limit)) for name, s in samples.items())
    for name, other in others:
        if other.fingerprint() != sample.fingerprint():
            raise DataError(
                f"{first} and {name} held out different photos of {data}, so their results cannot be compared; "
                "train them on data with splits of its own, or with the same seed and shares"
            )
    for name, file in saved:
        check_same(name, file, opened[first], sample)
    return opened[first], sample._replace(photos=replace(sample.photos, reading=reading_of(entrants, sample.photos)))


def reading_of(entrants: Sequence[Entrant], photos: Photos) -> Reading:
    """How the models that see the photos were trained to read files. Raises DataError where they differ."""
    readings = {e.contract.reading: e.name for e in entrants if not isinstance(e.source, SavedModel)}
    if len(readings) > 1 and not photos.in_memory:
        (one, first), (other, second) = list(readings.items())[:2]
        raise DataError(
            f"{first} reads photos with {one.flags}, {second} with {other.flags}; save the posteriors of "
            "each by 'verydeep evaluate MODEL DATA --save FILE' and give both files"
        )
    return next(iter(readings), Reading())


def default_split(data: DataSet) -> str:
    """test, else val, else whatever there is."""
    return next((s for s in ("test", "val") if s in data.splits), next(iter(data.splits)))


def those_of(file: SavedFile, opened: DataSet, data: str) -> Sample:
    """The photos of DATA that a file holds posteriors of, in its order. Raises DataError for one that is not there."""
    split, limit = file.about.split, file.about.limit
    for name in [n for n in (split, "all") if n in opened.splits]:
        photos = opened.split(name)
        places = {key: i for i, key in enumerate(photos.keys)}
        ids = [places.get(key, -1) for key in file.keys]
        if min(ids) >= 0:
            return Sample(data, split, photos.take(np.array(ids, np.int64), split), limit)
    raise DataError(
        f"{file.path} holds posteriors of {file.keys[0]!r:.200} and others that {data} does not have; "
        "give the data it was made with"
    )


def check_same(model: str, file: SavedFile, opened: DataSet, sample: Sample) -> None:
    """Raises DataError unless a saved file is of just these photos in this order, with these classes."""
    photos = sample.photos
    if not (np.array_equal(file.keys.block, photos.keys.block) and np.array_equal(file.keys.ends, photos.keys.ends)):
        raise DataError(
            f"{file.path} holds the posteriors of {several(len(file.keys), 'photos')} of {file.about.split}, "
            f"and the test is of {several(len(photos), 'photos')} of {sample.split}, not the same ones; "
            "the same split and --limit are needed"
        )
    numbers = class_numbers(opened.classes, opened.name, file.classes, model)
    if not np.array_equal(numbers[photos.targets()], file.targets):
        raise DataError(f"{file.path} was made when photos of {sample.data} had other classes; make it again")


def run_of(model: str, data: str) -> Path | None:
    """The run that a model is of, a folder or the best.safetensors in it, if DATA is what it was trained on."""
    run = folder_of(model)
    kept = run and ((run / "split.csv").is_file() or corrections_of(run))
    return run if run and kept and holds(data, run) else None


def folder_of(model: str) -> Path | None:
    """The run folder that a model is or lies in."""
    path = Path(model).expanduser()
    run = path.parent if path.name == "best.safetensors" else path
    return run if (run / "run.json").is_file() else None


def seen_in_training(model: str, sample: Sample) -> int:
    """How many photos of a test a run elsewhere was trained on, by their paths; 0 where that cannot be told."""
    run = folder_of(model)
    own = read_json(run / "run.json").get("location", "") if run else ""
    if not run or own == location(sample.data) or not Path(own).exists():
        return 0
    split = run / "split.csv"
    try:
        trained = open_data(
            own, split=split if split.exists() else None, classes=level_of(run), remembered=corrections_of(run)
        ).split("train")
    except VeryDeepError:
        return 0
    theirs = set(paths_of(own, trained))
    return sum(path in theirs for path in paths_of(sample.data, sample.photos))


def paths_of(data: str, photos: Photos) -> Iterator[str]:
    """Where the photos of a folder or manifest lie."""
    root = Path(location(data))
    base = root if root.is_dir() else root.parent
    return (os.path.normpath(base / key) for key in photos.keys)


def is_main(sample: Sample, run: Path) -> bool:
    """Whether these are the photos that a run is judged by: of its own data, all of test, or what there is."""
    own = read_json(run / "run.json")
    names = own.get("photos", {})
    split = next((s for s in ("test", "val") if s in names), None)
    return own.get("location") == location(sample.data) and sample.split == split and sample.full


def holds(data: str, run: Path) -> bool:
    """Whether DATA is what a run was trained on: there, moved elsewhere, or packed into shards, wherever all its photos
    are by name."""
    if read_json(run / "run.json").get("location") == location(data):
        return True
    if data.startswith("builtin:") or not (run / "split.csv").is_file():
        return False
    root, names = Path(data).expanduser(), read_places(run / "split.csv")
    if root.is_dir():
        return all((root / name).is_file() for name in names)
    return set(names) <= {
        key for photos in open_data(data, classes=level_of(run)).splits.values() for key in photos.keys
    }


def class_numbers(classes: Sequence[str], data: str, known: Sequence[str], model: str) -> npt.NDArray[np.int64]:
    """The model's number of each class of the data. Raises DataError if the model lacks one, or has two called so."""
    keys = [class_key(c) for c in known]
    number = {key: i for i, key in enumerate(keys)}
    if strange := [c for c in classes if class_key(c) not in number]:
        unnamed = keys == [f"class {i}" for i in range(len(keys))]
        raise DataError(
            f"{model}: {data} has the class {strange[0]!r:.60}, which the model does not know; it knows "
            f"{', '.join(repr(c)[1:-1][:40] for c in known[:6])}{', ...' if len(known) > 6 else ''}{NAMING * unnamed}"
        )
    often = Counter(keys)
    if twice := next((c for c in classes if often[class_key(c)] > 1), None):
        n = often[class_key(twice)]
        raise DataError(f"{model} has {n} classes called {twice!r:.60}, so no photo of {data} can be told to be of one")
    return np.array([number[class_key(c)] for c in classes], np.int64)


def check_fusible(entrants: Sequence[Entrant]) -> None:
    """Models that are fused know the same classes, in any order; of ImageNet's the synsets count. Raises DataError."""
    first, *others = entrants
    for e in others:
        if [class_key(c) for c in e.contract.classes] == [class_key(c) for c in first.contract.classes]:
            continue
        try:
            for one, other in ((first, e), (e, first)):
                class_numbers(one.contract.classes, one.name, other.contract.classes, other.name)
        except DataError as error:
            raise DataError(f"{error}; their posteriors cannot be averaged, test them one at a time") from error
