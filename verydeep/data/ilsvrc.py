"""ILSVRC-2012 as its publishers lay it out: synset folders to train on, a flat folder to validate on, and a list of its classes.

The list may be Caffe's val.txt, the development kit's ground truth with its own numbers, TensorFlow's file of synsets, or Kaggle's CSV.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from verydeep.data import photo
from verydeep.data.folder import class_names as folders_of
from verydeep.data.folder import labelled
from verydeep.data.naming import natural
from verydeep.data.record import Box, DataSet, Names, files
from verydeep.errors import DataError

SYNSET = re.compile(r"n\d{8}")
NUMBERED = re.compile(r"ILSVRC2012_val_\d{8}")
INSIDE = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")  # where photos are: beside the lists, or below Kaggle's folders
VAL_FOLDERS = ("val", "validation", "ILSVRC2012_img_val")
TRAIN_FOLDERS = ("train", "ILSVRC2012_img_train")
LIST_FOLDERS = ("", "devkit/data", "ILSVRC2012_devkit_t12/data", "ILSVRC/devkit/data", "ILSVRC/ImageSets/CLS-LOC", "caffe_ilsvrc12")
TRUTH, KAGGLE, CAFFE, SYNSETS = (
    "ILSVRC2012_validation_ground_truth.txt", "LOC_val_solution.csv", "val.txt", "imagenet_2012_validation_synset_labels.txt",
)  # fmt: skip
EXPECTED = f"expected {CAFFE} of Caffe, {TRUTH} of the development kit, {KAGGLE} of Kaggle or {SYNSETS}"
Truth = dict[str, str]  # name of a photo without its ending -> synset


class Place(NamedTuple):
    """Where the photos are; `train` only where its folder is there."""

    train: Path | None
    val: Path


def recognise(root: Path) -> Place | None:
    """The folders of ILSVRC-2012, known by a flat folder of numbered validation photos; None for any other data."""
    for inside in INSIDE:
        for name in VAL_FOLDERS:
            val = root / inside / name
            if val.is_dir() and any(NUMBERED.match(p.name) for p, _ in zip(val.iterdir(), range(20), strict=False)):
                train = next((root / inside / n for n in TRAIN_FOLDERS if (root / inside / n).is_dir()), None)
                return Place(train, val)
    return None


def open_ilsvrc(root: Path, place: Place) -> DataSet:
    """ILSVRC-2012 with the splits val and, where its folder is there, train. Raises DataError naming the list that is missing or wrong.

    Classes are called by synset and name, as `n01440764 tench, Tinca tinca`, in the order of the synsets. Kaggle's boxes come along.
    """
    named = class_names()
    trained = training_photos(root, place.train) if place.train else {}
    order = sorted(trained or named)
    truth, boxes = validation_truth(root, place.val, order)
    number = {synset: i for i, synset in enumerate(order)}
    if strange := next((s for s in truth.values() if s not in number), None):
        raise DataError(f"{root}: a validation photo is of {strange}, which is none of the {len(order)} classes here; add its folder")
    keys = sorted((p.name for p in place.val.iterdir() if p.suffix.lower() in photo.SUFFIXES), key=natural)
    if unlisted := next((k for k in keys if Path(k).stem not in truth), None):
        raise DataError(f"{root}: {unlisted} is not in the list of validation photos; the list or the folder is of another data set")
    labels = np.array([number[truth[Path(k).stem]] for k in keys], np.int64)
    found = {i: tuple((b, int(labels[i])) for b in boxes[Path(k).stem]) for i, k in enumerate(keys) if boxes.get(Path(k).stem)}
    val = files(root, "val", (str((place.val / k).relative_to(root)) for k in keys), labels, found)
    splits = ({"train": labelled(root, "train", trained, order)} if trained else {}) | {"val": val}
    return DataSet(str(root), tuple(f"{s} {named[s]}" if s in named else s for s in order), splits)


def class_names() -> dict[str, str]:
    """Synset -> name of the 1,000 classes, in the order of the synsets: the n-th is output n of a published net."""
    text = resources.files("verydeep.data").joinpath("ilsvrc-synsets.txt").read_text(encoding="utf-8")
    return dict(line.split(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def training_photos(root: Path, folder: Path) -> dict[str, Names]:
    """Synset -> its photos. Raises DataError for a folder that is no synset's."""
    found = folders_of(folder, root, 1)
    if strange := next((name for name in found if not SYNSET.fullmatch(name)), None):
        raise DataError(f"{folder} holds {strange}; expected a folder for each class, named by its synset such as n01440764")
    return found


