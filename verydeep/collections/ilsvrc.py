"""ILSVRC-2012 as its publishers lay it out: synset folders to train on, a flat folder to validate on, and a list of its classes.

The list may be Caffe's val.txt, the development kit's ground truth with its own numbers, TensorFlow's file of synsets, or Kaggle's CSV.
Validation photos that were sorted into synset folders need none.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from verydeep.data import photo
from verydeep.data.folder import class_names as folders_of
from verydeep.data.folder import folders, labelled
from verydeep.data.naming import SYNSET, imagenet_classes, is_hidden, natural
from verydeep.data.record import SPLIT_NAMES, Box, DataSet, Names, Photos, files
from verydeep.errors import DataError
from verydeep.files.disk import mapped
from verydeep.files.matlab import Array, Budget, variables_of

NUMBERED = re.compile(r"ILSVRC2012_val_\d{8}")
INSIDE = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")  # where photos are: beside the lists, or below Kaggle's folders
VAL_FOLDERS = ("val", "validation", "ILSVRC2012_img_val")
TRAIN_FOLDERS = ("train", "ILSVRC2012_img_train")
YEARS = range(2013, 2018)  # of later development kits, whose validation photos are still those of 2012
LIST_FOLDERS = (
    "", "devkit/data", "ILSVRC2012_devkit_t12/data", "ILSVRC/devkit/data", "ILSVRC/ImageSets/CLS-LOC", "ImageSets/CLS-LOC",
    "caffe_ilsvrc12", *(f"ILSVRC{year}_devkit/{data}" for year in YEARS for data in ("data", "ILSVRC/devkit/data")),
)  # fmt: skip
TRUTH, KAGGLE, CAFFE, SYNSETS = (
    "ILSVRC2012_validation_ground_truth.txt", "LOC_val_solution.csv", "val.txt", "imagenet_2012_validation_synset_labels.txt",
)  # fmt: skip
LATER_TRUTHS = tuple(f"ILSVRC{year}_clsloc_validation_ground_truth.txt" for year in (2012, *YEARS))
MAP, META = "map_clsloc.txt", "meta.mat"  # what the numbers of a development kit mean: of 2014 and later, of 2012
OWN_SYNSETS = ("synsets.txt", "synset_words.txt")  # what Caffe's list counts
LISTS = frozenset((TRUTH, KAGGLE, CAFFE, SYNSETS, MAP, META, *LATER_TRUTHS, *OWN_SYNSETS))
EXPECTED = f"expected {CAFFE} of Caffe, {TRUTH} of the development kit with its {META} or {MAP}, {KAGGLE} of Kaggle or {SYNSETS}"
MOST_PHOTOS = 50_000  # to validate on
Truth = dict[str, str]  # name of a photo without its ending -> synset


class Place(NamedTuple):
    """Where the photos are; `train` only where its folder is there."""

    train: Path | None
    val: Path


def recognise(root: Path) -> Place | None:
    """The folders of ILSVRC-2012, known by validation photos that are numbered or in synset folders; None for any other data."""
    for inside in INSIDE:
        for name in VAL_FOLDERS:
            if (val := root / inside / name).is_dir():
                train = next((root / inside / n for n in TRAIN_FOLDERS if (root / inside / n).is_dir()), None)
                flat = any(NUMBERED.match(p.name) for p, _ in zip(val.iterdir(), range(20), strict=False))
                if flat or (of_synsets(val) and not other_splits(root / inside, train, val)):
                    return Place(train, val)
    return None


def of_synsets(folder: Path) -> bool:
    found = folders(folder)
    return bool(found) and all(SYNSET.fullmatch(d.name) for d in found)


def other_splits(folder: Path, train: Path | None, val: Path) -> bool:
    """Whether there are class folders for a test or of other names, which any data set may have (folder.py)."""
    splits = [d for d in folders(folder) if d.name.lower() in SPLIT_NAMES and folders(d)]
    return any(d != val and not (d == train and of_synsets(d)) for d in splits)


def open_ilsvrc(root: Path, place: Place) -> DataSet:
    """ILSVRC-2012 with the splits val and, where its folder is there, train. Raises DataError naming the list that is missing or wrong.

    Classes are called by synset and name, as `n01440764 tench, Tinca tinca`, in the order of the synsets: those to train on,
    else those of the validation folders, else all 1,000. Kaggle's boxes come along with a flat folder.
    """
    named, there = imagenet_classes(), [p.name for p in place.val.iterdir()]
    trained = photos_by_synset(root, place.train) if place.train else {}
    in_folders, flat = (any(pattern.match(name) for name in there) for pattern in (SYNSET, NUMBERED))
    if in_folders and flat:
        raise DataError(
            f"{place.val} holds folders of classes and photos outside of them; move all photos into the folders, or all out"
        )
    if flat:
        order = sorted(trained or named)
        val = numbered_photos(root, place.val, there, order)
    else:
        found = photos_by_synset(root, place.val)
        order = sorted(trained or found)
        if strange := next((s for s in found if s not in (trained or found)), None):
            raise DataError(
                f"{place.val} has the class {strange}, which {place.train} does not; the splits must share their classes"
            )
        val = labelled(root, "val", found, order)
    splits = ({"train": labelled(root, "train", trained, order)} if trained else {}) | {"val": val}
    return DataSet(str(root), tuple(f"{s} {named[s]}" if s in named else s for s in order), splits)


def photos_by_synset(root: Path, folder: Path) -> dict[str, Names]:
    """Synset -> its photos. Raises DataError for a folder that is no synset's."""
    found = folders_of(folder, root, 1)
    if strange := next((name for name in found if not SYNSET.fullmatch(name)), None):
        raise DataError(
            f"{folder} holds {strange}; expected a folder for each class, named by its synset such as n01440764"
        )
    return found


