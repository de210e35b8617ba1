"""ILSVRC-2012 as its publishers lay it out: synset folders to train on, a flat folder and a list to validate on."""

import csv
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from verydeep.collections.folder import labelled
from verydeep.collections.levels import leftovers, photos_of
from verydeep.data.naming import SYNSET, imagenet_classes, is_hidden
from verydeep.data.record import SPLIT_NAMES, Box, DataSet, Photos, files
from verydeep.data.tree import Tree, tree_of
from verydeep.errors import DataError
from verydeep.files.disk import mapped
from verydeep.files.matlab import Budget, variables_of

NUMBERED = re.compile(r"ILSVRC2012_val_\d{8}")
INSIDE = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")  # beside the lists, or below Kaggle's folders
VAL_FOLDERS = ("val", "validation", "ILSVRC2012_img_val")
TRAIN_FOLDERS = ("train", "ILSVRC2012_img_train")
LIST_FOLDERS = (  # development kits of later years have the validation photos of 2012
    ".", "devkit/data", "ILSVRC201?_devkit*/data", "ILSVRC/devkit/data", "ILSVRC201?_devkit/ILSVRC/devkit/data",
    "ILSVRC/ImageSets/CLS-LOC", "ImageSets/CLS-LOC", "caffe_ilsvrc12",
)  # fmt: skip
KAGGLE, CAFFE, SYNSETS = "LOC_val_solution.csv", "val.txt", "imagenet_2012_validation_synset_labels.txt"
TRUTH, LATER_TRUTHS = "ILSVRC2012_validation_ground_truth.txt", "ILSVRC201?_clsloc_validation_ground_truth.txt"
MAP, META = "map_clsloc.txt", "meta.mat"  # what a kit's numbers mean: from 2014 on, of 2012
OWN_SYNSETS = ("synsets.txt", "synset_words.txt")  # what Caffe's list counts
EXPECTED = f"expected {CAFFE} of Caffe, {TRUTH} with the kit's {META} or {MAP}, {KAGGLE} of Kaggle or {SYNSETS}"
Truth = tuple[dict[str, str], dict[str, list[Box]]]  # photo without its ending -> synset, -> boxes