def validation_truth(root: Path, val: Path, order: Sequence[str]) -> tuple[Truth, dict[str, list[Box]]]:
    """(name -> synset, name -> boxes) by the first list that is found beside the photos. Raises DataError."""
    places = [f / inside for f in dict.fromkeys((root, val.parent, val)) for inside in LIST_FOLDERS]

    def find(*names: str) -> Path | None:
        return next((p / n for p in places for n in names if (p / n).is_file()), None)

    try:
        if file := find(KAGGLE):
            return kaggle(file)
        if file := find(CAFFE):
            own = find("synsets.txt", "synset_words.txt")
            return caffe(file, synsets_in(own) if own else order), {}
        if file := find(SYNSETS):
            return numbered(synsets_in(file)), {}
        if file := find(TRUTH):
            own_numbers = find("map_clsloc.txt")
            if not own_numbers:
                raise DataError(
                    f"{file} counts the classes in the development kit's own order, which is not that of the synsets; put map_clsloc.txt "
                    f"beside it (lines as 'n02119789 1 kit_fox', in the kit of 2014 and later), or one of {CAFFE}, {KAGGLE}, {SYNSETS}"
                )
            return numbered(development_kit(file, own_numbers)), {}
    except (OSError, ValueError, KeyError, csv.Error) as e:
        raise DataError(f"{root}: the list of validation photos cannot be read ({str(e)[:200]}); {EXPECTED}") from e
    raise DataError(f"{val} holds validation photos without their classes; put a list beside it: {EXPECTED}")


def kaggle(file: Path) -> tuple[Truth, dict[str, list[Box]]]:
    """`ImageId,PredictionString` with `synset x0 y0 x1 y1` again and again: the class and the boxes of each photo."""
    truth: Truth = {}
    boxes: dict[str, list[Box]] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            words, name = row["PredictionString"].split(), row["ImageId"]
            if len(words) % 5 or len(set(words[::5])) != 1 or not SYNSET.fullmatch(words[0]):
                raise ValueError(f"{file.name} says {row['PredictionString'][:60]!r} of {name}; expected synset x0 y0 x1 y1")
            truth[name] = words[0]
            corners = [tuple(map(float, words[i + 1 : i + 5])) for i in range(0, len(words), 5)]
            boxes[name] = [(x0, y0, x1, y1) for x0, y0, x1, y1 in corners if x0 < x1 and y0 < y1]
    return truth, boxes


def caffe(file: Path, order: Sequence[str]) -> Truth:
    """`ILSVRC2012_val_00000001.JPEG 65`: a number from 0 in the order of the synsets."""
    truth: Truth = {}
    for line in file.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            name, number = line.rsplit(maxsplit=1)
            if not 0 <= int(number) < len(order):
                raise ValueError(
                    f"{file.name} has class {number}, and there are {len(order)} synsets; put synsets.txt with all of them beside it"
                )
            truth[Path(name).stem] = order[int(number)]
    return truth


def synsets_in(file: Path) -> list[str]:
    """The first word of every line. Raises ValueError for one that is no synset."""
    found = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if strange := next((s for s in found if not SYNSET.fullmatch(s)), None):
        raise ValueError(f"{file.name} has {strange[:40]!r}; expected a synset such as n01440764")
    return found


def development_kit(truth: Path, map_file: Path) -> list[str]:
    """The synsets of the validation photos in their order: its numbers, from 1, by its own map."""
    rows = (line.split() for line in map_file.read_text(encoding="utf-8").splitlines() if line.strip())
    synset = {int(row[1]): row[0] for row in rows}
    return [synset[int(line)] for line in truth.read_text(encoding="utf-8").split()]


def numbered(synsets: Iterable[str]) -> Truth:
    return {f"ILSVRC2012_val_{i:08d}": s for i, s in enumerate(synsets, 1)}