def numbered_photos(root: Path, folder: Path, there: Iterable[str], order: Sequence[str]) -> Photos:
    """The photos of a flat folder with their classes and boxes by the list. It may tell of more photos than are there. Raises DataError."""
    truth, boxes = validation_truth(root, folder, order)
    number = {synset: i for i, synset in enumerate(order)}
    keys = sorted(
        (name for name in there if Path(name).suffix.lower() in photo.SUFFIXES and not is_hidden(name)), key=natural
    )
    synsets = [truth.get(Path(key).stem, "") for key in keys]
    if strange := next(((key, s) for key, s in zip(keys, synsets, strict=True) if s and s not in number), None):
        raise DataError(
            f"{root}: {strange[0]} is of {strange[1]}, which is none of the {len(order)} classes here; add its folder"
        )
    if "" in synsets:
        key = keys[synsets.index("")]
        raise DataError(
            f"{root}: {key} is not in the list of validation photos; the list or the folder is of another data set"
        )
    labels = np.array([number[s] for s in synsets], np.int64)
    found = {
        i: tuple((b, int(labels[i])) for b in boxes[Path(k).stem])
        for i, k in enumerate(keys)
        if boxes.get(Path(k).stem)
    }
    return files(root, "val", (str((folder / k).relative_to(root)) for k in keys), labels, found)


def validation_truth(root: Path, val: Path, order: Sequence[str]) -> tuple[Truth, dict[str, list[Box]]]:
    """(name -> synset, name -> boxes) by the first list that is found beside the photos. Raises DataError."""
    places = [f / inside for f in dict.fromkeys((root, val.parent, val)) for inside in LIST_FOLDERS]

    def find(*names: str) -> Path | None:
        return next((p / n for p in places for n in names if (p / n).is_file()), None)

    try:
        if file := find(KAGGLE):
            return kaggle(file)
        for file in (p / CAFFE for p in places if (p / CAFFE).is_file()):
            if not only_counts(rows := caffe_rows(file)):
                own = find(*OWN_SYNSETS)
                return caffe(rows, synsets_in(own) if own else counted(rows, order)), {}
        if file := find(SYNSETS):
            return numbered(synsets_in(file)), {}
        if file := find(TRUTH, *LATER_TRUTHS):
            if own := find(MAP):
                kit = map_classes(own)
            elif own := find(META):
                kit = meta_classes(own)
            else:
                raise DataError(
                    f"{file} counts the classes in the development kit's own order, which is not that of the synsets; put the kit's "
                    f"{META} beside it, {MAP} of the kits from 2014 on (lines as 'n02119789 1 kit_fox'), "
                    f"or one of {CAFFE}, {KAGGLE}, {SYNSETS}"
                )
            return numbered(development_kit(file, kit)), {}
    except (OSError, ValueError, KeyError, csv.Error) as e:
        raise DataError(f"{root}: the list of validation photos cannot be read ({str(e)[:200]}); {EXPECTED}") from e
    passed = f" ({counting} only counts the photos)" if (counting := find(CAFFE)) else ""
    raise DataError(f"{val} holds validation photos without their classes{passed}; put a list beside it: {EXPECTED}")


def kaggle(file: Path) -> tuple[Truth, dict[str, list[Box]]]:
    """`ImageId,PredictionString` with `synset x0 y0 x1 y1` again and again: the class and the boxes of each photo."""
    truth: Truth = {}
    boxes: dict[str, list[Box]] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            words, name = row["PredictionString"].split(), row["ImageId"]
            if len(words) % 5 or len(set(words[::5])) != 1 or not SYNSET.fullmatch(words[0]):
                raise ValueError(
                    f"{file.name} says {row['PredictionString'][:60]!r} of {name}; expected synset x0 y0 x1 y1"
                )
            truth[name] = words[0]
            corners = [tuple(map(float, words[i + 1 : i + 5])) for i in range(0, len(words), 5)]
            boxes[name] = [(x0, y0, x1, y1) for x0, y0, x1, y1 in corners if x0 < x1 and y0 < y1]
    return truth, boxes