def ilsvrc_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder, known by validation photos that are numbered or in synset folders; empty for other data."""
    for inside in (root / i for i in INSIDE):
        for val in (d for name in VAL_FOLDERS if (d := inside / name).is_dir()):
            train = [d for name in TRAIN_FOLDERS if (d := inside / name).is_dir()][:1]
            others = [d for d in folders_in(inside) if d.name.lower() in SPLIT_NAMES and folders_in(d) and d != val]
            flat = any(NUMBERED.match(p.name) for p, _ in zip(val.iterdir(), range(20), strict=False))
            if flat or (of_synsets(val) and all(d in train and of_synsets(d) for d in others)):
                return {"train": train[0], "val": val} if train else {"val": val}
    return {}


def folders_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)]


def of_synsets(folder: Path) -> bool:
    found = folders_in(folder)
    return bool(found) and all(SYNSET.fullmatch(d.name) for d in found)


def open_ilsvrc(root: Path, parts: dict[str, Path]) -> DataSet:
    """The splits of `parts`: val, or train and val. Raises DataError for a list that is missing or wrong.

    Classes are called as `n01440764 tench, Tinca tinca`, in the order of the synsets: those to train on, else those
    of the validation folders, else all 1,000. Kaggle's boxes come along with a flat folder.
    """
    named = imagenet_classes()
    trees = {s: tree_of(folder, f"{folder.relative_to(root)}/").opened() for s, folder in parts.items()}
    flat = any(map(NUMBERED.match, trees["val"].photos))
    if flat and any(map(SYNSET.match, trees["val"].below)):
        raise DataError(f"{parts['val']} holds class folders and photos beside them; move all photos in, or all out")
    levels = {s: tree for s, tree in trees.items() if s == "train" or not flat}
    found = photos_of({s: {name: [own] for name, own in tree.full.items()} for s, tree in levels.items()})
    if empty := next((s for s, own in found.items() if not own), None):
        raise DataError(f"{parts[empty]} has no class folders with photos; expected a folder for each synset")
    order = sorted(next(iter(found.values()), named))
    known = set(order)
    for split, synsets in found.items():
        if strange := next((s for s in synsets if s not in known or not SYNSET.fullmatch(s)), None):
            wanted = "folders named by synset, such as n01440764, and in val none that train lacks"
            raise DataError(f"{parts[split]} has the class {strange}; expected {wanted}")
    splits = {split: labelled(root, split, synsets, order) for split, synsets in found.items()}
    if flat:
        splits["val"] = numbered_photos(root, trees["val"], order)
    called = tuple(f"{s} {named[s]}" if s in named else s for s in order)
    return DataSet(str(root), called, splits, passed=leftovers(trees.values(), [*levels.values()]))


def numbered_photos(root: Path, tree: Tree, order: Sequence[str]) -> Photos:
    """The photos of a flat folder by the list, which may tell of more than are there. Raises DataError."""
    truth, boxes = validation_truth(root, Path(tree.path), order)
    number = {synset: i for i, synset in enumerate(order)}
    names = [Path(name).stem for name in tree.photos]
    for name in names:
        if name not in truth:
            raise DataError(f"{root}: {name} is not in the list of validation photos; take its own")
        if truth[name] not in number:
            raise DataError(f"{root}: {name} is of {truth[name]}, none of the {len(order)} classes; add its folder")
    labels = [number[truth[name]] for name in names]
    found = {i: tuple((b, labels[i]) for b in boxes[name]) for i, name in enumerate(names) if boxes.get(name)}
    return files(root, "val", (tree.key + name for name in tree.photos), np.array(labels, np.int64), found)


def validation_truth(root: Path, val: Path, order: Sequence[str]) -> Truth:
    """By the first list beside the photos. Raises DataError."""
    places = [(f, inside) for f in dict.fromkeys((root, val.parent, val)) for inside in LIST_FOLDERS]

    def find(*names: str) -> list[Path]:
        return [found for f, inside in places for name in names for found in sorted(f.glob(f"{inside}/{name}"))]

    try:
        for file in find(KAGGLE):
            return kaggle(file)
        for file in find(CAFFE):
            if truth := caffe(file, order, find(*OWN_SYNSETS)):
                return truth, {}
        for file in find(SYNSETS) + find(TRUTH, LATER_TRUTHS):
            rows = synset_rows(file) if file.name == SYNSETS else development_kit(file, find(MAP), find(META))
            return {f"ILSVRC2012_val_{i:08d}": row[0] for i, row in enumerate(rows, 1)}, {}
    except (OSError, ValueError, LookupError, csv.Error) as e:
        raise DataError(f"{root}: the list of validation photos cannot be read ({e}); {EXPECTED}") from e
    passed = "".join(f" ({file} only counts the photos)" for file in find(CAFFE)[:1])
    raise DataError(f"{val} holds validation photos without their classes{passed}; put a list beside it: {EXPECTED}")


def kaggle(file: Path) -> Truth:
    """`ImageId,PredictionString` with `synset x0 y0 x1 y1` again and again."""
    truth, boxes = {}, {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            words, name = row["PredictionString"].split(), row["ImageId"]
            if len(words) % 5 or len(set(words[::5])) != 1:
                raise ValueError(f"{file.name} says {' '.join(words)[:60]!r} of {name}; expected synset x0 y0 x1 y1")
            truth[name] = words[0]
            corners = [tuple(map(float, words[i + 1 : i + 5])) for i in range(0, len(words), 5)]
            boxes[name] = [(x0, y0, x1, y1) for x0, y0, x1, y1 in corners if x0 < x1 and y0 < y1]
    return truth, boxes


def caffe(file: Path, order: Sequence[str], own: Sequence[Path]) -> dict[str, str]:
    """`ILSVRC2012_val_00000001.JPEG 65`, counted from 0 among `own` synsets, else those of `order` or all 1,000.

    Empty where each number is the photo's own, as in the val.txt below ImageSets, which knows no classes.
    """
    words = [line.split() for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    rows = {Path(word[-2]).stem: int(word[-1]) for word in words}
    if all(name == f"ILSVRC2012_val_{number:08d}" for name, number in rows.items()):
        return {}
    if own:
        order = [row[0] for row in synset_rows(own[0])]
    elif set(order) < (known := imagenet_classes().keys()) and max(rows.values()) >= len(order):
        order = sorted(known)
    if wrong := next((n for n in rows.values() if not 0 <= n < len(order)), None):
        raise ValueError(f"{CAFFE} has class {wrong}, and there are {len(order)} synsets; put synsets.txt beside it")
    return {name: order[number] for name, number in rows.items()}


def synset_rows(file: Path, like: str = "n02119789") -> list[list[str]]:
    """The words of each line, which begins as `like` does. Raises ValueError."""
    rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    for row in rows:
        if len(row) < len(like.split()) or not SYNSET.fullmatch(row[0]):
            raise ValueError(f"{file.name} has {' '.join(row)[:40]!r}; expected lines such as {like!r}")
    return rows


def development_kit(truth: Path, maps: Sequence[Path], metas: Sequence[Path]) -> list[list[str]]:
    """Each photo's synset, by its number in a line of its own. Raises ValueError."""
    if not maps and not metas:
        raise ValueError(f"{truth.name} counts in the kit's own order; put its {META} or {MAP} beside it")
    kit = {row[1]: row[0] for row in synset_rows(maps[0], "n02119789 1")} if maps else meta_classes(metas[0])
    lines = [line.strip() for line in truth.read_text(encoding="utf-8").rstrip().split("\n")]
    for i, line in enumerate(lines, 1):
        if line not in kit or i > 50_000:
            wanted = f"a class from 1 to {len(kit)} for each of 50,000 photos"
            raise ValueError(f"line {i} of {truth.name} says {line[:20]!r}; expected {wanted}")
    return [[kit[line]] for line in lines]


def meta_classes(file: Path) -> dict[str, str]:
    """Number -> synset; numbers beyond 1,000 are what WordNet has above the classes. Raises ValueError."""
    try:
        data = mapped(file)
        structs = dict(variables_of(data, Budget(len(data))))["synsets"]
        known = {s["ILSVRC2012_ID"].data.item(): s["WNID"] for s in structs}
        found = {str(i): str(known.get(i)) for i in range(1, 1001)}
        if sorted(found.values()) != list(imagenet_classes()):
            raise ValueError("it has other classes")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, zlib.error) as e:
        wanted = "structs `synsets` with ILSVRC2012_ID and WNID of all classes"
        raise ValueError(f"{file}: {e!r:.150}; expected {wanted}; unpack the kit again") from e
    return found