def caffe_rows(file: Path) -> list[tuple[str, int]]:
    """`ILSVRC2012_val_00000001.JPEG 65`: the name without its ending, and a number."""
    pairs = (line.rsplit(maxsplit=1) for line in file.read_text(encoding="utf-8").split("\n") if line.strip())
    return [(Path(name).stem, int(number)) for name, number in pairs]


def only_counts(rows: Sequence[tuple[str, int]]) -> bool:
    """Whether each number is the photo's own, as in the val.txt below ImageSets, which knows no classes."""
    return bool(rows) and all(name == f"ILSVRC2012_val_{number:08d}" for name, number in rows)


def counted(rows: Sequence[tuple[str, int]], order: Sequence[str]) -> Sequence[str]:
    """What a list counts that comes without synsets.txt: the synsets that are there or, where its numbers go beyond them, all 1,000."""
    known = sorted(imagenet_classes())
    return known if set(order) < set(known) and max((n for _, n in rows), default=0) >= len(order) else order


def caffe(rows: Sequence[tuple[str, int]], order: Sequence[str]) -> Truth:
    """The numbers run from 0 in the order given."""
    if wrong := next((n for _, n in rows if not 0 <= n < len(order)), None):
        raise ValueError(
            f"{CAFFE} has class {wrong}, and there are {len(order)} synsets; put synsets.txt with all of them beside it"
        )
    return {name: order[number] for name, number in rows}


def synsets_in(file: Path) -> list[str]:
    """The first word of every line. Raises ValueError for one that is no synset."""
    found = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if strange := next((s for s in found if not SYNSET.fullmatch(s)), None):
        raise ValueError(f"{file.name} has {strange[:40]!r}; expected a synset such as n01440764")
    return found


def map_classes(file: Path) -> dict[str, str]:
    """The development kit's numbers in lines as `n02119789 1 kit_fox`: number -> synset. Raises ValueError."""
    rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if strange := next((row for row in rows if len(row) < 2 or not SYNSET.fullmatch(row[0])), None):
        raise ValueError(
            f"{MAP} has {' '.join(strange)[:40]!r}; expected a synset and its number, as 'n02119789 1 kit_fox'"
        )
    return {row[1]: row[0] for row in rows}


def meta_classes(file: Path) -> dict[str, str]:
    """Its numbers by meta.mat, where those to 1,000 are the classes and the 860 beyond what WordNet has above them. Raises DataError."""
    try:
        data = mapped(file)
        synsets = dict(variables_of(data, Budget(len(data)))).get("synsets")
        rows: list[Any] = [s for s in synsets if isinstance(s, dict)] if isinstance(synsets, list) else []
        if not rows or not all(
            isinstance(s.get("ILSVRC2012_ID"), Array) and isinstance(s.get("WNID"), str) for s in rows
        ):
            raise ValueError("it has no array of structs `synsets` with numbers ILSVRC2012_ID and texts WNID")
        known = {s["ILSVRC2012_ID"].data.item(): s["WNID"] for s in rows}
        found = {str(i): known.get(i, "") for i in range(1, 1001)}
        if sorted(found.values()) != list(imagenet_classes()):
            raise ValueError("its numbers from 1 to 1000 are not those of the 1,000 classes")
    except (OSError, ValueError, zlib.error) as e:
        raise DataError(
            f"{file} cannot be read as {META} of the development kit of 2012 ({str(e)[:200]}); unpack ILSVRC2012_devkit_t12 again, "
            f"or put {MAP} of a later kit beside it"
        ) from e
    return found


def development_kit(truth: Path, kit: dict[str, str]) -> list[str]:
    """The synsets of the validation photos in their order: the number of each in a line of its own. Raises ValueError."""
    lines = [line.strip() for line in truth.read_text(encoding="utf-8").rstrip().split("\n")]
    if len(lines) > MOST_PHOTOS:
        raise ValueError(f"{truth.name} has {len(lines):,} lines; expected {MOST_PHOTOS:,}, one a photo")
    if wrong := next(((i, line) for i, line in enumerate(lines, 1) if line not in kit), None):
        raise ValueError(
            f"line {wrong[0]} of {truth.name} says {wrong[1][:20]!r}; expected a class from 1 to {len(kit)}"
        )
    return [kit[line] for line in lines]


def numbered(synsets: Iterable[str]) -> Truth:
    return {f"ILSVRC2012_val_{i:08d}": s for i, s in enumerate(synsets, 1)}
